//! Ports of Services whose names say no protocol.

use crate::api::kubernetes::{Service, ServicePort, TargetPort};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};

/// What a port's name may begin with, in Istio's list.
const PROTOCOLS: [&str; 10] =
    ["grpc", "grpc-web", "http", "http2", "https", "mongo", "mysql", "redis", "tcp", "tls"];

/// Ports whose protocol is known by their number, whatever their name.
const KNOWN: [u16; 4] = [25, 53, 3306, 27017];

/// Namespaces of Kubernetes' own, whose Services are nobody's to rename.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// The ports of the Services that Istio would guess the protocol of; here they carry bytes, and HTTP/1.1 for HTTP routes.
pub(super) fn report(objects: &Objects) -> Vec<Diagnostic> {
    objects
        .services
        .iter()
        .filter(|service| !is_of_system(service))
        .flat_map(|service| of_service(service))
        .collect()
}

/// Istio's own Services among them.
fn is_of_system(service: &Sourced<Service>) -> bool {
    let labels = &service.metadata.labels;
    let is_istios =
        labels.contains_key("istio") || labels.get("release").is_some_and(|release| release == "istio");
    SYSTEM.contains(&&**service.namespace()) || is_istios
}

fn of_service(service: &Sourced<Service>) -> impl Iterator<Item = Diagnostic> {
    let ports = service.spec.ports.iter().enumerate();
    ports.filter(|(_, port)| !says_protocol(port)).map(|(at, port)| {
        let field = FieldPath::spec().field("ports").index(at).field("name");
        let target = match &port.target_port {
            None => "0".to_owned(),
            Some(TargetPort::Number(number)) => number.to_string(),
            Some(TargetPort::Name(name)) => name.clone(),
        };
        let message = format!(
            "Port name {} (port: {}, targetPort: {target}) doesn't follow the naming convention of Istio port.",
            port.name, port.port
        );
        let code = Code::PortNameWithoutProtocol;
        service.diagnostic(Severity::Info, code, &field, message).help(code.remedy())
    })
}

fn says_protocol(port: &ServicePort) -> bool {
    let is_udp = port.protocol.as_deref().is_some_and(|protocol| !protocol.eq_ignore_ascii_case("TCP"));
    let declared = port.app_protocol.as_deref().is_some_and(|protocol| !protocol.is_empty());
    let word = port.name.split('-').next().unwrap_or("");
    is_udp || declared || KNOWN.contains(&port.port) || PROTOCOLS.contains(&word)
}
