//! How endpoints are chosen.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::duration::DurationText;

/// `loadBalancer`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancerSettings {
    /// Who gets a request that nothing keeps at an endpoint.
    pub simple: Option<Simple>,
    /// What a client or request keeps its endpoint by.
    pub consistent_hash: Option<ConsistentHash>,
    /// Who comes first by where it runs.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Not supported.
    pub zone_aware_lb_setting: Option<IgnoredAny>,
    /// Deprecated: `warmup.duration`, which beats it.
    pub warmup_duration_secs: Option<DurationText>,
    /// New endpoints get their share little by little.
    pub warmup: Option<WarmupConfiguration>,
}

/// `loadBalancer.simple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Simple {
    /// Least request.
    Unspecified,
    /// At random.
    Random,
    /// Of no meaning at a gateway.
    Passthrough,
    /// In turns.
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
    /// A header's value.
    pub http_header_name: Option<String>,
    /// A cookie's value.
    pub http_cookie: Option<HttpCookie>,
    /// The client's address.
    pub use_source_ip: Option<bool>,
    /// A query parameter's value.
    pub http_query_parameter_name: Option<String>,
    /// How endpoints are found by the hash; ours is our own.
    pub ring_hash: Option<RingHash>,
    /// How endpoints are found by the hash; ours is our own.
    pub maglev: Option<Maglev>,
    /// Deprecated.
    pub minimum_ring_size: Option<u64>,
}

/// `consistentHash.httpCookie`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpCookie {
    /// Required.
    pub name: String,
    /// Of a cookie that the gateway makes.
    pub path: String,
    /// Absent: clients bring the cookie; else the gateway makes it, and 0 s is one for the session.
    pub ttl: Option<DurationText>,
    /// Further ones of a cookie that the gateway makes.
    pub attributes: Vec<CookieAttribute>,
}

/// `httpCookie.attributes[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CookieAttribute {
    /// Such as `SameSite`.
    pub name: String,
    /// May be empty.
    pub value: String,
}

/// `consistentHash.ringHash`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RingHash {
    /// Default 1024.
    pub minimum_ring_size: Option<u64>,
}

/// `consistentHash.maglev`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Maglev {
    /// A prime up to 5000011.
    pub table_size: Option<u64>,
}

/// `loadBalancer.localityLbSetting`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityLoadBalancerSetting {
    /// Shares by the gateway's locality; not with `failover`.
    pub distribute: Vec<Distribute>,
    /// Where a region's requests go when it fails.
    pub failover: Vec<Failover>,
    /// Labels that endpoints are ranked by.
    pub failover_priority: Vec<String>,
    /// Absent: the mesh's setting.
    pub enabled: Option<bool>,
}

/// `distribute[]`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Distribute {
    /// `region/zone/subzone` of the gateway; `*` at the end.
    pub from: String,
    /// Percent by locality; 100 together.
    pub to: BTreeMap<String, u32>,
}

/// `failover[]`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Failover {
    /// Region.
    pub from: String,
    /// Another region.
    pub to: String,
}

/// `loadBalancer.warmup`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WarmupConfiguration {
    /// Until a new endpoint has its full share; required.
    pub duration: Option<DurationText>,
    /// Of its share at first; default 10.
    pub minimum_percent: Option<f64>,
    /// Default 1: the share grows linearly; 0 is the same.
    pub aggression: Option<f64>,
}
