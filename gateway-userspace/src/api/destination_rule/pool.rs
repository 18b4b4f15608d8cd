//! Limits and times of connections, and what they begin with.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::duration::DurationText;

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
