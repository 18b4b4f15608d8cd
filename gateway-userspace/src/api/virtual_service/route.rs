//! `http` rules: where requests go, and what becomes of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::delegate::Delegate;
use super::filters::{CorsPolicy, HttpFaultInjection, Percent};
use super::match_::HttpMatchRequest;
use super::mirror::HttpMirrorPolicy;
use super::retry::HttpRetry;
use crate::api::duration::DurationText;

/// `http[]`. A mesh has tens of thousands of them, of which each says little: what is rare takes a box.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRoute {
    /// For logs.
    pub name: String,
    /// Any of them; empty: every request.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    /// Weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    /// In place of destinations.
    pub redirect: Option<Box<HttpRedirect>>,
    /// In place of destinations.
    pub direct_response: Option<Box<HttpDirectResponse>>,
    /// In place of destinations: the rules of another VirtualService, within this rule.
    pub delegate: Option<Box<Delegate>>,
    /// Before forwarding.
    pub rewrite: Option<Box<HttpRewrite>>,
    /// Of the whole request; none: no limit.
    pub timeout: Option<DurationText>,
    /// Header operations.
    pub headers: Option<Box<Headers>>,
    /// Further tries; absent: two, where nothing was done.
    pub retries: Option<Box<HttpRetry>>,
    /// Delays and answers in place of forwarding, for tests.
    pub fault: Option<Box<HttpFaultInjection>>,
    /// Gets copies of requests.
    pub mirror: Option<Box<Destination>>,
    /// Several of the same, each with its share.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Whole percent for `mirror`; deprecated, counts where `mirrorPercentage` is absent.
    pub mirror_percent: Option<u32>,
    /// For `mirror`; absent: all requests.
    pub mirror_percentage: Option<Percent>,
    /// Which origins' scripts may ask.
    pub cors_policy: Option<Box<CorsPolicy>>,
}

/// `http[].route[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Required.
    pub destination: Option<Destination>,
    /// Share of the sum of weights.
    pub weight: i32,
    /// Header operations for this destination alone.
    pub headers: Option<Box<Headers>>,
}

/// `destination`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Destination {
    /// Short names are completed with the VirtualService's namespace.
    pub host: String,
    /// A DestinationRule's subset.
    pub subset: String,
    /// May be left out for services of one port.
    pub port: Option<PortSelector>,
}

/// `destination.port`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    /// Service port.
    pub number: u32,
}

/// `http[].redirect`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRedirect {
    /// Replaces the path.
    pub uri: String,
    /// Replaces the matched prefix; one of `uri` and `prefixRewrite`.
    pub prefix_rewrite: String,
    /// Replaces the host.
    pub authority: String,
    /// One of `port` and `derivePort`.
    pub port: Option<u32>,
    /// One of `port` and `derivePort`.
    pub derive_port: Option<DerivePort>,
    /// `http` or `https`.
    pub scheme: String,
    /// 0: 301.
    pub redirect_code: u32,
}

/// `redirect.derivePort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DerivePort {
    /// No port.
    FromProtocolDefault,
    /// The Gateway server's port number.
    FromRequestPort,
}

/// `http[].directResponse`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// 200–599.
    pub status: u32,
    /// Empty when absent.
    pub body: Option<HttpBody>,
}

/// `directResponse.body`, one of the two.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpBody {
    /// As text.
    pub string: Option<String>,
    /// As base64.
    pub bytes: Option<String>,
}

/// `http[].rewrite`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRewrite {
    /// Replaces the matched prefix or the whole path.
    pub uri: String,
    /// Host towards the backend.
    pub authority: String,
    /// Substitution in the path.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// `rewrite.uriRegexRewrite`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegexRewrite {
    /// RE2.
    #[serde(rename = "match")]
    pub pattern: String,
    /// With `\1` for groups.
    pub rewrite: String,
}

/// `headers`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Headers {
    /// Towards the backend.
    pub request: HeaderOperations,
    /// Towards the client.
    pub response: HeaderOperations,
}

/// `headers.request` and `headers.response`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Overwrite.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Take away.
    pub remove: Vec<String>,
}
