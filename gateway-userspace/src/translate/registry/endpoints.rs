//! The endpoints that EndpointSlices and Endpoints name.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::kubernetes::{Conditions, EndpointSlice, ServicePort, SlicePort};
use crate::api::workload::{EndpointSubset, Endpoints, TargetRef};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Source, Sourced};
use crate::model::{Endpoint, Health, Locality};

use super::workload::{Labels, Workloads, labelled, of_node};
use super::{Memo, Settled};
use crate::translate::memo;
use crate::translate::report::Report;

/// Ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses that share ports.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub(super) ports: Vec<SlicePort>,
    addresses: Vec<Address>,
    pub(super) source: ByIdentity,
    /// Of the ports.
    pub(super) field: FieldPath,
    findings: Vec<Diagnostic>,
}

/// A source that is the same if it is the same object.
#[derive(Debug, Clone)]
pub(super) struct ByIdentity(pub(super) Arc<Source>);

impl PartialEq for ByIdentity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Debug, PartialEq)]
struct Address {
    ip: IpAddr,
    health: Health,
    labels: Labels,
    locality: Locality,
}

impl Address {
    /// In a node's zone, where nothing else says where it is.
    fn in_zone(mut self, zone: &str) -> Self {
        if self.locality.is_unknown() && !zone.is_empty() {
            self.locality.zone = zone.into();
        }
        self
    }
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// Groups of each Service, by its namespace and name, a list for each document.
pub(super) type Groups<'a> = HashMap<(&'a str, &'a str), Vec<Arc<Vec<Group>>>>;

/// The groups of each Service. Endpoints are what slices were before: they count where a Service has no slice, as in a
/// cluster each of them is mirrored in slices.
pub(super) fn by_service<'a>(
    objects: &'a Objects,
    workloads: &Workloads<'a>,
    (memo, settled): (&mut Memo, Settled),
    report: &mut Report,
) -> Groups<'a> {
    let mut groups = Groups::with_capacity(objects.endpoint_slices.len());
    let mut known = |key, make: &dyn Fn() -> Vec<Group>, report: &mut Report| {
        let unless_same = |before: Option<&Arc<Vec<Group>>>| {
            let made = make();
            before.filter(|before| ***before == made).cloned().unwrap_or_else(|| Arc::new(made))
        };
        let found = memo.groups.get(key, |_| settled.workloads, unless_same);
        found.iter().for_each(|group| report.extend(&group.findings));
        found
    };
    for slice in &objects.endpoint_slices {
        if let Some(service) = service_of(slice) {
            let made = known(memo::Address::of(slice), &|| of_slice_alone(slice, workloads), report);
            groups.entry((slice.namespace(), service)).or_default().push(made);
        } else {
            report_orphan(slice, report);
        }
    }
    for document in &objects.endpoints {
        groups.entry((document.namespace(), document.name())).or_insert_with(|| {
            vec![known(memo::Address::of(document), &|| of_endpoints(document, workloads), report)]
        });
    }
    groups
}

/// The Service that a slice belongs to.
pub(super) fn service_of(slice: &Sourced<EndpointSlice>) -> Option<&str> {
    slice.metadata.labels.get(SERVICE_NAME).map(String::as_str)
}

/// The groups of a slice.
pub(super) fn of_slice_alone(slice: &Sourced<EndpointSlice>, workloads: &Workloads<'_>) -> Vec<Group> {
    vec![of_slice(slice, workloads)]
}

/// Whether the same is to be reported of groups.
pub(super) fn same_findings(before: &[Group], now: &[Group]) -> bool {
    let findings = |groups| <[Group]>::iter(groups).flat_map(|group| &group.findings);
    findings(before).eq(findings(now))
}

fn report_orphan(slice: &Sourced<EndpointSlice>, report: &mut Report) {
    let field = FieldPath::metadata().field("labels");
    let message = format!("the EndpointSlice has no label {SERVICE_NAME}: it belongs to no Service");
    report.add(slice.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
}

fn of_slice(slice: &Sourced<EndpointSlice>, workloads: &Workloads<'_>) -> Group {
    let mut report = Report::default();
    let reader = Reader::new(slice, workloads);
    let mut addresses = Vec::with_capacity(slice.spec.endpoints.len());
    for (at, endpoint) in slice.spec.endpoints.iter().enumerate() {
        let Some(written) = endpoint.addresses.first() else { continue };
        let field = FieldPath::root().field("endpoints").index(at).field("addresses").index(0);
        let health = health(&endpoint.conditions);
        let target = endpoint.target_ref.as_ref();
        let address = reader.address((written, &field), target, health, &mut report);
        addresses.extend(address.map(|address| address.in_zone(&endpoint.zone)));
    }
    Group {
        ports: slice.spec.ports.clone(),
        addresses,
        source: ByIdentity(slice.source.clone()),
        field: FieldPath::root().field("ports"),
        findings: report.finish(),
    }
}

fn of_endpoints(document: &Sourced<Endpoints>, workloads: &Workloads<'_>) -> Vec<Group> {
    let reader = Reader::new(document, workloads);
    let group = |(at, subset): (usize, &EndpointSubset)| {
        let mut report = Report::default();
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
                addresses.extend(reader.address((&address.ip, &field), target, health, &mut report));
            }
        }
        Group {
            ports: subset.ports.clone(),
            addresses,
            source: ByIdentity(document.source.clone()),
            field: field.field("ports"),
            findings: report.finish(),
        }
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
        let labelled = labelled(&labels);
        let locality = if labelled.is_unknown() { of_node(&labels) } else { labelled };
        Some(Address { ip, health, labels, locality })
    }
}

pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP"))
}

/// The endpoints of a Service's port.
pub(super) fn endpoints(port: &ServicePort, groups: &[&Group]) -> Vec<Endpoint> {
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
