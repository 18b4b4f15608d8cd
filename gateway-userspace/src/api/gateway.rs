//! networking.istio.io Gateway, as written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::credential_name::CredentialName;

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
    /// Several Secrets, such as an RSA and an ECDSA certificate.
    pub credential_names: Vec<String>,
    /// Secret or ConfigMap of the CA, in place of `<credentialName>-cacert`.
    pub ca_cert_credential_name: String,
    /// File of the certificate.
    pub server_certificate: String,
    /// File of its key.
    pub private_key: String,
    /// File of the CA that clients' certificates are verified against.
    pub ca_certificates: String,
    /// File of lists of revoked certificates.
    pub ca_crl: String,
    /// Files of several certificates.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names of which a client's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of clients' public keys, base64.
    pub verify_certificate_spki: Vec<String>,
    /// SHA-256 of clients' certificates, hexadecimal, colons allowed.
    pub verify_certificate_hash: Vec<String>,
    /// Accept clients' certificates unverified.
    pub insecure_skip_verify: bool,
    /// Default 1.2.
    pub min_protocol_version: Protocol,
    /// Default 1.3.
    pub max_protocol_version: Protocol,
    /// OpenSSL's names, of TLS 1.2 and below.
    pub cipher_suites: Vec<String>,
    /// Groups for the exchange of keys.
    pub ecdh_curves: Vec<String>,
}

impl ServerTlsSettings {
    /// The names of the credentials that hold certificate and key.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        let one = Some(self.credential_name.as_str()).filter(|name| !name.is_empty());
        one.into_iter().chain(self.credential_names.iter().map(String::as_str))
    }

    /// The names of those and of the credentials that hold CAs, said or implied: of all that a gateway looks for.
    pub fn all_credentials(&self) -> Vec<String> {
        let first = self.credentials().next().filter(|_| self.mode.verifies_clients());
        let authority = match self.ca_cert_credential_name.as_str() {
            "" => first.map(CredentialName::of_authority),
            name => Some(name.to_owned()),
        };
        self.credentials().map(str::to_owned).chain(authority).collect()
    }

    /// The files of certificates with those of their keys, either of which may be empty; not heeded where there is a
    /// credential.
    pub fn certificate_files(&self) -> Vec<(&str, &str)> {
        let one = (self.server_certificate.as_str(), self.private_key.as_str());
        match self.tls_certificates.as_slice() {
            [] if one == ("", "") => Vec::new(),
            [] => vec![one],
            several => {
                several.iter().map(|it| (it.server_certificate.as_str(), it.private_key.as_str())).collect()
            }
        }
    }

    /// The files that a gateway must read: none where there is a credential, or where TLS does not end.
    pub fn files(&self) -> Vec<&str> {
        if !self.mode.terminates() || self.credentials().next().is_some() {
            return Vec::new();
        }
        let pairs = self.certificate_files().into_iter().flat_map(|(certificate, key)| [certificate, key]);
        let all = pairs.chain([self.ca_certificates.as_str(), self.ca_crl.as_str()]);
        all.filter(|path| !path.is_empty()).collect()
    }
}

/// `tls.tlsCertificates[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsCertificate {
    /// File of the certificate.
    pub server_certificate: String,
    /// File of its key.
    pub private_key: String,
    /// Without effect, in Istio too.
    pub ca_certificates: String,
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
    /// Whether the gateway shows a certificate of the document's.
    pub fn terminates(self) -> bool {
        matches!(self, Self::Simple | Self::Mutual | Self::OptionalMutual)
    }

    /// Whether clients are asked for a certificate that the document's authority signed.
    pub fn verifies_clients(self) -> bool {
        matches!(self, Self::Mutual | Self::OptionalMutual)
    }

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

impl Protocol {
    /// Below TLS 1.2.
    pub fn is_old(self) -> bool {
        matches!(self, Self::V1_0 | Self::V1_1)
    }
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
