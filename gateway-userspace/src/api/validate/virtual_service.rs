//! VirtualService.

use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::object::Sourced;
use crate::api::path::FieldPath;
use crate::api::virtual_service::{Destination, MESH, VirtualService};

use super::{Findings, check_port, delegate, host, http, l4, rows, unsupported};

/// Hosts that each host is compared with, so that a list of thousands costs no more than it is worth.
const MAX_COMPARED: usize = 500;

/// Checks one VirtualService.
pub fn virtual_service(document: &Sourced<VirtualService>) -> Vec<Diagnostic> {
    let mut found = Findings::new(&document.source);
    let (spec, field) = (&document.spec, FieldPath::spec());
    if spec.hosts.is_empty() {
        delegate::check_delegate(&mut found, &field, spec);
    }
    check_hosts(&mut found, &field.field("hosts"), spec);
    check_gateways(&mut found, &field.field("gateways"), spec);
    check_export_to(&mut found, &field.field("exportTo"), &spec.export_to);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        found.error(&field, "http, tcp or tls must be provided in virtual service");
    }
    for (at, rule) in spec.http.iter().enumerate() {
        http::check_rule(&mut found, &field.field("http").index(at), rule, spec.hosts.is_empty());
    }
    for (at, rule) in spec.tls.iter().enumerate() {
        l4::check_tls_rule(&mut found, &field.field("tls").index(at), rule, &spec.hosts);
    }
    for (at, rule) in spec.tcp.iter().enumerate() {
        l4::check_tcp_rule(&mut found, &field.field("tcp").index(at), rule);
    }
    unsupported::report(&mut found, rows::VIRTUAL_SERVICE);
    found.list
}

fn check_hosts(found: &mut Findings<'_>, field: &FieldPath, spec: &VirtualService) {
    let for_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH);
    for (at, name) in spec.hosts.iter().enumerate() {
        found.check_host(&field.index(at), host::check_host(name));
        if name == "*" && for_mesh {
            found.error_with_help(
                &field.index(at),
                "wildcard host * is not allowed for virtual services bound to the mesh gateway",
                "name the gateways it is for in `gateways`",
            );
        }
        let earlier = spec.hosts[..at].iter().take(MAX_COMPARED).find(|earlier| host::overlap(earlier, name));
        if let Some(earlier) = earlier {
            let message = format!("duplicate hosts in virtual service: {earlier} & {name}");
            found.error(&field.index(at), message);
        }
    }
    if spec.hosts.len() > MAX_COMPARED + 1 {
        let message =
            format!("hosts are compared with the first {MAX_COMPARED} only: others may be there twice");
        found.add(Severity::Info, Code::NotFullyChecked, field, message);
    }
}

fn check_gateways(found: &mut Findings<'_>, field: &FieldPath, spec: &VirtualService) {
    for (at, name) in spec.gateways.iter().enumerate() {
        let field = field.index(at);
        let Some((namespace, gateway)) = name.split_once('/') else {
            if name.contains('.') {
                found.warning(&field, format!("legacy gateway name \"{name}\"")).help =
                    Some("write namespace/name".to_owned());
            } else if !host::is_label(name) {
                found.error(&field, format!("invalid value for gateway name: \"{name}\""));
            }
            continue;
        };
        if namespace.is_empty() || gateway.is_empty() {
            found.error(&field, "config namespace and gateway name cannot be empty");
        } else if namespace != "." && !host::is_label(namespace) {
            found.error(&field, format!("invalid value for namespace: \"{namespace}\""));
        } else if !host::is_label(gateway) {
            found.error(&field, format!("invalid value for gateway name: \"{gateway}\""));
        }
    }
}

pub(super) fn check_export_to(found: &mut Findings<'_>, field: &FieldPath, export_to: &[String]) {
    for (at, namespace) in export_to.iter().enumerate() {
        if !matches!(namespace.as_str(), "*" | "." | "~") && !host::is_label(namespace) {
            found.error(&field.index(at), format!("invalid namespace \"{namespace}\" in exportTo"));
        }
    }
    if export_to.len() > 1 && export_to.iter().any(|namespace| namespace == "*") {
        found.error(field, "cannot have both public (*) and non-public exportTo values for a resource");
    }
}

/// One destination of a route.
pub(super) fn check_destination(
    found: &mut Findings<'_>,
    field: &FieldPath,
    destination: Option<&Destination>,
) {
    let Some(destination) = destination else {
        found.error(field, "destination is required");
        return;
    };
    check_destination_host(found, &field.field("destination"), destination);
}

/// Host, subset and port of a destination.
pub(super) fn check_destination_host(found: &mut Findings<'_>, field: &FieldPath, destination: &Destination) {
    if destination.host == "*" {
        found.error(&field.field("host"), "invalid destination host *");
    } else {
        found.check_host(&field.field("host"), host::check_host(&destination.host));
    }
    if !destination.subset.is_empty() {
        found.check(&field.field("subset"), host::check_subset(&destination.subset));
    }
    if let Some(port) = &destination.port {
        check_port(found, &field.field("port").field("number"), port.number);
    }
}

/// Weights of the destinations of a route.
pub(super) fn check_weights(found: &mut Findings<'_>, field: &FieldPath, weights: &[i32]) {
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight < 0) {
        found.error(&field.index(at).field("weight"), format!("weight {weight} < 0"));
    }
    if weights.len() > 1 && weights.iter().all(|weight| *weight == 0) {
        found.error_with_help(field, "total destination weight = 0", "give each destination a `weight`");
    }
}
