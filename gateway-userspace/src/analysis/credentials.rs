//! Secrets and files whose certificates and keys do not work together, are out of date, or are shown by several Gateways.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use crate::api::gateway::ServerTlsSettings;
use crate::api::{
    Code, CredentialName, Diagnostic, FieldPath, Gateway, ObjectRef, Objects, Severity, Source, Sourced,
};
use crate::model::{Credential, CredentialSource, ListenerKind, Snapshot};
use crate::tls::{CredentialFault, certificate, certificate::CertificateError};

/// What is wrong with the Secrets that a snapshot uses.
pub(super) fn report(
    objects: &Objects,
    namespace: &str,
    (snapshot, faults): (&Snapshot, &[CredentialFault]),
    (bounds, now): (&mut Bounds, SystemTime),
) -> Vec<Diagnostic> {
    let secrets = Secrets { objects, namespace };
    let mut found: Vec<Diagnostic> = Vec::new();
    for diagnostic in faults.iter().map(|fault| secrets.fault(fault)) {
        // Several chains may show one Secret.
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    let used: BTreeMap<&CredentialSource, &Arc<[u8]>> = credentials(snapshot).flat_map(pems).collect();
    bounds.keep(used.values().copied());
    let suspect = used.into_iter().filter(|(_, pem)| !bounds.hold(pem, now));
    found.extend(suspect.filter_map(|(source, pem)| secrets.validity(source, pem, now)));
    found.extend(duplicates(objects, namespace));
    found
}

/// When certificates are in force, by their PEM: parsing those of thousands of Secrets for each change of any document would
/// take most of its time.
#[derive(Debug, Default)]
pub(super) struct Bounds(HashMap<Arc<[u8]>, Option<(i64, i64)>>);

impl Bounds {
    /// Knows these, and no others.
    fn keep<'a>(&mut self, pems: impl Iterator<Item = &'a Arc<[u8]>>) {
        let mut before = std::mem::take(&mut self.0);
        for pem in pems {
            // Several Secrets may hold one certificate.
            if self.0.contains_key(pem) {
                continue;
            }
            let (pem, bounds) =
                before.remove_entry(pem).unwrap_or_else(|| (pem.clone(), certificate::bounds(pem)));
            self.0.insert(pem, bounds);
        }
    }

    /// Whether a certificate is in force, and known.
    fn hold(&self, pem: &Arc<[u8]>, now: SystemTime) -> bool {
        let seconds =
            now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        self.0.get(pem).copied().flatten().is_some_and(|(from, to)| (from..=to).contains(&seconds))
    }
}

fn credentials(snapshot: &Snapshot) -> impl Iterator<Item = &Credential> {
    let chains = snapshot.listeners.iter().flat_map(|listener| match &listener.kind {
        ListenerKind::Tls(tls) => tls.chains.as_slice(),
        ListenerKind::Http(_) | ListenerKind::Tcp(_) => &[],
    });
    chains.filter_map(|chain| chain.action.server_tls()?.credential.as_deref().ok())
}

/// What a credential is made of.
fn pems(credential: &Credential) -> impl Iterator<Item = (&CredentialSource, &Arc<[u8]>)> {
    let authority = credential.client_authority.iter().map(|it| (&it.source, &it.bundle));
    // A Secret may hold both: then its own certificate is the one that is looked at.
    authority.chain(credential.certificates.iter().map(|it| (&it.source, &it.chain)))
}

struct Secrets<'a> {
    objects: &'a Objects,
    /// The gateway's, where its Secrets are.
    namespace: &'a str,
}

impl<'a> Secrets<'a> {
    fn fault(&self, fault: &CredentialFault) -> Diagnostic {
        let message = format!("{}: {}", fault.credential, fault.error);
        let keys: &[&str] = match fault.error {
            CertificateError::NoCertificate | CertificateError::BadCertificate(_) => &["cert", "tls.crt"],
            CertificateError::NoKey | CertificateError::BadKey(_) | CertificateError::Mismatch => {
                &["key", "tls.key"]
            }
            CertificateError::BadClientCa(_) => &["cacert", "ca.crt"],
            CertificateError::BadRevocationList(_) => &["crl", "ca.crl"],
            CertificateError::BadStaple(_) => &["tls.ocsp-staple"],
            CertificateError::BadSettings(_) => &[],
        };
        self.about(&fault.credential, keys, Severity::Error, Code::InvalidGatewayCredential, message).help(
            "clients of the servers that name it are reset until it is mended; a running gateway goes on with the one before",
        )
    }

    /// An expired certificate is served all the same, as Istio's gateway does: clients refuse it.
    fn validity(&self, source: &CredentialSource, pem: &[u8], now: SystemTime) -> Option<Diagnostic> {
        let facts = certificate::facts(pem, now).filter(|facts| !facts.in_force)?;
        let message = format!(
            "{source}: the certificate of {} is in force from {} to {} only",
            facts.subject, facts.not_before, facts.not_after
        );
        let keys = ["cert", "tls.crt", "cacert", "ca.crt"];
        Some(self.about(source, &keys, Severity::Warning, Code::CertificateNotInForce, message))
    }

    /// A finding at the first of a Secret's keys that is there, or at the field of the file's name, with the servers that
    /// name it.
    fn about(
        &self,
        source: &CredentialSource,
        keys: &[&str],
        severity: Severity,
        code: Code,
        message: String,
    ) -> Diagnostic {
        let mut users = self.users(source);
        let mut found = match (self.place(source, keys), users.first()) {
            (Some((document, field)), _) => document.diagnostic(severity, code, &field, message),
            (None, Some(_)) => {
                let first = users.remove(0);
                first.gateway.diagnostic(severity, code, &first.field, message)
            }
            (None, None) => Diagnostic::new(severity, code, message),
        };
        let related = |user: &Named<'_>| user.gateway.related(&user.field, "names it");
        found.related = users.iter().map(related).collect();
        found
    }

