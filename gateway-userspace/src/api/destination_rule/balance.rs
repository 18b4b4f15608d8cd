//! How endpoints are chosen.

use serde::Deserialize;
use serde::de::IgnoredAny;

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
