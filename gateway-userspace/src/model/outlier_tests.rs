//! Counting, ejecting, coming back, on a clock that stands still.

use super::*;
use crate::model::{Endpoint, Fitness, Health, UpstreamProtocol};

fn address(index: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + index))
}

fn cluster(endpoints: u16, rules: OutlierDetection) -> Cluster {
    let name = ClusterName { host: "a".into(), port: 80, subset: None };
    let endpoint = |index| Endpoint::new(address(index), Health::Healthy);
    let mut cluster = Cluster::new(name, UpstreamProtocol::Tcp, (0..endpoints).map(endpoint).collect());
    cluster.outlier = Some(rules);
    cluster
}

/// A tracker whose clock stands still until it is told to go on.
struct Watch {
    outliers: Outliers,
    cluster: Cluster,
    now: Instant,
}

impl Watch {
    fn new(endpoints: u16, rules: OutlierDetection) -> Self {
        Self { outliers: Outliers::default(), cluster: cluster(endpoints, rules), now: Instant::now() }
    }

    fn report(&self, index: u16, outcome: Outcome) -> bool {
        self.outliers.report(&self.cluster, address(index), outcome, self.now).is_some()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn is_ejected(&self, index: u16) -> bool {
        self.outliers.is_ejected(&self.cluster.name, address(index), self.now)
    }

    fn available(&self) -> usize {
        let fitness = Fitness { outliers: self.outliers.clone(), ..Fitness::default() };
        self.cluster.available(&fitness, self.now).count()
    }
}

fn twice() -> OutlierDetection {
    OutlierDetection { consecutive_5xx: 2, ..OutlierDetection::default() }
}

#[test]
fn failures_count_while_they_are_consecutive() {
    use Outcome::{Connected, LocalOriginFailure as Failed, Status, Timeout};
    let split = OutlierDetection { split_local_origin: true, consecutive_local_origin: 2, ..twice() };
    let gateway = OutlierDetection { consecutive_5xx: 0, consecutive_gateway: 2, ..twice() };
    let off = OutlierDetection { consecutive_5xx: 0, ..twice() };
    let named = OutlierDetection { error_codes: vec![429, 503], ..gateway.clone() };
    let named = [named.clone(), OutlierDetection { consecutive_gateway: 0, consecutive_5xx: 2, ..named }];
    let [named_gateway, named] = named;
    for (rules, outcomes, want) in [
        (twice(), &[Failed, Failed][..], true),
        (twice(), &[Failed, Connected, Failed], false),
        (twice(), &[Failed, Status(200), Failed], false),
        (twice(), &[Status(500), Failed], true),
        (twice(), &[Status(404), Status(404), Status(404)], false),
        (gateway.clone(), &[Status(502), Failed], true),
        (gateway.clone(), &[Status(500), Status(500), Status(500)], false),
        (gateway.clone(), &[Status(503), Status(500), Status(504)], false),
        (split.clone(), &[Failed, Failed], true),
        (split.clone(), &[Failed, Status(500), Connected, Status(500)], true),
        (split.clone(), &[Failed, Status(200), Failed], false),
        (split.clone(), &[Failed, Connected, Failed], false),
        // Whoever was reached and is silent is at fault, but not for a status.
        (twice(), &[Timeout, Status(500)], true),
        (gateway.clone(), &[Timeout, Timeout], true),
        (split.clone(), &[Timeout, Failed], true),
        (split.clone(), &[Status(500), Timeout, Connected, Failed], false),
        (split, &[Status(500), Timeout, Status(500)], true),
        // Only what is named counts, and a failure to answer.
        (named.clone(), &[Status(429), Status(503)], true),
        (named.clone(), &[Status(429), Status(500), Status(429)], false),
        (named.clone(), &[Status(502), Status(502), Status(502)], false),
        (named, &[Status(429), Failed], true),
        (named_gateway.clone(), &[Status(503), Failed], true),
        (named_gateway, &[Status(429), Status(429), Status(429)], false),
        (off, &[Failed, Failed, Failed, Status(500), Status(500)], false),
    ] {
        let watch = Watch::new(2, rules.clone());
        let ejected = outcomes.iter().any(|outcome| watch.report(0, *outcome));
        assert_eq!((ejected, watch.is_ejected(0)), (want, want), "{outcomes:?} {rules:?}");
        assert!(!watch.is_ejected(1));
    }
}

#[test]
fn each_ejection_lasts_longer_until_intervals_without_forgive_it() {
    let mut watch = Watch::new(2, OutlierDetection { consecutive_5xx: 1, ..OutlierDetection::default() });
    let lasts = |watch: &mut Watch, seconds: u64| {
        assert!(watch.report(0, Outcome::LocalOriginFailure));
        watch.pass(seconds - 1);
        assert!(watch.is_ejected(0), "ejected for {seconds} s");
        watch.pass(1);
        assert!(!watch.is_ejected(0), "ejected for {seconds} s");
    };
    for seconds in [30, 60, 90] {
        lasts(&mut watch, seconds);
    }
    // Two intervals of 10 s take two of the three back.
    watch.pass(25);
    lasts(&mut watch, 60);
    watch.pass(1000);
    lasts(&mut watch, 30);
    for n in 2..30 {
        lasts(&mut watch, (n * 30).min(300));
    }
}

#[test]
fn one_may_always_go_and_more_up_to_the_percentage() {
    for (endpoints, percent, want) in
        [(1, 10, 1), (4, 10, 1), (4, 0, 1), (4, 50, 2), (4, 74, 2), (4, 75, 3), (4, 100, 4), (30, 10, 3)]
    {
        let rules = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: percent,
            ..OutlierDetection::default()
        };
        let mut watch = Watch::new(endpoints, rules);
        for index in 0..endpoints {
            watch.report(index, Outcome::LocalOriginFailure);
        }
        assert_eq!(watch.outliers.ejected(watch.now).len(), want, "{endpoints} endpoints, {percent} %");
        assert_eq!(watch.available(), usize::from(endpoints) - want);
        watch.pass(30);
        assert!(watch.outliers.ejected(watch.now).is_empty());
        assert_eq!(watch.available(), usize::from(endpoints));
    }
}

