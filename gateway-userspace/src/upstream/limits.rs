//! Places within what a DestinationRule allows at a time, counted over all workers. Nothing is counted where nothing is
//! bounded.

use std::time::Instant;

use crate::model::{Admission, Cluster, ClusterName, Counts, Limiter, Limits};

/// A place that is held until dropped; `None` where nothing is counted.
pub type Place = Option<Admission<ClusterName>>;

/// There is none left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// For a request, until its response has ended.
pub fn request(counts: &Counts, cluster: &Cluster) -> Result<Place, Overflow> {
    if !cluster.http.counts_requests() {
        return Ok(None);
    }
    admit(&counts.requests, cluster, cluster.http.requests)
}

/// For a request that has to wait for a connection.
pub(super) fn pending(counts: &Counts, cluster: &Cluster) -> Result<Place, Overflow> {
    if cluster.http.pending.is_none() {
        return Ok(None);
    }
    admit(&counts.pending, cluster, cluster.http.pending)
}

/// For a further try, from the pause before it to its end.
pub fn retry(counts: &Counts, cluster: &Cluster) -> Result<Place, Overflow> {
    match cluster.http.retries_with(counts.requests.active(&cluster.name)) {
        None => Ok(None),
        most => admit(&counts.retries, cluster, most),
    }
}

/// For a connection. The first that a worker makes to an endpoint is counted and never refused: else its requests would
/// wait for connections that other workers hold.
pub fn connection(counts: &Counts, cluster: &Cluster, is_first: bool) -> Result<Place, Overflow> {
    if cluster.max_connections.is_none() {
        return Ok(None);
    }
    admit(&counts.clusters, cluster, cluster.max_connections.filter(|_| !is_first))
}

fn admit(limiter: &Limiter<ClusterName>, cluster: &Cluster, most: Option<u32>) -> Result<Place, Overflow> {
    let limits = Limits { connections: most, new_per_second: None };
    limiter.admit(&cluster.name, limits, Instant::now()).map(Some).ok_or(Overflow)
}
