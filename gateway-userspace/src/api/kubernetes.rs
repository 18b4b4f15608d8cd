//! Kubernetes' Service, EndpointSlice, Secret and ConfigMap: the fields that a gateway reads. Real clusters write many more;
//! those are passed over.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::workload::TargetRef;

/// v1 Service, its `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// Labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `ExternalName` makes it an alias.
    #[serde(rename = "type")]
    pub service_type: String,
    /// With `type: ExternalName`.
    pub external_name: String,
    /// Which endpoints clients would rather have.
    pub traffic_distribution: String,
    /// Addresses that are routed to nodes by somebody else.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// `status.loadBalancer.ingress`: where a load balancer takes connections.
    #[serde(skip)]
    pub ingress: Vec<Ingress>,
}

/// The `status` of a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// What a load balancer has made of it.
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Its addresses.
    pub ingress: Vec<Ingress>,
}

/// `status.loadBalancer.ingress[]`: one of both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// An address.
    pub ip: String,
    /// A name.
    pub hostname: String,
}

/// `ports[]` of a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Ties it to an EndpointSlice's port, and begins with the protocol spoken.
    pub name: String,
    /// The port that clients of the Service name.
    pub port: u16,
    /// The pods' port, by number or by name; absent: same as `port`.
    pub target_port: Option<TargetPort>,
    /// The port of every node that leads here; 0 for none.
    pub node_port: u16,
    /// Protocol spoken, beats the name.
    pub app_protocol: Option<String>,
    /// TCP unless said otherwise.
    pub protocol: Option<String>,
}

/// `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a port number or a port's name")]
pub enum TargetPort {
    /// A port of the pods.
    Number(u16),
    /// A name among the containers' ports.
    Name(String),
}

/// discovery.k8s.io EndpointSlice, whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// IPv4, IPv6 or FQDN.
    pub address_type: String,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports that every endpoint has.
    pub ports: Vec<SlicePort>,
}

/// `endpoints[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Interchangeable addresses; the first is used.
    pub addresses: Vec<String>,
    /// State.
    pub conditions: Conditions,
    /// Whose addresses they are.
    pub target_ref: Option<TargetRef>,
    /// Zone of its node.
    pub zone: String,
}

/// `endpoints[].conditions`; absent means what Kubernetes says it means.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conditions {
    /// Absent: yes.
    pub ready: Option<bool>,
    /// Ready, were it not terminating.
    pub serving: Option<bool>,
    /// Absent: no.
    pub terminating: Option<bool>,
}

/// `ports[]` of an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlicePort {
    /// The Service port's name; empty for its only, unnamed one.
    pub name: String,
    /// The pods' port.
    pub port: Option<u16>,
    /// TCP unless said otherwise.
    pub protocol: Option<String>,
}

/// v1 Secret, whole. Its content never shows.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secret {
    /// Bytes in base64, spaces and line ends allowed.
    pub data: BTreeMap<String, Base64>,
    /// Texts; beat `data`.
    pub string_data: BTreeMap<String, String>,
}

impl Secret {
    /// The bytes of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let text = self.string_data.get(key).map(String::as_bytes);
        text.or_else(|| self.data.get(key).map(|value| value.0.as_slice()))
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.data.keys().chain(self.string_data.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

/// v1 Namespace, whole: its labels are all that counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {}

/// v1 ConfigMap, whole: texts alone, as a CA is one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMap {
    /// Texts by key.
    pub data: BTreeMap<String, String>,
}

/// Decoded bytes.
#[derive(Default)]
pub struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        text.retain(|c| !c.is_ascii_whitespace());
        // Not why: the byte that does not fit is a part of a key.
        STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("not base64"))
    }
}
