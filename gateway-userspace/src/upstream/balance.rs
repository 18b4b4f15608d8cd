//! Chooses destinations by weight, and endpoints as the cluster says: by what keeps a client or a request at one, or else by
//! least request, in turns or at random. Endpoints that fail in a row, or their health checks, are left out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::limits::Place;
use super::peer::Peer;
use super::turns::Turns;
use crate::model::{
    Balance, Candidate, Cluster, ClusterName, Cold, Fitness, Outcome, Warming, WeightedCluster,
};

/// One worker's view of how busy each endpoint is and whose turn it is, and all workers' of which fail.
#[derive(Debug, Default)]
pub struct Balancer {
    peers: RefCell<HashMap<SocketAddr, Rc<Peer>, RandomState>>,
    /// Until when the last of them is in doubt.
    doubted: Cell<Option<Instant>>,
    turns: RefCell<HashMap<ClusterName, Turns, RandomState>>,
    fitness: Fitness,
    warming: Warming,
}

/// What requests are kept at an endpoint by: those with equal keys have the same. The same in every worker and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// Of what is to be kept together.
    pub fn of(value: &(impl Hash + ?Sized)) -> Self {
        // Its keys are fixed.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Counts a request or connection as active at its endpoint until dropped.
#[derive(Debug)]
pub struct Lease {
    /// The endpoint chosen.
    pub address: SocketAddr,
    peer: Rc<Peer>,
    /// Boxed, as few clusters bound anything.
    places: Option<Box<[Place; 2]>>,
}

impl Lease {
    /// What is known of the endpoint.
    pub fn peer(&self) -> Rc<Peer> {
        self.peer.clone()
    }

    /// Holds a place among the requests and, for a connection that is the request's own, one among the connections.
    pub fn hold(&mut self, request: Place, connection: Place) {
        if request.is_some() || connection.is_some() {
            let [of_requests, of_connections] = &mut **self.places.get_or_insert_default();
            *of_requests = request.or(of_requests.take());
            *of_connections = connection.or(of_connections.take());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.peer.active.set(self.peer.active.get() - 1);
    }
}

/// Chooses a destination: its share is its weight over the sum. `None` only for an empty slice.
pub fn by_weight(destinations: &[WeightedCluster]) -> Option<usize> {
    if destinations.len() < 2 {
        return (!destinations.is_empty()).then_some(0);
    }
    let total: u64 = destinations.iter().map(|destination| u64::from(destination.weight)).sum();
    let mut ticket = fastrand::u64(..total.max(1));
    destinations.iter().position(|destination| {
        let hit = ticket < u64::from(destination.weight);
        ticket = ticket.saturating_sub(u64::from(destination.weight));
        hit
    })
}

impl Balancer {
    /// A worker's balancer that heeds what all have found out about endpoints.
    pub fn new(fitness: Fitness) -> Self {
        Self { fitness, ..Self::default() }
    }

    /// Gives new endpoints their share little by little, as all have found out how new they are.
    #[must_use]
    pub fn with_warming(self, warming: Warming) -> Self {
        Self { warming, ..self }
    }

    /// Chooses an available endpoint: by a key, if the cluster keeps requests by one and there is one, or else as it says.
    /// Those in doubt come only when there are no others, and those in `tried` when all were.
    pub fn choose(&self, cluster: &Cluster, key: Option<Key>, tried: &[SocketAddr]) -> Option<Lease> {
        self.choose_beyond(cluster, key, (tried, &[]))
    }

    /// Likewise, from other priorities of places than those of `spent` as long as there are any.
    pub fn choose_beyond(
        &self,
        cluster: &Cluster,
        key: Option<Key>,
        (tried, spent): (&[SocketAddr], &[SocketAddr]),
    ) -> Option<Lease> {
        let now = Instant::now();
        let all = cluster.available_beyond(&self.fitness, now, spent);
        let fresh = all.clone().filter(|candidate| !tried.contains(&candidate.endpoint.address));
        let cold = self.warming.cold(cluster, now);
        let cold = cold.as_ref();
        let sound = self.doubts_some(now).then(|| {
            let sound = fresh.clone().filter(|candidate| !self.is_doubted(candidate.endpoint.address, now));
            self.pick(cluster, key, &sound, cold)
        });
        let fresh = sound.flatten().or_else(|| self.pick(cluster, key, &fresh, cold));
        let address = fresh.or_else(|| self.pick(cluster, key, &all, cold))?;
        Some(self.lease(address, now))
    }

    /// Whether there is an endpoint that may be asked in place of those in `tried`.
    pub fn has_other(&self, cluster: &Cluster, tried: &[SocketAddr]) -> bool {
        let now = Instant::now();
        let is_other = |address: SocketAddr| !tried.contains(&address) && !self.is_doubted(address, now);
        cluster.available(&self.fitness, now).any(|candidate| is_other(candidate.endpoint.address))
    }

    /// An endpoint could not be reached, broke a connection off, or is silent. Documents that say how outliers are judged
    /// have them judged so and no other way.
    pub fn doubt(&self, cluster: &Cluster, endpoint: SocketAddr) {
        if cluster.outlier.is_none() {
            let now = Instant::now();
            let until = self.peer(endpoint, now).failed(now);
            self.doubted.set(self.doubted.get().max(Some(until)));
        }
    }

    fn doubts_some(&self, now: Instant) -> bool {
        self.doubted.get().is_some_and(|until| until > now)
    }

    fn is_doubted(&self, address: SocketAddr, now: Instant) -> bool {
        self.peers.borrow().get(&address).is_some_and(|peer| peer.is_doubted(now))
    }

    fn peer(&self, address: SocketAddr, now: Instant) -> Rc<Peer> {
        self.peers.borrow_mut().entry(address).or_insert_with(|| Rc::new(Peer::new(now))).clone()
    }

    fn pick<'c>(
        &self,
        cluster: &Cluster,
        key: Option<Key>,
        candidates: &(impl Iterator<Item = Candidate<'c>> + Clone),
        cold: Option<&Cold>,
    ) -> Option<SocketAddr> {
        let candidates = || candidates.clone();
        let share = |candidate: &Candidate<'_>| {
            by_documents(candidate) * cold.map_or(1.0, |cold| cold.share(candidate.endpoint.address))
        };
        let chosen = match (key, cluster.keeps_together(), cluster.balance) {
            (Some(key), true, _) => preferred(key, candidates()),
            // What ought to be kept and has nothing to be kept by is put anywhere, as by Envoy's hash.
            (None, true, _) | (_, false, Balance::Random) => drawn(candidates(), by_documents),
            (_, false, Balance::LeastRequest) => self.less_busy(candidates, cold.map(|_| share)),
            (_, false, Balance::RoundRobin) => {
                let mut turns = self.turns.borrow_mut();
                turns.entry(cluster.name.clone()).or_default().next(candidates(), share)
            }
        };
        chosen.map(|candidate| candidate.endpoint.address)
    }

    /// `warm` are the shares where some are lower than the documents have them.
    fn less_busy<'c, I>(
        &self,
        candidates: impl Fn() -> I,
        warm: Option<impl Fn(&Candidate<'_>) -> f64>,
    ) -> Option<Candidate<'c>>
    where
        I: Iterator<Item = Candidate<'c>> + Clone,
    {
        let per_request = |candidate: &Candidate<'_>, share: f64| {
            share / (f64::from(self.busy(candidate.endpoint.address)) + 1.0)
        };
        if let Some(share) = warm {
            return drawn(candidates(), |candidate| per_request(candidate, share(candidate)));
        }
        let mut all = candidates();
        let only = all.next()?;
        let (count, is_even) =
            all.fold((1, true), |(count, is_even), it| (count + 1, is_even && it.weight == only.weight));
        if !is_even {
            return drawn(candidates(), |candidate| per_request(candidate, by_documents(candidate)));
        }
        if count == 1 {
            return Some(only);
        }
        let first = fastrand::usize(..count);
        let second = (first + fastrand::usize(1..count)) % count;
        let (first, second) = both(candidates(), (first, second))?;
        let busy = |candidate: &Candidate<'_>| self.busy(candidate.endpoint.address);
        Some(if busy(&second) < busy(&first) { second } else { first })
    }

    fn lease(&self, address: SocketAddr, now: Instant) -> Lease {
        let peer = self.peer(address, now);
        peer.active.set(peer.active.get() + 1);
        if let Some(until) = peer.chosen(now) {
            self.doubted.set(self.doubted.get().max(Some(until)));
        }
        Lease { address, peer, places: None }
    }

    /// Tells all workers how it went with an endpoint.
    pub fn report(&self, cluster: &Cluster, endpoint: SocketAddr, outcome: Outcome) {
        if cluster.outlier.is_none() {
            return;
        }
        let now = Instant::now();
        if let Some(ejection) = self.fitness.outliers.report(cluster, endpoint, outcome, now) {
            let seconds = (ejection.until - now).as_secs_f64();
            tracing::info!(cluster = %cluster.name, %endpoint, seconds, "endpoint ejected");
        }
    }

    fn busy(&self, address: SocketAddr) -> u32 {
        self.peers.borrow().get(&address).map_or(0, |peer| peer.active.get())
    }

    /// Forgets endpoints that nobody uses and the turns of clusters that are gone, so that the maps do not grow with all
    /// that was ever seen.
    pub fn sweep(&self, is_there: impl Fn(&ClusterName) -> bool) {
        let now = Instant::now();
        self.peers.borrow_mut().retain(|_, peer| peer.is_known(now));
        self.turns.borrow_mut().retain(|cluster, _| is_there(cluster));
    }
}

