//! `tls` and `tcp` rules.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::route::Destination;

/// `tls[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsRoute {
    /// At least one.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// `tls[].match[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsMatchAttributes {
    /// At least one, each within the document's hosts.
    pub sni_hosts: Vec<String>,
    /// The Gateway server's port number; 0: any.
    pub port: u32,
    /// Only by these gateways.
    pub gateways: Vec<String>,
    /// Not evaluated at gateways.
    pub destination_subnets: Vec<String>,
    /// Not evaluated at gateways.
    pub source_labels: BTreeMap<String, String>,
    /// Not evaluated at gateways.
    pub source_namespace: String,
}

/// `tcp[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Any of them; empty: every connection.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// `tcp[].match[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct L4MatchAttributes {
    /// The Gateway server's port number; 0: any.
    pub port: u32,
    /// Only by these gateways.
    pub gateways: Vec<String>,
    /// Not evaluated at gateways.
    pub destination_subnets: Vec<String>,
    /// Not evaluated at gateways.
    pub source_subnet: String,
    /// Not evaluated at gateways.
    pub source_labels: BTreeMap<String, String>,
    /// Not evaluated at gateways.
    pub source_namespace: String,
}

/// `tcp[].route[]` and `tls[].route[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Required.
    pub destination: Option<Destination>,
    /// Share of the sum of weights.
    pub weight: i32,
}
