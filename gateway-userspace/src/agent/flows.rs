//! Flows of the kernel plane as metrics count them: those that last every few seconds, all of them at their end, each byte once.
//! What user space has counted of a connection before it was handed over, or an agent before this one of a flow, is not
//! counted again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use super::steered;
use crate::datapath::handoff::{Identity, Ledger, Standing};
use crate::datapath::stats;
use crate::datapath::tally::{End, Ended, Lasting, Traffic};
use crate::model::{ClusterName, Snapshot};
use crate::telemetry::metrics::{Destination, Flags, Outcome, Progress, Registry, Series, Shard};

/// Flows that are followed; further ones are counted at their end.
const MOST: usize = 1 << 20;
/// Ways from a listener's address to a backend whose series are known.
const MOST_WAYS: usize = 1 << 16;

/// See the module. Of the kernel plane's thread.
pub(super) struct Flows {
    shard: Shard,
    /// Monotonic clock, in ns, when the agent began.
    began: u64,
    /// By a digest of who they are.
    lasting: HashMap<u64, Known>,
    digests: RandomState,
    ways: HashMap<(SocketAddr, SocketAddr), Option<Arc<Series>>>,
}

/// A flow that was told of.
struct Known {
    series: Option<Arc<Series>>,
    /// Bytes from the client and to it that were counted.
    told: [u64; 2],
}

impl Flows {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            shard: registry.shard(),
            began: stats::monotonic(),
            lasting: HashMap::new(),
            digests: RandomState::new(),
            ways: HashMap::new(),
        }
    }

    /// Another snapshot is in force: a backend may be another cluster's.
    pub(super) fn forget_ways(&mut self) {
        self.ways.clear();
    }

    /// Flows that go on.
    pub(super) fn go_on(&mut self, flows: &[Lasting], ledger: &Ledger, snapshot: &Snapshot) {
        for flow in flows {
            let identity = Identity { client_side: flow.client_side, created: flow.created };
            let digest = self.digests.hash_one(identity);
            if !self.lasting.contains_key(&digest) {
                if self.lasting.len() >= MOST {
                    continue;
                }
                let standing = ledger.standing(identity);
                let known = self.begin(
                    flow.created,
                    flow.traffic,
                    &standing,
                    (flow.client_side.destination, flow.backend),
                    snapshot,
                );
                self.lasting.insert(digest, known);
            }
            if let Some(known) = self.lasting.get_mut(&digest) {
                let progress = known.progress(flow.traffic);
                self.shard.connection(known.series.as_deref(), progress);
            }
        }
    }

    /// A flow is over; `standing` is what user space has left of it, if it was handed over.
    pub(super) fn end(&mut self, flow: &Ended, standing: &Standing, snapshot: &Snapshot) {
        let identity = Identity { client_side: flow.client_side, created: flow.created };
        let ends = (flow.client_side.destination, flow.backend_side.destination);
        let flags = Flags::default().with(steered::flags(flow.end));
        let closed = if flags == Flags::default() {
            None
        } else {
            Some(self.shard.series(&destination(standing, ends, snapshot), Outcome::tcp(flags)))
        };
        if matches!(flow.end, End::Refused | End::Unanswered) {
            // It never was a connection to the backend.
            let progress = Progress { opened: 1, closed: 1, ..Progress::default() };
            return self.shard.connection(closed.flatten().as_deref(), progress);
        }
        let known = self.lasting.remove(&self.digests.hash_one(identity));
        let mut known =
            known.unwrap_or_else(|| self.begin(flow.created, flow.traffic, standing, ends, snapshot));
        let progress = known.progress(flow.traffic);
        self.shard.connection(known.series.as_deref(), progress);
        let series = closed.unwrap_or_else(|| known.series.clone());
        self.shard.connection(series.as_deref(), Progress { closed: 1, ..Progress::default() });
    }

    /// Counts the beginning of a flow, unless user space has.
    fn begin(
        &mut self,
        created: u64,
        traffic: Traffic,
        standing: &Standing,
        ends: (SocketAddr, SocketAddr),
        snapshot: &Snapshot,
    ) -> Known {
        let series = self.series(standing, ends, snapshot);
        if let Some(told) = standing.metered {
            return Known { series, told };
        }
        self.shard.connection(series.as_deref(), Progress { opened: 1, ..Progress::default() });
        // Of a flow that is older than the agent nobody knows how much was counted.
        let told =
            if created < self.began { [traffic.bytes_to_backend, traffic.bytes_to_client] } else { [0; 2] };
        Known { series, told }
    }

    fn series(
        &mut self,
        standing: &Standing,
        ends: (SocketAddr, SocketAddr),
        snapshot: &Snapshot,
    ) -> Option<Arc<Series>> {
        let ask =
            || self.shard.series(&destination(standing, ends, snapshot), Outcome::tcp(Flags::default()));
        if standing.cluster.is_some() {
            return ask();
        }
        if let Some(known) = self.ways.get(&ends) {
            return known.clone();
        }
        let series = ask();
        if self.ways.len() < MOST_WAYS {
            self.ways.insert(ends, series.clone());
        }
        series
    }
}

impl Known {
    /// What has come since the last time.
    fn progress(&mut self, traffic: Traffic) -> Progress {
        let now = [traffic.bytes_to_backend, traffic.bytes_to_client];
        let [received, sent] = [0, 1].map(|way: usize| now[way].saturating_sub(self.told[way]));
        self.told = now;
        Progress { received, sent, ..Progress::default() }
    }
}

fn destination(
    standing: &Standing,
    (listener, backend): (SocketAddr, SocketAddr),
    snapshot: &Snapshot,
) -> Destination {
    let steered = || steered::cluster_of(snapshot, listener, backend).cloned();
    let name: Option<ClusterName> = standing.cluster.clone().or_else(steered);
    let Some(name) = name else { return Destination::default() };
    let endpoint = snapshot.clusters.get(&name).and_then(|cluster| cluster.endpoint(backend));
    Destination::of(&name.host, endpoint.map(|endpoint| &*endpoint.labels))
}
