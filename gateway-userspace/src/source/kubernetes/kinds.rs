//! What is read out of a cluster: kinds, and of some of them no more than what is named.

use crate::api::mesh_config::CONFIG_MAP as MESH_CONFIG;

/// A kind of document, and where the API server has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind {
    /// `kind`.
    pub(super) name: &'static str,
    /// Empty for Kubernetes' oldest.
    pub(super) group: &'static str,
    /// Those that are understood, the best first: the first one that the server has is read.
    pub(super) versions: &'static [&'static str],
    /// In paths.
    pub(super) plural: &'static str,
    /// Whether its `status` says nothing to a gateway.
    pub(super) is_istios: bool,
}

impl Kind {
    const fn istios(
        name: &'static str,
        group: &'static str,
        versions: &'static [&'static str],
        plural: &'static str,
    ) -> Self {
        Self { name, group, versions, plural, is_istios: true }
    }

    const fn own(name: &'static str, group: &'static str, plural: &'static str) -> Self {
        Self { name, group, versions: &["v1"], plural, is_istios: false }
    }

    /// Whether findings are written into the status of its documents, as Istio does with those that routing begins with.
    pub(super) fn gets_status(&self) -> bool {
        self.is_istios && ["Gateway", "VirtualService"].contains(&self.name)
    }

    /// Whether it is for some workloads, by their labels.
    pub(super) fn selects(&self) -> bool {
        UNHEEDED.contains(self)
    }

    /// `apiVersion`.
    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The path of all of them, or of those of a namespace.
    pub(super) fn path(&self, version: &str, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let within = namespace.map(|name| format!("namespaces/{name}/")).unwrap_or_default();
        format!("{root}/{}/{within}{}", self.api_version(version), self.plural)
    }
}

const NETWORKING: &str = "networking.istio.io";
const NETWORKING_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// The kinds of which all documents are read.
pub(super) static WHOLE: [Kind; 8] = [
    Kind::istios("Gateway", NETWORKING, NETWORKING_VERSIONS, "gateways"),
    Kind::istios("VirtualService", NETWORKING, NETWORKING_VERSIONS, "virtualservices"),
    Kind::istios("DestinationRule", NETWORKING, NETWORKING_VERSIONS, "destinationrules"),
    Kind::istios("ServiceEntry", NETWORKING, NETWORKING_VERSIONS, "serviceentries"),
    Kind::istios("WorkloadEntry", NETWORKING, NETWORKING_VERSIONS, "workloadentries"),
    Kind::istios("Telemetry", "telemetry.istio.io", &["v1", "v1alpha1"], "telemetries"),
    Kind::own("Service", "", "services"),
    Kind::own("EndpointSlice", "discovery.k8s.io", "endpointslices"),
];

/// Policies and extensions that Istio's gateway would heed and this one does not: whoever wrote one must hear of it. They are for
/// the workloads of their namespace, and those of the root namespace for all.
pub(super) static UNHEEDED: [Kind; 4] = [
    Kind::istios("AuthorizationPolicy", "security.istio.io", &["v1", "v1beta1"], "authorizationpolicies"),
    Kind::istios("RequestAuthentication", "security.istio.io", &["v1", "v1beta1"], "requestauthentications"),
    Kind::istios("PeerAuthentication", "security.istio.io", &["v1", "v1beta1"], "peerauthentications"),
    Kind::istios("EnvoyFilter", NETWORKING, &["v1alpha3"], "envoyfilters"),
];

/// Read by name alone: nobody else's certificates belong in a gateway's memory.
pub(super) static SECRET: Kind = Kind::own("Secret", "", "secrets");
/// Read by name alone.
pub(super) static CONFIG_MAP: Kind = Kind::own("ConfigMap", "", "configmaps");
/// Read by labels alone, for ServiceEntries with a `workloadSelector`.
pub(super) static POD: Kind = Kind::own("Pod", "", "pods");

/// Read where the mesh chooses among them by their labels.
pub(super) static NAMESPACE: Kind = Kind::own("Namespace", "", "namespaces");

/// Documents that are watched together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    /// Of which kind.
    pub(super) kind: &'static Kind,
    /// In which namespace; `None`: in all of them.
    pub(super) namespace: Option<String>,
    /// The only one that is meant.
    pub(super) name: Option<String>,
    /// Only those with these labels, `key=value` separated by commas.
    pub(super) labels: Option<String>,
}

impl Scope {
    /// All documents of a kind.
    pub(super) fn all(kind: &'static Kind, namespace: Option<&str>) -> Self {
        Self { kind, namespace: namespace.map(str::to_owned), name: None, labels: None }
    }

    /// One document.
    pub(super) fn one(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::all(kind, Some(namespace)) }
    }

    /// Those with labels.
    pub(super) fn labelled<'l>(
        kind: &'static Kind,
        namespace: &str,
        labels: impl IntoIterator<Item = (&'l String, &'l String)>,
    ) -> Self {
        let pairs: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self { labels: Some(pairs.join(",")), ..Self::all(kind, Some(namespace)) }
    }

    /// Whether a gateway that may not read them knows too little to serve anything.
    pub(super) fn is_needed(&self) -> bool {
        WHOLE.contains(self.kind) || (*self.kind == CONFIG_MAP && self.name.as_deref() == Some(MESH_CONFIG))
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let Self { kind, namespace, name, .. } = self;
        match (namespace, name) {
            (Some(namespace), Some(name)) => format!("{} {namespace}/{name}", kind.name),
            (Some(namespace), None) => format!("{} in {namespace}", kind.plural),
            (None, _) => kind.plural.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let gateways = &WHOLE[0];
        assert_eq!(gateways.path("v1beta1", None), "/apis/networking.istio.io/v1beta1/gateways");
        assert_eq!(SECRET.path("v1", Some("shop")), "/api/v1/namespaces/shop/secrets");
    }
}
