//! What holds for HTTP at every listener: MeshConfig's word on paths, and on proxies that clients come through.

use serde::Serialize;

use super::path_form::PathForm;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSettings {
    /// The form in which paths are matched and sent on.
    pub path: PathForm,
    /// Proxies before the gateway whose `x-forwarded-for` and `-proto` are believed
    /// (`gatewayTopology.numTrustedProxies`).
    pub trusted_proxies: u32,
    /// What backends are told of clients' certificates.
    pub client_certificates: ClientCertificates,
}

/// `gatewayTopology.forwardClientCertDetails`: what becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientCertificates {
    /// It is taken away.
    Sanitize,
    /// Clients that have shown a certificate may say what they want.
    ForwardOnly,
    /// Theirs is added to what they say.
    AppendForward,
    /// Theirs is in it, and nothing else.
    #[default]
    SanitizeSet,
    /// All clients may say what they want.
    AlwaysForwardOnly,
}
