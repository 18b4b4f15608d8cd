//! Active health checks, as Envoy does them: endpoints that are asked how they are get nothing new while they do not answer
//! well. One account serves both planes and all workers. Who asks is `agent`'s business, and how `upstream`'s; nothing
//! here knows of time.
//!
//! Differs from Envoy in one thing: a cluster that nobody has checked yet is not kept back until it was. Each of its endpoints
//! is taken to be healthy until its own first check, which decides at once.

mod condition;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::cluster::{Cluster, ClusterName};
use super::snapshot::Snapshot;

use condition::Condition;

/// DestinationRule annotations `sluice.dev/health-check…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// `health-check`, with `health-check-statuses`.
    pub probe: Probe,
    /// `health-check-interval`: from the end of a check to the next, a tenth more or less. Default 5 s.
    pub interval: Duration,
    /// `health-check-timeout`: from connecting to the end of the answer. Default 1 s.
    pub timeout: Duration,
    /// `health-check-healthy-threshold`: so many checks in a row make an unhealthy endpoint healthy. Default 1.
    pub healthy_threshold: u32,
    /// `health-check-unhealthy-threshold`: so many checks in a row without an answer make a healthy endpoint unhealthy; a
    /// wrong answer does at once. Default 3.
    pub unhealthy_threshold: u32,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A GET, in the version that the cluster's requests have.
    Http {
        /// Its Host; `None` is that of the service.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<Arc<str>>,
        /// Path and query.
        path: Arc<str>,
        /// Statuses that are healthy.
        expected: Vec<RangeInclusive<u16>>,
    },
    /// Nothing: it takes a connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Empty: the server as a whole.
        service: Arc<str>,
    },
}

impl HealthCheck {
    /// With what holds where the annotations say nothing more.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 3,
        }
    }
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// As expected.
    Passed,
    /// There was another answer (Envoy's active failure), in words.
    Failed(String),
    /// No connection, or no answer in time (Envoy's network failure), in words.
    Unanswered(String),
}

/// A healthy endpoint that has become unhealthy, or the other way round; or one that was checked for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Why it is unhealthy; `None`: it is healthy.
    pub reason: Option<Arc<str>>,
    /// Whether nobody had checked it before.
    pub is_first: bool,
}

/// An endpoint that gets nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unhealthy {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its address.
    pub endpoint: SocketAddr,
    /// Why, in words.
    pub reason: Arc<str>,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.endpoint, self.cluster, self.reason)
    }
}

/// The endpoints of a cluster that are unhealthy, and why.
#[derive(Debug, Default)]
pub struct Failing(HashMap<SocketAddr, Arc<str>>);

impl Failing {
    /// Whether an endpoint is.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.0.contains_key(&endpoint)
    }

    /// Why an endpoint is; `None` if it is not.
    pub fn reason(&self, endpoint: SocketAddr) -> Option<&Arc<str>> {
        self.0.get(&endpoint)
    }
}

/// The account's handle: clones share it. Looking is free of locks.
#[derive(Debug, Clone, Default)]
pub struct HealthChecks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What readers see; replaced whole under the lock of `clusters`.
    failing: ArcSwap<HashMap<ClusterName, Arc<Failing>>>,
    clusters: Mutex<HashMap<ClusterName, Conditions>>,
}

/// What is known of a cluster's endpoints.
#[derive(Debug)]
struct Conditions {
    rules: Arc<HealthCheck>,
    endpoints: BTreeMap<SocketAddr, Condition>,
}

impl HealthChecks {
    /// Takes note of endpoints that are ready and will be checked. To be called before a snapshot is in force, so that nobody
    /// chooses a new endpoint before its first check. One that another cluster has is known by its address: neither a new
    /// subset nor another name makes a healthy endpoint unhealthy.
    pub fn note(&self, snapshot: &Snapshot) {
        let mut clusters = self.clusters();
        let known = if has_news(&clusters, snapshot) { by_address(&clusters) } else { HashMap::new() };
        for (name, cluster) in snapshot.clusters.iter() {
            let Some(rules) = &cluster.health_check else { continue };
            let is_new = !clusters.contains_key(name);
            let conditions = clusters
                .entry(name.clone())
                .or_insert_with(|| Conditions { rules: rules.clone(), endpoints: BTreeMap::new() });
            if *conditions.rules != **rules {
                conditions.rules = rules.clone();
                conditions.endpoints.values_mut().for_each(Condition::begin_anew);
            }
            for endpoint in cluster.healthy() {
                let presumed = known.get(&endpoint.address).copied().unwrap_or(is_new);
                conditions.endpoints.entry(endpoint.address).or_insert_with(|| Condition::new(presumed));
            }
            self.show(name, conditions);
        }
    }

