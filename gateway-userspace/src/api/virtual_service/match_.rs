//! Conditions of an `http` rule.

use std::sync::Arc;

use serde::Deserialize;

use crate::api::by_name::ByName;

/// `http[].match[]`: every condition must hold.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatchRequest {
    /// For logs.
    pub name: String,
    /// On the path without query.
    pub uri: Option<StringMatch>,
    /// On `:scheme`.
    pub scheme: Option<Box<StringMatch>>,
    /// On the method.
    pub method: Option<Box<StringMatch>>,
    /// On Host as sent.
    pub authority: Option<Box<StringMatch>>,
    /// `{}`: present.
    pub headers: ByName<StringMatch>,
    /// None of these.
    pub without_headers: ByName<StringMatch>,
    /// `{}`: present.
    pub query_params: ByName<StringMatch>,
    /// For exact and prefix.
    pub ignore_uri_case: bool,
    /// The Gateway server's port number; 0: any.
    pub port: u32,
    /// Only by these gateways.
    pub gateways: Vec<String>,
    /// Held against the gateway's own labels.
    pub source_labels: ByName<String>,
    /// Held against the gateway's own namespace.
    pub source_namespace: String,
    /// For statistics; without effect here.
    pub stat_prefix: String,
}

/// At most one of the three, shared with the routes that are made of it.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StringMatch {
    /// Equal.
    pub exact: Option<Arc<str>>,
    /// Starts with.
    pub prefix: Option<Arc<str>>,
    /// RE2, whole value.
    pub regex: Option<Arc<str>>,
}
