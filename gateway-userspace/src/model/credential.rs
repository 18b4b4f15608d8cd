//! Certificates and keys as the documents gave them: PEM bytes, not yet parsed by the TLS library. Keys never
//! show in `Debug` or in dumps.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A server's credential out of a Secret.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// `namespace/name` of the Secret.
    pub name: Arc<str>,
    /// PEM, leaf first (`cert` or `tls.crt`).
    #[serde(serialize_with = "text")]
    pub certificate_chain: Arc<[u8]>,
    /// PEM (`key` or `tls.key`).
    #[serde(skip)]
    pub private_key: Arc<[u8]>,
    /// PEM bundle that client certificates are verified against (`cacert` or `ca.crt`, of the Secret itself or of
    /// `<name>-cacert`).
    #[serde(serialize_with = "optional_text")]
    pub client_ca: Option<Arc<[u8]>>,
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

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a filter chain has no credential; its clients get a reset, all else keeps working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialProblem {
    /// No such Secret in the gateway's namespace.
    #[error("secret {name} not found")]
    NotFound {
        /// `namespace/name`.
        name: Arc<str>,
    },
    /// The Secret lacks the keys, or they are empty; the text is Istio's.
    #[error("{reason}")]
    Unusable {
        /// `namespace/name`.
        name: Arc<str>,
        /// What is missing.
        reason: String,
    },
}
