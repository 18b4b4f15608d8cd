//! Which endpoints of a cluster may get new requests and flows, and their shares: the one answer that both planes ask
//! for, so that a client finds the same backends whichever of them carries it. Pure: who is ejected, or fails its health check,
//! comes from outside.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Cluster, Endpoint, Health};

/// An endpoint that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Who.
    pub endpoint: &'a Endpoint,
    /// Its share is this over the sum of all candidates'; at least 1.
    pub weight: u32,
}

impl Cluster {
    /// Endpoints that are ready and not ejected, nor fail their health check, which is the same here. When fewer than
    /// `minHealthPercent` of the ready ones are left, all of those; unready ones never. Where the cluster says who comes
    /// first, those that do, with their shares. `ejected` is `None` where nobody can be, which spares the counting.
    pub fn eligible<'a, F>(&'a self, ejected: Option<F>) -> impl Iterator<Item = Candidate<'a>> + Clone
    where
        F: Fn(SocketAddr) -> bool + Clone + 'a,
    {
        self.eligible_beyond(ejected, &[])
    }

    /// Likewise, without the priorities of places that `spent` are of, unless nobody is left then.
    pub(super) fn eligible_beyond<'a, F>(
        &'a self,
        ejected: Option<F>,
        spent: &[SocketAddr],
    ) -> impl Iterator<Item = Candidate<'a>> + Clone + use<'a, F>
    where
        F: Fn(SocketAddr) -> bool + Clone + 'a,
    {
        let avoided = ejected.filter(|is_ejected| !self.panics(is_ejected));
        let is_usable = move |endpoint: &Endpoint| {
            let is_avoided = avoided.as_ref().is_some_and(|is_ejected: &F| is_ejected(endpoint.address));
            endpoint.health == Health::Healthy && !is_avoided
        };
        let shares = self.placement.shares(&self.endpoints, &is_usable, spent);
        let shares: Option<Arc<[u32]>> = shares.map(Into::into);
        let all = self.endpoints.iter().enumerate().filter(move |(_, endpoint)| is_usable(endpoint));
        all.filter_map(move |(at, endpoint)| {
            let weight = shares.as_ref().map_or(endpoint.weight.max(1), |shares| shares[at]);
            (weight > 0).then_some(Candidate { endpoint, weight })
        })
    }

    /// Whether so few would be left that ejections count for nothing.
    fn panics(&self, is_ejected: &impl Fn(SocketAddr) -> bool) -> bool {
        let Some(rules) = &self.outlier else { return false };
        let ready = self.healthy().count() as u64;
        let left = self.healthy().filter(|endpoint| !is_ejected(endpoint.address)).count() as u64;
        left * 100 < u64::from(rules.min_health_percent) * ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterName, OutlierDetection, Placement, UpstreamProtocol};

    fn cluster(healths: &[Health], min_health_percent: u32) -> Cluster {
        let endpoint = |(at, health): (usize, &Health)| Endpoint::new(address(at), *health);
        let endpoints = healths.iter().enumerate().map(endpoint).collect();
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        let mut cluster = Cluster::new(name, UpstreamProtocol::Tcp, endpoints);
        cluster.outlier = Some(OutlierDetection { min_health_percent, ..OutlierDetection::default() });
        cluster
    }

    fn address(at: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 1000 + at as u16))
    }

    #[test]
    fn the_ready_are_eligible_unless_ejected_and_all_of_them_when_too_few_are_left() {
        use Health::{Draining, Healthy, Unhealthy};
        for (healths, min_health_percent, ejected, want) in [
            (&[Healthy, Unhealthy, Healthy, Draining][..], 0, &[][..], &[0, 2][..]),
            (&[Healthy, Healthy, Healthy, Healthy], 0, &[1, 2], &[0, 3]),
            (&[Healthy, Healthy], 0, &[0, 1], &[]),
            (&[Healthy, Healthy, Healthy, Healthy], 50, &[1, 2], &[0, 3]),
            (&[Healthy, Healthy, Healthy, Healthy], 50, &[0, 1, 2], &[0, 1, 2, 3]),
            (&[Healthy, Unhealthy], 100, &[0], &[0]),
            (&[Unhealthy, Draining], 0, &[], &[]),
        ] {
            let cluster = cluster(healths, min_health_percent);
            let is_ejected = |address: SocketAddr| ejected.iter().any(|at| self::address(*at) == address);
            let found: Vec<SocketAddr> =
                cluster.eligible(Some(is_ejected)).map(|candidate| candidate.endpoint.address).collect();
            let want: Vec<SocketAddr> = want.iter().map(|at| address(*at)).collect();
            assert_eq!(found, want, "{healths:?} {min_health_percent} {ejected:?}");
        }
    }

    #[test]
    fn those_that_come_first_are_enough_until_they_are_ejected() {
        let mut cluster = cluster(&[Health::Healthy; 3], 0);
        cluster.placement = Placement::Failover { priorities: vec![1, 0, 0] };
        for (ejected, want) in [(&[][..], &[1, 2][..]), (&[1], &[0, 2]), (&[1, 2], &[0])] {
            let is_ejected = |address: SocketAddr| ejected.iter().any(|at| self::address(*at) == address);
            let found: Vec<SocketAddr> =
                cluster.eligible(Some(is_ejected)).map(|candidate| candidate.endpoint.address).collect();
            assert_eq!(found, want.iter().map(|at| address(*at)).collect::<Vec<_>>(), "{ejected:?}");
        }
    }

    #[test]
    fn priorities_that_were_tried_in_vain_come_last() {
        let mut cluster = cluster(&[Health::Healthy; 4], 0);
        cluster.placement = Placement::Failover { priorities: vec![0, 0, 1, 2] };
        for (spent, want) in [
            (&[][..], &[0, 1][..]),
            (&[0], &[2]),
            (&[0, 1], &[2]),
            (&[0, 2], &[3]),
            (&[2], &[0, 1]),
            // There are no others.
            (&[0, 2, 3], &[0, 1]),
        ] {
            let spent: Vec<SocketAddr> = spent.iter().map(|at| address(*at)).collect();
            let found = cluster.eligible_beyond(None::<fn(SocketAddr) -> bool>, &spent);
            let found: Vec<SocketAddr> = found.map(|candidate| candidate.endpoint.address).collect();
            assert_eq!(found, want.iter().map(|at| address(*at)).collect::<Vec<_>>(), "{spent:?}");
        }
    }

    #[test]
    fn weights_are_the_documents_and_at_least_one() {
        let mut cluster = cluster(&[Health::Healthy, Health::Healthy, Health::Healthy], 0);
        cluster.endpoints[0].weight = 0;
        cluster.endpoints[1].weight = 7;
        let weights: Vec<u32> =
            cluster.eligible(None::<fn(SocketAddr) -> bool>).map(|candidate| candidate.weight).collect();
        assert_eq!(weights, [1, 7, 1]);
    }
}
