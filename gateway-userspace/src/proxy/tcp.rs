//! Opaque connections: to a backend, byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::access::Line;
use super::connection::Ends;
use super::opaque;
use super::tls::Terminated;
use super::worker::Shared;
use crate::model::{Admission, Below, Cluster, ClusterName, Limits, Outcome, ProxyVersion, TcpRoute};
use crate::net::drain::DrainWatch;
use crate::net::proxy_protocol;
use crate::net::relay::{Carried, Relay, RelayEnd, Side};
use crate::telemetry::ResponseFlag;
use crate::upstream::balance::by_weight;
use crate::upstream::{ConnectError, Lease, connect};

/// Endpoints tried before the client is let down.
const MAX_CONNECT_ATTEMPTS: usize = 3;

/// A client's end of a connection.
pub(super) enum Downstream {
    /// Its socket, and what was read from it already.
    Plain(TcpStream, Bytes),
    /// The bytes within its TLS.
    Terminated(Box<Terminated>),
}

/// A backend's end of a connection.
struct Upstream {
    stream: TcpStream,
    cluster: Arc<Cluster>,
    lease: Lease,
    /// One of the connections that the cluster takes.
    _admission: Option<Admission<ClusterName>>,
}

/// Connects to a backend of the route and relays until both sides are done. Without one the connection is closed.
/// With a version of the PROXY protocol, the backend first hears who the client is. `server_name` is what a TLS client
/// asked for.
pub(super) async fn serve(
    shared: &Shared,
    (ends, server_name): (Ends, Option<&str>),
    downstream: Downstream,
    (route, proxy): (&TcpRoute, Option<ProxyVersion>),
    drain: DrainWatch,
) {
    let mut line = Line::begin(shared, ends, server_name);
    match connect_any(shared, ends, route, proxy).await {
        Ok(upstream) => carry(shared, (ends, server_name), downstream, upstream, (route, line)).await,
        Err(flag) => {
            if let Some(line) = &mut line {
                line.failed(flag);
            }
            let route = &route.virtual_service;
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, %flag, %route, "no backend");
        }
    }
    drop(drain);
}

async fn carry(
    shared: &Shared,
    (ends, server_name): (Ends, Option<&str>),
    downstream: Downstream,
    upstream: Upstream,
    (route, mut line): (&TcpRoute, Option<Line>),
) {
    let Upstream { stream, cluster, lease, _admission } = upstream;
    if let Some(line) = &mut line {
        line.connected(&cluster.name, lease.address, stream.local_addr().ok());
    }
    if let Err(reason) = shared.targets.current().backend(lease.address) {
        tracing::debug!(peer = %ends.peer, backend = %lease.address, %reason, "not for the kernel to carry");
    }
    let report = |outcome| shared.balancer.report(&cluster, lease.address, outcome);
    let answered = || report(Outcome::Connected);
    let (named, idle) = ((ends, server_name), route.idle_timeout);
    let (carried, end) = match downstream {
        Downstream::Plain(downstream, read) => {
            let listed = opaque::list_sockets(shared, named, &stream);
            let relay = Relay::new(downstream, stream, read, idle);
            opaque::between_sockets(shared.highest_tier, listed, relay, answered).await
        }
        Downstream::Terminated(downstream) => {
            let listed = opaque::list_streams(shared, named, &stream, Below::TerminatesTls);
            opaque::between_streams(listed, (downstream, stream), idle, answered).await
        }
    };
    if carried.down == 0 {
        report(verdict(&end));
    }
    if let Some(line) = &mut line {
        line.ended(carried, &end);
    }
    if let RelayEnd::Failed { side, error } = end {
        let Carried { up, down } = carried;
        tracing::debug!(peer = %ends.peer, backend = %lease.address, ?side, up, down, %error, "connection failed");
    }
}

/// What a connection in which the backend said nothing tells about it: a reset is as bad as a refusal.
fn verdict(end: &RelayEnd) -> Outcome {
    match end {
        RelayEnd::Failed { side: Side::Upstream, .. } => Outcome::LocalOriginFailure,
        RelayEnd::Failed { side: Side::Downstream, .. } | RelayEnd::Closed | RelayEnd::Idle => {
            Outcome::Connected
        }
    }
}

async fn connect_any(
    shared: &Shared,
    ends: Ends,
    route: &TcpRoute,
    proxy: Option<ProxyVersion>,
) -> Result<Upstream, ResponseFlag> {
    let chosen = by_weight(&route.destinations).and_then(|index| route.destinations.get(index));
    let cluster =
        chosen.and_then(|destination| destination.cluster.as_ref()).ok_or(ResponseFlag::NoCluster)?;
    let admission = admit(shared, cluster)?;
    let mut tried = Vec::new();
    while tried.len() < MAX_CONNECT_ATTEMPTS {
        let lease =
            shared.balancer.choose(cluster, ends.peer.ip(), &tried).ok_or(ResponseFlag::NoHealthyUpstream)?;
        if tried.contains(&lease.address) {
            break;
        }
        // A DestinationRule knows its backends better than the Gateway does.
        match open(cluster, &lease, ends, cluster.proxy_protocol.or(proxy)).await {
            Ok(stream) => {
                return Ok(Upstream { stream, cluster: cluster.clone(), lease, _admission: admission });
            }
            Err(error) => {
                report(cluster, &error);
                shared.balancer.report(cluster, lease.address, Outcome::LocalOriginFailure);
                tried.push(lease.address);
            }
        }
    }
    Err(ResponseFlag::UpstreamConnectionFailure)
}

/// Takes one of the connections that the cluster's `maxConnections` leave, if there is such a limit.
fn admit(shared: &Shared, cluster: &Cluster) -> Result<Option<Admission<ClusterName>>, ResponseFlag> {
    if cluster.max_connections.is_none() {
        return Ok(None);
    }
    let limits = Limits { connections: cluster.max_connections, new_per_second: None };
    let admission = shared.counts.clusters.admit(&cluster.name, limits, Instant::now());
    admission.map(Some).ok_or(ResponseFlag::UpstreamOverflow)
}

/// Connects, and says who the client is.
async fn open(
    cluster: &Cluster,
    lease: &Lease,
    ends: Ends,
    proxy: Option<ProxyVersion>,
) -> Result<TcpStream, ConnectError> {
    let mut stream = connect::connect(lease.address, cluster.connect_timeout).await?;
    if let Some(version) = proxy {
        let header = match version {
            ProxyVersion::V1 => proxy_protocol::version_1(ends.peer, ends.local),
            ProxyVersion::V2 => proxy_protocol::version_2(ends.peer, ends.local),
        };
        let failed = |source| ConnectError::Failed { address: lease.address, source };
        stream.write_all(&header).await.map_err(failed)?;
    }
    Ok(stream)
}

/// Says that an endpoint could not be reached.
pub(super) fn report(cluster: &Cluster, error: &ConnectError) {
    let endpoint: SocketAddr = match error {
        ConnectError::Failed { address, .. } | ConnectError::Timeout { address, .. } => *address,
    };
    tracing::debug!(cluster = %cluster.name, %endpoint, %error, "endpoint not reached");
}
