//! Conditions of an `http` rule.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `http[].match[]`: every condition must hold.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatchRequest {
    /// For logs.
    pub name: String,
    /// On the path without query.
    pub uri: Option<StringMatch>,
    /// On `:scheme`.
    pub scheme: Option<StringMatch>,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On Host as sent.
    pub authority: Option<StringMatch>,
    /// `{}`: present.
    pub headers: BTreeMap<String, StringMatch>,
    /// None of these.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// `{}`: present.
    pub query_params: BTreeMap<String, StringMatch>,
    /// For exact and prefix.
    pub ignore_uri_case: bool,
    /// The Gateway server's port number; 0: any.
    pub port: u32,
    /// Only by these gateways.
    pub gateways: Vec<String>,
    /// Held against the gateway's own labels.
    pub source_labels: BTreeMap<String, String>,
    /// Held against the gateway's own namespace.
    pub source_namespace: String,
    /// For statistics; without effect here.
    pub stat_prefix: String,
}

/// At most one of the three.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StringMatch {
    /// Equal.
    pub exact: Option<String>,
    /// Starts with.
    pub prefix: Option<String>,
    /// RE2, whole value.
    pub regex: Option<String>,
}
