//! Certificates and keys as the documents gave them: PEM bytes, not yet parsed by the TLS library. Keys never
//! show in `Debug` or in dumps.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where a certificate, key or authority was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialSource {
    /// `namespace/name` of a Secret.
    Secret(Arc<str>),
    /// `namespace/name` of a ConfigMap.
    ConfigMap(Arc<str>),
    /// Path of a file, as the document writes it.
    File(Arc<str>),
}

impl CredentialSource {
    /// The name under which Istio's gateway asks for it: `kubernetes://namespace/name`, `file-cert:path`.
    pub fn resource(&self) -> String {
        match self {
            Self::Secret(name) => format!("kubernetes://{name}"),
            Self::ConfigMap(name) => format!("configmap://{name}"),
            Self::File(path) => format!("file-cert:{path}"),
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::ConfigMap(name) => write!(f, "configmap {name}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

/// What a server shows its clients, and verifies theirs by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// In the order in which the document names them; never empty.
    pub certificates: Vec<ServerCertificate>,
    /// In the modes that ask clients for a certificate.
    pub client_authority: Option<ClientAuthority>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ServerCertificate {
    /// The Secret, or the certificate's file.
    pub source: CredentialSource,
    /// PEM, leaf first (`cert` or `tls.crt`).
    #[serde(serialize_with = "text")]
    pub chain: Arc<[u8]>,
    /// PEM (`key` or `tls.key`).
    #[serde(skip)]
    pub private_key: Arc<[u8]>,
    /// An OCSP response (RFC 6960) in DER, to be shown with the certificate (`tls.ocsp-staple`).
    #[serde(skip)]
    pub ocsp_staple: Option<Arc<[u8]>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whose certificates clients may show.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ClientAuthority {
    /// The Secret, ConfigMap or file of the bundle.
    pub source: CredentialSource,
    /// PEM (`cacert` or `ca.crt`).
    #[serde(serialize_with = "text")]
    pub bundle: Arc<[u8]>,
    /// Lists of revoked certificates (RFC 5280, 5), PEM (`crl` or `ca.crl`). With any, each certificate of a client's
    /// chain must be covered by one.
    #[serde(serialize_with = "optional_text")]
    pub revoked: Option<Arc<[u8]>>,
}

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthority").field("source", &self.source).finish_non_exhaustive()
    }
}

fn text<S: Serializer>(pem: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(pem))
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn optional_text<S: Serializer>(pem: &Option<Arc<[u8]>>, serializer: S) -> Result<S::Ok, S::Error> {
    match pem {
        Some(pem) => text(pem, serializer),
        None => serializer.serialize_none(),
    }
}

/// Why a filter chain has no credential; its clients get a reset, all else keeps working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialProblem {
    /// It is not there.
    #[error("{credential} not found")]
    NotFound {
        /// What was looked for.
        credential: CredentialSource,
    },
    /// Whoever reads the documents may not read it, or could not: nothing is known of it.
    #[error("{credential} could not be read: {reason}")]
    Unread {
        /// What was looked for.
        credential: CredentialSource,
        /// Why.
        reason: String,
    },
    /// It lacks what is asked of it, in Istio's words; or it cannot be read.
    #[error("{reason}")]
    Unusable {
        /// What was looked at.
        credential: CredentialSource,
        /// What is missing.
        reason: String,
    },
    /// The name leads to nothing that a gateway may have, whatever is there.
    #[error("{reason}")]
    Refused {
        /// As the document writes it.
        name: Arc<str>,
        /// Why not.
        reason: String,
    },
}
