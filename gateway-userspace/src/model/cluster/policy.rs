//! How a cluster's endpoints are chosen and spoken to.

use std::sync::Arc;
use std::time::Duration;

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

/// Who gets a request that nothing keeps at an endpoint (DestinationRule loadBalancer.simple). The kernel plane shares flows
/// out at random, by weight, whichever it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Balance {
    /// The less busy of two at random; where weights differ, at random by the weight that each has left.
    #[default]
    LeastRequest,
    /// In turns, as many as the weight says.
    RoundRobin,
    /// At random, by weight.
    Random,
}

/// What keeps a client or its requests at one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Affinity {
    /// Nothing: each request or flow is balanced by itself.
    #[default]
    None,
    /// The client's address (`consistentHash.useSourceIp`), without the port.
    SourceAddress,
    /// A header's value (`httpHeaderName`), lower case; `:authority`, `:path` and `:method` too.
    Header(Arc<str>),
    /// The first value of a query parameter (`httpQueryParameterName`).
    QueryParameter(Arc<str>),
    /// A cookie (`httpCookie`).
    Cookie(Arc<CookieAffinity>),
}

/// `consistentHash.httpCookie`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieAffinity {
    /// Its name.
    pub name: Arc<str>,
    /// A client without one is given one: what follows its value in `Set-Cookie`. `None`: it brings one or is not kept.
    pub given: Option<Arc<str>>,
}

/// `tcpKeepalive`; what is not said is as for all connections of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keepalive {
    /// Unanswered ones until the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first, whole seconds.
    pub time: Option<Duration>,
    /// Between two, whole seconds.
    pub interval: Option<Duration>,
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
