//! Which endpoints come first, as seen from where the gateway runs: DestinationRule `localityLbSetting`. Pure.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Endpoint, Health};

/// A priority or group whose usable endpoints are so many of a hundred takes all of its share: Envoy's overprovisioning
/// factor, 140 percent.
const ENOUGH: f64 = 1.4;
/// Shares are whole numbers; so much of them is one percent.
const PERCENT: f64 = 10_000.0;

/// See the module. Lists have an entry for each of the cluster's endpoints, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Placement {
    /// All alike.
    #[default]
    Anywhere,
    /// `failover`, `failoverPriority`: the nearest, and others as far as those are not enough.
    Failover {
        /// 0 is the nearest; none is left out between.
        priorities: Vec<u32>,
    },
    /// `distribute`: groups with their shares.
    Distribute {
        /// Index in `weights`; `None` gets nothing.
        groups: Vec<Option<usize>>,
        /// Relative to one another.
        weights: Vec<u32>,
    },
}

impl Placement {
    /// The share of each endpoint where only those that are usable get one; `None` where all weigh what they weigh. Of
    /// priorities, those of `spent` come only where no other has anybody.
    pub(super) fn shares(
        &self,
        endpoints: &[Endpoint],
        is_usable: impl Fn(&Endpoint) -> bool,
        spent: &[SocketAddr],
    ) -> Option<Vec<u32>> {
        let (group_of, loads): (Vec<Option<usize>>, Vec<f64>) = match self {
            Self::Anywhere => return None,
            Self::Failover { priorities } => {
                let of: Vec<_> = priorities.iter().map(|priority| Some(*priority as usize)).collect();
                let count = priorities.iter().max().map_or(0, |lowest| *lowest as usize + 1);
                let available = availability(endpoints, &of, count, &is_usable);
                let beyond = without(&available, endpoints, priorities, spent);
                (of, spill(&beyond.unwrap_or(available)))
            }
            Self::Distribute { groups, weights } => {
                let available = availability(endpoints, groups, weights.len(), &is_usable);
                let load = |(weight, available): (&u32, f64)| f64::from(*weight) * available;
                (groups.clone(), weights.iter().zip(available).map(load).collect())
            }
        };
        let mut sums = vec![0.0; loads.len()];
        let weight = |endpoint: &Endpoint| f64::from(endpoint.weight.max(1));
        let members = || endpoints.iter().zip(&group_of).map(|(endpoint, group)| (endpoint, *group));
        for (endpoint, group) in members().filter(|(endpoint, _)| is_usable(endpoint)) {
            if let Some(sum) = group.and_then(|group| sums.get_mut(group)) {
                *sum += weight(endpoint);
            }
        }
        let share = |(endpoint, group): (&Endpoint, Option<usize>)| match group {
            Some(group) if is_usable(endpoint) && loads[group] > 0.0 => {
                whole(loads[group] * PERCENT * weight(endpoint) / sums[group])
            }
            _ => 0,
        };
        Some(members().map(share).collect())
    }
}

/// What is available but for the priorities of some endpoints; `None` if that is nothing.
fn without(
    available: &[f64],
    endpoints: &[Endpoint],
    priorities: &[u32],
    spent: &[SocketAddr],
) -> Option<Vec<f64>> {
    if spent.is_empty() {
        return None;
    }
    let mut left = available.to_vec();
    for (endpoint, priority) in endpoints.iter().zip(priorities) {
        if spent.contains(&endpoint.address) {
            left[*priority as usize] = 0.0;
        }
    }
    left.iter().any(|available| *available > 0.0).then_some(left)
}

/// At least 1: whoever has a share at all is chosen at times.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as meant")]
fn whole(share: f64) -> u32 {
    (share.round() as u32).max(1)
}

