//! How a cluster's endpoints are chosen and spoken to.

use serde::Serialize;

/// How the proxy speaks to the endpoints, from the service port's name or appProtocol (istio-semantics: HTTP/1.1
/// unless the port says http2 or grpc, whatever the client spoke).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// What keeps a client at one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Affinity {
    /// Nothing: each request or flow is balanced by itself.
    #[default]
    None,
    /// Its address (`consistentHash.useSourceIp`), without the port.
    SourceAddress,
}

/// Version of the PROXY protocol's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}
