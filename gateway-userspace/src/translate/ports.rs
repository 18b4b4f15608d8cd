//! Where servers really listen: the gateway's own Service says which port of the gateway stands behind the port
//! that a document names.

use crate::api::kubernetes::{Service, TargetPort};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{GatewayIdentity, ListenerKey};

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
    let own: Vec<&Sourced<Service>> =
        objects.services.iter().map(AsRef::as_ref).filter(|service| selects(service, identity)).collect();
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

/// Whether the Service is in front of this gateway's pods.
fn selects(service: &Sourced<Service>, identity: &GatewayIdentity) -> bool {
    let selector = &service.spec.selector;
    **service.namespace() == identity.namespace
        && !selector.is_empty()
        && selector.iter().all(|(key, value)| identity.labels.get(key) == Some(value))
        && !service.metadata.labels.contains_key(NO_TRANSLATION)
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
