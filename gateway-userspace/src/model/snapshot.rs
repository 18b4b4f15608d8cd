//! One generation of everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::cluster::{Cluster, ClusterName};
use super::exposure::Exposure;
use super::http_settings::HttpSettings;
use super::listener::{Listener, ListenerKey};
use super::route::RouteTable;
use crate::telemetry::access::Logging;
use crate::telemetry::metrics::Rules;

/// Names a document in dumps: `name.namespace`, as istioctl writes it.
pub type DocumentRef = Arc<str>;

/// All that the gateway does, immutable, built once by `translate`.
#[derive(Debug, Default, Serialize)]
pub struct Snapshot {
    /// Counts up with every publication; 0 is the empty start.
    pub generation: u64,
    /// Sorted by key.
    pub listeners: Vec<Arc<Listener>>,
    /// Every service port known, routed or not.
    #[serde(serialize_with = "cluster_list")]
    pub clusters: Arc<BTreeMap<ClusterName, Arc<Cluster>>>,
    /// What holds for HTTP everywhere.
    pub http: HttpSettings,
    /// What gets a line in which access log.
    pub logging: Arc<Logging>,
    /// What documents change of Istio's metrics.
    #[serde(skip_serializing_if = "is_empty")]
    pub metrics: Arc<Rules>,
    /// Where clients outside of the cluster find the gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposures: Vec<Exposure>,
}

fn is_empty(rules: &Arc<Rules>) -> bool {
    rules.is_empty()
}

impl Snapshot {
    /// The listener of a key.
    pub fn listener(&self, key: ListenerKey) -> Option<&Arc<Listener>> {
        let index = self.listeners.binary_search_by_key(&key, |listener| listener.key).ok()?;
        self.listeners.get(index)
    }

    /// The route tables of all plaintext ports and HTTPS servers.
    pub fn route_tables(&self) -> impl Iterator<Item = &RouteTable> {
        self.listeners.iter().flat_map(|listener| listener.route_tables())
    }
}

fn cluster_list<S: serde::Serializer>(
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(clusters.values())
}
