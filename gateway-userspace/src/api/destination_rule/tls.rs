//! TLS towards the endpoints.

use serde::Deserialize;

/// `trafficPolicy.tls`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTlsSettings {
    /// Absent: `DISABLE`.
    pub mode: Option<ClientTlsMode>,
    /// File of the client's certificate.
    pub client_certificate: String,
    /// File of its key.
    pub private_key: String,
    /// File of the CA that endpoints' certificates are verified against; empty: the system's.
    pub ca_certificates: String,
    /// Secret in place of the files, in the gateway's namespace.
    pub credential_name: String,
    /// Names of which an endpoint's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// Server name; empty: the request's Host.
    pub sni: String,
    /// Endpoints' certificates are not verified.
    pub insecure_skip_verify: Option<bool>,
    /// File of certificates that are revoked.
    pub ca_crl: String,
}

/// `tls.mode`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// In the clear.
    #[default]
    Disable,
    /// The endpoint shows a certificate.
    Simple,
    /// Both show one.
    Mutual,
    /// Both show one of the mesh's.
    IstioMutual,
}
