//! Which endpoints get nothing new for now, whoever has found that out: requests and flows (`outlier`), or checks (`health`).
//! Each alone is enough, and neither ends what the other has found. Clones share it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::cluster::Cluster;
use super::health::{Failing, HealthChecks};
use super::outlier::{Ejected, Outliers};
use super::snapshot::Snapshot;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Fitness {
    /// Endpoints that fail in a row.
    pub outliers: Outliers,
    /// Endpoints that do not answer well when they are asked.
    pub checks: HealthChecks,
}

/// The endpoints of a cluster that get nothing new, as of a moment.
#[derive(Debug, Clone)]
pub struct Unfit {
    ejected: Option<Arc<Ejected>>,
    failing: Option<Arc<Failing>>,
    now: Instant,
}

impl Fitness {
    /// Who gets nothing new at `now`; `None` where that is nobody.
    pub fn unfit(&self, cluster: &Cluster, now: Instant) -> Option<Unfit> {
        let (ejected, failing) = (self.outliers.ejected_of(cluster), self.checks.failing_of(cluster));
        (ejected.is_some() || failing.is_some()).then_some(Unfit { ejected, failing, now })
    }

    /// Forgets what the snapshot does not know.
    pub fn retain(&self, snapshot: &Snapshot, now: Instant) {
        self.outliers.retain(snapshot, now);
        self.checks.retain(snapshot);
    }
}

impl Unfit {
    /// Whether an endpoint is among them.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.ejected.as_ref().is_some_and(|ejected| ejected.contains(endpoint, self.now))
            || self.failing.as_ref().is_some_and(|failing| failing.contains(endpoint))
    }
}
