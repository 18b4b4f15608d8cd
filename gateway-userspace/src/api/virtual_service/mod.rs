//! networking.istio.io VirtualService, as written.

mod delegate;
mod filters;
mod l4;
mod match_;
mod mirror;
mod retry;
mod route;

use serde::Deserialize;

pub use delegate::Delegate;
pub use filters::{Abort, CorsPolicy, Delay, HttpFaultInjection, Percent, UnmatchedPreflights};
pub use l4::{L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute};
pub use match_::{HttpMatchRequest, StringMatch};
pub use mirror::HttpMirrorPolicy;
pub use retry::HttpRetry;
pub use route::{
    DerivePort, Destination, HeaderOperations, Headers, HttpBody, HttpDirectResponse, HttpRedirect,
    HttpRewrite, HttpRoute, HttpRouteDestination, PortSelector, RegexRewrite,
};

/// What `gateways` call all sidecars.
pub(crate) const MESH: &str = "mesh";

/// `VirtualService.spec`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualService {
    /// None: the rules are for others to delegate to.
    pub hosts: Vec<String>,
    /// Empty: only the mesh, that is, no gateway.
    pub gateways: Vec<String>,
    /// For HTTP and terminated HTTPS.
    pub http: Vec<HttpRoute>,
    /// For TLS passed through.
    pub tls: Vec<TlsRoute>,
    /// For TCP and terminated TLS.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<String>,
}
