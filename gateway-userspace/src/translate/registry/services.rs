//! Services as clusters: one for each port and each subset of it.

use crate::api::kubernetes::{EndpointSlice, Service, ServicePort};
use crate::api::{Code, FieldPath, Severity, Sourced};
use crate::model::{ClusterName, GatewayIdentity, UpstreamProtocol};

use super::Registry;
use super::endpoints::is_tcp;
use crate::translate::policy::{DestinationRules, PlacedSubset, ServiceRule};
use crate::translate::report::Report;

impl Registry {
    pub(super) fn add(
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

/// appProtocol, else the part of the port's name before the first dash.
pub(super) fn protocol(port: &ServicePort) -> UpstreamProtocol {
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
