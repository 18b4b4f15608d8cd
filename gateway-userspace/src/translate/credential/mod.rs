//! Certificates, keys and client CAs out of Secrets of the gateway's namespace, ConfigMaps and files.

mod policy;
mod secret;

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::credential_name::CA_SUFFIX;
use crate::api::gateway::{Mode, ServerTlsSettings};
use crate::api::{Code, ConfigMap, CredentialName, FieldPath, Objects, Secret, Severity, Sourced};
use crate::model::{
    ClientAuthority, Credential, CredentialProblem, CredentialSource, FileProblem, ProtocolPolicy,
    ServerCertificate, ServerTls, TlsMode,
};

use super::Surroundings;
use super::report::Report;
use super::select::SelectedServer;

/// What servers may name.
pub(super) struct Credentials<'a> {
    surroundings: &'a Surroundings,
    secrets: HashMap<&'a str, &'a Sourced<Secret>>,
    config_maps: HashMap<(&'a str, &'a str), &'a Sourced<ConfigMap>>,
}

impl<'a> Credentials<'a> {
    /// Secrets of the gateway's namespace; those of a Gateway document's are not looked at, as in Istio. ConfigMaps, which
    /// hold nothing secret, are those of all namespaces.
    pub(super) fn new(objects: &'a Objects, surroundings: &'a Surroundings) -> Self {
        let namespace = &surroundings.identity.namespace;
        let own = objects.secrets.iter().filter(|secret| **secret.namespace() == **namespace);
        let config_maps = objects.config_maps.iter();
        Self {
            surroundings,
            secrets: own.map(|secret| (&**secret.name(), secret.as_ref())).collect(),
            config_maps: config_maps.map(|map| ((&**map.namespace(), &**map.name()), map.as_ref())).collect(),
        }
    }

    /// TLS of a terminating server; what is wrong with its credential harms this server alone and is reported.
    pub(super) fn server_tls(&self, server: &SelectedServer<'_>, report: &mut Report) -> Option<ServerTls> {
        let tls = server.server.tls.as_ref()?;
        let mode = match tls.mode {
            Mode::Simple => TlsMode::Simple,
            Mode::Mutual => TlsMode::Mutual,
            Mode::OptionalMutual => TlsMode::OptionalMutual,
            Mode::Passthrough | Mode::AutoPassthrough | Mode::IstioMutual => return None,
        };
        let credential = self.credential(tls).map_err(|wrong| {
            report_problem(server, &wrong, report);
            wrong.problem
        });
        Some(ServerTls {
            mode,
            asked: asked(tls),
            credential: credential.map(Arc::new),
            clients: policy::clients(tls),
            protocol: policy::protocol(tls, &self.surroundings.mesh),
        })
    }

    /// Versions and algorithms of TLS towards backends.
    pub(super) fn towards_backends(&self) -> ProtocolPolicy {
        policy::towards_backends(&self.surroundings.mesh)
    }

    fn credential(&self, tls: &ServerTlsSettings) -> Result<Credential, Wrong> {
        let certificates = if tls.credentials().next().is_some() {
            self.named_certificates(tls)?
        } else {
            self.certificates_of_files(tls)?
        };
        let client_authority = tls.mode.verifies_clients().then(|| self.client_authority(tls)).transpose()?;
        Ok(Credential { certificates, client_authority })
    }

    fn named_certificates(&self, tls: &ServerTlsSettings) -> Result<Vec<ServerCertificate>, Wrong> {
        let fields = credential_fields(tls);
        fields.map(|(name, field)| self.named_certificate(name).map_err(|it| it.at(field))).collect()
    }

