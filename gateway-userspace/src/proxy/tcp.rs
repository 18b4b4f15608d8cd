//! Opaque connections: to a backend, byte for byte.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::access::Line;
use super::climb::{Climb, End};
use super::connection::{Begun, Ends, Stay, until};
use super::opaque;
use super::reserve::{self, Port, Reached};
use super::terminated::Terminated;
use super::tls::handshake_of;
use super::worker::Shared;
use crate::datapath::handoff::Entry;
use crate::datapath::targets::SourcePort;
use crate::model::{
    Admission, Affinity, Below, Cluster, ClusterName, Limits, Listener, Outcome, ProxyVersion, SourceAddress,
    TcpRoute,
};
use crate::net::relay::{Carried, Lifetime, Parts, RelayEnd, Side};
use crate::net::repair::{self, TcpInfo};
use crate::net::rewind::Rewound;
use crate::telemetry::ResponseFlag;
use crate::upstream::balance::by_weight;
use crate::upstream::{Asked, ConnectError, Key, Lease, Opening, UpstreamStream};

/// Endpoints tried before the client is let down.
const MAX_CONNECT_ATTEMPTS: usize = 3;

/// A client's end of a connection.
pub(super) enum Downstream {
    /// Its socket, and what was read from it already.
    Plain(TcpStream, Bytes),
    /// The bytes within its TLS.
    Terminated(Box<Terminated>),
}

/// What backends are told of clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Introduction {
    /// By the header that a connection begins with.
    proxy: Option<ProxyVersion>,
    /// By the address that it comes from.
    source: SourceAddress,
    /// Of the snapshot that says so.
    generation: u64,
}

impl Introduction {
    /// As a listener's documents wish it.
    pub(super) fn of(listener: &Listener, generation: u64) -> Self {
        Self { proxy: listener.proxy_protocol, source: listener.source_address, generation }
    }
}

/// A backend's end of a connection.
struct Upstream {
    stream: UpstreamStream,
    /// What it is bound to, or why it cannot be handed over.
    port: Port,
    speaker: Option<SourcePort>,
    cluster: Arc<Cluster>,
    lease: Lease,
    /// One of the connections that the cluster takes.
    admission: Option<Admission<ClusterName>>,
}

/// What is left to do for a connection: relay it to a backend of the route until both sides are done, but not beyond the end
/// of its drain. Without a backend it is closed. `server_name` is what a TLS client asked for.
pub(super) fn serving(
    shared: Rc<Shared>,
    (ends, server_name): (Ends, Option<Arc<str>>),
    downstream: Downstream,
    (route, introduction): (Arc<TcpRoute>, Introduction),
    stay: Stay,
) -> Begun {
    let drain = stay.drain.clone();
    let serving = async move {
        let client = (ends, server_name.as_deref());
        until(drain, serve(&shared, client, downstream, (&route, introduction), stay)).await;
    };
    Begun { serving: Box::pin(serving), stay: None }
}

async fn serve(
    shared: &Shared,
    (ends, server_name): (Ends, Option<&str>),
    downstream: Downstream,
    (route, introduction): (&TcpRoute, Introduction),
    stay: Stay,
) {
    let mut line = Line::begin(shared, ends, server_name);
    let client = match &downstream {
        Downstream::Plain(stream, _) => repair::info(stream).map_err(|_| Below::HalfClosed),
        Downstream::Terminated(stream) => {
            if let Some(line) = &mut line {
                line.agreed(handshake_of(stream));
            }
            Err(Below::TerminatesTls)
        }
    };
    match connect_any(shared, ends, route, (introduction, client), line.as_mut()).await {
        Ok(upstream) => {
            carry(shared, (ends, server_name), (downstream, upstream), (route, line), stay).await;
        }
        Err(flag) => {
            if let Some(line) = &mut line {
                line.failed(flag);
            }
            let route = &route.virtual_service;
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, %flag, %route, "no backend");
        }
    }
}

