//! networking.istio.io DestinationRule, as written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::duration::DurationText;

/// `DestinationRule.spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationRule {
    /// The service; short names are completed with the document's namespace, wildcards allowed.
    pub host: String,
    /// For all of the service's ports and subsets, unless they have their own.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of the service's endpoints, by labels.
    pub subsets: Vec<Subset>,
    /// Namespaces that see the document; empty: all.
    pub export_to: Vec<String>,
    /// The gateways and pods that it is for.
    pub workload_selector: Option<WorkloadSelector>,
}

/// `workloadSelector`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels of the pods of the document's namespace that it is for.
    pub match_labels: BTreeMap<String, String>,
}

/// `subsets[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Subset {
    /// What destinations name.
    pub name: String,
    /// Its endpoints have all of these.
    pub labels: BTreeMap<String, String>,
    /// Block by block in place of the service's.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How endpoints are chosen.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits and times.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Endpoints that fail are left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// Not supported.
    pub tls: Option<IgnoredAny>,
    /// In place of the whole policy for single ports.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Not supported.
    pub tunnel: Option<IgnoredAny>,
    /// Header that connections begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Not supported.
    pub retry_budget: Option<IgnoredAny>,
}

/// `portLevelSettings[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The Service's port.
    pub port: Option<PortSelector>,
    /// How endpoints are chosen.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits and times.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Endpoints that fail are left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// Not supported.
    pub tls: Option<IgnoredAny>,
}

/// `portLevelSettings[].port`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    /// 1–65535.
    pub number: u32,
}

/// `loadBalancer`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancerSettings {
    /// Least request, whatever it says.
    pub simple: Option<Simple>,
    /// What a client or request keeps its endpoint by.
    pub consistent_hash: Option<ConsistentHash>,
    /// Not supported.
    pub locality_lb_setting: Option<IgnoredAny>,
    /// Not supported.
    pub zone_aware_lb_setting: Option<IgnoredAny>,
    /// Not supported.
    pub warmup_duration_secs: Option<IgnoredAny>,
    /// Not supported.
    pub warmup: Option<IgnoredAny>,
}

/// `loadBalancer.simple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Simple {
    /// Least request.
    Unspecified,
    /// Not supported.
    Random,
    /// Not supported.
    Passthrough,
    /// Not supported.
    RoundRobin,
    /// The default.
    LeastRequest,
    /// Deprecated name of least request.
    LeastConn,
}

/// `loadBalancer.consistentHash`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// Not supported.
    pub http_header_name: Option<String>,
    /// Not supported.
    pub http_cookie: Option<IgnoredAny>,
    /// The client's address.
    pub use_source_ip: Option<bool>,
    /// Not supported.
    pub http_query_parameter_name: Option<String>,
    /// How endpoints are found by the hash; ours is our own.
    pub ring_hash: Option<IgnoredAny>,
    /// How endpoints are found by the hash; ours is our own.
    pub maglev: Option<IgnoredAny>,
    /// Deprecated.
    pub minimum_ring_size: Option<IgnoredAny>,
}

/// `connectionPool`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionPoolSettings {
    /// For every connection.
    pub tcp: Option<TcpSettings>,
    /// Not supported.
    pub http: Option<IgnoredAny>,
}

/// `connectionPool.tcp`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpSettings {
    /// 0: no limit.
    pub max_connections: i32,
    /// Default 10 s.
    pub connect_timeout: Option<DurationText>,
    /// Not supported.
    pub tcp_keepalive: Option<IgnoredAny>,
    /// Not supported.
    pub max_connection_duration: Option<IgnoredAny>,
    /// Default 1 h; 0 s: none.
    pub idle_timeout: Option<DurationText>,
}

/// `outlierDetection`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated, without effect.
    pub consecutive_errors: i32,
    /// Failures to connect are counted by themselves.
    pub split_external_local_origin_errors: bool,
    /// Default 5; only with the one before.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503 and 504; default off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Default 5; 0: off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Default 10 s.
    pub interval: Option<DurationText>,
    /// Default 30 s.
    pub base_ejection_time: Option<DurationText>,
    /// 0 is the default, 10.
    pub max_ejection_percent: i32,
    /// Default 0.
    pub min_health_percent: i32,
}

/// `proxyProtocol`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Default V1.
    pub version: ProxyProtocolVersion,
}

/// `proxyProtocol.version`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}
