//! Where servers really listen: the gateway's own Service says which port of the gateway stands behind the port
//! that a document names.

use crate::api::kubernetes::{Service, ServicePort, TargetPort};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{ExposedPort, Exposure, GatewayIdentity, ListenerKey};

use super::registry::Workloads;
use super::report::Report;
use super::select::SelectedServer;

/// A Service with this label, whatever it says, leaves ports as they are.
const NO_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// Gives each server its listening port.
pub(super) fn resolve<'a>(
    servers: &[SelectedServer<'a>],
    (objects, workloads): (&Objects, &Workloads<'_>),
    identity: &GatewayIdentity,
    report: &mut Report,
) -> Vec<(ListenerKey, SelectedServer<'a>)> {
    let is_meant = |service: &&Sourced<Service>| !service.metadata.labels.contains_key(NO_TRANSLATION);
    let own: Vec<&Sourced<Service>> = own(objects, identity).filter(is_meant).collect();
    let port = |server: &SelectedServer<'_>, report: &mut Report| {
        let target = own.iter().find_map(|service| target(service, server.number, workloads, report));
        if target.is_none() && !own.is_empty() {
            report_unknown(server, &own, report);
        }
        target.unwrap_or(server.number)
    };
    servers
        .iter()
        .map(|server| (ListenerKey { bind: server.bind, port: port(server, report) }, server.clone()))
        .collect()
}

/// Where clients outside of the cluster find this gateway.
pub(super) fn exposures(objects: &Objects, identity: &GatewayIdentity) -> Vec<Exposure> {
    own(objects, identity).filter_map(exposure).collect()
}

/// The Services in front of this gateway's pods.
fn own<'a>(
    objects: &'a Objects,
    identity: &'a GatewayIdentity,
) -> impl Iterator<Item = &'a Sourced<Service>> {
    let selects = |service: &&Sourced<Service>| {
        let selector = &service.spec.selector;
        **service.namespace() == identity.namespace && !selector.is_empty() && identity.has(selector)
    };
    objects.services.iter().map(AsRef::as_ref).filter(selects)
}

/// `None`: it is for clients within the cluster.
fn exposure(service: &Sourced<Service>) -> Option<Exposure> {
    let Service { service_type, ingress, external_ips, ports, .. } = &service.spec;
    let of_balancer =
        ingress.iter().map(|at| if at.ip.is_empty() { at.hostname.clone() } else { at.ip.clone() });
    let addresses: Vec<String> = of_balancer.chain(external_ips.iter().cloned()).collect();
    let kind = if service_type.is_empty() { "ClusterIP" } else { service_type };
    let port = |port: &ServicePort| ExposedPort {
        port: port.port,
        node_port: Some(port.node_port).filter(|port| *port != 0),
    };
    let is_outside = matches!(kind, "LoadBalancer" | "NodePort") || !addresses.is_empty();
    is_outside.then(|| Exposure {
        service: format!("{}/{}", service.namespace(), service.name()),
        kind: kind.to_owned(),
        addresses,
        ports: ports.iter().map(port).collect(),
    })
}

fn target(
    service: &Sourced<Service>,
    number: u16,
    workloads: &Workloads<'_>,
    report: &mut Report,
) -> Option<u16> {
    let (at, port) = service.spec.ports.iter().enumerate().find(|(_, port)| port.port == number)?;
    match &port.target_port {
        None | Some(TargetPort::Number(0)) => Some(number),
        Some(TargetPort::Number(target)) => Some(*target),
        Some(TargetPort::Name(name)) => {
            let known = workloads.port(service.namespace(), &service.spec.selector, name);
            if known.is_some() {
                return known;
            }
            let field = FieldPath::spec().field("ports").index(at).field("targetPort");
            let message =
                format!("no document names a port \"{name}\" of the gateway's pods: {number} is used");
            report.add(
                service
                    .diagnostic(Severity::Warning, Code::NotSupported, &field, message)
                    .help("give the targetPort as a number, or add the gateway's Pod to the documents"),
            );
            Some(number)
        }
    }
}

/// Clients that come through the Service do not reach such a port.
fn report_unknown(server: &SelectedServer<'_>, own: &[&Sourced<Service>], report: &mut Report) {
    let field = server.field().field("port").field("number");
    let message = format!("port {} is not a port of the gateway's own Service", server.number);
    let ports = FieldPath::spec().field("ports");
    let mut found = server
        .gateway
        .diagnostic(Severity::Warning, Code::GatewayPortNotDefinedOnService, &field, message)
        .help("add the port to the Service, or clients must come to the gateway itself");
    found.related = own.iter().map(|service| service.related(&ports, "the gateway's own Service")).collect();
    report.add(found);
}
