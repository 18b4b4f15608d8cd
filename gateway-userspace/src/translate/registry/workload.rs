//! What runs where: Pods and WorkloadEntries, which say what an endpoint's labels are, what a port's name stands for, and
//! whom a selector means.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::service_entry::WorkloadEntry;
use crate::api::workload::{Pod, TargetRef};
use crate::api::{Objects, Source, Sourced};
use crate::model::{Endpoint, Health, Locality};

/// Label that says where a workload runs when nothing else does, with dots for slashes.
const LOCALITY_LABEL: &str = "istio-locality";
pub(in crate::translate) const REGION: &str = "topology.kubernetes.io/region";
pub(in crate::translate) const ZONE: &str = "topology.kubernetes.io/zone";
pub(in crate::translate) const SUBZONE: &str = "topology.istio.io/subzone";

/// Labels of an endpoint.
pub(super) type Labels = Arc<BTreeMap<String, String>>;

/// All workloads that documents name.
pub(in crate::translate) struct Workloads<'a> {
    pods: &'a [Arc<Sourced<Pod>>],
    entries: &'a [Arc<Sourced<WorkloadEntry>>],
    by_name: HashMap<(&'a str, &'a str), &'a Sourced<Pod>>,
    by_address: HashMap<IpAddr, &'a Sourced<Pod>>,
}

/// One that can be an endpoint.
pub(super) struct Workload<'a> {
    /// An IP address or a name.
    pub(super) address: &'a str,
    /// Ports by name.
    pub(super) ports: Option<&'a BTreeMap<String, u32>>,
    pub(super) labels: Labels,
    pub(super) locality: Locality,
    /// At least 1.
    pub(super) weight: u32,
    pub(super) source: &'a Source,
}

impl Workload<'_> {
    /// One of its addresses as an endpoint.
    pub(super) fn endpoint(&self, address: SocketAddr, health: Health) -> Endpoint {
        Endpoint {
            address,
            health,
            weight: self.weight,
            locality: self.locality.clone(),
            labels: self.labels.clone(),
        }
    }
}

impl<'a> Workloads<'a> {
    pub(in crate::translate) fn new(objects: &'a Objects) -> Self {
        let name = |pod: &'a Arc<Sourced<Pod>>| ((&**pod.namespace(), &**pod.name()), &**pod);
        // Addresses of pods that are over may belong to others by now.
        let address = |pod: &'a Arc<Sourced<Pod>>| Some((pod.spec.status.pod_ip.parse().ok()?, &**pod));
        Self {
            pods: &objects.pods,
            entries: &objects.workload_entries,
            by_name: objects.pods.iter().map(name).collect(),
            by_address: objects.pods.iter().filter(|pod| !is_over(pod)).filter_map(address).collect(),
        }
    }

    /// The Pod behind an endpoint of a namespace.
    pub(super) fn pod(
        &self,
        namespace: &str,
        target: Option<&TargetRef>,
        address: IpAddr,
    ) -> Option<&'a Sourced<Pod>> {
        let named = target.filter(|target| target.kind == "Pod").map(|target| target.name.as_str());
        named
            .and_then(|name| self.by_name.get(&(namespace, name)))
            .or_else(|| self.by_address.get(&address))
            .copied()
    }

    /// Pods and WorkloadEntries of a namespace that have all labels.
    pub(super) fn selected(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Workload<'a>> {
        let pods = self.pods.iter().filter(|pod| &**pod.namespace() == namespace && is_ready(pod));
        let pods = pods.filter(|pod| has_all(&pod.metadata.labels, labels)).map(|pod| of_pod(pod));
        pods.chain(self.selected_entries(namespace, labels)).collect()
    }

    /// WorkloadEntries of a namespace that have all labels.
    pub(super) fn selected_entries(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Workload<'a>> {
        let entries = self.entries.iter().filter(move |entry| &**entry.namespace() == namespace);
        entries.map(|entry| of_document(entry)).filter(|workload| has_all(&workload.labels, labels))
    }

    /// The number of a named TCP port of the Pods of a namespace that have all labels; the first Pod's that has one.
    pub(in crate::translate) fn port(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        name: &str,
    ) -> Option<u16> {
        let pods = self.pods.iter().filter(|pod| &**pod.namespace() == namespace);
        let mut pods = pods.filter(|pod| has_all(&pod.metadata.labels, labels));
        pods.find_map(|pod| {
            let mut ports = pod.spec.spec.containers.iter().flat_map(|container| &container.ports);
            let is_meant = |protocol: Option<&str>| super::endpoints::is_tcp(protocol);
            ports.find(|port| port.name == name && is_meant(port.protocol.as_deref()))
        })
        .map(|port| port.container_port)
        .filter(|port| *port != 0)
    }
}

/// Whether `labels` has all of `wanted`.
pub(super) fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn is_over(pod: &Sourced<Pod>) -> bool {
    matches!(pod.spec.status.phase.as_str(), "Succeeded" | "Failed")
}

/// A Pod that does not say is taken for ready.
fn is_ready(pod: &Sourced<Pod>) -> bool {
    let status = &pod.spec.status;
    let ready = status.conditions.iter().find(|condition| condition.condition_type == "Ready");
    !status.pod_ip.is_empty() && !is_over(pod) && ready.is_none_or(|ready| ready.status == "True")
}

fn of_pod(pod: &Sourced<Pod>) -> Workload<'_> {
    Workload {
        address: &pod.spec.status.pod_ip,
        ports: None,
        labels: Arc::new(pod.metadata.labels.clone()),
        locality: labelled(&pod.metadata.labels),
        weight: 1,
        source: &pod.source,
    }
}

/// Labels of a document's metadata beat those of its spec.
fn of_document(document: &Sourced<WorkloadEntry>) -> Workload<'_> {
    let mut workload = of_entry(&document.spec, &document.source);
    if !document.metadata.labels.is_empty() {
        let mut labels = document.spec.labels.clone();
        labels.extend(document.metadata.labels.clone());
        workload.labels = Arc::new(labels);
    }
    workload
}

/// An endpoint that is written within a document.
pub(super) fn of_entry<'a>(entry: &'a WorkloadEntry, source: &'a Source) -> Workload<'a> {
    let locality =
        if entry.locality.is_empty() { labelled(&entry.labels) } else { locality(&entry.locality, '/') };
    Workload {
        address: &entry.address,
        ports: Some(&entry.ports),
        labels: Arc::new(entry.labels.clone()),
        locality,
        weight: entry.weight.max(1),
        source,
    }
}

/// Where a node is that has these labels, or a pod that was given its node's.
pub(in crate::translate) fn of_node(labels: &BTreeMap<String, String>) -> Locality {
    let label = |key: &str| labels.get(key).map_or_else(Arc::default, |value| value.as_str().into());
    Locality { region: label(REGION), zone: label(ZONE), subzone: label(SUBZONE) }
}

pub(in crate::translate) fn labelled(labels: &BTreeMap<String, String>) -> Locality {
    let text = labels.get(LOCALITY_LABEL).map_or("", String::as_str);
    locality(text, if text.contains('/') { '/' } else { '.' })
}

fn locality(text: &str, separator: char) -> Locality {
    // Of tens of thousands of endpoints nothing is known.
    if text.is_empty() {
        return Locality::default();
    }
    let mut parts = text.splitn(3, separator).map(Arc::from);
    let mut part = || parts.next().unwrap_or_default();
    Locality { region: part(), zone: part(), subzone: part() }
}
