//! networking.istio.io DestinationRule, as written.

mod balance;
mod outlier;
mod pool;
mod tls;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use balance::{
    ConsistentHash, CookieAttribute, Distribute, Failover, HttpCookie, LoadBalancerSettings,
    LocalityLoadBalancerSetting, Maglev, RingHash, Simple, WarmupConfiguration,
};
pub use outlier::OutlierDetection;
pub use pool::{
    ConnectionPoolSettings, H2UpgradePolicy, Http2KeepAlive, HttpSettings, ProxyProtocol,
    ProxyProtocolVersion, RetryBudget, TcpKeepalive, TcpSettings, TunnelSettings,
};
pub use tls::{ClientTlsMode, ClientTlsSettings};

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

impl DestinationRule {
    /// All settings of TLS, wherever they stand.
    pub fn tls_settings(&self) -> impl Iterator<Item = &ClientTlsSettings> {
        let subsets = self.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        self.traffic_policy.iter().chain(subsets).flat_map(|policy| {
            let ports = policy.port_level_settings.iter().filter_map(|port| port.tls.as_ref());
            policy.tls.iter().chain(ports)
        })
    }
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
    /// TLS to endpoints.
    pub tls: Option<ClientTlsSettings>,
    /// In place of the whole policy for single ports.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Not supported.
    pub tunnel: Option<TunnelSettings>,
    /// Header that connections begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Bounds further tries.
    pub retry_budget: Option<RetryBudget>,
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
    /// TLS to endpoints.
    pub tls: Option<ClientTlsSettings>,
    /// Not supported.
    pub tunnel: Option<TunnelSettings>,
}

/// `portLevelSettings[].port`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    /// 1–65535.
    pub number: u32,
}
