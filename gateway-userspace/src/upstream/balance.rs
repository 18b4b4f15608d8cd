//! Chooses destinations by weight and endpoints by least request (two random choices), Istio's default.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::model::{Cluster, WeightedCluster};

/// One worker's view of how busy each endpoint is.
#[derive(Debug, Default)]
pub struct Balancer {
    active: RefCell<HashMap<SocketAddr, Rc<Cell<u32>>>>,
}

/// Counts a request or connection as active at its endpoint until dropped.
#[derive(Debug)]
pub struct Lease {
    /// The endpoint chosen.
    pub address: SocketAddr,
    active: Rc<Cell<u32>>,
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
    /// Chooses a healthy endpoint: of two at random the less busy one. Those in `tried` come only when all were.
    pub fn choose(&self, cluster: &Cluster, tried: &[SocketAddr]) -> Option<Lease> {
        let fresh = |address: &SocketAddr| !tried.contains(address);
        self.choose_among(|| addresses(cluster).filter(fresh))
            .or_else(|| self.choose_among(|| addresses(cluster)))
    }

    fn choose_among<I: Iterator<Item = SocketAddr>>(&self, candidates: impl Fn() -> I) -> Option<Lease> {
        let count = candidates().count();
        let address = match count {
            0 => return None,
            1 => candidates().next()?,
            _ => {
                let first = fastrand::usize(..count);
                let second = (first + fastrand::usize(1..count)) % count;
                let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
                if self.busy(second) < self.busy(first) { second } else { first }
            }
        };
        let active = self.active.borrow_mut().entry(address).or_default().clone();
        active.set(active.get() + 1);
        Some(Lease { address, active })
    }

    fn busy(&self, address: SocketAddr) -> u32 {
        self.active.borrow().get(&address).map_or(0, |active| active.get())
    }

    /// Forgets endpoints that nobody uses, so that the map does not grow with every address ever seen.
    pub fn sweep(&self) {
        self.active.borrow_mut().retain(|_, active| active.get() > 0);
    }
}

fn addresses(cluster: &Cluster) -> impl Iterator<Item = SocketAddr> {
    cluster.healthy().map(|endpoint| endpoint.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterName, Endpoint, Health, UpstreamProtocol};

    fn cluster(healths: &[Health]) -> Cluster {
        let endpoint = |(index, health): (usize, &Health)| Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], 1000 + index as u16)),
            health: *health,
        };
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        Cluster::new(name, UpstreamProtocol::Http1, healths.iter().enumerate().map(endpoint).collect())
    }

    #[test]
    fn only_healthy_endpoints_and_the_less_busy_of_two() {
        let balancer = Balancer::default();
        let cluster = cluster(&[Health::Healthy, Health::Unhealthy, Health::Healthy, Health::Draining]);
        let leases: Vec<_> = (0..40).map(|_| balancer.choose(&cluster, &[]).unwrap()).collect();
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
        let first = balancer.choose(&cluster, &[]).unwrap().address;
        for _ in 0..20 {
            assert_ne!(balancer.choose(&cluster, &[first]).unwrap().address, first);
        }
        assert!(balancer.choose(&self::cluster(&[Health::Healthy]), &[first]).is_some());
        assert!(balancer.choose(&self::cluster(&[Health::Unhealthy]), &[]).is_none());
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
