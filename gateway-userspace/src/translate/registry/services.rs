//! Kubernetes' Services, with the endpoints that slices and WorkloadEntries give them.

use std::net::{IpAddr, SocketAddr};

use crate::api::kubernetes::{Service, ServicePort, TargetPort};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{Discovery, Endpoint, Health, UpstreamProtocol};

use super::endpoints::{self, Group, is_tcp};
use super::visibility::{self, EXPORT_TO, Visibility};
use super::workload::{Workload, Workloads};
use super::{Listed, ListedPort};
use crate::translate::report::Report;

/// `type` of a Service that is another name for something else.
const ALIAS: &str = "ExternalName";

/// The Services that the gateway sees, and the names that stand for others.
pub(super) fn list<'a>(
    objects: &'a Objects,
    workloads: &Workloads<'a>,
    visibility: Visibility<'_>,
    report: &mut Report,
) -> (Vec<Listed<'a>>, Vec<(String, String)>) {
    let mut groups = endpoints::by_service(objects, workloads, report);
    let (mut listed, mut aliases) = (Vec::new(), Vec::new());
    for service in &objects.services {
        let exports = service.metadata.annotations.get(EXPORT_TO).map_or("", String::as_str);
        let field = FieldPath::metadata().field("annotations").field(EXPORT_TO);
        if !visibility.shows(&service.source, &visibility::entries(exports), &field, report) {
            continue;
        }
        let domain = &visibility.identity.domain;
        let host = format!("{}.{}.svc.{domain}", service.name(), service.namespace());
        if service.spec.service_type == ALIAS {
            let target = service.spec.external_name.trim_end_matches('.').to_ascii_lowercase();
            aliases.push((host.clone(), target));
        }
        let of_service = groups.remove(&(&**service.namespace(), &**service.name())).unwrap_or_default();
        listed.push(of_document(service, host, &of_service, workloads, report));
    }
    (listed, aliases)
}

fn of_document<'a>(
    service: &'a Sourced<Service>,
    host: String,
    groups: &[Group<'a>],
    workloads: &Workloads<'a>,
    report: &mut Report,
) -> Listed<'a> {
    let selector = &service.spec.selector;
    let selected: Vec<Workload<'_>> = if selector.is_empty() {
        Vec::new()
    } else {
        workloads.selected_entries(service.namespace(), selector).collect()
    };
    let tcp = |port: &ServicePort| is_tcp(port.protocol.as_deref());
    let mut ports = Vec::new();
    for (at, port) in service.spec.ports.iter().enumerate().filter(|(_, port)| tcp(port)) {
        report_unserved(service, at, port, groups, report);
        let mut endpoints = endpoints::endpoints(port, groups);
        endpoints.extend(selected.iter().filter_map(|workload| of_workload(port, workload)));
        ports.push(ListedPort {
            number: port.port,
            protocol: protocol(port),
            discovery: Discovery::Eds,
            endpoints,
            field: FieldPath::spec().field("ports").index(at),
        });
    }
    Listed { host, namespace: service.namespace(), source: &service.source, ports, subject_alt_names: &[] }
}

/// A WorkloadEntry with a name for an address serves ServiceEntries alone.
fn of_workload(port: &ServicePort, workload: &Workload<'_>) -> Option<Endpoint> {
    let address: IpAddr = workload.address.parse().ok()?;
    let own = |name: &str| workload.ports.and_then(|ports| ports.get(name)).copied();
    let number = own(&port.name).or_else(|| match &port.target_port {
        Some(TargetPort::Name(name)) => own(name),
        Some(TargetPort::Number(number)) if *number != 0 => Some(u32::from(*number)),
        _ => None,
    });
    let number = number.map_or(Some(port.port), |number| u16::try_from(number).ok())?;
    Some(workload.endpoint(SocketAddr::new(address, number), Health::Healthy))
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

/// Slices tie to a port by its name alone; a slip in it leaves the port without endpoints.
fn report_unserved(
    service: &Sourced<Service>,
    at: usize,
    port: &ServicePort,
    groups: &[Group<'_>],
    report: &mut Report,
) {
    let mut with_ports = groups.iter().filter(|group| !group.is_empty() && !group.ports.is_empty());
    let Some(first) = with_ports.clone().next() else { return };
    if with_ports.any(|group| group.ports.iter().any(|other| other.name == port.name)) {
        return;
    }
    let field = FieldPath::spec().field("ports").index(at).field("name");
    let kind = &first.source.reference.kind;
    let message =
        format!("no {kind} of the Service has a port named \"{}\": the port has no endpoints", port.name);
    report.add(
        service
            .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
            .related(first.source.related(&first.field, "has other ports"))
            .help(format!("the port in the {kind} must have the name of the Service's port")),
    );
}
