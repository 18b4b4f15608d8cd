//! What the gateway does, normalised and immutable: the one thing that the proxy, the kernel maps and the
//! dumps are made from. Built by `translate`; no document types, no sockets, no clock in here.

pub mod cluster;
pub mod credential;
pub mod host;
pub mod identity;
pub mod listener;
pub mod plane;
pub mod publish;
pub mod route;
pub mod snapshot;

pub use cluster::{Cluster, ClusterName, Endpoint, Health, UpstreamProtocol, WeightedCluster};
pub use credential::{Credential, CredentialProblem};
pub use host::{HostMap, HostPattern};
pub use identity::GatewayIdentity;
pub use listener::{
    ChainAction, FilterChain, Listener, ListenerKey, ListenerKind, ServerTls, Steering, TcpRoute, TlsMode,
    TlsVersion, UserSpaceReason,
};
pub use plane::KernelPlaneState;
pub use publish::{Published, Subscription};
pub use route::{
    DirectResponse, Forward, HeaderMatch, HeaderOps, PathMatch, QueryMatch, Redirect, RedirectPort,
    RequestHead, Rewrite, Route, RouteAction, RouteMatch, RouteTable, StringMatch, ValueMatch, VirtualHost,
};
pub use snapshot::{DocumentRef, Snapshot};
