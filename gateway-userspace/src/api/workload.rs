//! Kubernetes' Pod and Endpoints: the fields that a gateway reads.

use serde::Deserialize;

/// v1 Pod, whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    /// What it consists of.
    pub spec: PodSpec,
    /// What has become of it.
    pub status: PodStatus,
}

/// `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Its containers.
    pub containers: Vec<Container>,
}

/// `spec.containers[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Its ports.
    pub ports: Vec<ContainerPort>,
}

/// `ports[]` of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// What a Service's `targetPort` may say.
    pub name: String,
    /// The number.
    pub container_port: u16,
    /// TCP unless said otherwise.
    pub protocol: Option<String>,
}

/// `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed.
    pub phase: String,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// States by name.
    pub conditions: Vec<PodCondition>,
}

/// `status.conditions[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    /// Such as `Ready`.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// True, False or Unknown.
    pub status: String,
}

/// v1 Endpoints, whole: what EndpointSlices were before. Named like its Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoints {
    /// Addresses that share ports.
    pub subsets: Vec<EndpointSubset>,
}

/// `subsets[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Ready ones.
    pub addresses: Vec<EndpointAddress>,
    /// Others.
    pub not_ready_addresses: Vec<EndpointAddress>,
    /// Ports that every address has.
    pub ports: Vec<super::kubernetes::SlicePort>,
}

/// `addresses[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointAddress {
    /// IPv4 or IPv6.
    pub ip: String,
    /// Whose address it is.
    pub target_ref: Option<TargetRef>,
}

/// `targetRef`: the object that an endpoint stands for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// Such as `Pod`.
    pub kind: String,
    /// Its name; its namespace is the endpoint's.
    pub name: String,
}
