//! Certificates, keys and client CAs out of Secrets of the gateway's namespace.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::gateway::{Mode, Protocol, ServerTlsSettings};
use crate::api::{Code, Objects, Secret, Severity, Sourced};
use crate::model::{Credential, CredentialProblem, GatewayIdentity, ServerTls, TlsMode, TlsVersion};

use super::report::Report;
use super::select::SelectedServer;

/// Keys of a Secret that Istio shows in its message, before "and N more".
const KEYS_SHOWN: usize = 3;

/// The Secrets that servers may name.
pub(super) struct Credentials<'a> {
    namespace: &'a str,
    secrets: HashMap<&'a str, &'a Sourced<Secret>>,
}

impl<'a> Credentials<'a> {
    /// Secrets of the gateway's namespace; those of a Gateway document's are not looked at, as in Istio.
    pub(super) fn new(objects: &'a Objects, identity: &'a GatewayIdentity) -> Self {
        let own = objects.secrets.iter().filter(|secret| **secret.namespace() == identity.namespace);
        Self {
            namespace: &identity.namespace,
            secrets: own.map(|secret| (&**secret.name(), secret.as_ref())).collect(),
        }
    }

    /// TLS of a terminating server; what is wrong with its Secret harms this server alone and is reported.
    pub(super) fn server_tls(&self, server: &SelectedServer<'_>, report: &mut Report) -> Option<ServerTls> {
        let tls = server.server.tls.as_ref()?;
        let mode = match tls.mode {
            Mode::Simple => TlsMode::Simple,
            Mode::Mutual => TlsMode::Mutual,
            Mode::OptionalMutual => TlsMode::OptionalMutual,
            Mode::Passthrough | Mode::AutoPassthrough | Mode::IstioMutual => return None,
        };
        let credential = self.credential(tls, mode);
        if let Err(problem) = &credential {
            report_problem(server, tls, problem, report);
        }
        let named = [tls.credential().unwrap_or(""), &tls.ca_cert_credential_name];
        let named = named.into_iter().filter(|name| !name.is_empty());
        Some(ServerTls {
            mode,
            secrets: named.map(|name| self.full_name(bare(name))).collect(),
            credential: credential.map(Arc::new),
            min_version: version(tls.min_protocol_version, TlsVersion::V1_2),
            max_version: version(tls.max_protocol_version, TlsVersion::V1_3),
        })
    }

    /// What a client shows to backends: the Secret's full name, its certificate and key.
    pub(super) fn own(&self, name: &str) -> Result<(Arc<str>, &'a [u8], &'a [u8]), CredentialProblem> {
        let name = bare(name);
        let (certificate, key) =
            certificate_and_key(&self.secret(name)?.spec).map_err(|why| self.unusable(name, why))?;
        Ok((self.full_name(name), certificate, key))
    }

    /// Who backends' certificates are signed by: as for those of clients.
    pub(super) fn authorities(&self, name: &str) -> Result<(Arc<str>, &'a [u8]), CredentialProblem> {
        let name = bare(name);
        let authorities = self.client_ca(&ServerTlsSettings::default(), name)?;
        Ok((self.full_name(name), authorities))
    }

    fn credential(&self, tls: &ServerTlsSettings, mode: TlsMode) -> Result<Credential, CredentialProblem> {
        let name = bare(tls.credential().unwrap_or(""));
        let secret = self.secret(name)?;
        let (certificate, key) = certificate_and_key(&secret.spec).map_err(|why| self.unusable(name, why))?;
        let client_ca = match mode {
            TlsMode::Simple => None,
            TlsMode::Mutual | TlsMode::OptionalMutual => Some(self.client_ca(tls, name)?.into()),
        };
        Ok(Credential {
            name: self.full_name(name),
            certificate_chain: certificate.into(),
            private_key: key.into(),
            client_ca,
        })
    }

