//! Outlier detection, as Envoy does it: endpoints that fail several times in a row get nothing new for a while. One
//! tracker serves both planes; time comes from outside.
//!
//! Differs from Envoy in one thing: an ejection ends when its time is over, not at the next `interval` after that.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::cluster::{Cluster, ClusterName};
use super::snapshot::Snapshot;

/// An endpoint is never ejected for longer, unless `baseEjectionTime` is (Envoy's `max_ejection_time`).
const MAX_EJECTION: Duration = Duration::from_mins(5);

/// DestinationRule `trafficPolicy.outlierDetection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`: answers of 500 and above, and what counts as such. Default 5; 0 is off.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`: 502, 503 and 504. Default 0, which is off.
    pub consecutive_gateway: u32,
    /// `consecutiveLocalOriginFailures`, with `splitExternalLocalOriginErrors` alone. Default 5; 0 is off.
    pub consecutive_local_origin: u32,
    /// `splitExternalLocalOriginErrors`: failures to connect are counted by themselves. Otherwise they count as 503.
    pub split_local_origin: bool,
    /// `interval`: a healthy endpoint is forgiven one ejection in each. Default 10 s.
    pub interval: Duration,
    /// `baseEjectionTime`: the first ejection; the n-th lasts n times as long. Default 30 s.
    pub base_ejection_time: Duration,
    /// `maxEjectionPercent`: of all endpoints, though one may always go. Default 10.
    pub max_ejection_percent: u32,
    /// `minHealthPercent`: with fewer of the ready endpoints left, all of those are used. Default 0.
    pub min_health_percent: u32,
    /// `outlierDetectionHttpErrorCodes`: answers that count as failures, in place of 500 and above. Empty: those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_codes: Vec<u16>,
}

impl OutlierDetection {
    /// The status that an answer counts as: what documents name is a server's error, and all else is none.
    fn judged(&self, status: u16) -> u16 {
        match self.error_codes.as_slice() {
            [] => status,
            codes if codes.contains(&status) => status.max(500),
            _ => 200,
        }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local_origin: 5,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_codes: Vec::new(),
        }
    }
}

/// How a connection or request to an endpoint went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// TCP: the endpoint was connected to and did not reset the connection before it said something.
    Connected,
    /// Refused, unreachable, no connection in time, or reset before it said something. Envoy does not ask who resets.
    LocalOriginFailure,
    /// HTTP: the status that the endpoint answered with.
    Status(u16),
    /// HTTP: reached, and no answer in the time that the route, the try or the client gives. Counts as 504, or where
    /// local failures are counted apart, as one of those.
    Timeout,
}

/// An endpoint that gets nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its address.
    pub endpoint: SocketAddr,
    /// When it comes back.
    pub until: Instant,
}

/// The endpoints of a cluster that are or were ejected.
#[derive(Debug, Default)]
pub struct Ejected(HashMap<SocketAddr, Instant>);

impl Ejected {
    /// Whether an endpoint is ejected at `now`.
    pub fn contains(&self, endpoint: SocketAddr, now: Instant) -> bool {
        self.0.get(&endpoint).is_some_and(|until| now < *until)
    }
}

/// The tracker's handle: clones share it. Looking costs nothing while no endpoint is ejected, and a success nothing
/// while none has failed.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What readers see; replaced whole under the lock of `monitors`.
    ejected: ArcSwap<HashMap<ClusterName, Arc<Ejected>>>,
    /// Endpoints that have failed since their last success, or were ejected and not forgiven yet.
    monitors: Mutex<Monitors>,
    /// Number of monitors.
    watched: AtomicUsize,
}

type Monitors = HashMap<ClusterName, BTreeMap<SocketAddr, Monitor>>;

/// What is held against an endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Monitor {
    server_errors: u32,
    gateway_errors: u32,
    local_failures: u32,
    /// Ejections not forgiven yet.
    ejections: u32,
    /// End of the last one.
    until: Option<Instant>,
}

