//! TLS towards a cluster's endpoints, as a DestinationRule asks for it: PEM as it was found, not parsed. Keys never show in `Debug` or in dumps.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::model::credential::{CredentialProblem, CredentialSource};
use crate::model::server_tls::ProtocolPolicy;
use crate::model::snapshot::DocumentRef;

/// `trafficPolicy.tls` of mode SIMPLE, or MUTUAL if there is a certificate of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// What is shown and trusted; a problem with it costs the cluster's connections, never their secrecy.
    pub material: Result<TlsMaterial, CredentialProblem>,
    /// Everything that the document names, in its own words.
    pub asked: Vec<Arc<str>>,
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
    /// Versions and algorithms.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: ProtocolPolicy,
    /// Whose policy it is: `name.namespace`.
    pub destination_rule: DocumentRef,
    /// The policy's place in that document, such as `spec.trafficPolicy.tls`.
    pub field: Arc<str>,
}

fn is_default(policy: &ProtocolPolicy) -> bool {
    *policy == ProtocolPolicy::default()
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

/// PEM, and where it is from.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The Secret, ConfigMap or file.
    pub source: CredentialSource,
    /// What it holds.
    pub text: Arc<[u8]>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Serialize for Pem {
    /// Where it is from; the text is not shown, as it may be a key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl UpstreamTls {
    /// Whether what stood for `self` may stand for another policy whose certificates are gone.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let asked = |it: &Self| Self { material: other.material.clone(), ..it.clone() };
        (&self.destination_rule, &self.field) == (&other.destination_rule, &other.field)
            && asked(self) == asked(other)
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
        let pem = |source, text: &[u8]| Pem { source, text: text.into() };
        let secret = |text| pem(CredentialSource::Secret("istio-system/own".into()), text);
        let identity =
            ClientIdentity { certificate_chain: secret(b"chain"), private_key: secret(b"hush hush") };
        let authorities = pem(CredentialSource::File("/etc/ca.pem".into()), b"ca");
        let bundle = Trust::Bundle { authorities, revoked: None };
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
