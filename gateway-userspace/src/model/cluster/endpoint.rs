//! The addresses that serve a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::model::locality::Locality;

/// One address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Address and port of the pod or host.
    pub address: SocketAddr,
    /// From EndpointSlice conditions.
    pub health: Health,
    /// Its share among the endpoints of the cluster; at least 1.
    pub weight: u32,
    /// Where it runs.
    #[serde(skip_serializing_if = "Locality::is_unknown")]
    pub locality: Locality,
    /// What subsets choose by.
    #[serde(skip_serializing_if = "is_empty")]
    pub labels: Arc<BTreeMap<String, String>>,
}

impl Endpoint {
    /// An endpoint of weight 1, nowhere in particular and without labels.
    pub fn new(address: SocketAddr, health: Health) -> Self {
        Self { address, health, weight: 1, locality: Locality::default(), labels: Arc::default() }
    }
}

fn is_empty(labels: &Arc<BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}

/// Whether an endpoint gets traffic (EndpointSlice conditions `ready`, `serving`, `terminating`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Ready: gets new requests.
    Healthy,
    /// Not ready: kept for the dumps, never used.
    Unhealthy,
    /// Terminating: existing flows go on, new ones go elsewhere.
    Draining,
}

/// Where endpoints come from, in Envoy's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Discovery {
    /// From documents.
    #[default]
    Eds,
    /// All addresses of names.
    StrictDns,
    /// One address of a name.
    LogicalDns,
}

impl Discovery {
    /// Envoy's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eds => "EDS",
            Self::StrictDns => "STRICT_DNS",
            Self::LogicalDns => "LOGICAL_DNS",
        }
    }
}
