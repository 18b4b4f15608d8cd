//! What the gateway does, normalised and immutable: the one thing that the proxy, the kernel maps and the
//! dumps are made from. Built by `translate`; no document types, no sockets, no clock in here.

pub mod cluster;
pub mod connections;
pub mod counts;
pub mod credential;
pub mod explain;
pub mod exposure;
pub mod files;
pub mod fitness;
pub mod health;
pub mod host;
pub mod http_settings;
pub mod identity;
pub mod lengths;
pub mod limiter;
pub mod listener;
pub mod locality;
pub mod origin;
pub mod outlier;
pub mod path_form;
pub mod plane;
pub mod publish;
pub mod refusals;
pub mod resolved;
pub mod route;
pub mod server_tls;
pub mod snapshot;
mod strangers;
pub mod tier;
pub mod warmup;

pub use cluster::{
    Affinity, Balance, Candidate, ClientIdentity, Cluster, ClusterName, CookieAffinity, Discovery, Endpoint,
    Health, HttpLimits, Keepalive, Pem, Pings, Placement, ProxyVersion, RetryBudget, TlsMaterial, Trust,
    UpstreamProtocol, UpstreamTls, WeightedCluster,
};
pub use connections::{Connection, ConnectionView, Connections};
pub use counts::Counts;
pub use credential::{ClientAuthority, Credential, CredentialProblem, CredentialSource, ServerCertificate};
pub use exposure::{ExposedPort, Exposure};
pub use files::{FileProblem, Files};
pub use fitness::{Fitness, Unfit};
pub use health::{Checked, HealthCheck, HealthChecks, Probe, Transition};
pub use host::{HostMap, HostPattern};
pub use http_settings::{ClientCertificates, HttpSettings};
pub use identity::GatewayIdentity;
pub use lengths::Lengths;
pub use limiter::{Admission, Limiter};
pub use listener::{
    ChainAction, FilterChain, Limits, Listener, ListenerKey, ListenerKind, ServerRef, SourceAddress,
    Steering, TcpRoute, UserSpaceReason,
};
pub use locality::Locality;
pub use origin::Origin;
pub use outlier::{Outcome, OutlierDetection, Outliers};
pub use path_form::PathForm;
pub use plane::KernelPlaneState;
pub use publish::{Published, Subscription};
pub use refusals::{Refusal, Refusals};
pub use resolved::Resolved;
pub use route::{
    AbortStatus, Cors, CorsVerdict, DirectResponse, Fault, Filters, Forward, Fraction, HeaderField,
    HeaderMatch, HeaderOps, Mirror, PathMatch, QueryMatch, Redirect, RedirectPort, RequestHead, RetryOn,
    RetryPolicy, Rewrite, Route, RouteAction, RouteList, RouteMatch, RouteRule, RouteTable, StringMatch,
    ValueMatch, VirtualHost,
};
pub use server_tls::{CipherSuite, ClientPolicy, KeyGroup, ProtocolPolicy, ServerTls, TlsMode, TlsVersion};
pub use snapshot::{DocumentRef, Snapshot};
pub use strangers::Strangers;
pub use tier::{Ascent, Below, Tier};
pub use warmup::{Cold, Warming, Warmup};