impl Outliers {
    /// Counts an outcome. Returns the ejection that it led to.
    pub fn report(
        &self,
        cluster: &Cluster,
        endpoint: SocketAddr,
        outcome: Outcome,
        now: Instant,
    ) -> Option<Ejection> {
        let rules = cluster.outlier.as_ref()?;
        let succeeded = match outcome {
            Outcome::Connected => true,
            Outcome::Status(status) => rules.judged(status) < 500,
            Outcome::LocalOriginFailure | Outcome::Timeout => false,
        };
        if succeeded && self.shared.watched.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut monitors = self.monitors();
        let ejection = count(&mut monitors, cluster, rules, endpoint, outcome, now);
        self.shared.watched.store(monitors.values().map(BTreeMap::len).sum(), Ordering::Relaxed);
        if ejection.is_some() {
            self.show(&monitors, now);
        }
        ejection
    }

    /// Whether an endpoint is ejected at `now`.
    pub fn is_ejected(&self, cluster: &ClusterName, endpoint: SocketAddr, now: Instant) -> bool {
        self.of(cluster).is_some_and(|ejected| ejected.contains(endpoint, now))
    }

    /// All that are ejected at `now`.
    pub fn ejected(&self, now: Instant) -> Vec<Ejection> {
        let ejected = self.shared.ejected.load();
        let of_cluster = |(cluster, ejected): (&ClusterName, &Arc<Ejected>)| {
            let list = ejected.0.iter().filter(|(_, until)| now < **until);
            list.map(|(endpoint, until)| Ejection {
                cluster: cluster.clone(),
                endpoint: *endpoint,
                until: *until,
            })
            .collect::<Vec<_>>()
        };
        ejected.iter().flat_map(of_cluster).collect()
    }

    /// Forgets endpoints that are gone, and clusters whose rule is.
    pub fn retain(&self, snapshot: &Snapshot, now: Instant) {
        let mut monitors = self.monitors();
        monitors.retain(|name, of_cluster| {
            let cluster = snapshot.clusters.get(name).filter(|cluster| cluster.outlier.is_some());
            let Some(cluster) = cluster else { return false };
            of_cluster.retain(|address, _| cluster.endpoints.iter().any(|known| known.address == *address));
            !of_cluster.is_empty()
        });
        self.shared.watched.store(monitors.values().map(BTreeMap::len).sum(), Ordering::Relaxed);
        self.show(&monitors, now);
    }

    /// The endpoints of a cluster that are or were ejected; `None` where nobody was.
    pub fn ejected_of(&self, cluster: &Cluster) -> Option<Arc<Ejected>> {
        cluster.outlier.as_ref().and_then(|_| self.of(&cluster.name))
    }

    fn of(&self, cluster: &ClusterName) -> Option<Arc<Ejected>> {
        let ejected = self.shared.ejected.load();
        if ejected.is_empty() { None } else { ejected.get(cluster).cloned() }
    }

    fn monitors(&self) -> MutexGuard<'_, Monitors> {
        // Every change leaves the map whole, so that a panic elsewhere has broken nothing.
        self.shared.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, monitors: &Monitors, now: Instant) {
        let of_cluster = |(name, monitors): (&ClusterName, &BTreeMap<SocketAddr, Monitor>)| {
            let ends = monitors.iter().filter_map(|(address, monitor)| Some((*address, monitor.until?)));
            let ejected: HashMap<_, _> = ends.filter(|(_, until)| now < *until).collect();
            (!ejected.is_empty()).then(|| (name.clone(), Arc::new(Ejected(ejected))))
        };
        self.shared.ejected.store(Arc::new(monitors.iter().filter_map(of_cluster).collect()));
    }
}

