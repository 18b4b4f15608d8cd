//! Listening ports and what happens to a connection on each: filter chains, TCP routes, and which plane serves them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::cluster::{Cluster, ProxyVersion, UpstreamProtocol, WeightedCluster};
use super::host::{HostMap, HostPattern};
use super::origin::Origin;
use super::route::RouteTable;
use super::server_tls::ServerTls;

/// Identifies a listener over all generations: sockets and kernel entries are kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ListenerKey {
    /// `Gateway.servers[].bind`; `None` is every address, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
    /// The port really listened on (after translation through the gateway's own Service).
    pub port: u16,
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bind {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, "0.0.0.0:{}", self.port),
        }
    }
}

/// One listening port.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Istio's name, `<address>_<port>`.
    pub name: Arc<str>,
    /// Where it listens.
    pub key: ListenerKey,
    /// What it does with connections.
    pub kind: ListenerKind,
    /// Which plane carries its flows, if this machine has a kernel plane.
    pub steering: Steering,
    /// Which address the backends of TCP and passthrough see: Gateway annotation `sluice.dev/source-address`.
    pub source_address: SourceAddress,
    /// The header that TCP and passthrough connections begin with: Gateway annotation `sluice.dev/proxy-protocol`.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Connections begin with a header of the PROXY protocol, which says who the client is:
    /// `gatewayTopology.proxyProtocol`.
    pub behind_proxy: bool,
    /// How many connections it takes.
    pub limits: Limits,
    /// The servers that share it, oldest first.
    pub servers: Vec<ServerRef>,
}

/// A server of a Gateway, as clients and documents know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerRef {
    /// `port.number`: where clients of the gateway's own Service come, and what VirtualServices speak of.
    pub number: u16,
    /// Where it is written.
    pub origin: Arc<Origin>,
}

impl Listener {
    /// The route tables of a plaintext port, or of the HTTPS servers of a TLS port.
    pub fn route_tables(&self) -> impl Iterator<Item = &RouteTable> {
        let (own, chains) = match &self.kind {
            ListenerKind::Http(table) => (Some(&**table), [].as_slice()),
            ListenerKind::Tls(tls) => (None, tls.chains.as_slice()),
            ListenerKind::Tcp(_) => (None, [].as_slice()),
        };
        own.into_iter().chain(chains.iter().filter_map(|chain| match &chain.action {
            ChainAction::TerminateHttp { routes, .. } => Some(&**routes),
            ChainAction::TerminateTcp { .. } | ChainAction::Passthrough(_) => None,
        }))
    }

    /// Where connections go whose bytes are carried unread: those of TCP and of TLS that is passed through, and those
    /// that a cleartext request is upgraded to. HTTP/2 knows no such upgrade (RFC 9113, 8.6).
    pub fn opaque_destinations(&self) -> impl Iterator<Item = &WeightedCluster> {
        let (table, route, chains) = match &self.kind {
            ListenerKind::Http(table) => (Some(table), None, [].as_slice()),
            ListenerKind::Tcp(route) => (None, Some(route), [].as_slice()),
            ListenerKind::Tls(tls) => (None, None, tls.chains.as_slice()),
        };
        let passed_through = chains.iter().filter_map(|chain| match &chain.action {
            ChainAction::Passthrough(route) => Some(route),
            ChainAction::TerminateHttp { .. } | ChainAction::TerminateTcp { .. } => None,
        });
        let upgrades = table.into_iter().flat_map(|table| table.forwards()).filter(|destination| {
            let cluster = destination.cluster.as_ref();
            // What is sealed on its way to the backend stays in user space.
            let is_plain = |cluster: &Arc<Cluster>| {
                cluster.speaks(false) != UpstreamProtocol::Http2 && cluster.tls.is_none()
            };
            cluster.is_none_or(is_plain)
        });
        route.into_iter().chain(passed_through).flat_map(|route| &route.destinations).chain(upgrades)
    }
}

/// Which source address the backends see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceAddress {
    /// The gateway's.
    #[default]
    Snat,
    /// The client's. Needs the kernel plane also where user space carries the connection; without one backends see the
    /// gateway's all the same.
    Preserve,
}

/// How many connections a listener takes; those beyond are reset. None: as many as come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// At once: Gateway annotation `sluice.dev/max-connections`. Never 0. Those that were open before the limit was
    /// set don't count, nor WebSockets once they have switched.
    pub connections: Option<u32>,
    /// New ones: Gateway annotation `sluice.dev/max-new-connections-per-second`. Never 0.
    pub new_per_second: Option<u32>,
}

/// What a listener does with a connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerKind {
    /// Cleartext HTTP/1 and HTTP/2.
    Http(Arc<RouteTable>),
    /// Opaque TCP.
    Tcp(Arc<TcpRoute>),
    /// TLS: a filter chain is chosen by SNI. No match: reset.
    Tls(TlsListener),
}

