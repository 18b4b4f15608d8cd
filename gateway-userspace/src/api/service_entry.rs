//! networking.istio.io ServiceEntry and WorkloadEntry as written: services and workloads that no cluster knows.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `spec` of a ServiceEntry.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceEntry {
    /// One service for each.
    pub hosts: Vec<String>,
    /// Virtual addresses or subnets: for sidecars, which see where a connection was meant to go.
    pub addresses: Vec<String>,
    /// Ports of every host.
    pub ports: Vec<EntryPort>,
    /// Whether the service is a part of the mesh; decides about mutual TLS among sidecars.
    pub location: Location,
    /// Where its endpoints come from.
    pub resolution: Resolution,
    /// The endpoints; not together with `workload_selector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// Chooses Pods and WorkloadEntries of the same namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see it; empty: what MeshConfig says, else all.
    pub export_to: Vec<String>,
    /// Names that certificates of the endpoints may have.
    pub subject_alt_names: Vec<String>,
}

/// `ports[]` of a ServiceEntry.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EntryPort {
    /// 1 to 65535; what destinations name.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS…; absent: TCP.
    pub protocol: String,
    /// Ties it to the endpoints' `ports`.
    pub name: String,
    /// Port of the endpoints that name none; 0: `number`.
    pub target_port: u32,
}

/// `location`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// `resolution`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// Where the client wanted to go; a gateway's clients want to go to the gateway.
    #[default]
    None,
    /// To the addresses in `endpoints`.
    Static,
    /// To every address of the names in `endpoints`, or else of the hosts.
    Dns,
    /// To one address of the name.
    DnsRoundRobin,
    /// To what the request's host stands for.
    DynamicDns,
}

impl Resolution {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Static => "STATIC",
            Self::Dns => "DNS",
            Self::DnsRoundRobin => "DNS_ROUND_ROBIN",
            Self::DynamicDns => "DYNAMIC_DNS",
        }
    }
}

/// `workloadSelector`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSelector {
    /// All must be there.
    pub labels: BTreeMap<String, String>,
}

/// An endpoint of a ServiceEntry, and `spec` of a WorkloadEntry.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadEntry {
    /// An IP address, a name where `resolution` is DNS, or `unix://` and a path.
    pub address: String,
    /// Port by the name of the ServiceEntry's port.
    pub ports: BTreeMap<String, u32>,
    /// What subsets and `workloadSelector` choose by.
    pub labels: BTreeMap<String, String>,
    /// Network, where that is not the gateway's.
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Share among the endpoints; 0: 1.
    pub weight: u32,
    /// Identity in the mesh; decides about mutual TLS among sidecars.
    pub service_account: String,
}
