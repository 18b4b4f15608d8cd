//! networking.istio.io Gateway, as written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// `Gateway.spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Labels of the gateways it is for; empty: all.
    pub selector: BTreeMap<String, String>,
    /// At least one.
    pub servers: Vec<Server>,
}

/// `servers[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Server {
    /// Required.
    pub port: Option<Port>,
    /// IP address to listen on; empty: all.
    pub bind: String,
    /// `[namespace/]dnsName`, at least one.
    pub hosts: Vec<String>,
    /// Required for HTTPS and TLS.
    pub tls: Option<ServerTlsSettings>,
    /// Ignored at gateways.
    pub default_endpoint: Option<IgnoredAny>,
    /// Only for people.
    pub name: String,
}

/// `servers[].port`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// The port of the gateway's Service. 1–65535.
    pub number: u32,
    /// Case does not count.
    pub protocol: String,
    /// Unique in the Gateway.
    pub name: String,
    /// Deprecated, without effect.
    pub target_port: Option<u32>,
}

/// `servers[].tls`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerTlsSettings {
    /// Cleartext requests get 301.
    pub https_redirect: bool,
    /// The default is PASSTHROUGH.
    pub mode: Mode,
    /// Secret in the gateway's namespace.
    pub credential_name: String,
    /// Several Secrets (RSA and ECDSA); the first is used.
    pub credential_names: Vec<String>,
    /// Secret of the CA, in place of `<credentialName>-cacert`.
    pub ca_cert_credential_name: String,
    /// Default 1.2.
    pub min_protocol_version: Protocol,
    /// Default 1.3.
    pub max_protocol_version: Protocol,
    /// Not supported.
    pub server_certificate: Option<IgnoredAny>,
    /// Not supported.
    pub private_key: Option<IgnoredAny>,
    /// Not supported.
    pub ca_certificates: Option<IgnoredAny>,
    /// Not supported.
    pub ca_crl: Option<IgnoredAny>,
    /// Not supported.
    pub tls_certificates: Option<IgnoredAny>,
    /// Not supported.
    pub subject_alt_names: Option<IgnoredAny>,
    /// Not supported.
    pub verify_certificate_spki: Option<IgnoredAny>,
    /// Not supported.
    pub verify_certificate_hash: Option<IgnoredAny>,
    /// Not supported.
    pub insecure_skip_verify: Option<IgnoredAny>,
    /// Not supported.
    pub cipher_suites: Option<IgnoredAny>,
    /// Not supported.
    pub ecdh_curves: Option<IgnoredAny>,
}

impl ServerTlsSettings {
    /// The Secret of certificate and key.
    pub fn credential(&self) -> Option<&str> {
        let first = self.credential_names.first().map(String::as_str);
        Some(self.credential_name.as_str()).filter(|name| !name.is_empty()).or(first)
    }
}

/// `tls.mode`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// Route by SNI, leave the bytes alone.
    #[default]
    Passthrough,
    /// Server certificate.
    Simple,
    /// And a client certificate.
    Mutual,
    /// Not supported.
    AutoPassthrough,
    /// Not supported.
    IstioMutual,
    /// And a client certificate if there is one.
    OptionalMutual,
}

impl Mode {
    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passthrough => "PASSTHROUGH",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::AutoPassthrough => "AUTO_PASSTHROUGH",
            Self::IstioMutual => "ISTIO_MUTUAL",
            Self::OptionalMutual => "OPTIONAL_MUTUAL",
        }
    }
}

/// `tls.minProtocolVersion` and `tls.maxProtocolVersion`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Protocol {
    /// The gateway's default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.0
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// 1.1
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// 1.2
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// The families of `port.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolFamily {
    /// HTTP, HTTP2, GRPC, GRPC-WEB.
    Http,
    /// HTTPS: terminated TLS carries HTTP.
    Https,
    /// TLS: terminated TLS carries anything.
    Tls,
    /// TCP and the protocols that are not looked into.
    Tcp,
}

impl ProtocolFamily {
    /// Reads `port.protocol`; case does not count. UDP, which Istio lets pass, is none.
    pub fn parse(protocol: &str) -> Option<Self> {
        match protocol.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY" => Some(Self::Http),
            "HTTPS" => Some(Self::Https),
            "TLS" => Some(Self::Tls),
            "TCP" | "MONGO" | "REDIS" | "MYSQL" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// HTTPS or TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}