fn count(
    monitors: &mut Monitors,
    cluster: &Cluster,
    rules: &OutlierDetection,
    endpoint: SocketAddr,
    outcome: Outcome,
    now: Instant,
) -> Option<Ejection> {
    let of_cluster = monitors.entry(cluster.name.clone()).or_default();
    let monitor = of_cluster.entry(endpoint).or_default();
    monitor.forgive(rules, now);
    // What was under way when it was ejected tells nothing new.
    let due = monitor.until.is_none_or(|until| until <= now) && monitor.count(rules, outcome);
    let ejection = (due && may_eject(of_cluster, cluster, rules, now))
        .then(|| of_cluster.get_mut(&endpoint).map(|monitor| monitor.eject(rules, now)))
        .flatten()
        .map(|until| Ejection { cluster: cluster.name.clone(), endpoint, until });
    of_cluster.retain(|_, monitor| !monitor.is_clean());
    if of_cluster.is_empty() {
        monitors.remove(&cluster.name);
    }
    ejection
}

/// One endpoint may always go; more, as long as no larger share is gone than `maxEjectionPercent`.
fn may_eject(
    monitors: &BTreeMap<SocketAddr, Monitor>,
    cluster: &Cluster,
    rules: &OutlierDetection,
    now: Instant,
) -> bool {
    let active = monitors.values().filter(|monitor| monitor.until.is_some_and(|until| now < until)).count();
    let share = (active as u64 + 1) * 100;
    active == 0 || share <= u64::from(rules.max_ejection_percent) * cluster.endpoints.len() as u64
}

impl Monitor {
    /// Takes one ejection back for every interval that the endpoint was not ejected in.
    fn forgive(&mut self, rules: &OutlierDetection, now: Instant) {
        let Some(until) = self.until.filter(|until| *until <= now) else { return };
        let interval = rules.interval.max(Duration::from_millis(1));
        let passed = (now - until).as_nanos() / interval.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.ejections = self.ejections.saturating_sub(passed);
        self.until = (self.ejections > 0).then(|| until + interval.saturating_mul(passed));
    }

    /// Whether the outcome calls for an ejection.
    fn count(&mut self, rules: &OutlierDetection, outcome: Outcome) -> bool {
        let status = match outcome {
            Outcome::Status(status) => {
                // Whoever answers was connected to.
                self.local_failures = 0;
                rules.judged(status)
            }
            Outcome::Connected if rules.split_local_origin => {
                self.local_failures = 0;
                return false;
            }
            Outcome::Timeout | Outcome::LocalOriginFailure if rules.split_local_origin => {
                return one_more(&mut self.local_failures, rules.consecutive_local_origin);
            }
            Outcome::Connected => 200,
            Outcome::LocalOriginFailure => 503,
            Outcome::Timeout => 504,
        };
        let (server_error, gateway_error) = (status >= 500, matches!(status, 502..=504));
        if !gateway_error {
            self.gateway_errors = 0;
        }
        if !server_error {
            self.server_errors = 0;
        }
        let by_gateway = gateway_error && one_more(&mut self.gateway_errors, rules.consecutive_gateway);
        let by_server = server_error && one_more(&mut self.server_errors, rules.consecutive_5xx);
        by_gateway || by_server
    }

    /// The n-th ejection lasts n times the first.
    fn eject(&mut self, rules: &OutlierDetection, now: Instant) -> Instant {
        let base = rules.base_ejection_time;
        let longest = MAX_EJECTION.max(base);
        // No further than one beyond the longest, as Envoy counts: it would take as long to be forgiven.
        if base.saturating_mul(self.ejections) < longest.saturating_add(base) {
            self.ejections += 1;
        }
        let until = now + base.saturating_mul(self.ejections).min(longest);
        *self = Self { ejections: self.ejections, until: Some(until), ..Self::default() };
        until
    }

    fn is_clean(&self) -> bool {
        self.server_errors == 0
            && self.gateway_errors == 0
            && self.local_failures == 0
            && self.until.is_none()
    }
}

/// Counts; at the threshold starts anew. A threshold of 0 is none.
fn one_more(counter: &mut u32, threshold: u32) -> bool {
    if threshold == 0 {
        return false;
    }
    *counter += 1;
    let reached = *counter >= threshold;
    if reached {
        *counter = 0;
    }
    reached
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
