//! Where requests and flows go: clusters and their endpoints.

mod eligible;
mod endpoint;
mod limits;
mod placement;
mod policy;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::fitness::Fitness;
use super::health::HealthCheck;
use super::origin::Origin;
use super::outlier::OutlierDetection;
use super::snapshot::DocumentRef;
use super::warmup::Warmup;
use crate::telemetry::digits;

pub use eligible::Candidate;
pub use endpoint::{Discovery, Endpoint, Health};
pub use limits::{HttpLimits, Pings, RetryBudget};
pub use placement::Placement;
pub use policy::{Affinity, Balance, CookieAffinity, Keepalive, ProxyVersion, UpstreamProtocol};
pub use tls::{ClientIdentity, Pem, TlsMaterial, Trust, UpstreamTls};

/// A cluster's name as Istio's users know it: `outbound|<port>|<subset>|<fqdn>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName {
    /// Fully qualified host of the service.
    pub host: Arc<str>,
    /// Service port (not the pods').
    pub port: u16,
    /// DestinationRule subset.
    pub subset: Option<Arc<str>>,
}

impl ClusterName {
    /// As it is displayed, for each request's line in the access log.
    pub fn text(&self) -> String {
        let (host, subset) = (&*self.host, self.subset.as_deref().unwrap_or(""));
        let mut text = String::with_capacity("outbound|65535||".len() + subset.len() + host.len());
        text.push_str("outbound|");
        digits::push(&mut text, self.port.into());
        for part in ["|", subset, "|", host] {
            text.push_str(part);
        }
        text
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Serialize for ClusterName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One service port (or subset of it) and its endpoints.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Name, unique in a snapshot.
    pub name: ClusterName,
    /// HTTP version towards the endpoints; `Tcp` where the port says so. HTTP routes treat `Tcp` as `Http1`.
    pub protocol: UpstreamProtocol,
    /// DestinationRule connectionPool.http.useClientProtocol: requests go on in the version that they came in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follows_client: bool,
    /// Where the endpoints come from.
    pub discovery: Discovery,
    /// Sorted by address, without duplicates; unready ones included.
    pub endpoints: Vec<Endpoint>,
    /// The Service's port that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<Origin>>,
    /// The DestinationRules whose policy this is, `name.namespace`, joined by commas.
    pub destination_rule: Option<DocumentRef>,
    /// DestinationRule connectionPool.tcp.connectTimeout; default 10 s.
    pub connect_timeout: Duration,
    /// DestinationRule connectionPool.tcp.idleTimeout; a TCP route takes its first destination's, HTTP connections have
    /// it where `http` says nothing.
    pub idle_timeout: Option<Duration>,
    /// DestinationRule connectionPool.tcp.maxConnectionDuration: after that, a TCP connection is closed, and an HTTP
    /// connection gets no more requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Duration>,
    /// DestinationRule connectionPool.tcp.maxConnections, to all endpoints together.
    pub max_connections: Option<u32>,
    /// DestinationRule connectionPool.tcp.tcpKeepalive; else what all connections of ours have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// DestinationRule connectionPool.http and retryBudget.
    pub http: HttpLimits,
    /// DestinationRule loadBalancer.localityLbSetting.
    pub placement: Placement,
    /// DestinationRule loadBalancer.simple.
    pub balance: Balance,
    /// DestinationRule loadBalancer.warmup; none where that has no say: with affinity, and at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// DestinationRule loadBalancer.consistentHash.
    pub affinity: Affinity,
    /// DestinationRule outlierDetection.
    pub outlier: Option<OutlierDetection>,
    /// DestinationRule annotations `sluice.dev/health-check…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Arc<HealthCheck>>,
    /// DestinationRule proxyProtocol: TCP connections to the endpoints begin with this header.
    pub proxy_protocol: Option<ProxyVersion>,
    /// DestinationRule tls; None is cleartext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<UpstreamTls>>,
}

impl Cluster {
    /// A cluster without a DestinationRule.
    pub fn new(name: ClusterName, protocol: UpstreamProtocol, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name,
            protocol,
            follows_client: false,
            discovery: Discovery::default(),
            endpoints,
            origin: None,
            destination_rule: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_connection_duration: None,
            max_connections: None,
            keepalive: None,
            http: HttpLimits::default(),
            placement: Placement::default(),
            balance: Balance::default(),
            warmup: None,
            affinity: Affinity::None,
            outlier: None,
            health_check: None,
            proxy_protocol: None,
            tls: None,
        }
    }

    /// The endpoint at an address.
    pub fn endpoint(&self, address: SocketAddr) -> Option<&Endpoint> {
        let at = self.endpoints.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        self.endpoints.get(at)
    }

    /// The version that a request is sent in.
    pub fn speaks(&self, client_speaks_http2: bool) -> UpstreamProtocol {
        match (self.follows_client, client_speaks_http2) {
            (false, _) => self.protocol,
            (true, true) => UpstreamProtocol::Http2,
            (true, false) => UpstreamProtocol::Http1,
        }
    }

    /// Whether some of its requests belong together.
    pub fn keeps_together(&self) -> bool {
        self.affinity != Affinity::None
    }

    /// Endpoints that are ready by the documents, ejected or not.
    pub fn healthy(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy)
    }

    /// The eligible endpoints at `now`, by what is known of them.
    pub fn available(&self, fitness: &Fitness, now: Instant) -> impl Iterator<Item = Candidate<'_>> + Clone {
        self.available_beyond(fitness, now, &[])
    }

    /// Likewise, from other priorities of places than those of `spent` as long as there are any.
    pub fn available_beyond<'a>(
        &'a self,
        fitness: &Fitness,
        now: Instant,
        spent: &[SocketAddr],
    ) -> impl Iterator<Item = Candidate<'a>> + Clone + use<'a> {
        let unfit = fitness.unfit(self, now);
        self.eligible_beyond(unfit.map(|unfit| move |address| unfit.contains(address)), spent)
    }
}

/// A destination of a route and its share.
#[derive(Debug, Clone, Serialize)]
pub struct WeightedCluster {
    /// What the route names.
    pub name: ClusterName,
    /// The cluster, or `None` when no service answers to the name: 503 with an empty body, flag NC.
    #[serde(skip)]
    pub cluster: Option<Arc<Cluster>>,
    /// Share is weight / sum of weights; never 0 here (translate drops those, and gives a lone destination 1).
    pub weight: u32,
}
