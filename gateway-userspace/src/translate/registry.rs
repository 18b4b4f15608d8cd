//! Services as clusters: one for each port, with the endpoints that the EndpointSlices name.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::kubernetes::{Conditions, EndpointSlice, Service, ServicePort};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{Cluster, ClusterName, Endpoint, GatewayIdentity, Health, UpstreamProtocol};

use super::policy::{DestinationRules, PlacedSubset, ServiceRule};
use super::report::Report;

/// Ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All clusters, and the ports of each service.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    ports: HashMap<String, Vec<u16>>,
}

impl Registry {
    pub(super) fn new(objects: &Objects, identity: &GatewayIdentity, report: &mut Report) -> Self {
        let mut slices: HashMap<(&str, &str), Vec<&Sourced<EndpointSlice>>> = HashMap::new();
        for slice in &objects.endpoint_slices {
            if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
                slices.entry((slice.namespace(), service)).or_default().push(slice);
            } else {
                report_orphan(slice, report);
            }
        }
        let rules = DestinationRules::new(objects, identity, report);
        let mut registry = Self::default();
        for service in &objects.services {
            let of_service =
                slices.get(&(&**service.namespace(), &**service.name())).map_or(&[][..], Vec::as_slice);
            registry.add(service, of_service, &rules, identity, report);
        }
        rules.report_unused(report);
        registry
    }

    fn add(
        &mut self,
        service: &Sourced<Service>,
        slices: &[&Sourced<EndpointSlice>],
        rules: &DestinationRules<'_>,
        identity: &GatewayIdentity,
        report: &mut Report,
    ) {
        let host = format!("{}.{}.svc.{}", service.name(), service.namespace(), identity.domain);
        if service.spec.service_type == "ExternalName" {
            let field = FieldPath::spec().field("type");
            let message = "Services of type ExternalName are not yet supported: no route finds this one";
            report.add(service.diagnostic(Severity::Warning, Code::NotSupported, &field, message));
            return;
        }
        let rule = rules.of(&host, service.namespace(), identity);
        let mut numbers = Vec::new();
        let tcp = |port: &ServicePort| is_tcp(port.protocol.as_deref());
        for (at, port) in service.spec.ports.iter().enumerate().filter(|(_, port)| tcp(port)) {
            report_unserved(service, at, port, slices, report);
            let name = ClusterName { host: host.as_str().into(), port: port.port, subset: None };
            numbers.push(port.port);
            self.add_cluster(&name, port, slices, (rule, None), report);
            for placed in rule.iter().flat_map(ServiceRule::subsets) {
                let name = ClusterName { subset: Some(placed.subset.name.as_str().into()), ..name.clone() };
                let of_subset = with_labels(slices, placed);
                if of_subset.is_empty() && !slices.is_empty() {
                    report_empty(placed, &host, report);
                }
                self.add_cluster(&name, port, &of_subset, (rule, Some(placed)), report);
            }
        }
        self.ports.insert(host, numbers);
    }

    fn add_cluster<'a>(
        &mut self,
        name: &ClusterName,
        port: &ServicePort,
        slices: &[&Sourced<EndpointSlice>],
        (rule, subset): (Option<ServiceRule<'_, 'a>>, Option<PlacedSubset<'a>>),
        report: &mut Report,
    ) {
        let mut cluster = Cluster::new(name.clone(), protocol(port), endpoints(port, slices, report));
        if let Some(rule) = rule {
            rule.apply(&mut cluster, subset, report);
        }
        self.clusters.entry(name.clone()).or_insert_with(|| Arc::new(cluster));
    }

    /// The ports of a service, or `None` when there is none of that name.
    pub(super) fn ports(&self, host: &str) -> Option<&[u16]> {
        self.ports.get(host).map(Vec::as_slice)
    }

    pub(super) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    pub(super) fn into_clusters(self) -> BTreeMap<ClusterName, Arc<Cluster>> {
        self.clusters
    }
}

/// The slices of a subset: an endpoint's labels are those of its slice, as documents name no pods.
fn with_labels<'a>(
    slices: &[&'a Sourced<EndpointSlice>],
    placed: PlacedSubset<'_>,
) -> Vec<&'a Sourced<EndpointSlice>> {
    let labels = &placed.subset.labels;
    let fits = |slice: &&&Sourced<EndpointSlice>| {
        labels.iter().all(|(key, value)| slice.metadata.labels.get(key) == Some(value))
    };
    slices.iter().filter(fits).copied().collect()
}