    /// Where a Secret or ConfigMap has one of the keys.
    fn place(&self, source: &CredentialSource, keys: &[&str]) -> Option<(&'a Source, FieldPath)> {
        let is =
            |reference: &ObjectRef, name: &str| format!("{}/{}", reference.namespace, reference.name) == name;
        let source = match source {
            CredentialSource::Secret(name) => {
                &self.objects.secrets.iter().find(|it| is(it.reference(), name))?.source
            }
            CredentialSource::ConfigMap(name) => {
                &self.objects.config_maps.iter().find(|it| is(it.reference(), name))?.source
            }
            CredentialSource::File(_) => return None,
        };
        Some((source, field(source, keys)))
    }

    /// Servers that name it for their certificate or its CA.
    fn users(&self, source: &CredentialSource) -> Vec<Named<'a>> {
        named(self.objects, self.namespace).filter(|named| named.source.as_ref() == Some(source)).collect()
    }
}

/// Where a Secret has one of the keys.
fn field(source: &Source, keys: &[&str]) -> FieldPath {
    let places = ["data", "stringData"];
    let field = |place: &str, key: &str| FieldPath::root().field(place).field(key);
    let mut candidates = keys.iter().flat_map(|key| places.map(|place| field(place, key)));
    let there = candidates.find(|field| source.places.has(field));
    there.unwrap_or_else(|| FieldPath::metadata().field("name"))
}

/// A server's field that names a credential or a file.
struct Named<'a> {
    gateway: &'a Arc<Sourced<Gateway>>,
    field: FieldPath,
    /// Whether it is the server's own certificate.
    is_shown: bool,
    /// What it leads to; `None`: nothing.
    source: Option<CredentialSource>,
    /// Where the server listens: address and port as written.
    place: (&'a str, u32),
}

fn named<'a>(objects: &'a Objects, namespace: &'a str) -> impl Iterator<Item = Named<'a>> {
    objects.gateways.iter().flat_map(move |gateway| {
        gateway.spec.servers.iter().enumerate().flat_map(move |(at, server)| {
            let root = FieldPath::spec().field("servers").index(at).field("tls");
            let fields = server.tls.iter().flat_map(move |tls| fields(tls, namespace));
            let place = (server.bind.as_str(), server.port.as_ref().map_or(0, |port| port.number));
            fields.map(move |(field, source, is_shown)| {
                let field = root.join(&field);
                Named { gateway, field, is_shown, source, place }
            })
        })
    })
}

/// Fields below `tls` that lead to certificates, keys and CAs: what to, and whether it is the server's own certificate.
fn fields(tls: &ServerTlsSettings, namespace: &str) -> Vec<(FieldPath, Option<CredentialSource>, bool)> {
    let field = |name: &str| FieldPath::root().field(name);
    let one = (field("credentialName"), tls.credential_name.clone(), true);
    let several = tls.credential_names.iter().enumerate();
    let several = several.map(|(at, name)| (field("credentialNames").index(at), name.clone(), true));
    let authority = (field("caCertCredentialName"), tls.ca_cert_credential_name.clone(), false);
    let names = [one].into_iter().chain(several).filter(|(_, name, _)| !name.is_empty());
    let names: Vec<_> = names.collect();
    // Where no CA is named, it is that which goes with the first credential.
    let implied =
        names.first().filter(|_| tls.mode.verifies_clients() && tls.ca_cert_credential_name.is_empty());
    let implied = implied.map(|(field, name, _)| (field.clone(), CredentialName::of_authority(name), false));
    let authority = Some(authority).filter(|(_, name, _)| !name.is_empty());
    let names = names.into_iter().chain(implied).chain(authority);
    let named = names.map(|(field, name, is_shown)| (field, source(&name, namespace), is_shown));
    let file = |path: &str| Some(CredentialSource::File(path.into()));
    let files = [
        ("serverCertificate", &tls.server_certificate, true),
        ("caCertificates", &tls.ca_certificates, false),
    ];
    let files = files.into_iter().filter(|(_, path, _)| !path.is_empty());
    let files = files.map(|(name, path, is_shown)| (field(name), file(path), is_shown));
    let listed = tls.tls_certificates.iter().enumerate().map(|(at, it)| {
        (field("tlsCertificates").index(at).field("serverCertificate"), file(&it.server_certificate), true)
    });
    named.chain(files).chain(listed).collect()
}

fn source(name: &str, namespace: &str) -> Option<CredentialSource> {
    Some(match CredentialName::parse(name, namespace).ok()? {
        CredentialName::Secret(name) => CredentialSource::Secret(format!("{namespace}/{name}").into()),
        CredentialName::ConfigMap(namespace, name) => {
            CredentialSource::ConfigMap(format!("{namespace}/{name}").into())
        }
    })
}

/// Gateways that show one certificate on one port: an HTTP/2 client may use its connection to the one for the hosts of
/// the other, and is answered 404.
fn duplicates(objects: &Objects, namespace: &str) -> Vec<Diagnostic> {
    let mut first: HashMap<_, Named<'_>> = HashMap::new();
    let mut found = Vec::new();
    for named in named(objects, namespace).filter(|named| named.is_shown) {
        let Some(source) = named.source.clone() else { continue };
        let Some(other) = first.get(&(source.clone(), named.place)) else {
            first.insert((source, named.place), named);
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
