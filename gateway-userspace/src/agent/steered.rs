//! The access log's records of a flow that the kernel steered: the names come from the snapshot in force when it is told of.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::datapath::handoff::Entry;
use crate::datapath::tally::{End, Ended, Started};
use crate::datapath::view::Tuple;
use crate::model::{ClusterName, Listener, ListenerKey, Snapshot};
use crate::telemetry::ResponseFlag;
use crate::telemetry::access::Connection;

/// The record of its start; `monotonic` is the clock that the flow's times are of, in ns, at `now`.
pub(super) fn start(started: &Started, snapshot: &Snapshot, now: (SystemTime, u64)) -> Connection {
    let Started { client_side, backend_side, created } = *started;
    let record = begun((client_side, backend_side), created, Entry::default(), snapshot, now);
    Connection { is_start: true, ..record }
}

/// The record of its end, likewise. A connection that was handed over has an entry.
pub(super) fn connection(
    ended: &Ended,
    entry: Option<Entry>,
    snapshot: &Snapshot,
    now: (SystemTime, u64),
) -> Connection {
    let sides = (ended.client_side, ended.backend_side);
    Connection {
        duration: ended.duration,
        received: ended.traffic.bytes_to_backend,
        sent: ended.traffic.bytes_to_client,
        flags: flags(ended.end).into(),
        transport_failure: (ended.end == End::Refused).then(|| REFUSED.into()),
        ..begun(sides, ended.created, entry.unwrap_or_default(), snapshot, now)
    }
}

/// What is known of it from its start on.
fn begun(
    (client_side, backend_side): (Tuple, Tuple),
    created: u64,
    entry: Entry,
    snapshot: &Snapshot,
    (now, monotonic): (SystemTime, u64),
) -> Connection {
    let age = Duration::from_nanos(monotonic.saturating_sub(created));
    let backend = backend_side.destination;
    let steered = || cluster_of(snapshot, client_side.destination, backend);
    let local = entry.told.map_or(client_side.destination, |told| told.destination);
    let remote = entry.told.map_or(client_side.source, |told| told.source);
    Connection {
        started: now.checked_sub(age).unwrap_or(now),
        upstream_host: Some(backend),
        upstream_cluster: entry.cluster.as_ref().or_else(steered).map(ToString::to_string),
        upstream_local: Some(backend_side.source),
        ..Connection::begun(local, (remote, client_side.source), entry.server_name.as_deref())
    }
}

/// The reason that a connection of user space's has for the same.
const REFUSED: &str = "delayed_connect_error:_Connection_refused";

/// What went wrong with it.
pub(super) fn flags(end: End) -> &'static [ResponseFlag] {
    match end {
        End::Closed | End::Idle => &[],
        End::ResetByClient => &[ResponseFlag::DownstreamConnectionTermination],
        End::ResetByBackend | End::BackendGone => &[ResponseFlag::UpstreamConnectionTermination],
        End::Refused | End::Unanswered => {
            &[ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded]
        }
    }
}

/// The listener of an address of the gateway.
fn listener(snapshot: &Snapshot, address: SocketAddr) -> Option<&Listener> {
    let own = ListenerKey { bind: Some(address.ip()), port: address.port() };
    let every = ListenerKey { bind: None, port: address.port() };
    snapshot.listener(own).or_else(|| snapshot.listener(every)).map(|listener| &**listener)
}

/// The cluster that a backend of a flow to an address of the gateway was chosen from, as far as it can still be told.
pub(super) fn cluster_of(
    snapshot: &Snapshot,
    address: SocketAddr,
    backend: SocketAddr,
) -> Option<&ClusterName> {
    listener(snapshot, address).and_then(|listener| cluster(listener, backend))
}

/// A listener's only cluster had also those backends that have gone from it.
fn cluster(listener: &Listener, backend: SocketAddr) -> Option<&ClusterName> {
    let destinations: Vec<_> = listener.opaque_destinations().collect();
    let has_it = |destination: &&&crate::model::WeightedCluster| {
        let cluster = destination.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.endpoint(backend).is_some())
    };
    let only = || destinations.first().filter(|_| destinations.len() == 1);
    destinations.iter().find(has_it).or_else(only).map(|destination| &destination.name)
}