/// The filter chains of a TLS port.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsListener {
    /// In document order.
    pub chains: Vec<Arc<FilterChain>>,
    /// SNI to index in `chains`.
    #[serde(skip)]
    pub by_sni: HostMap<usize>,
}

impl TlsListener {
    /// Indexes the chains; a name that two chains claim belongs to the first.
    pub fn new(chains: Vec<FilterChain>) -> Self {
        let mut by_sni = HostMap::default();
        for (index, chain) in chains.iter().enumerate() {
            for host in &chain.sni {
                by_sni.insert(host, index);
            }
        }
        Self { chains: chains.into_iter().map(Arc::new).collect(), by_sni }
    }

    /// The chain for a ClientHello; `None` means reset.
    pub fn select(&self, sni: Option<&str>) -> Option<&Arc<FilterChain>> {
        let index = match sni {
            Some(name) => self.by_sni.get(name),
            None => self.by_sni.get_unnamed(),
        }?;
        self.chains.get(*index)
    }
}

/// One server of a TLS port, or one rule of a passthrough server.
#[derive(Debug, Serialize)]
pub struct FilterChain {
    /// Unique on its listener and stable over generations: the HTTPS route name, or the rule's origin.
    pub name: Arc<str>,
    /// SNI patterns.
    pub sni: Vec<HostPattern>,
    /// What is done with the connection.
    pub action: ChainAction,
    /// The server, or the `tls` rule, it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<Origin>>,
}

/// What a filter chain does with a TLS connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChainAction {
    /// Terminate TLS, serve HTTP.
    TerminateHttp {
        /// Certificates and policy.
        tls: Arc<ServerTls>,
        /// The server's own virtual hosts.
        routes: Arc<RouteTable>,
    },
    /// Terminate TLS, forward the bytes within.
    TerminateTcp {
        /// Certificates and policy.
        tls: Arc<ServerTls>,
        /// Destinations.
        route: Arc<TcpRoute>,
    },
    /// Forward the TLS bytes untouched.
    Passthrough(Arc<TcpRoute>),
}

impl ChainAction {
    /// Certificates and policy, where TLS ends here.
    pub fn server_tls(&self) -> Option<&Arc<ServerTls>> {
        match self {
            Self::TerminateHttp { tls, .. } | Self::TerminateTcp { tls, .. } => Some(tls),
            Self::Passthrough(_) => None,
        }
    }
}

/// Where the bytes of an opaque connection go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// The VirtualService that decided it, `name.namespace`.
    pub virtual_service: Arc<str>,
    /// Chosen by weight, once for each connection. Never empty.
    pub destinations: Vec<WeightedCluster>,
    /// Both directions silent for so long: closed. Default 1 h; DestinationRule connectionPool.tcp.idleTimeout of
    /// the first destination.
    pub idle_timeout: Duration,
    /// After so long it is closed: DestinationRule connectionPool.tcp.maxConnectionDuration of the first destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    /// The `tcp` or `tls` rule it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<Origin>>,
}

/// Which plane serves a listener. What the machine lacks is not in here: `datapath` finds that at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Steering {
    /// eBPF may steer its flows.
    Kernel,
    /// User space must, and why.
    UserSpace(UserSpaceReason),
}

/// Why the kernel cannot steer a listener's flows. The words are shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UserSpaceReason {
    /// HTTP must be read to be routed.
    #[error("needs HTTP")]
    NeedsHttp,
    /// The private key is here.
    #[error("terminates TLS")]
    TerminatesTls,
    /// The ClientHello must be read first.
    #[error("needs the SNI")]
    NeedsSni,
    /// An endpoint is on loopback, where packets from outside may not go.
    #[error("backend on loopback")]
    LoopbackBackend,
    /// Bound to a loopback address: no packet from outside.
    #[error("bound to loopback")]
    LoopbackBind,
    /// The backend's first bytes are ours.
    #[error("sends the PROXY protocol")]
    ProxyProtocol,
    /// The client's first bytes are a proxy's, which says who the client is.
    #[error("reads the PROXY protocol")]
    BehindProxy,
    /// A DestinationRule has backends spoken to by TLS, which is made here.
    #[error("speaks TLS to the backend")]
    UpstreamTls,
    /// A DestinationRule has silent backends probed, by sockets of ours.
    #[error("probes silent backends")]
    Keepalive,
    /// A DestinationRule has connections closed after a time, by whoever relays them.
    #[error("limits how long connections last")]
    MaxDuration,
    /// A DestinationRule gives new endpoints their share little by little, connection by connection.
    #[error("lets new backends warm up")]
    Warmup,
    /// A DestinationRule bounds the connections to a backend, which are counted where they are made.
    #[error("limits connections to the backend")]
    MaxConnections,
    /// No destination has a healthy endpoint: user space accepts and closes, as Istio's gateway does.
    #[error("no healthy backend")]
    NoHealthyBackend,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel"),
            Self::UserSpace(reason) => write!(f, "user space ({reason})"),
        }
    }
}