    /// Forgets endpoints that are gone or not ready, and clusters that are not checked any more.
    pub fn retain(&self, snapshot: &Snapshot) {
        let mut clusters = self.clusters();
        clusters.retain(|name, conditions| {
            let cluster = snapshot.clusters.get(name).filter(|cluster| cluster.health_check.is_some());
            if let Some(cluster) = cluster {
                let ready: Vec<SocketAddr> = cluster.healthy().map(|endpoint| endpoint.address).collect();
                // Endpoints are sorted by address.
                conditions.endpoints.retain(|address, _| ready.binary_search(address).is_ok());
                self.show(name, conditions);
            }
            cluster.is_some()
        });
        let mut failing = (**self.shared.failing.load()).clone();
        failing.retain(|name, _| clusters.contains_key(name));
        self.shared.failing.store(Arc::new(failing));
    }

    /// Counts a check. Returns what it has changed.
    pub fn report(
        &self,
        cluster: &ClusterName,
        endpoint: SocketAddr,
        checked: &Checked,
    ) -> Option<Transition> {
        let mut clusters = self.clusters();
        let conditions = clusters.get_mut(cluster)?;
        let condition = conditions.endpoints.get_mut(&endpoint)?;
        let before = condition.shown().cloned();
        let transition = condition.count(&conditions.rules, checked);
        if before.as_ref() != condition.shown() {
            self.show(cluster, conditions);
        }
        transition
    }

    /// The endpoints of a cluster that are unhealthy; `None` where nobody is.
    pub fn failing_of(&self, cluster: &Cluster) -> Option<Arc<Failing>> {
        cluster.health_check.as_ref()?;
        let failing = self.shared.failing.load();
        if failing.is_empty() { None } else { failing.get(&cluster.name).cloned() }
    }

    /// All that are unhealthy, by cluster and address.
    pub fn unhealthy(&self) -> Vec<Unhealthy> {
        let failing = self.shared.failing.load();
        let of_cluster = |(cluster, failing): (&ClusterName, &Arc<Failing>)| {
            let row = |(endpoint, reason): (&SocketAddr, &Arc<str>)| Unhealthy {
                cluster: cluster.clone(),
                endpoint: *endpoint,
                reason: reason.clone(),
            };
            failing.0.iter().map(row).collect::<Vec<_>>()
        };
        let mut all: Vec<Unhealthy> = failing.iter().flat_map(of_cluster).collect();
        all.sort_by(|one, other| (&one.cluster, one.endpoint).cmp(&(&other.cluster, other.endpoint)));
        all
    }

    fn clusters(&self) -> MutexGuard<'_, HashMap<ClusterName, Conditions>> {
        // Every change leaves the map whole, so that a panic elsewhere has broken nothing.
        self.shared.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see a cluster as it is now.
    fn show(&self, name: &ClusterName, conditions: &Conditions) {
        let reasons = conditions
            .endpoints
            .iter()
            .filter_map(|(address, condition)| Some((*address, condition.shown()?.clone())));
        let now: HashMap<_, _> = reasons.collect();
        let seen = self.shared.failing.load();
        let before = seen.get(name);
        if before.map_or(now.is_empty(), |before| before.0 == now) {
            return;
        }
        let mut all = (**seen).clone();
        if now.is_empty() {
            all.remove(name);
        } else {
            all.insert(name.clone(), Arc::new(Failing(now)));
        }
        self.shared.failing.store(Arc::new(all));
    }
}

/// Whether a snapshot has endpoints to check that nobody knows in their cluster.
fn has_news(clusters: &HashMap<ClusterName, Conditions>, snapshot: &Snapshot) -> bool {
    let is_checked = |(_, cluster): &(&ClusterName, &Arc<Cluster>)| cluster.health_check.is_some();
    snapshot.clusters.iter().filter(is_checked).any(|(name, cluster)| {
        let known = clusters.get(name).map(|conditions| &conditions.endpoints);
        cluster.healthy().any(|endpoint| known.is_none_or(|known| !known.contains_key(&endpoint.address)))
    })
}

/// Whether each endpoint is healthy, as some cluster finds it.
fn by_address(clusters: &HashMap<ClusterName, Conditions>) -> HashMap<SocketAddr, bool> {
    let mut known = HashMap::new();
    for (address, condition) in clusters.values().flat_map(|conditions| &conditions.endpoints) {
        *known.entry(*address).or_default() |= condition.shown().is_none();
    }
    known
}

#[cfg(test)]
mod tests;
