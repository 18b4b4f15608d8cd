//! What all workers and both planes count together. Clones share it.

use std::net::IpAddr;
use std::time::Instant;

use super::cluster::ClusterName;
use super::connections::Connections;
use super::fitness::Fitness;
use super::lengths::Lengths;
use super::limiter::Limiter;
use super::listener::ListenerKey;
use super::refusals::Refusals;
use super::snapshot::Snapshot;
use super::strangers::Strangers;
use super::warmup::Warming;

/// See the module. But for the list of connections, nothing in it is touched on behalf of listeners and clusters that ask
/// for nothing of it.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Endpoints that fail.
    pub fitness: Fitness,
    /// Connections of listeners with limits.
    pub listeners: Limiter<ListenerKey>,
    /// Connections of source addresses, where those are bounded; of an IPv6 address its first 64 bits count.
    pub sources: Limiter<IpAddr>,
    /// Connections to clusters with `maxConnections`.
    pub clusters: Limiter<ClusterName>,
    /// HTTP requests to clusters that bound them or have a retry budget.
    pub requests: Limiter<ClusterName>,
    /// Those that wait for a connection to a cluster that bounds them.
    pub pending: Limiter<ClusterName>,
    /// Those that are tried again, to a cluster that bounds them.
    pub retries: Limiter<ClusterName>,
    /// Opaque connections in user space.
    pub connections: Connections,
    /// Since when endpoints are ready that are to warm up.
    pub warming: Warming,
    /// Requests and answers that are refused for what they are.
    pub refusals: Refusals,
    /// How much opaque connections carried.
    pub lengths: Lengths,
    /// Connections that had to begin with a header of the PROXY protocol and did not.
    pub proxy_headers: Strangers,
}

impl Counts {
    /// Forgets what the snapshot does not know.
    pub fn retain(&self, snapshot: &Snapshot, now: Instant) {
        self.fitness.retain(snapshot, now);
        self.listeners.retain(|key| snapshot.listener(*key).is_some());
        for limiter in [&self.clusters, &self.requests, &self.pending, &self.retries] {
            limiter.retain(|name| snapshot.clusters.contains_key(name));
        }
        self.proxy_headers.retain(|key| snapshot.listener(key).is_some());
        self.lengths.retain(|name| snapshot.clusters.contains_key(name));
    }
}
