//! Secrets whose certificates and keys do not work together, are out of date, or are shown by several Gateways.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use crate::api::{Code, Diagnostic, FieldPath, Gateway, Objects, Related, Secret, Severity, Sourced};
use crate::model::{ChainAction, Credential, ListenerKind, Snapshot};
use crate::tls::{CredentialFault, certificate, certificate::CertificateError};

/// What is wrong with the Secrets that a snapshot uses.
pub(super) fn report(
    objects: &Objects,
    namespace: &str,
    snapshot: &Snapshot,
    faults: &[CredentialFault],
    now: SystemTime,
) -> Vec<Diagnostic> {
    let secrets = Secrets { objects, namespace };
    let mut found: Vec<Diagnostic> = Vec::new();
    for diagnostic in faults.iter().map(|fault| secrets.fault(fault)) {
        // Several chains may show one Secret.
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    let used: BTreeMap<&str, &Credential> = credentials(snapshot).map(|it| (&*it.name, it)).collect();
    found.extend(used.into_values().filter_map(|credential| secrets.validity(credential, now)));
    found.extend(duplicates(objects));
    found
}

fn credentials(snapshot: &Snapshot) -> impl Iterator<Item = &Credential> {
    let chains = snapshot.listeners.iter().flat_map(|listener| match &listener.kind {
        ListenerKind::Tls(tls) => tls.chains.as_slice(),
        ListenerKind::Http(_) | ListenerKind::Tcp(_) => &[],
    });
    chains.filter_map(|chain| match &chain.action {
        ChainAction::TerminateHttp { tls, .. } | ChainAction::TerminateTcp { tls, .. } => {
            tls.credential.as_deref().ok()
        }
        ChainAction::Passthrough(_) => None,
    })
}

struct Secrets<'a> {
    objects: &'a Objects,
    /// The gateway's, where its Secrets are.
    namespace: &'a str,
}

impl<'a> Secrets<'a> {
    fn fault(&self, fault: &CredentialFault) -> Diagnostic {
        let message = format!("secret {}: {}", fault.secret, fault.error);
        let keys: &[&str] = match fault.error {
            CertificateError::NoCertificate | CertificateError::BadCertificate(_) => &["cert", "tls.crt"],
            CertificateError::NoKey | CertificateError::BadKey(_) | CertificateError::Mismatch => {
                &["key", "tls.key"]
            }
            CertificateError::BadClientCa(_) => &["cacert", "ca.crt"],
        };
        self.about(&fault.secret, keys, Severity::Error, Code::InvalidGatewayCredential, message).help(
            "clients of the servers that name it are reset until the Secret is mended; a running gateway goes on with \
             the one before",
        )
    }

    /// An expired certificate is served all the same, as Istio's gateway does: clients refuse it.
    fn validity(&self, credential: &Credential, now: SystemTime) -> Option<Diagnostic> {
        let facts = certificate::facts(&credential.certificate_chain, now).filter(|facts| !facts.in_force)?;
        let message = format!(
            "secret {}: the certificate of {} is in force from {} to {} only",
            credential.name, facts.subject, facts.not_before, facts.not_after
        );
        let keys = ["cert", "tls.crt"];
        Some(self.about(&credential.name, &keys, Severity::Warning, Code::CertificateNotInForce, message))
    }

    /// A finding at the first of a Secret's keys that is there, with the servers that name the Secret.
    fn about(
        &self,
        name: &str,
        keys: &[&str],
        severity: Severity,
        code: Code,
        message: String,
    ) -> Diagnostic {
        let short = name.rsplit('/').next().unwrap_or(name);
        let mut found = match self.secret(short) {
            Some(secret) => secret.diagnostic(severity, code, &field(secret, keys), message),
            None => Diagnostic::new(severity, code, message),
        };
        found.related = self.users(short);
        found
    }

    fn secret(&self, name: &str) -> Option<&'a Sourced<Secret>> {
        let mut all = self.objects.secrets.iter().map(AsRef::as_ref);
        all.find(|secret| **secret.namespace() == *self.namespace && **secret.name() == *name)
    }

    fn users(&self, name: &str) -> Vec<Related> {
        let servers = named(self.objects).filter(|named| named.credential == name);
        servers.map(|named| named.gateway.related(&named.field, "shows this Secret's certificate")).collect()
    }
}

/// Where a Secret has one of the keys.
fn field(secret: &Sourced<Secret>, keys: &[&str]) -> FieldPath {
    let places = ["data", "stringData"];
    let field = |place: &str, key: &str| FieldPath::root().field(place).field(key);
    let mut candidates = keys.iter().flat_map(|key| places.map(|place| field(place, key)));
    let there = candidates.find(|field| secret.source.places.has(field));
    there.unwrap_or_else(|| FieldPath::metadata().field("name"))
}

/// A server that names a Secret.
struct Named<'a> {
    gateway: &'a Arc<Sourced<Gateway>>,
    field: FieldPath,
    credential: &'a str,
    port: u32,
}

fn named(objects: &Objects) -> impl Iterator<Item = Named<'_>> {
    objects.gateways.iter().flat_map(|gateway| {
        gateway.spec.servers.iter().enumerate().filter_map(move |(at, server)| {
            let credential = server.tls.as_ref()?.credential()?;
            let field = FieldPath::spec().field("servers").index(at).field("tls").field("credentialName");
            Some(Named {
                gateway,
                field,
                credential: credential.strip_prefix("kubernetes://").unwrap_or(credential),
                port: server.port.as_ref()?.number,
            })
        })
    })
}

/// Gateways that show one certificate on one port: an HTTP/2 client may use its connection to the one for the hosts of
/// the other, and is answered 404.
fn duplicates(objects: &Objects) -> Vec<Diagnostic> {
    let mut first: HashMap<(&str, u32), Named<'_>> = HashMap::new();
    let mut found = Vec::new();
    for named in named(objects) {
        let Some(other) = first.get(&(named.credential, named.port)) else {
            first.insert((named.credential, named.port), named);
            continue;
        };
        if Arc::ptr_eq(other.gateway, named.gateway)
            || other.gateway.spec.selector != named.gateway.spec.selector
        {
            continue;
        }
        let name = |gateway: &Sourced<Gateway>| format!("{}/{}", gateway.namespace(), gateway.name());
        let message = format!(
            "Duplicate certificate in multiple gateways [{} {}] may cause 404s if clients re-use HTTP2 connections.",
            name(other.gateway),
            name(named.gateway)
        );
        let (severity, code) = (Severity::Info, Code::DuplicateCertificate);
        let diagnostic = named.gateway.diagnostic(severity, code, &named.field, message);
        let related = other.gateway.related(&other.field, "shows the same certificate");
        found.push(diagnostic.related(related).help(code.remedy()));
    }
    found
}