    /// The CA's own Secret if one is named, else `<name>-cacert` if there is one, else the certificate's Secret.
    fn client_ca(&self, tls: &ServerTlsSettings, name: &str) -> Result<&'a [u8], CredentialProblem> {
        let fallback = format!("{name}-cacert");
        let name = match bare(&tls.ca_cert_credential_name) {
            "" if self.secrets.contains_key(fallback.as_str()) => fallback.as_str(),
            "" => name,
            named => named,
        };
        let secret = self.secret(name)?;
        if ["crl", "ca.crl"].iter().any(|key| secret.spec.get(key).is_some_and(|crl| !crl.is_empty())) {
            let why =
                "revocation lists are not yet supported, and without this one revoked clients would get in";
            return Err(self.unusable(name, why.to_owned()));
        }
        let present = ["cacert", "ca.crt"].into_iter().find_map(|key| secret.spec.get(key));
        match present {
            Some([]) => Err(self.unusable(name, "found key cacert or ca.crt, but it was empty".to_owned())),
            Some(pem) => Ok(pem),
            None => {
                let found = keys(&secret.spec);
                Err(self.unusable(
                    name,
                    format!("found secret, but didn't have expected keys cacert or ca.crt; found: {found}"),
                ))
            }
        }
    }

    fn secret(&self, name: &str) -> Result<&'a Sourced<Secret>, CredentialProblem> {
        self.secrets
            .get(name)
            .copied()
            .ok_or_else(|| CredentialProblem::NotFound { name: self.full_name(name) })
    }

    fn full_name(&self, name: &str) -> Arc<str> {
        format!("{}/{name}", self.namespace).into()
    }

    fn unusable(&self, name: &str, reason: String) -> CredentialProblem {
        CredentialProblem::Unusable { name: self.full_name(name), reason }
    }
}

/// Istio lets `kubernetes://` stand in front of a Secret's name.
fn bare(name: &str) -> &str {
    name.strip_prefix("kubernetes://").unwrap_or(name)
}

/// The generic key set beats that of kubernetes.io/tls.
fn certificate_and_key(secret: &Secret) -> Result<(&[u8], &[u8]), String> {
    for (certificate, key) in [("cert", "key"), ("tls.crt", "tls.key")] {
        match (secret.get(certificate), secret.get(key)) {
            (Some([]), Some(_)) | (Some(_), Some([])) => {
                return Err(format!("found keys \"{certificate}\" and \"{key}\", but they were empty"));
            }
            (Some(certificate), Some(key)) => return Ok((certificate, key)),
            _ => {}
        }
    }
    let found = keys(secret);
    Err(format!(
        "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: {found}"
    ))
}

fn keys(secret: &Secret) -> String {
    let keys = secret.keys();
    let shown = keys.iter().take(KEYS_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(KEYS_SHOWN) {
        0 => shown,
        more => format!("{shown}, and {more} more..."),
    }
}

/// Below 1.2 there is nothing to speak: an older minimum is 1.2, as in Istio without old ciphers.
fn version(protocol: Protocol, default: TlsVersion) -> TlsVersion {
    match protocol {
        Protocol::Auto => default,
        Protocol::V1_0 | Protocol::V1_1 | Protocol::V1_2 => TlsVersion::V1_2,
        Protocol::V1_3 => TlsVersion::V1_3,
    }
}

fn report_problem(
    server: &SelectedServer<'_>,
    tls: &ServerTlsSettings,
    problem: &CredentialProblem,
    report: &mut Report,
) {
    let name = if tls.credential_name.is_empty() { "credentialNames" } else { "credentialName" };
    let field = server.field().field("tls").field(name);
    let (code, message) = match problem {
        CredentialProblem::NotFound { name } => {
            let short = name.rsplit('/').next().unwrap_or(name);
            let message =
                format!("Referenced credentialName not found: \"{short}\" (secret {name} not found)");
            (Code::ReferencedResourceNotFound, message)
        }
        CredentialProblem::Unusable { name, reason } => {
            (Code::InvalidGatewayCredential, format!("secret {name}: {reason}"))
        }
    };
    report.add(server.gateway.diagnostic(Severity::Error, code, &field, message).help(
        "clients of this server's hosts are reset until the Secret is there, in the gateway's own namespace; a running \
         gateway goes on with the one before if it is merely gone; all other servers work",
    ));
}