fn by_documents(candidate: &Candidate<'_>) -> f64 {
    f64::from(candidate.weight)
}

/// Those at two places, found in one walk.
fn both<T>(mut all: impl Iterator<Item = T>, (first, second): (usize, usize)) -> Option<(T, T)> {
    let earlier = all.nth(first.min(second))?;
    let later = all.nth(first.abs_diff(second) - 1)?;
    Some(if first < second { (earlier, later) } else { (later, earlier) })
}

/// One at random, each with its share.
fn drawn<'c>(
    candidates: impl Iterator<Item = Candidate<'c>> + Clone,
    share: impl Fn(&Candidate<'_>) -> f64,
) -> Option<Candidate<'c>> {
    let sum: f64 = candidates.clone().map(|candidate| share(&candidate)).sum();
    let mut ticket = fastrand::f64() * sum;
    let mut last = None;
    for candidate in candidates {
        ticket -= share(&candidate);
        last = Some(candidate);
        if ticket < 0.0 {
            break;
        }
    }
    last
}

/// Weighted rendezvous hashing: each endpoint draws a lot for the key, and the best has it. When an endpoint goes, only
/// its own keys move; when one comes, or gains weight, only those that it wins.
fn preferred<'c>(key: Key, candidates: impl Iterator<Item = Candidate<'c>>) -> Option<Candidate<'c>> {
    let lot = |candidate: &Candidate<'_>| {
        let Key(hash) = Key::of(&(key, candidate.endpoint.address));
        // Evenly from above 0 to 1, 53 bits of it. The one who waits the shortest time at the rate of its weight.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let even = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(candidate.weight)
    };
    candidates.min_by(|one, other| lot(one).total_cmp(&lot(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;

    use crate::model::{
        Affinity, Checked, Endpoint, Health, HealthCheck, OutlierDetection, Probe, Snapshot,
        UpstreamProtocol, Warmup,
    };

    fn cluster(healths: &[Health]) -> Cluster {
        let endpoint = |(index, health): (usize, &Health)| {
            Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1000 + index as u16)), *health)
        };
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        Cluster::new(name, UpstreamProtocol::Http1, healths.iter().enumerate().map(endpoint).collect())
    }

    #[test]
    fn only_healthy_endpoints_and_the_less_busy_of_two() {
        let balancer = Balancer::default();
        let cluster = cluster(&[Health::Healthy, Health::Unhealthy, Health::Healthy, Health::Draining]);
        let leases: Vec<_> = (0..40).map(|_| balancer.choose(&cluster, None, &[]).unwrap()).collect();
        for port in [1000, 1002] {
            assert_eq!(leases.iter().filter(|lease| lease.address.port() == port).count(), 20, "{port}");
        }
        drop(leases);
        balancer.sweep(|_| true);
        assert!(balancer.peers.borrow().is_empty());
    }

    #[test]
    fn two_are_found_in_the_order_asked_for() {
        for (at, want) in
            [((0, 1), Some((0, 1))), ((3, 1), Some((3, 1))), ((1, 3), Some((1, 3))), ((1, 4), None)]
        {
            assert_eq!(both(0..4, at), want, "{at:?}");
        }
    }

    #[test]
    fn endpoints_in_doubt_come_after_the_others() {
        let (balancer, mut cluster) = (Balancer::default(), cluster(&[Health::Healthy; 3]));
        let [first, second, third] = [0, 1, 2].map(|index: usize| cluster.endpoints[index].address);
        let chosen = |tried: &[SocketAddr]| balancer.choose(&cluster, None, tried).unwrap().address;
        balancer.doubt(&cluster, first);
        balancer.doubt(&cluster, second);
        assert!((0..20).all(|_| chosen(&[]) == third));
        assert!(balancer.has_other(&cluster, &[second]) && !balancer.has_other(&cluster, &[third]));
        assert!((0..20).all(|_| chosen(&[third]) != third), "before those that were tried");
        balancer.doubt(&cluster, third);
        let seen: std::collections::HashSet<_> = (0..200).map(|_| chosen(&[])).collect();
        assert_eq!(seen.len(), 3, "nobody is left out");
        let lease = balancer.choose(&cluster, None, &[second, third]).unwrap();
        lease.peer().answered(Instant::now(), Instant::now());
        assert!((0..20).all(|_| chosen(&[]) == first), "it has answered");
        // Documents that judge outliers do it alone.
        cluster.outlier = Some(OutlierDetection::default());
        let balancer = Balancer::default();
        balancer.doubt(&cluster, first);
        assert!((0..200).any(|_| balancer.choose(&cluster, None, &[]).unwrap().address == first));
    }

    #[test]
    fn an_endpoint_tried_in_vain_comes_last() {
        let balancer = Balancer::default();
        let cluster = cluster(&[Health::Healthy, Health::Healthy]);
        let first = balancer.choose(&cluster, None, &[]).unwrap().address;
        for _ in 0..20 {
            assert_ne!(balancer.choose(&cluster, None, &[first]).unwrap().address, first);
        }
        assert!(balancer.choose(&self::cluster(&[Health::Healthy]), None, &[first]).is_some());
        assert!(balancer.choose(&self::cluster(&[Health::Unhealthy]), None, &[]).is_none());
    }

    #[test]
    fn a_client_keeps_its_endpoint_unless_that_goes() {
        let clients: Vec<IpAddr> = (0..2000u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
        let mut cluster = cluster(&[Health::Healthy; 5]);
        cluster.affinity = Affinity::SourceAddress;
        let chosen = |cluster: &Cluster, tried: &[SocketAddr]| -> Vec<SocketAddr> {
            let balancer = Balancer::default();
            clients
                .iter()
                .map(|client| balancer.choose(cluster, Some(Key::of(client)), tried).unwrap().address)
                .collect()
        };
        let before = chosen(&cluster, &[]);
        assert_eq!(before, chosen(&cluster, &[]), "every worker chooses alike");
        for endpoint in &cluster.endpoints {
            let share = before.iter().filter(|address| **address == endpoint.address).count();
            assert!((300..500).contains(&share), "{share} of 2000 at one of five");
        }
        let gone = cluster.endpoints[2].address;
        let avoiding = chosen(&cluster, &[gone]);
        cluster.endpoints.remove(2);
        let after = chosen(&cluster, &[]);
        assert_eq!(after, avoiding, "where it goes when its endpoint cannot be reached is where it stays");
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == gone) && moved.count() > 0);
    }

    #[test]
    fn endpoints_that_fail_are_left_out() {
        let mut cluster = cluster(&[Health::Healthy, Health::Healthy]);
        cluster.outlier = Some(OutlierDetection { consecutive_5xx: 2, ..OutlierDetection::default() });
        let fitness = Fitness::default();
        let (one, other) = (Balancer::new(fitness.clone()), Balancer::new(fitness));
        let bad = cluster.endpoints[0].address;
        one.report(&cluster, bad, Outcome::LocalOriginFailure);
        other.report(&cluster, bad, Outcome::Status(503));
        for balancer in [one, other] {
            for _ in 0..20 {
                assert_ne!(balancer.choose(&cluster, None, &[]).unwrap().address, bad);
            }
        }
    }

    fn snapshot(cluster: &Cluster) -> Snapshot {
        Snapshot {
            clusters: std::sync::Arc::new([(cluster.name.clone(), cluster.clone().into())].into()),
            ..Snapshot::default()
        }
    }

    #[test]
    fn endpoints_that_fail_their_check_are_left_out_whatever_requests_find() {
        let mut cluster = cluster(&[Health::Healthy; 3]);
        cluster.outlier = Some(OutlierDetection { consecutive_5xx: 1, ..OutlierDetection::default() });
        cluster.health_check = Some(HealthCheck::new(Probe::Tcp).into());
        let [ejected, failing, sound] = [0, 1, 2].map(|at: usize| cluster.endpoints[at].address);
        let fitness = Fitness::default();
        let balancer = Balancer::new(fitness.clone());
        fitness.checks.note(&snapshot(&cluster));
        balancer.report(&cluster, ejected, Outcome::Status(503));
        for (checked, others) in
            [(Checked::Failed("status 503".into()), &[sound][..]), (Checked::Passed, &[failing, sound])]
        {
            for endpoint in [ejected, failing] {
                fitness.checks.report(&cluster.name, endpoint, &checked);
            }
            for _ in 0..20 {
                let chosen = balancer.choose(&cluster, None, &[]).unwrap().address;
                assert!(others.contains(&chosen), "{chosen} when {checked:?}");
            }
            assert!(!balancer.has_other(&cluster, others));
        }
    }

    #[test]
    fn when_too_few_are_fit_all_that_are_ready_are_used() {
        let mut cluster = cluster(&[Health::Healthy; 2]);
        cluster.outlier = Some(OutlierDetection { min_health_percent: 60, ..OutlierDetection::default() });
        cluster.health_check = Some(HealthCheck::new(Probe::Tcp).into());
        let (fitness, bad) = (Fitness::default(), cluster.endpoints[0].address);
        let balancer = Balancer::new(fitness.clone());
        fitness.checks.note(&snapshot(&cluster));
        fitness.checks.report(&cluster.name, bad, &Checked::Failed("status 503".into()));
        let is_chosen =
            |cluster: &Cluster| (0..200).any(|_| balancer.choose(cluster, None, &[]).unwrap().address == bad);
        assert!(is_chosen(&cluster));
        cluster.outlier = None;
        assert!(!is_chosen(&cluster), "no document asks for it");
    }

    #[test]
    fn a_new_endpoint_has_a_part_of_its_share() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            let mut cluster = cluster(&[Health::Healthy; 3]);
            cluster.balance = balance;
            let window = Duration::from_hours(1);
            cluster.warmup = Some(Warmup { window, minimum_percent: 20.0, aggression: 1.0 });
            let (warming, now) = (Warming::default(), Instant::now());
            let old = Cluster { endpoints: cluster.endpoints[..2].to_vec(), ..cluster.clone() };
            warming.note(&snapshot(&old), now.checked_sub(window).unwrap());
            warming.note(&snapshot(&cluster), now);
            let of_new = |warming: &Warming| {
                fastrand::seed(7);
                let balancer = Balancer::default().with_warming(warming.clone());
                let chosen = (0..1100).map(|_| balancer.choose(&cluster, None, &[]).unwrap().address);
                chosen.filter(|address| *address == cluster.endpoints[2].address).count()
            };
            let (cold, warm) = (of_new(&warming), of_new(&Warming::default()));
            assert!((70..130).contains(&cold), "{balance:?}: {cold} of 1100 where 0.2 of 2.2 are due");
            assert!((320..420).contains(&warm), "{balance:?}: {warm} of 1100 where a third is due");
        }
    }

    /// How often each of the endpoints is chosen, in a thousand.
    fn shares(cluster: &Cluster, key: impl Fn(u32) -> Option<Key>) -> Vec<usize> {
        fastrand::seed(7);
        let balancer = Balancer::default();
        let chosen: Vec<_> =
            (0..1000).map(|n| balancer.choose(cluster, key(n), &[]).unwrap().address).collect();
        let count = |endpoint: &Endpoint| chosen.iter().filter(|it| **it == endpoint.address).count();
        cluster.endpoints.iter().map(count).collect()
    }

    #[test]
    fn endpoints_have_the_share_of_their_weight_however_they_are_chosen() {
        use Balance::{LeastRequest, Random, RoundRobin};
        for (balance, affinity, tolerance) in [
            (LeastRequest, Affinity::None, 60),
            (Random, Affinity::None, 60),
            (RoundRobin, Affinity::None, 2),
            (LeastRequest, Affinity::SourceAddress, 60),
        ] {
            for weights in [[1, 1, 1, 1], [1, 2, 3, 4], [700, 100, 100, 100]] {
                let mut cluster = cluster(&[Health::Healthy; 4]);
                (cluster.balance, cluster.affinity) = (balance, affinity.clone());
                for (endpoint, weight) in cluster.endpoints.iter_mut().zip(weights) {
                    endpoint.weight = weight;
                }
                let sum: u32 = weights.iter().sum();
                for (got, weight) in shares(&cluster, |n| Some(Key::of(&n))).into_iter().zip(weights) {
                    let want = (1000 * weight / sum) as usize;
                    let context = format!("{balance:?} {affinity:?} {weights:?}: {got} for {want}");
                    assert!(got.abs_diff(want) <= tolerance, "{context}");
                }
            }
        }
    }

    #[test]
    fn a_busy_endpoint_gets_less_of_its_weight() {
        let mut cluster = cluster(&[Health::Healthy; 2]);
        cluster.endpoints[0].weight = 3;
        let balancer = Balancer::default();
        let leases: Vec<_> = (0..400).map(|_| balancer.choose(&cluster, None, &[]).unwrap()).collect();
        let first = leases.iter().filter(|lease| lease.address == cluster.endpoints[0].address).count();
        // Three to one in what is held would be 300; nobody takes more than its weight.
        assert!((230..=310).contains(&first), "{first}");
    }

    #[test]
    fn what_has_no_key_is_put_anywhere() {
        let mut cluster = cluster(&[Health::Healthy; 2]);
        cluster.affinity = Affinity::Header("x-user".into());
        assert!(shares(&cluster, |_| None).into_iter().all(|share| share > 400));
        assert!(shares(&cluster, |_| Some(Key::of("a"))).contains(&1000));
    }

    #[test]
    fn weights_are_shares() {
        fastrand::seed(3);
        let destination = |weight| WeightedCluster {
            name: ClusterName { host: "a".into(), port: 80, subset: None },
            cluster: None,
            weight,
        };
        let destinations = [destination(90), destination(10)];
        let second = (0..10_000).filter(|_| by_weight(&destinations) == Some(1)).count();
        assert!((850..1150).contains(&second), "{second}");
        assert_eq!(by_weight(&[]), None);
    }
}
