//! What moves of clusters on a page of the topology: requests and bytes, and how their endpoints are. Requests are counted by
//! service, so subsets and ports of a service show the same numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::super::view::View;
use super::history::milliseconds;
use super::now::word;
use super::query::Query;
use crate::datapath::stats::BackendTraffic;
use crate::model::{Cluster, Health};
use crate::telemetry::metrics::Traffic;

/// An endpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointNow {
    address: SocketAddr,
    /// `healthy`, `unready`, `draining`, `failing` its checks, or `ejected`.
    state: &'static str,
    /// Why it fails its checks, or for how many seconds more it is ejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What the kernel has steered to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<BackendTraffic>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterNow {
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
    /// How many endpoints are in which state.
    states: BTreeMap<&'static str, usize>,
    /// Those that are not well first, as many as were asked for.
    endpoints: Vec<EndpointNow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moving {
    /// Milliseconds since 1970.
    at: u64,
    generation: u64,
    clusters: BTreeMap<usize, ClusterNow>,
}

/// `clusters` are places in the order of their names, in `generation`. Where another one is in force, they are others: then there are
/// none. That is no error, as it happens to every page.
pub(super) async fn answer(view: &Arc<View>, query: &Query) -> Moving {
    let generation = view.snapshot.generation;
    let at = milliseconds(SystemTime::now());
    if query.generation != Some(generation) {
        return Moving { at, generation, clusters: BTreeMap::new() };
    }
    let kernel = view.kernel_plane.status().await;
    let steered: HashMap<_, _> = kernel
        .into_iter()
        .flat_map(|kernel| kernel.backend_traffic)
        .map(|traffic| (traffic.backend, traffic))
        .collect();
    let mut places = query.clusters.clone();
    places.sort_unstable();
    places.dedup();
    let all = view.snapshot.clusters.values().enumerate();
    let wanted: Vec<_> = all.filter(|(at, _)| places.binary_search(at).is_ok()).collect();
    let hosts: HashSet<&str> = wanted.iter().map(|(_, cluster)| &*cluster.name.host).collect();
    let traffic = view.metrics.as_ref().map(|metrics| metrics.by_service(|host| hosts.contains(host)));
    let now = Instant::now();
    let moving = |cluster: &Cluster| {
        let mut endpoints = endpoints(view, cluster, now);
        let mut states = BTreeMap::new();
        for endpoint in &endpoints {
            *states.entry(endpoint.state).or_default() += 1;
        }
        endpoints.sort_by_key(|endpoint| endpoint.state == "healthy");
        endpoints.truncate(query.endpoints);
        for endpoint in &mut endpoints {
            endpoint.kernel = steered.get(&endpoint.address).cloned();
        }
        let traffic = traffic.as_ref().map(|all| all.get(&*cluster.name.host).cloned().unwrap_or_default());
        ClusterNow { traffic, states, endpoints }
    };
    let clusters = wanted.iter().map(|(at, cluster)| (*at, moving(cluster))).collect();
    Moving { at, generation, clusters }
}

fn endpoints(view: &View, cluster: &Cluster, now: Instant) -> Vec<EndpointNow> {
    let fitness = &view.counts.fitness;
    let failing = fitness.checks.failing_of(cluster);
    let ejected = fitness.outliers.ejected_of(cluster);
    let endpoint = |endpoint: &crate::model::Endpoint| {
        let address = endpoint.address;
        let failure = failing.as_ref().and_then(|failing| failing.reason(address));
        let is_ejected = ejected.as_ref().is_some_and(|ejected| ejected.contains(address, now));
        let (state, why) = match (endpoint.health, failure) {
            (Health::Healthy, Some(reason)) => ("failing", Some(reason.to_string())),
            (Health::Healthy, None) if is_ejected => ("ejected", None),
            (health, _) => (word(health), None),
        };
        EndpointNow { address, state, why, kernel: None }
    };
    cluster.endpoints.iter().map(endpoint).collect()
}
