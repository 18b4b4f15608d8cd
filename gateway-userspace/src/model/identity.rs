//! Which gateway this process is: what a pod's labels and namespace would say. Not routing, yet every
//! resolution of names and selectors depends on it.

use std::collections::BTreeMap;

/// The gateway as Istio sees its pod (istiod's "proxy").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayIdentity {
    /// Pod labels, matched by `Gateway.spec.selector`. Default `istio=ingressgateway,app=istio-ingressgateway`.
    pub labels: BTreeMap<String, String>,
    /// The pod's namespace: secrets are read here, `exportTo` is judged against it. Default `istio-system`.
    pub namespace: String,
    /// Mesh-wide documents live here (MeshConfig.rootNamespace). Default `istio-system`.
    pub root_namespace: String,
    /// Cluster domain that short host names are completed with. Default `cluster.local`.
    pub domain: String,
    /// Gateways of the gateway's own namespace alone are for it (istiod's `PILOT_SCOPE_GATEWAY_TO_NAMESPACE`). Default: of any.
    pub own_gateways_only: bool,
}

impl GatewayIdentity {
    /// Whether it has all these labels, as a selector asks for.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

impl Default for GatewayIdentity {
    fn default() -> Self {
        Self {
            labels: BTreeMap::from([
                ("istio".to_owned(), "ingressgateway".to_owned()),
                ("app".to_owned(), "istio-ingressgateway".to_owned()),
            ]),
            namespace: "istio-system".to_owned(),
            root_namespace: "istio-system".to_owned(),
            domain: "cluster.local".to_owned(),
            own_gateways_only: false,
        }
    }
}
