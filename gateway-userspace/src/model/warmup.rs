//! Warm-up of new endpoints (Envoy's slow start): their share grows with the time since they have been ready. Whoever
//! balances asks here for how long that is; time comes from outside.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::cluster::{Cluster, ClusterName, Endpoint, Health};
use super::snapshot::Snapshot;

/// DestinationRule `loadBalancer.warmup`, or `warmupDurationSecs`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// `duration`: an endpoint has all of its share after that.
    pub window: Duration,
    /// `minimumPercent`: of its share, from the beginning. Default 10.
    pub minimum_percent: f64,
    /// `aggression`: 1, the default, is linear; with more the share grows faster at first.
    pub aggression: f64,
}

/// Of its share, whatever the rules say: one that had none would never be found ready for more.
const LEAST: f64 = 1e-6;

impl Warmup {
    /// What an endpoint gets of its share, above 0 and up to 1, when it has been ready for so long.
    fn share(&self, ready_for: Duration) -> f64 {
        if ready_for >= self.window {
            return 1.0;
        }
        let passed = ready_for.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        let least = (self.minimum_percent / 100.0).max(LEAST);
        passed.powf(1.0 / self.aggression).clamp(least, 1.0)
    }
}

/// Since when each endpoint is ready, in clusters with a warm-up. Clones share it; looking is free of locks.
#[derive(Debug, Clone, Default)]
pub struct Warming {
    since: Arc<ArcSwap<HashMap<ClusterName, Arc<Since>>>>,
}

type Since = HashMap<SocketAddr, Instant>;

/// The endpoints of a cluster that have not all of their share yet, as of a moment.
#[derive(Debug)]
pub struct Cold {
    rules: Warmup,
    since: Arc<Since>,
    now: Instant,
}

impl Warming {
    /// Takes note of who is ready at `now`. An endpoint that is not ready for a while is not new when it is again.
    pub fn note(&self, snapshot: &Snapshot, now: Instant) {
        let known = self.since.load();
        let warms = |(_, cluster): &(&ClusterName, &Arc<Cluster>)| cluster.warmup.is_some();
        let since = snapshot.clusters.iter().filter(warms).map(|(name, cluster)| {
            let of_cluster = known.get(name);
            let since = |endpoint: &Endpoint| {
                let known = of_cluster.and_then(|since| since.get(&endpoint.address)).copied();
                let new = (endpoint.health == Health::Healthy).then_some(now);
                Some((endpoint.address, known.or(new)?))
            };
            (name.clone(), Arc::new(cluster.endpoints.iter().filter_map(since).collect()))
        });
        self.since.store(Arc::new(since.collect()));
    }

    /// Who has not all of its share at `now`; `None` if everyone has.
    pub fn cold(&self, cluster: &Cluster, now: Instant) -> Option<Cold> {
        let rules = cluster.warmup?;
        let since = self.since.load().get(&cluster.name)?.clone();
        let is_cold = |since: &Instant| now.saturating_duration_since(*since) < rules.window;
        since.values().any(is_cold).then_some(Cold { rules, since, now })
    }
}

impl Cold {
    /// What an endpoint gets of its share.
    pub fn share(&self, endpoint: SocketAddr) -> f64 {
        let Some(since) = self.since.get(&endpoint) else { return 1.0 };
        self.rules.share(self.now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::UpstreamProtocol;

    #[test]
    fn the_share_grows_as_envoys_does() {
        for (minimum_percent, aggression, seconds, want) in [
            (10.0, 1.0, 0, 0.1),
            (10.0, 1.0, 3, 0.1),
            (10.0, 1.0, 15, 0.5),
            (10.0, 1.0, 29, 29.0 / 30.0),
            (10.0, 1.0, 30, 1.0),
            (10.0, 1.0, 3000, 1.0),
            (0.0, 1.0, 0, 0.001 / 30.0),
            (0.0, 0.01, 0, LEAST),
            (10.0, 2.0, 15, 0.5_f64.sqrt()),
            (50.0, 1.0, 3, 0.5),
            (100.0, 1.0, 3, 1.0),
        ] {
            let rules = Warmup { window: Duration::from_secs(30), minimum_percent, aggression };
            let share = rules.share(Duration::from_secs(seconds));
            assert!((share - want).abs() < 1e-9, "{minimum_percent} {aggression} {seconds}: {share}");
        }
    }

    #[test]
    fn an_endpoint_is_new_once() {
        let address = |at: u16| SocketAddr::from(([10, 0, 0, 1], at));
        let warmup = Warmup { window: Duration::from_secs(10), minimum_percent: 10.0, aggression: 1.0 };
        let snapshot = |healths: &[Health]| {
            let name = ClusterName { host: "a".into(), port: 80, subset: None };
            let endpoint = |(at, health): (usize, &Health)| Endpoint::new(address(at as u16), *health);
            let endpoints = healths.iter().enumerate().map(endpoint).collect();
            let mut cluster = Cluster::new(name.clone(), UpstreamProtocol::Http1, endpoints);
            cluster.warmup = Some(warmup);
            Snapshot {
                clusters: Arc::new(BTreeMap::from([(name, Arc::new(cluster))])),
                ..Snapshot::default()
            }
        };
        let (warming, start) = (Warming::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let shares = |warming: &Warming, snapshot: &Snapshot, seconds| {
            let cold = warming.cold(snapshot.clusters.values().next().unwrap(), after(seconds));
            cold.map(|cold| [0, 1, 2].map(|at| (cold.share(address(at)) * 10.0).round() as u32))
        };
        let (ready, not) = (Health::Healthy, Health::Unhealthy);
        let first = snapshot(&[ready, not]);
        warming.note(&first, start);
        assert_eq!(shares(&warming, &first, 5), Some([5, 10, 10]));
        assert_eq!(shares(&warming, &first, 10), None);
        let second = snapshot(&[not, ready]);
        warming.note(&second, after(20));
        assert_eq!(shares(&warming, &second, 22), Some([10, 2, 10]));
        let third = snapshot(&[ready, ready, ready]);
        warming.note(&third, after(24));
        assert_eq!(shares(&warming, &third, 26), Some([10, 6, 2]));
        // Who was gone is new.
        let gone = snapshot(&[]);
        warming.note(&gone, after(50));
        warming.note(&first, after(60));
        assert_eq!(shares(&warming, &first, 61), Some([1, 10, 10]));
    }
}