    pub(super) fn named_certificate(&self, written: &str) -> Result<ServerCertificate, CredentialProblem> {
        let refused = |reason: String| CredentialProblem::Refused { name: written.into(), reason };
        let name = match CredentialName::parse(written, self.namespace()).map_err(refused)? {
            CredentialName::Secret(name) => name,
            CredentialName::ConfigMap(..) => {
                return Err(refused("a ConfigMap holds a CA alone, no certificate and key".to_owned()));
            }
        };
        if name.ends_with(CA_SUFFIX) {
            return Err(refused(format!("a Secret whose name ends in {CA_SUFFIX} holds a CA alone")));
        }
        let source = self.secret_source(&name);
        let secret = self.secret(&name)?;
        let (chain, private_key, ocsp_staple) = secret::certificate(&secret.spec)
            .map_err(|reason| CredentialProblem::Unusable { credential: source.clone(), reason })?;
        Ok(ServerCertificate { source, chain, private_key, ocsp_staple })
    }

    fn certificates_of_files(&self, tls: &ServerTlsSettings) -> Result<Vec<ServerCertificate>, Wrong> {
        let several = !tls.tls_certificates.is_empty();
        let pairs = tls.certificate_files().into_iter().enumerate();
        let read = pairs.map(|(at, (certificate, key))| {
            let place = FieldPath::root();
            let place = if several { place.field("tlsCertificates").index(at) } else { place };
            let chain = self.file(certificate).map_err(|it| it.at(place.field("serverCertificate")))?;
            let private_key = self.file(key).map_err(|it| it.at(place.field("privateKey")))?;
            let source = CredentialSource::File(certificate.into());
            Ok(ServerCertificate { source, chain, private_key, ocsp_staple: None })
        });
        read.collect()
    }

    fn client_authority(&self, tls: &ServerTlsSettings) -> Result<ClientAuthority, Wrong> {
        let Some((first, field)) = credential_fields(tls).next() else {
            return self.authority_of_file(tls);
        };
        match tls.ca_cert_credential_name.as_str() {
            "" => self.named_authority(&CredentialName::of_authority(first)).map_err(|it| it.at(field)),
            named => {
                let field = FieldPath::root().field("caCertCredentialName");
                self.named_authority(named).map_err(|it| it.at(field))
            }
        }
    }

    /// A Secret whose name ends in `-cacert` may be missing: then the CA is looked for in that without the ending.
    pub(super) fn named_authority(&self, written: &str) -> Result<ClientAuthority, CredentialProblem> {
        let refused = |reason: String| CredentialProblem::Refused { name: written.into(), reason };
        let (source, found) = match CredentialName::parse(written, self.namespace()).map_err(refused)? {
            CredentialName::Secret(name) => {
                let stripped = name.strip_suffix(CA_SUFFIX).unwrap_or(&name);
                let name = if self.secrets.contains_key(name.as_str()) { &name } else { stripped };
                (self.secret_source(name), secret::root(&self.secret(name)?.spec))
            }
            CredentialName::ConfigMap(namespace, name) => {
                let name = name.strip_suffix(CA_SUFFIX).unwrap_or(&name);
                let source = CredentialSource::ConfigMap(format!("{namespace}/{name}").into());
                let map = self.config_maps.get(&(namespace.as_str(), name));
                let missing = || self.missing(source.clone());
                (source.clone(), secret::root(&map.ok_or_else(missing)?.spec))
            }
        };
        let (bundle, revoked) =
            found.map_err(|reason| CredentialProblem::Unusable { credential: source.clone(), reason })?;
        Ok(ClientAuthority { source, bundle, revoked })
    }

    fn authority_of_file(&self, tls: &ServerTlsSettings) -> Result<ClientAuthority, Wrong> {
        let root = FieldPath::root();
        let bundle = self.file(&tls.ca_certificates).map_err(|it| it.at(root.field("caCertificates")))?;
        let revoked = Some(tls.ca_crl.as_str()).filter(|path| !path.is_empty());
        let revoked = revoked.map(|path| self.file(path).map_err(|it| it.at(root.field("caCrl"))));
        let source = CredentialSource::File(tls.ca_certificates.as_str().into());
        Ok(ClientAuthority { source, bundle, revoked: revoked.transpose()? })
    }

    pub(super) fn file(&self, path: &str) -> Result<Arc<[u8]>, CredentialProblem> {
        let credential = CredentialSource::File(path.into());
        self.surroundings.files.get(path).cloned().map_err(|problem| match problem {
            FileProblem::NotFound => self.missing(credential),
            FileProblem::Unreadable(_) => {
                CredentialProblem::Unusable { credential, reason: problem.to_string() }
            }
        })
    }

