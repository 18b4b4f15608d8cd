//! Limits and times of connections, and what they begin with.

use serde::Deserialize;

use crate::api::duration::DurationText;

/// `connectionPool`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionPoolSettings {
    /// For every connection.
    pub tcp: Option<TcpSettings>,
    /// For HTTP.
    pub http: Option<HttpSettings>,
}

/// `connectionPool.tcp`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpSettings {
    /// 0: no limit.
    pub max_connections: i32,
    /// Default 10 s.
    pub connect_timeout: Option<DurationText>,
    /// Probes of silent connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long a connection is used.
    pub max_connection_duration: Option<DurationText>,
    /// Default 1 h; 0 s: none.
    pub idle_timeout: Option<DurationText>,
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

/// `connectionPool.tcp.tcpKeepalive`; what is absent is the system's.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Unanswered ones until the connection is dead.
    pub probes: u32,
    /// Idle time before the first.
    pub time: Option<DurationText>,
    /// Between two.
    pub interval: Option<DurationText>,
}

/// `connectionPool.http`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpSettings {
    /// Requests that wait for a connection; 0: no limit.
    #[serde(rename = "http1MaxPendingRequests")]
    pub http1_max_pending_requests: i32,
    /// Requests at a time, with HTTP/1.1 too; 0: no limit.
    #[serde(rename = "http2MaxRequests")]
    pub http2_max_requests: i32,
    /// 0: no limit.
    pub max_requests_per_connection: i32,
    /// At a time; 0: no limit.
    pub max_retries: i32,
    /// Of a connection without requests; beats that of `tcp`.
    pub idle_timeout: Option<DurationText>,
    /// Whether HTTP/2 is spoken where the port's name says HTTP.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// The version that the client speaks.
    pub use_client_protocol: bool,
    /// On an HTTP/2 connection; 0: no limit.
    pub max_concurrent_streams: i32,
    /// PINGs on HTTP/2 connections.
    #[serde(rename = "http2KeepAlive")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `http.http2KeepAlive`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Http2KeepAlive {
    /// Between two PINGs; absent: none are sent.
    pub interval: Option<DurationText>,
    /// Until a connection that does not answer is closed; required with the other.
    pub timeout: Option<DurationText>,
}

/// `http.h2UpgradePolicy`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// The mesh's.
    #[default]
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// `tunnel`: connections go through a proxy.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TunnelSettings {
    /// `CONNECT` or `POST`; empty: `CONNECT`.
    pub protocol: String,
    /// Name or address that is asked for.
    pub target_host: String,
    /// 1–65535.
    pub target_port: u32,
}

/// `retryBudget`: tries at a time, as a share of requests at a time.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Default 20.
    pub percent: Option<f64>,
    /// Always allowed; 0: 3.
    pub min_retry_concurrency: u32,
}
