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

impl ClientTlsSettings {
    /// The files that a gateway must read: none where there is a credential, or no TLS.
    pub fn files(&self) -> Vec<&str> {
        let is_mutual = match self.mode {
            Some(ClientTlsMode::Simple) => false,
            Some(ClientTlsMode::Mutual) => true,
            None | Some(ClientTlsMode::Disable | ClientTlsMode::IstioMutual) => return Vec::new(),
        };
        if !self.credential_name.is_empty() {
            return Vec::new();
        }
        let own = [&self.client_certificate, &self.private_key];
        let all = own.into_iter().filter(|_| is_mutual).chain([&self.ca_certificates, &self.ca_crl]);
        all.map(String::as_str).filter(|path| !path.is_empty()).collect()
    }
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
