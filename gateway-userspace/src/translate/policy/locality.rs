//! Where endpoints are as seen from the gateway: `localityLbSetting` of a policy, and what holds without one.

use std::collections::BTreeMap;

use crate::api::destination_rule::{Distribute, Failover, LocalityLoadBalancerSetting};
use crate::model::{Cluster, Endpoint, GatewayIdentity, Locality, Placement};

use crate::translate::registry::{Distribution, REGION, SUBZONE, ZONE, labelled, of_node};

/// Priority of those who are in no region that ours fails over to.
const FARTHEST: u32 = 4;

/// What a setting makes of a cluster's endpoints. Without outlier detection nobody would notice that the nearest fail, so
/// that only `distribute` holds then, as in Istio.
pub(super) fn placement(
    setting: Option<&LocalityLoadBalancerSetting>,
    cluster: &Cluster,
    identity: &GatewayIdentity,
) -> Placement {
    if setting.is_some_and(|setting| setting.enabled == Some(false)) {
        return Placement::Anywhere;
    }
    let distribute = setting.map_or([].as_slice(), |setting| setting.distribute.as_slice());
    if distribute.is_empty() && cluster.outlier.is_none() {
        return Placement::Anywhere;
    }
    let here = here(identity);
    if !distribute.is_empty() {
        let ours = distribute.iter().find(|distribute| matches(&here, &distribute.from));
        return ours.map_or(Placement::Anywhere, |ours| distributed(ours, &cluster.endpoints));
    }
    let labels = setting.map_or([].as_slice(), |setting| setting.failover_priority.as_slice());
    let failover = setting.map_or([].as_slice(), |setting| setting.failover.as_slice());
    let priority = |endpoint: &Endpoint| {
        let by_locality = by_locality(&here, &endpoint.locality, failover);
        match labels {
            [] => by_locality,
            labels => {
                let by_labels = by_labels(labels, identity, &here, endpoint);
                // Where both are written, regions decide among those that the labels find as near as one another.
                if failover.is_empty() { by_labels } else { by_labels * (FARTHEST + 1) + by_locality }
            }
        }
    };
    if labels.is_empty() && here.is_unknown() {
        return Placement::Anywhere;
    }
    ranked(cluster.endpoints.iter().map(priority).collect())
}

/// What a service's own wish makes of them: who is near comes first, whether somebody notices failures or not.
pub(super) fn near(wish: Distribution, cluster: &Cluster, identity: &GatewayIdentity) -> Placement {
    let here = here(identity);
    if here.is_unknown() {
        return Placement::Anywhere;
    }
    // As good as the nearest: whoever is in the zone.
    let near = match wish {
        Distribution::SameNode => 0,
        Distribution::SameZone | Distribution::Any => 1,
    };
    let priority = |endpoint: &Endpoint| by_locality(&here, &endpoint.locality, &[]).max(near);
    ranked(cluster.endpoints.iter().map(priority).collect())
}

/// Where the gateway runs, by the labels of its pod or node.
fn here(identity: &GatewayIdentity) -> Locality {
    let labelled = labelled(&identity.labels);
    if labelled.is_unknown() { of_node(&identity.labels) } else { labelled }
}

/// Priorities without gaps.
fn ranked(priorities: Vec<u32>) -> Placement {
    let mut found = priorities.clone();
    found.sort_unstable();
    found.dedup();
    if found.len() < 2 {
        return Placement::Anywhere;
    }
    let rank = |priority: u32| found.iter().take_while(|other| **other < priority).count();
    let rank = |priority| u32::try_from(rank(priority)).unwrap_or(u32::MAX);
    Placement::Failover { priorities: priorities.into_iter().map(rank).collect() }
}

/// 0 where all is the same, 1 in the zone, 2 in the region, 3 elsewhere; [`FARTHEST`] where it is not even the region that
/// ours fails over to. EndpointSlices name a zone without its region: that is ours, then.
fn by_locality(here: &Locality, there: &Locality, failover: &[Failover]) -> u32 {
    let is_of_slice = there.region.is_empty() && !there.zone.is_empty();
    if here.region != there.region && !is_of_slice {
        let ours = failover.iter().find(|failover| *failover.from == *here.region);
        return if ours.is_some_and(|ours| *ours.to != *there.region) { FARTHEST } else { 3 };
    }
    match (here.zone == there.zone, here.subzone == there.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// The more of the labels, from the first on, an endpoint has in common with the gateway, or with what they say, the
/// nearer it is.
fn by_labels(labels: &[String], identity: &GatewayIdentity, here: &Locality, endpoint: &Endpoint) -> u32 {
    let is_met = |label: &&String| {
        let (key, wanted) =
            label.split_once('=').map_or((label.as_str(), None), |(key, value)| (key, Some(value)));
        let there = value(key, &endpoint.labels, &endpoint.locality);
        let wanted = wanted.or_else(|| value(key, &identity.labels, here));
        wanted == there
    };
    let met = labels.iter().take_while(is_met).count();
    u32::try_from(labels.len() - met).unwrap_or(u32::MAX)
}

/// A label; those of places are known of everyone whose place is.
fn value<'v>(key: &str, labels: &'v BTreeMap<String, String>, locality: &'v Locality) -> Option<&'v str> {
    let place = match key {
        REGION => &*locality.region,
        ZONE => &*locality.zone,
        SUBZONE => &*locality.subzone,
        _ => "",
    };
    labels.get(key).map(String::as_str).or(Some(place).filter(|place| !place.is_empty()))
}

fn distributed(ours: &Distribute, endpoints: &[Endpoint]) -> Placement {
    let mut groups = vec![None; endpoints.len()];
    let mut weights = Vec::new();
    let mut to: Vec<(&String, &u32)> = ours.to.iter().collect();
    // A locality that several patterns match is the narrowest one's.
    let is_said = |part: &&str| !["", "*"].contains(part);
    to.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.split('/').filter(is_said).count()));
    for (pattern, percent) in to {
        let mut members: BTreeMap<&Locality, (Vec<usize>, u64)> = BTreeMap::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            if groups[at].is_none() && matches(&endpoint.locality, pattern) {
                let (found, sum) = members.entry(&endpoint.locality).or_default();
                found.push(at);
                *sum += u64::from(endpoint.weight.max(1));
            }
        }
        let total: u64 = members.values().map(|(_, sum)| sum).sum();
        for (found, sum) in members.into_values() {
            for at in found {
                groups[at] = Some(weights.len());
            }
            // In hundredths of a percent, so that small ones are not lost.
            let weight = (u64::from(*percent) * 100 * sum).div_ceil(total.max(1));
            weights.push(u32::try_from(weight).unwrap_or(u32::MAX));
        }
    }
    Placement::Distribute { groups, weights }
}

/// Whether a locality is one of `region/zone/subzone`; what is left out or `*` is any.
fn matches(locality: &Locality, pattern: &str) -> bool {
    let mut parts = pattern.split('/');
    let (region, zone, subzone) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    (region == "*" || *locality.region == *region)
        && (["", "*"].contains(&zone) || *locality.zone == *zone)
        && (["", "*"].contains(&subzone) || *locality.subzone == *subzone)
}