/// How much of its share each group can take, up to 1. Endpoints that are ending do not count, those that are not ready do.
fn availability(
    endpoints: &[Endpoint],
    group_of: &[Option<usize>],
    count: usize,
    is_usable: impl Fn(&Endpoint) -> bool,
) -> Vec<f64> {
    let (mut all, mut usable) = (vec![0_u32; count], vec![0_u32; count]);
    for (endpoint, group) in endpoints.iter().zip(group_of) {
        let Some(group) = group.filter(|_| endpoint.health != Health::Draining) else { continue };
        all[group] += 1;
        usable[group] += u32::from(is_usable(endpoint));
    }
    let of = |(all, usable): (u32, u32)| (ENOUGH * f64::from(usable) / f64::from(all.max(1))).min(1.0);
    all.into_iter().zip(usable).map(of).collect()
}

/// Percent of the load for each priority: what one cannot take goes to the next; where all together are not enough, each
/// takes as much more.
fn spill(available: &[f64]) -> Vec<f64> {
    let total = available.iter().sum::<f64>().min(1.0);
    let mut left = 100.0_f64;
    let take = |available: &f64| {
        let load = if total > 0.0 { (available / total * 100.0).min(left) } else { 0.0 };
        left -= load;
        load
    };
    available.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints whose letters say their state: usable, ejected, not ready, draining.
    fn shares(placement: &Placement, states: &str) -> Vec<u32> {
        let address = |at: usize| SocketAddr::from(([10, 0, 0, 1], 1000 + at as u16));
        let endpoint = |(at, state)| {
            let health = match state {
                'n' => Health::Unhealthy,
                'd' => Health::Draining,
                _ => Health::Healthy,
            };
            Endpoint::new(address(at), health)
        };
        let endpoints: Vec<Endpoint> = states.chars().enumerate().map(endpoint).collect();
        let letters: Vec<char> = states.chars().collect();
        let is_usable = |endpoint: &Endpoint| letters[usize::from(endpoint.address.port()) - 1000] == 'u';
        let shares = placement.shares(&endpoints, is_usable, &[]).unwrap();
        // In whole percents of all.
        let sum = f64::from(shares.iter().sum::<u32>());
        shares.into_iter().map(|share| whole_percent(share, sum)).collect()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
    fn whole_percent(share: u32, sum: f64) -> u32 {
        if sum > 0.0 { (f64::from(share) * 100.0 / sum).round() as u32 } else { 0 }
    }

    #[test]
    fn load_spills_over_as_far_as_the_nearest_are_not_enough() {
        for (priorities, states, want) in [
            (&[0, 0, 1][..], "uuu", &[50, 50, 0][..]),
            // 1 of 2: seventy percent.
            (&[0, 0, 1], "ueu", &[70, 0, 30]),
            (&[0, 0, 1], "unu", &[70, 0, 30]),
            (&[0, 0, 1], "udu", &[100, 0, 0]),
            (&[0, 0, 1, 2], "eeuu", &[0, 0, 100, 0]),
            // 3 of 4 are enough.
            (&[0, 0, 0, 0, 1], "uuueu", &[33, 33, 33, 0, 0]),
            (&[0, 0, 0, 0, 1, 1, 2], "ueeeueu", &[35, 0, 0, 0, 65, 0, 0]),
            // All are short: 28 and 28 of a hundred are half each.
            (&[0, 0, 0, 0, 0, 1, 1, 1, 1, 1], "ueeeeueeee", &[50, 0, 0, 0, 0, 50, 0, 0, 0, 0]),
            (&[0, 1], "ee", &[0, 0]),
        ] {
            let placement = Placement::Failover { priorities: priorities.to_vec() };
            assert_eq!(shares(&placement, states), want, "{priorities:?} {states}");
        }
    }

    #[test]
    fn groups_have_their_shares_of_what_they_can_take() {
        let groups = vec![Some(0), Some(0), Some(1), None];
        let placement = Placement::Distribute { groups, weights: vec![80, 20] };
        for (states, want) in [
            ("uuuu", [40, 40, 20, 0]),
            ("euuu", [0, 74, 26, 0]),
            ("eeuu", [0, 0, 100, 0]),
            ("uueu", [50, 50, 0, 0]),
            ("eeeu", [0, 0, 0, 0]),
        ] {
            assert_eq!(shares(&placement, states), want, "{states}");
        }
    }
}
