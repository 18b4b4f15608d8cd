//! The endpoints that EndpointSlices and Endpoints name.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::kubernetes::{Conditions, EndpointSlice, ServicePort, SlicePort};
use crate::api::workload::{EndpointSubset, Endpoints, TargetRef};
use crate::api::{Code, FieldPath, Objects, Severity, Source, Sourced};
use crate::model::{Endpoint, Health, Locality};

use super::workload::{Labels, Workloads, labelled};
use crate::translate::report::Report;

/// Ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses that share ports.
pub(super) struct Group<'a> {
    pub(super) ports: &'a [SlicePort],
    addresses: Vec<Address>,
    pub(super) source: &'a Source,
    /// Of the ports.
    pub(super) field: FieldPath,
}

struct Address {
    ip: IpAddr,
    health: Health,
    labels: Labels,
    locality: Locality,
}

impl Group<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// Groups of each Service, by its namespace and name.
pub(super) type Groups<'a> = HashMap<(&'a str, &'a str), Vec<Group<'a>>>;

/// The groups of each Service. Endpoints are what slices were before: they count where a Service has no slice, as in a
/// cluster each of them is mirrored in slices.
pub(super) fn by_service<'a>(
    objects: &'a Objects,
    workloads: &Workloads<'a>,
    report: &mut Report,
) -> Groups<'a> {
    let mut groups = Groups::new();
    for slice in &objects.endpoint_slices {
        if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
            let group = of_slice(slice, workloads, report);
            groups.entry((slice.namespace(), service)).or_default().push(group);
        } else {
            report_orphan(slice, report);
        }
    }
    for document in &objects.endpoints {
        groups
            .entry((document.namespace(), document.name()))
            .or_insert_with(|| of_endpoints(document, workloads, report));
    }
    groups
}

fn report_orphan(slice: &Sourced<EndpointSlice>, report: &mut Report) {
    let field = FieldPath::metadata().field("labels");
    let message = format!("the EndpointSlice has no label {SERVICE_NAME}: it belongs to no Service");
    report.add(slice.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
}

fn of_slice<'a>(
    slice: &'a Sourced<EndpointSlice>,
    workloads: &Workloads<'a>,
    report: &mut Report,
) -> Group<'a> {
    let reader = Reader::new(slice, workloads);
    let mut addresses = Vec::with_capacity(slice.spec.endpoints.len());
    for (at, endpoint) in slice.spec.endpoints.iter().enumerate() {
        let Some(written) = endpoint.addresses.first() else { continue };
        let field = FieldPath::root().field("endpoints").index(at).field("addresses").index(0);
        let health = health(&endpoint.conditions);
        addresses.extend(reader.address((written, &field), endpoint.target_ref.as_ref(), health, report));
    }
    Group {
        ports: &slice.spec.ports,
        addresses,
        source: &slice.source,
        field: FieldPath::root().field("ports"),
    }
}

fn of_endpoints<'a>(
    document: &'a Sourced<Endpoints>,
    workloads: &Workloads<'a>,
    report: &mut Report,
) -> Vec<Group<'a>> {
    let reader = Reader::new(document, workloads);
    let group = |(at, subset): (usize, &'a EndpointSubset)| {
        let field = FieldPath::root().field("subsets").index(at);
        let mut addresses = Vec::new();
        let lists = [
            ("addresses", &subset.addresses, Health::Healthy),
            ("notReadyAddresses", &subset.not_ready_addresses, Health::Unhealthy),
        ];
        for (name, list, health) in lists {
            for (at, address) in list.iter().enumerate() {
                let field = field.field(name).index(at).field("ip");
                let target = address.target_ref.as_ref();
                addresses.extend(reader.address((&address.ip, &field), target, health, report));
            }
        }
        Group { ports: &subset.ports, addresses, source: &document.source, field: field.field("ports") }
    };
    document.spec.subsets.iter().enumerate().map(group).collect()
}

/// Reads the addresses of one document.
struct Reader<'w, 'a> {
    source: &'a Source,
    /// Of endpoints whose Pod no document names.
    labels: Labels,
    workloads: &'w Workloads<'a>,
}

impl<'w, 'a> Reader<'w, 'a> {
    fn new<T>(document: &'a Sourced<T>, workloads: &'w Workloads<'a>) -> Self {
        Self { source: &document.source, labels: Arc::new(document.metadata.labels.clone()), workloads }
    }

    fn address(
        &self,
        (written, field): (&str, &FieldPath),
        target: Option<&TargetRef>,
        health: Health,
        report: &mut Report,
    ) -> Option<Address> {
        let Ok(ip) = written.parse::<IpAddr>() else {
            let message = format!("\"{written}\" is not an IP address: the endpoint is left out");
            report.add(self.source.diagnostic(Severity::Warning, Code::NotSupported, field, message));
            return None;
        };
        let pod = self.workloads.pod(&self.source.reference.namespace, target, ip);
        let labels = pod.map_or_else(|| self.labels.clone(), |pod| Arc::new(pod.metadata.labels.clone()));
        let locality = labelled(&labels);
        Some(Address { ip, health, labels, locality })
    }
}

pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP"))
}

/// The endpoints of a Service's port.
pub(super) fn endpoints(port: &ServicePort, groups: &[Group<'_>]) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for group in groups {
        let ports = group.ports.iter().filter(|p| p.name == port.name && is_tcp(p.protocol.as_deref()));
        for number in ports.filter_map(|port| port.port).filter(|port| *port != 0) {
            found.extend(group.addresses.iter().map(|of| Endpoint {
                labels: of.labels.clone(),
                locality: of.locality.clone(),
                ..Endpoint::new(SocketAddr::new(of.ip, number), of.health)
            }));
        }
    }
    found
}

/// Sorted by address, each once. The same address in two slices, as while one replaces another: the better state counts.
pub(super) fn distinct(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for endpoint in endpoints {
        let slot = found.entry(endpoint.address).or_insert_with(|| endpoint.clone());
        if endpoint.health == Health::Healthy {
            *slot = endpoint;
        }
    }
    found.into_values().collect()
}

/// An absent `ready` is ready; an absent `serving` is what `ready` is.
fn health(conditions: &Conditions) -> Health {
    let ready = conditions.ready.unwrap_or(true);
    if conditions.terminating == Some(true) {
        return if conditions.serving.unwrap_or(ready) { Health::Draining } else { Health::Unhealthy };
    }
    if ready { Health::Healthy } else { Health::Unhealthy }
}