    fn secret(&self, name: &str) -> Result<&'a Sourced<Secret>, CredentialProblem> {
        let missing = || self.missing(self.secret_source(name));
        self.secrets.get(name).copied().ok_or_else(missing)
    }

    fn missing(&self, credential: CredentialSource) -> CredentialProblem {
        match self.surroundings.unread.get(&credential) {
            Some(reason) => CredentialProblem::Unread { credential, reason: reason.clone() },
            None => CredentialProblem::NotFound { credential },
        }
    }

    fn secret_source(&self, name: &str) -> CredentialSource {
        CredentialSource::Secret(format!("{}/{name}", self.namespace()).into())
    }

    fn namespace(&self) -> &'a str {
        &self.surroundings.identity.namespace
    }
}

/// Names of credentials, each with its field below `tls`.
fn credential_fields(tls: &ServerTlsSettings) -> impl Iterator<Item = (&str, FieldPath)> {
    let is_one = !tls.credential_name.is_empty();
    tls.credentials().enumerate().map(move |(at, name)| {
        let root = FieldPath::root();
        (name, if is_one { root.field("credentialName") } else { root.field("credentialNames").index(at) })
    })
}

/// Everything that the document names, in its own words.
fn asked(tls: &ServerTlsSettings) -> Vec<Arc<str>> {
    let authority = Some(tls.ca_cert_credential_name.as_str()).filter(|name| !name.is_empty());
    tls.credentials().chain(authority).chain(tls.files()).map(Arc::from).collect()
}

/// What is wrong, and the field below `tls` that led there.
struct Wrong {
    problem: CredentialProblem,
    field: FieldPath,
}

impl CredentialProblem {
    fn at(self, field: FieldPath) -> Wrong {
        Wrong { problem: self, field }
    }
}

/// How grave a problem is, its code and words, in Istio's words where it has some. `unusable` is the code of contents that are
/// no good.
pub(super) fn told(problem: &CredentialProblem, unusable: Code) -> (Severity, Code, String) {
    let error = |code, message| (Severity::Error, code, message);
    let not_found =
        |what: &str, why: &str| format!("Referenced credentialName not found: \"{what}\" ({why})");
    match problem {
        CredentialProblem::NotFound { credential: file @ CredentialSource::File(_) } => {
            error(Code::ReferencedResourceNotFound, format!("{file} not found"))
        }
        CredentialProblem::NotFound { credential } => {
            let words = credential.to_string();
            let short = words.rsplit('/').next().unwrap_or(&words);
            error(Code::ReferencedResourceNotFound, not_found(short, &format!("{words} not found")))
        }
        CredentialProblem::Unread { .. } => (Severity::Warning, Code::NotRead, problem.to_string()),
        CredentialProblem::Unusable { credential, reason } => {
            error(unusable, format!("{credential}: {reason}"))
        }
        CredentialProblem::Refused { name, reason } => {
            error(Code::ReferencedResourceNotFound, not_found(name, reason))
        }
    }
}

fn report_problem(server: &SelectedServer<'_>, wrong: &Wrong, report: &mut Report) {
    let field = server.field().field("tls").join(&wrong.field);
    let (severity, code, message) = told(&wrong.problem, Code::InvalidGatewayCredential);
    let help = match &wrong.problem {
        CredentialProblem::NotFound { credential: CredentialSource::File(_) } => {
            "clients of this server's hosts are reset until the file is there; a running gateway goes on with the one before \
             if it is merely gone; all other servers work"
        }
        CredentialProblem::Unread { .. } => Code::NotRead.remedy(),
        CredentialProblem::Refused { .. } => {
            "clients of this server's hosts are reset; name a Secret of the gateway's own namespace; all other servers work"
        }
        _ => {
            "clients of this server's hosts are reset until the Secret is there, in the gateway's own namespace; a running \
             gateway goes on with the one before if it is merely gone; all other servers work"
        }
    };
    report.add(server.gateway.diagnostic(severity, code, &field, message).help(help));
}