async fn carry(
    shared: &Shared,
    (ends, server_name): (Ends, Option<&str>),
    (downstream, upstream): (Downstream, Upstream),
    (route, mut line): (&TcpRoute, Option<Line>),
    Stay { drain, admission, source: _source, seat: _seat, counted: _counted }: Stay,
) {
    let Upstream { stream, port, speaker, cluster, lease, admission: cluster_admission } = upstream;
    if let Some(line) = &mut line {
        line.connected(&cluster, lease.address, stream.socket().local_addr().ok());
    }
    let report = |outcome| shared.balancer.report(&cluster, lease.address, outcome);
    let answered = || report(Outcome::Connected);
    let (named, idle) = ((ends, server_name, Line::metered(line.as_ref())), route.idle_timeout);
    let until = route.max_duration.and_then(|most| tokio::time::Instant::now().checked_add(most));
    let lifetime = Lifetime { idle, until };
    let (carried, end) = match (downstream, stream) {
        (Downstream::Plain(downstream, prefix), UpstreamStream::Plain(stream)) => {
            let (answer, carried) = (Bytes::new(), Carried::default());
            let parts = Parts { downstream, upstream: stream, prefix, answer, carried };
            let entry = Entry {
                server_name: server_name.map(Box::from),
                cluster: Some(cluster.name.clone()),
                told: ends.told,
                metered: None,
                listener_admission: admission,
                cluster_admission,
            };
            let climb = Climb::new(shared, ends, (idle, ends.since), port, entry, drain.clone());
            match opaque::between_sockets(shared, named, climb, (parts, lifetime), answered).await {
                (carried, End::HandedOver(settling)) => {
                    report(Outcome::Connected);
                    if let Some(line) = line {
                        line.leave(carried);
                    }
                    settling.finish().await;
                    return;
                }
                (carried, End::Relayed(end)) => {
                    shared.counts.lengths.record(&cluster.name, carried.up + carried.down);
                    (carried, end)
                }
            }
        }
        (Downstream::Plain(downstream, prefix), stream) => {
            let listed = opaque::list_streams(shared, named, stream.socket(), Below::UpstreamTls);
            let downstream = Rewound::new(prefix, downstream);
            opaque::between_streams(listed, (downstream, stream), lifetime, answered).await
        }
        (Downstream::Terminated(downstream), stream) => {
            let listed = opaque::list_streams(shared, named, stream.socket(), Below::TerminatesTls);
            opaque::between_streams(listed, (downstream, stream), lifetime, answered).await
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
    drop((drain, speaker));
}

/// What a connection in which the backend said nothing tells about it: a reset is as bad as a refusal.
fn verdict(end: &RelayEnd) -> Outcome {
    match end {
        RelayEnd::Failed { side: Side::Upstream, .. } => Outcome::LocalOriginFailure,
        RelayEnd::Failed { side: Side::Downstream, .. }
        | RelayEnd::Closed
        | RelayEnd::Idle
        | RelayEnd::Expired => Outcome::Connected,
    }
}

async fn connect_any(
    shared: &Shared,
    ends: Ends,
    route: &TcpRoute,
    (introduction, client): (Introduction, Result<TcpInfo, Below>),
    mut line: Option<&mut Line>,
) -> Result<Upstream, ResponseFlag> {
    let client = if route.max_duration.is_some() { Err(Below::MaxDuration) } else { client };
    let chosen = by_weight(&route.destinations).and_then(|index| route.destinations.get(index));
    let cluster =
        chosen.and_then(|destination| destination.cluster.as_ref()).ok_or(ResponseFlag::NoCluster)?;
    if let Some(line) = &mut line {
        line.chosen(cluster);
    }
    let admission = admit(shared, cluster)?;
    // Of what requests are kept by, opaque bytes have the client's address alone.
    let key = (cluster.affinity == Affinity::SourceAddress).then(|| Key::of(&ends.client().ip()));
    let mut tried = Vec::new();
    while tried.len() < MAX_CONNECT_ATTEMPTS {
        let lease = shared.balancer.choose(cluster, key, &tried).ok_or(ResponseFlag::NoHealthyUpstream)?;
        if tried.contains(&lease.address) {
            break;
        }
        // A DestinationRule knows its backends better than the Gateway does.
        let proxy = cluster.proxy_protocol.or(introduction.proxy);
        let introduction = Introduction { proxy, ..introduction };
        match open(shared, (cluster, &lease), ends, (introduction, client)).await {
            Ok((stream, port, speaker)) => {
                return Ok(Upstream { stream, port, speaker, cluster: cluster.clone(), lease, admission });
            }
            Err(error) => {
                report(cluster, &error);
                if let Some(line) = &mut line {
                    line.unreached(lease.address, &error);
                }
                shared.balancer.report(cluster, lease.address, Outcome::LocalOriginFailure);
                shared.balancer.doubt(cluster, lease.address);
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

/// Connects, says who the client is, and begins TLS where the backend is spoken to by that.
async fn open(
    shared: &Shared,
    (cluster, lease): (&Cluster, &Lease),
    ends: Ends,
    (introduction, client): (Introduction, Result<TcpInfo, Below>),
) -> Result<(UpstreamStream, Port, Option<SourcePort>), ConnectError> {
    let opening = {
        let runtime = shared.runtime.current();
        let ends = (introduction.proxy, ends.client(), ends.destination());
        Opening::of(cluster, &runtime.upstream_tls, Asked::Endpoint(lease.address.ip()), ends)?
    };
    let client = client.and_then(|client| stays_below(cluster).map_or(Ok(client), Err));
    let to = (lease.address, cluster.connect_timeout);
    let source = (introduction.source, introduction.generation);
    let Reached { stream, port, speaker } = reserve::connect_as(source, shared, ends, client, to).await?;
    Ok((opening.begin(stream, lease.address, cluster).await?, port, speaker))
}

/// Why connections to a cluster cannot be handed over.
pub(super) fn stays_below(cluster: &Cluster) -> Option<Below> {
    if cluster.tls.is_some() {
        return Some(Below::UpstreamTls);
    }
    cluster.keepalive.map(|_| Below::Keepalive)
}

/// Says that an endpoint could not be reached.
pub(super) fn report(cluster: &Cluster, error: &ConnectError) {
    tracing::debug!(cluster = %cluster.name, %error, "endpoint not reached");
}