fn report_empty(placed: PlacedSubset<'_>, host: &str, report: &mut Report) {
    let field = placed.field().field("labels");
    let message = format!("no endpoint of {host} has the labels of subset {}", placed.subset.name);
    report.add(
        placed
            .document
            .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
            .help("pods are not read: the labels of an endpoint are those of its EndpointSlice's metadata"),
    );
}

fn report_orphan(slice: &Sourced<EndpointSlice>, report: &mut Report) {
    let field = FieldPath::metadata().field("labels");
    let message = format!("the EndpointSlice has no label {SERVICE_NAME}: it belongs to no Service");
    report.add(slice.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP"))
}

/// appProtocol, else the part of the port's name before the first dash.
fn protocol(port: &ServicePort) -> UpstreamProtocol {
    let word = match port.app_protocol.as_deref() {
        Some(protocol) if !protocol.is_empty() => protocol,
        _ if port.name.starts_with("grpc-web") => "grpc-web",
        _ => port.name.split('-').next().unwrap_or(""),
    };
    match word.to_ascii_lowercase().as_str() {
        "http2" | "h2c" | "grpc" | "kubernetes.io/h2c" => UpstreamProtocol::Http2,
        // grpc-web is HTTP/1.1 towards its clients and HTTP/2 towards its backends.
        "grpc-web" => UpstreamProtocol::Http2,
        "http" | "kubernetes.io/ws" => UpstreamProtocol::Http1,
        _ => UpstreamProtocol::Tcp,
    }
}

fn endpoints(port: &ServicePort, slices: &[&Sourced<EndpointSlice>], report: &mut Report) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, Health> = BTreeMap::new();
    for slice in slices {
        let ports = slice.spec.ports.iter().filter(|p| p.name == port.name && is_tcp(p.protocol.as_deref()));
        let numbers: Vec<u16> = ports.filter_map(|port| port.port).filter(|port| *port != 0).collect();
        for (at, endpoint) in slice.spec.endpoints.iter().enumerate() {
            let Some(written) = endpoint.addresses.first() else { continue };
            let Ok(address) = written.parse::<IpAddr>() else {
                report_address(slice, at, written, report);
                continue;
            };
            for number in &numbers {
                let health = health(&endpoint.conditions);
                // The same address in two slices, as while one replaces another: the better state counts.
                let slot = found.entry(SocketAddr::new(address, *number)).or_insert(health);
                if health == Health::Healthy {
                    *slot = health;
                }
            }
        }
    }
    found.into_iter().map(|(address, health)| Endpoint { address, health }).collect()
}

/// Slices tie to a port by its name alone; a slip in it leaves the port without endpoints.
fn report_unserved(
    service: &Sourced<Service>,
    at: usize,
    port: &ServicePort,
    slices: &[&Sourced<EndpointSlice>],
    report: &mut Report,
) {
    let mut with_ports =
        slices.iter().filter(|slice| !slice.spec.endpoints.is_empty() && !slice.spec.ports.is_empty());
    let Some(first) = with_ports.clone().next() else { return };
    if with_ports.any(|slice| slice.spec.ports.iter().any(|other| other.name == port.name)) {
        return;
    }
    let field = FieldPath::spec().field("ports").index(at).field("name");
    let message = format!(
        "no EndpointSlice of the Service has a port named \"{}\": the port has no endpoints",
        port.name
    );
    report.add(
        service
            .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
            .related(first.related(&FieldPath::root().field("ports"), "has other ports"))
            .help("an EndpointSlice's port must have the name of the Service's port"),
    );
}

fn report_address(slice: &Sourced<EndpointSlice>, at: usize, written: &str, report: &mut Report) {
    let field = FieldPath::root().field("endpoints").index(at).field("addresses").index(0);
    let message = format!("\"{written}\" is not an IP address: the endpoint is left out");
    report.add(slice.diagnostic(Severity::Warning, Code::NotSupported, &field, message));
}

/// An absent `ready` is ready; an absent `serving` is what `ready` is.
fn health(conditions: &Conditions) -> Health {
    let ready = conditions.ready.unwrap_or(true);
    if conditions.terminating == Some(true) {
        return if conditions.serving.unwrap_or(ready) { Health::Draining } else { Health::Unhealthy };
    }
    if ready { Health::Healthy } else { Health::Unhealthy }
}
