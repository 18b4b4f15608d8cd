//! TLS towards a cluster's endpoints, as a DestinationRule asks for it: PEM as written or files that have it, nothing read
//! or parsed. Keys never show in `Debug` or in dumps.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::model::credential::CredentialProblem;
use crate::model::snapshot::DocumentRef;

/// `trafficPolicy.tls` of mode SIMPLE, or MUTUAL if there is a certificate of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// What is shown and trusted; a problem with it costs the cluster's connections, never their secrecy.
    pub material: Result<TlsMaterial, CredentialProblem>,
    /// `sni`; without one, a request's Host is asked for, and a connection that has none asks for nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Arc<str>>,
    /// An endpoint's certificate must be for one of these; empty: any name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<Arc<str>>,
    /// It must be for the Host that is asked for: where neither `sni` nor `subjectAltNames` say otherwise.
    pub verifies_host: bool,
    /// Offers `h2` (ALPN, RFC 7301) and nothing else.
    pub offers_http2: bool,
    /// Whose policy it is: `name.namespace`.
    pub destination_rule: DocumentRef,
    /// The policy's place in that document, such as `spec.trafficPolicy.tls`.
    pub field: Arc<str>,
}

/// Certificates and keys of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsMaterial {
    /// Who endpoints are taken for.
    pub trust: Trust,
    /// What is shown to endpoints that ask (MUTUAL).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ClientIdentity>,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// Those that the system's authorities have signed.
    System,
    /// Those of a bundle of authorities, but for revoked ones.
    Bundle {
        /// The authorities.
        authorities: Pem,
        /// Revocation lists, for each authority of a chain.
        #[serde(skip_serializing_if = "Option::is_none")]
        revoked: Option<Pem>,
    },
    /// Anyone's (`insecureSkipVerify`).
    Anyone,
}

/// A certificate chain, leaf first, with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIdentity {
    /// Public.
    pub certificate_chain: Pem,
    /// Secret.
    #[serde(skip)]
    pub private_key: Pem,
}

/// PEM, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// Out of a Secret.
    Secret {
        /// `namespace/name`.
        name: Arc<str>,
        /// The text.
        pem: Arc<[u8]>,
    },
    /// A file of the gateway's.
    File(Arc<str>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { name, .. } => write!(f, "secret {name}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

impl Serialize for Pem {
    /// Where it is from; the text is not shown, as it may be a key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Hash for UpstreamTls {
    /// Of what is short: most policies differ in that.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.destination_rule, &self.field, &self.sni, self.offers_http2).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_shown() {
        let secret = |pem: &[u8]| Pem::Secret { name: "istio-system/own".into(), pem: pem.into() };
        let identity =
            ClientIdentity { certificate_chain: secret(b"chain"), private_key: secret(b"hush hush") };
        let bundle = Trust::Bundle { authorities: Pem::File("/etc/ca.pem".into()), revoked: None };
        let material = TlsMaterial { trust: bundle, identity: Some(identity) };
        let json = serde_json::to_string(&material).unwrap();
        assert_eq!(
            json,
            r#"{"trust":{"bundle":{"authorities":"file /etc/ca.pem"}},"identity":{"certificateChain":"secret istio-system/own"}}"#
        );
        // Bytes show as numbers in derived output.
        let (hidden, derived) = (format!("{material:?}"), format!("{:?}", b"hush hush"));
        assert!(!hidden.contains("hush") && !hidden.contains(&derived), "{hidden}");
    }
}
