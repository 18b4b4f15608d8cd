//! The addresses that serve a cluster.

use std::net::SocketAddr;

use serde::Serialize;

/// One address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Address and port of the pod or host.
    pub address: SocketAddr,
    /// From EndpointSlice conditions.
    pub health: Health,
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