#[test]
fn with_too_few_left_all_ready_ones_are_used() {
    for (minimum, want) in [(0, 1), (25, 1), (26, 4), (50, 4), (100, 4)] {
        let rules = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            min_health_percent: minimum,
            ..OutlierDetection::default()
        };
        let mut watch = Watch::new(5, rules);
        watch.cluster.endpoints[4].health = Health::Unhealthy;
        for index in 0..3 {
            watch.report(index, Outcome::LocalOriginFailure);
        }
        assert_eq!(watch.available(), want, "minHealthPercent {minimum}");
    }
}

#[test]
fn what_goes_with_its_documents_is_forgotten() {
    let watch = Watch::new(2, twice());
    let snapshot = |cluster: Cluster| Snapshot {
        clusters: Arc::new(BTreeMap::from([(cluster.name.clone(), Arc::new(cluster))])),
        ..Snapshot::default()
    };
    for index in [0, 0] {
        watch.report(index, Outcome::LocalOriginFailure);
    }
    watch.outliers.retain(&snapshot(watch.cluster.clone()), watch.now);
    assert!(watch.is_ejected(0), "a change elsewhere changes nothing here");
    let mut other = watch.cluster.clone();
    other.endpoints.remove(0);
    watch.outliers.retain(&snapshot(other), watch.now);
    assert!(!watch.is_ejected(0));
    assert!(watch.outliers.monitors().is_empty());
}

#[test]
fn without_a_rule_nothing_is_counted() {
    let mut watch = Watch::new(1, twice());
    watch.cluster.outlier = None;
    assert!((0..9).all(|_| !watch.report(0, Outcome::LocalOriginFailure)));
    assert!(watch.outliers.monitors().is_empty());
}
