//! Istio's MeshConfig, as written: what holds for the whole mesh where no document says otherwise. Of its many fields
//! those that are obeyed.

use serde::Deserialize;

use super::destination_rule::{LocalityLoadBalancerSetting, TcpKeepalive};
use super::duration::DurationText;
use super::gateway::Protocol;

/// Name of the ConfigMap that holds it, in the root namespace.
pub const CONFIG_MAP: &str = "istio";

/// `mesh` of the ConfigMap `istio`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Of TCP connections to endpoints, where no DestinationRule says otherwise; absent: 10 s.
    pub connect_timeout: Option<DurationText>,
    /// After how long a name is asked for again when it could not be resolved; absent: 60 s.
    pub dns_refresh_rate: Option<DurationText>,
    /// Namespaces that see Services and ServiceEntries that name none; empty: all.
    pub default_service_export_to: Vec<String>,
    /// Whether HTTP/2 is spoken to ports whose name says HTTP, where no DestinationRule says otherwise.
    pub h2_upgrade_policy: MeshH2Upgrade,
    /// Who comes first by where it runs, where no DestinationRule says otherwise.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Probes of silent connections to endpoints, where a DestinationRule does not say otherwise, field by field.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Of TLS that ends at gateways, where a server does not say otherwise.
    pub tls_defaults: Option<TlsDefaults>,
}

/// `h2UpgradePolicy`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeshH2Upgrade {
    /// No.
    #[default]
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// `tlsDefaults`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsDefaults {
    /// Default 1.2.
    pub min_protocol_version: Protocol,
    /// OpenSSL's names, of TLS 1.2.
    pub cipher_suites: Vec<String>,
    /// Groups for the exchange of keys.
    pub ecdh_curves: Vec<String>,
}

/// Fields that change what a gateway does with requests and are not obeyed. What is in neither list is about telemetry,
/// sidecars or the control plane.
pub const NOT_OBEYED: &[&str] = &[
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "pathNormalization",
    "zoneAwareLbSetting",
];
