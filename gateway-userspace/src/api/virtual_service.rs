//! networking.istio.io VirtualService, as written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::duration::DurationText;

/// `VirtualService.spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualService {
    /// At least one.
    pub hosts: Vec<String>,
    /// Empty: only the mesh, that is, no gateway.
    pub gateways: Vec<String>,
    /// For HTTP and terminated HTTPS.
    pub http: Vec<HttpRoute>,
    /// For TLS passed through.
    pub tls: Vec<TlsRoute>,
    /// For TCP and terminated TLS.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<String>,
}

/// `http[]`.
#[derive(Debug, Default, Deserialize)]
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
    pub redirect: Option<HttpRedirect>,
    /// In place of destinations.
    pub direct_response: Option<HttpDirectResponse>,
    /// Not supported.
    pub delegate: Option<IgnoredAny>,
    /// Before forwarding.
    pub rewrite: Option<HttpRewrite>,
    /// Of the whole request; none: no limit.
    pub timeout: Option<DurationText>,
    /// Header operations.
    pub headers: Option<Headers>,
    /// Not supported.
    pub retries: Option<IgnoredAny>,
    /// Not supported.
    pub fault: Option<Fault>,
    /// Not supported.
    pub mirror: Option<IgnoredAny>,
    /// Not supported.
    pub mirrors: Option<IgnoredAny>,
    /// Not supported.
    pub mirror_percent: Option<IgnoredAny>,
    /// Not supported.
    pub mirror_percentage: Option<IgnoredAny>,
    /// Not supported.
    pub cors_policy: Option<IgnoredAny>,
}

/// `http[].fault`, known but not supported.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// Not supported.
    pub delay: Option<IgnoredAny>,
    /// Not supported.
    pub abort: Option<IgnoredAny>,
}

/// `http[].match[]`: every condition must hold.
#[derive(Debug, Default, Deserialize)]
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

/// `http[].route[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Required.
    pub destination: Option<Destination>,
    /// Share of the sum of weights.
    pub weight: i32,
    /// Header operations for this destination alone.
    pub headers: Option<Headers>,
}

/// `tcp[].route[]` and `tls[].route[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Required.
    pub destination: Option<Destination>,
    /// Share of the sum of weights.
    pub weight: i32,
}

/// `destination`.
#[derive(Debug, Default, Deserialize)]
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
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    /// Service port.
    pub number: u32,
}

/// `http[].redirect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRedirect {
    /// Replaces the path.
    pub uri: String,
    /// Not supported.
    pub prefix_rewrite: Option<IgnoredAny>,
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
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// 200–599.
    pub status: u32,
    /// Empty when absent.
    pub body: Option<HttpBody>,
}

/// `directResponse.body`, one of the two.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpBody {
    /// As text.
    pub string: Option<String>,
    /// As base64.
    pub bytes: Option<String>,
}

/// `http[].rewrite`.
#[derive(Debug, Default, Deserialize)]
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
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegexRewrite {
    /// RE2.
    #[serde(rename = "match")]
    pub pattern: String,
    /// With `\1` for groups.
    pub rewrite: String,
}

/// `headers`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Headers {
    /// Towards the backend.
    pub request: HeaderOperations,
    /// Towards the client.
    pub response: HeaderOperations,
}

/// `headers.request` and `headers.response`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Overwrite.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Take away.
    pub remove: Vec<String>,
}

/// `tls[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsRoute {
    /// At least one.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// `tls[].match[]`.
#[derive(Debug, Default, Deserialize)]
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
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Any of them; empty: every connection.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// `tcp[].match[]`.
#[derive(Debug, Default, Deserialize)]
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
