//! Chooses destinations by weight and endpoints by least request (two random choices), Istio's default, or by the
//! client's address. Endpoints that fail in a row are left out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use super::limits::Place;
use crate::model::{Affinity, Cluster, Outcome, Outliers, WeightedCluster};

/// One worker's view of how busy each endpoint is, and all workers' of which fail.
#[derive(Debug, Default)]
pub struct Balancer {
    active: RefCell<HashMap<SocketAddr, Rc<Cell<u32>>>>,
    outliers: Outliers,
}

/// Counts a request or connection as active at its endpoint until dropped.
#[derive(Debug)]
pub struct Lease {
    /// The endpoint chosen.
    pub address: SocketAddr,
    active: Rc<Cell<u32>>,
    /// Boxed, as few clusters bound anything.
    places: Option<Box<[Place; 2]>>,
}

impl Lease {
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
        self.active.set(self.active.get() - 1);
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
    pub fn new(outliers: Outliers) -> Self {
        Self { active: RefCell::default(), outliers }
    }

    /// Chooses an available endpoint for a client, by the cluster's affinity or else of two at random the less busy
    /// one. Those in `tried` come only when all were.
    pub fn choose(&self, cluster: &Cluster, client: IpAddr, tried: &[SocketAddr]) -> Option<Lease> {
        let all = cluster.available(&self.outliers, Instant::now()).map(|endpoint| endpoint.address);
        let fresh = all.clone().filter(|address| !tried.contains(address));
        let address = match cluster.affinity {
            Affinity::None => self.less_busy(&fresh).or_else(|| self.less_busy(&all)),
            Affinity::SourceAddress => preferred(client, fresh).or_else(|| preferred(client, all)),
        }?;
        Some(self.lease(address))
    }

    fn less_busy(&self, candidates: &(impl Iterator<Item = SocketAddr> + Clone)) -> Option<SocketAddr> {
        let candidates = || candidates.clone();
        match candidates().count() {
            0 => None,
            1 => candidates().next(),
            count => {
                let first = fastrand::usize(..count);
                let second = (first + fastrand::usize(1..count)) % count;
                let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
                Some(if self.busy(second) < self.busy(first) { second } else { first })
            }
        }
    }

    fn lease(&self, address: SocketAddr) -> Lease {
        let active = self.active.borrow_mut().entry(address).or_default().clone();
        active.set(active.get() + 1);
        Lease { address, active, places: None }
    }

    /// Tells all workers how it went with an endpoint.
    pub fn report(&self, cluster: &Cluster, endpoint: SocketAddr, outcome: Outcome) {
        if cluster.outlier.is_none() {
            return;
        }
        let now = Instant::now();
        if let Some(ejection) = self.outliers.report(cluster, endpoint, outcome, now) {
            let seconds = (ejection.until - now).as_secs_f64();
            tracing::info!(cluster = %cluster.name, %endpoint, seconds, "endpoint ejected");
        }
    }

    fn busy(&self, address: SocketAddr) -> u32 {
        self.active.borrow().get(&address).map_or(0, |active| active.get())
    }

    /// Forgets endpoints that nobody uses, so that the map does not grow with every address ever seen.
    pub fn sweep(&self) {
        self.active.borrow_mut().retain(|_, active| active.get() > 0);
    }
}

/// Rendezvous hashing: each endpoint draws a lot for the client, and the highest has it. When an endpoint goes, only
/// its own clients move; when one comes, only those that it wins.
fn preferred(client: IpAddr, candidates: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    // The same in every worker and run: its keys are fixed.
    let lot = |endpoint: &SocketAddr| {
        let mut hasher = DefaultHasher::new();
        (client, endpoint).hash(&mut hasher);
        hasher.finish()
    };
    candidates.max_by_key(lot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterName, Endpoint, Health, OutlierDetection, UpstreamProtocol};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

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
        let leases: Vec<_> = (0..40).map(|_| balancer.choose(&cluster, CLIENT, &[]).unwrap()).collect();
        for port in [1000, 1002] {
            assert_eq!(leases.iter().filter(|lease| lease.address.port() == port).count(), 20, "{port}");
        }
        drop(leases);
        balancer.sweep();
        assert!(balancer.active.borrow().is_empty());
    }

    #[test]
    fn an_endpoint_tried_in_vain_comes_last() {
        let balancer = Balancer::default();
        let cluster = cluster(&[Health::Healthy, Health::Healthy]);
        let first = balancer.choose(&cluster, CLIENT, &[]).unwrap().address;
        for _ in 0..20 {
            assert_ne!(balancer.choose(&cluster, CLIENT, &[first]).unwrap().address, first);
        }
        assert!(balancer.choose(&self::cluster(&[Health::Healthy]), CLIENT, &[first]).is_some());
        assert!(balancer.choose(&self::cluster(&[Health::Unhealthy]), CLIENT, &[]).is_none());
    }

    #[test]
    fn a_client_keeps_its_endpoint_unless_that_goes() {
        let clients: Vec<IpAddr> = (0..2000u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
        let mut cluster = cluster(&[Health::Healthy; 5]);
        cluster.affinity = Affinity::SourceAddress;
        let chosen = |cluster: &Cluster, tried: &[SocketAddr]| -> Vec<SocketAddr> {
            let balancer = Balancer::default();
            clients.iter().map(|client| balancer.choose(cluster, *client, tried).unwrap().address).collect()
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
        let outliers = Outliers::default();
        let (one, other) = (Balancer::new(outliers.clone()), Balancer::new(outliers));
        let bad = cluster.endpoints[0].address;
        one.report(&cluster, bad, Outcome::LocalOriginFailure);
        other.report(&cluster, bad, Outcome::Status(503));
        for balancer in [one, other] {
            for _ in 0..20 {
                assert_ne!(balancer.choose(&cluster, CLIENT, &[]).unwrap().address, bad);
            }
        }
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
