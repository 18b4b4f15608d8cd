//! The access log's record of a flow that the kernel steered: the names come from the snapshot in force at its end.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::datapath::handoff::Entry;
use crate::datapath::tally::{End, Ended};
use crate::model::{ClusterName, Listener, ListenerKey, Snapshot};
use crate::telemetry::ResponseFlag;
use crate::telemetry::access::Connection;

/// The record; `monotonic` is the clock that the flow's times are of, in ns, at `now`. A connection that was handed over
/// has an entry.
pub(super) fn connection(
    ended: &Ended,
    entry: Option<Entry>,
    snapshot: &Snapshot,
    (now, monotonic): (SystemTime, u64),
) -> Connection {
    let entry = entry.unwrap_or_default();
    let age = Duration::from_nanos(monotonic.saturating_sub(ended.created));
    let backend = ended.backend_side.destination;
    let listener = listener(snapshot, ended.client_side.destination);
    Connection {
        started: now.checked_sub(age).unwrap_or(now),
        duration: ended.duration,
        received: ended.traffic.bytes_to_backend,
        sent: ended.traffic.bytes_to_client,
        flags: flags(ended.end).into(),
        upstream_host: Some(backend),
        upstream_cluster: entry
            .cluster
            .map(|cluster| cluster.to_string())
            .or_else(|| Some(listener.and_then(|listener| cluster(listener, backend))?.to_string())),
        transport_failure: (ended.end == End::Refused).then(|| REFUSED.into()),
        upstream_local: Some(ended.backend_side.source),
        downstream_local: entry.told.map_or(ended.client_side.destination, |told| told.destination),
        downstream_remote: entry.told.map_or(ended.client_side.source, |told| told.source),
        downstream_direct: ended.client_side.source,
        server_name: entry.server_name.map(String::from),
        handshake: None,
        request: None,
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
