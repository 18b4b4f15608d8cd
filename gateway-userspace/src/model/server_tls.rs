//! How a server that ends TLS does so: what it shows, whom it lets in, and what it speaks.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::credential::{Credential, CredentialProblem};

/// `Gateway.servers[].tls` of a terminating server.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    /// Whether clients must show a certificate.
    pub mode: TlsMode,
    /// Names of the Secrets and files that the document asks for.
    pub asked: Vec<Arc<str>>,
    /// What they hold; a problem makes the chain reset its clients and harms no other.
    pub credential: Result<Arc<Credential>, CredentialProblem>,
    /// What clients' certificates must be besides signed by the authority.
    pub clients: ClientPolicy,
    /// Versions and algorithms.
    pub protocol: ProtocolPolicy,
}

impl ServerTls {
    /// Whether both want the same of the same Secrets and files, whatever these hold. What one was built for must not stand
    /// in for another that asks for clients' certificates, or for those of another authority.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.mode == other.mode
            && self.asked == other.asked
            && self.clients == other.clients
            && self.protocol == other.protocol
    }
}

/// Terminating TLS modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// Server certificate only.
    Simple,
    /// Client certificate required and verified.
    Mutual,
    /// Client certificate verified when there is one.
    OptionalMutual,
}

/// Which of the certificates that the authority signed let a client in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientPolicy {
    /// `subjectAltNames`: one of them must be a name of the certificate. Empty: any name.
    pub names: Vec<Arc<str>>,
    /// `verifyCertificateSpki`: SHA-256 of public keys. With `certificates` empty too: any key.
    #[serde(serialize_with = "hexadecimal")]
    pub public_keys: Vec<[u8; 32]>,
    /// `verifyCertificateHash`: SHA-256 of certificates. One of either list must fit.
    #[serde(serialize_with = "hexadecimal")]
    pub certificates: Vec<[u8; 32]>,
    /// `insecureSkipVerify`: whoever signed it, and whatever it says.
    pub accept_any: bool,
}

fn hexadecimal<S: Serializer>(hashes: &[[u8; 32]], serializer: S) -> Result<S::Ok, S::Error> {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    let text =
        |hash: &[u8; 32]| hash.iter().flat_map(|it| [digit(it >> 4), digit(it & 15)]).collect::<String>();
    serializer.collect_seq(hashes.iter().map(text))
}

/// Versions and algorithms of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolPolicy {
    /// `minProtocolVersion`; default 1.2, and never below.
    pub min_version: TlsVersion,
    /// `maxProtocolVersion`; default 1.3.
    pub max_version: TlsVersion,
    /// `cipherSuites` of TLS 1.2, the preferred first; `None`: the TLS library's. Those of TLS 1.3 cannot be chosen.
    pub cipher_suites: Option<Vec<CipherSuite>>,
    /// `ecdhCurves`, the preferred first; `None`: the TLS library's.
    pub key_groups: Option<Vec<KeyGroup>>,
}

impl Default for ProtocolPolicy {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: None,
            key_groups: None,
        }
    }
}

/// TLS versions the gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// Cipher suites of TLS 1.2 that the gateway has: those with forward secrecy and authenticated encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum CipherSuite {
    #[serde(rename = "ECDHE-ECDSA-AES128-GCM-SHA256")]
    EcdsaAes128,
    #[serde(rename = "ECDHE-RSA-AES128-GCM-SHA256")]
    RsaAes128,
    #[serde(rename = "ECDHE-ECDSA-AES256-GCM-SHA384")]
    EcdsaAes256,
    #[serde(rename = "ECDHE-RSA-AES256-GCM-SHA384")]
    RsaAes256,
    #[serde(rename = "ECDHE-ECDSA-CHACHA20-POLY1305")]
    EcdsaChacha20,
    #[serde(rename = "ECDHE-RSA-CHACHA20-POLY1305")]
    RsaChacha20,
}

impl CipherSuite {
    /// By OpenSSL's name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ECDHE-ECDSA-AES128-GCM-SHA256" => Self::EcdsaAes128,
            "ECDHE-RSA-AES128-GCM-SHA256" => Self::RsaAes128,
            "ECDHE-ECDSA-AES256-GCM-SHA384" => Self::EcdsaAes256,
            "ECDHE-RSA-AES256-GCM-SHA384" => Self::RsaAes256,
            "ECDHE-ECDSA-CHACHA20-POLY1305" => Self::EcdsaChacha20,
            "ECDHE-RSA-CHACHA20-POLY1305" => Self::RsaChacha20,
            _ => return None,
        })
    }
}

/// Groups for the exchange of keys that the gateway has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum KeyGroup {
    /// Curve25519 (RFC 7748).
    #[serde(rename = "X25519")]
    X25519,
    /// NIST's curve of 256 bits.
    #[serde(rename = "P-256")]
    P256,
    /// NIST's curve of 384 bits.
    #[serde(rename = "P-384")]
    P384,
    /// Curve25519 together with ML-KEM-768.
    #[serde(rename = "X25519MLKEM768")]
    X25519MlKem768,
}

impl KeyGroup {
    /// By BoringSSL's name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "X25519" => Self::X25519,
            "P-256" => Self::P256,
            "P-384" => Self::P384,
            "X25519MLKEM768" => Self::X25519MlKem768,
            _ => return None,
        })
    }
}
