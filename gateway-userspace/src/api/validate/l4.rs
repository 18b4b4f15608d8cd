//! `tls` and `tcp` rules.

use std::net::IpAddr;

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;
use crate::api::virtual_service::{
    L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};

use super::virtual_service::{check_destination, check_weights};
use super::{Findings, host};

pub(super) fn check_tls_rule(found: &mut Findings<'_>, field: &FieldPath, rule: &TlsRoute, hosts: &[String]) {
    if rule.matches.is_empty() {
        found.error_with_help(
            field,
            "TLS route must have at least one match condition",
            "add `match:` with `sniHosts`",
        );
    }
    for (at, condition) in rule.matches.iter().enumerate() {
        let field = field.field("match").index(at);
        check_sni(found, &field, condition, hosts);
        check_match_port(found, &field, condition.port);
        let ignored = [
            ("destinationSubnets", condition.destination_subnets.is_empty()),
            ("sourceLabels", condition.source_labels.is_empty()),
            ("sourceNamespace", condition.source_namespace.is_empty()),
        ];
        report_ignored(found, &field, &ignored);
    }
    check_destinations(found, field, &rule.route, "TLS route is required");
}

fn check_sni(found: &mut Findings<'_>, field: &FieldPath, condition: &TlsMatchAttributes, hosts: &[String]) {
    let field = field.field("sniHosts");
    if condition.sni_hosts.is_empty() {
        found.error(&field, "TLS match must have at least one SNI host");
    }
    for (at, sni) in condition.sni_hosts.iter().enumerate() {
        let field = field.index(at);
        if sni.parse::<IpAddr>().is_ok() {
            let message = format!("using an IP address ({sni}) as SNI host will never match");
            found.warning(&field, message);
            continue;
        }
        found.check_host(&field, host::check_wildcard_domain(sni));
        if !hosts.iter().any(|wide| host::covers(wide, sni)) {
            let message = format!(
                "SNI host \"{sni}\" is not a compatible subset of any of the virtual service hosts: [{}]",
                hosts.join(" ")
            );
            found.error(&field, message);
        }
    }
}

pub(super) fn check_tcp_rule(found: &mut Findings<'_>, field: &FieldPath, rule: &TcpRoute) {
    for (at, condition) in rule.matches.iter().enumerate() {
        let field = field.field("match").index(at);
        check_match_port(found, &field, condition.port);
        let L4MatchAttributes { destination_subnets, source_subnet, source_labels, source_namespace, .. } =
            condition;
        let ignored = [
            ("destinationSubnets", destination_subnets.is_empty()),
            ("sourceSubnet", source_subnet.is_empty()),
            ("sourceLabels", source_labels.is_empty()),
            ("sourceNamespace", source_namespace.is_empty()),
        ];
        report_ignored(found, &field, &ignored);
    }
    check_destinations(found, field, &rule.route, "TCP route is required");
}

/// Gateways look at `port` and `gateways` alone; Istio does not say so.
fn report_ignored(found: &mut Findings<'_>, field: &FieldPath, ignored: &[(&str, bool)]) {
    for (name, _) in ignored.iter().filter(|(_, empty)| !empty) {
        let message = format!("{name} is not evaluated at a gateway: the rule applies whatever it says");
        found.add(Severity::Warning, Code::NoEffect, &field.field(name), message);
    }
}

fn check_match_port(found: &mut Findings<'_>, field: &FieldPath, port: u32) {
    if port > 65535 {
        found.error(&field.field("port"), format!("port number {port} must be in the range 1..65535"));
    }
}

fn check_destinations(
    found: &mut Findings<'_>,
    field: &FieldPath,
    route: &[RouteDestination],
    missing: &str,
) {
    if route.is_empty() {
        found.error(field, missing);
    }
    let field = field.field("route");
    for (at, destination) in route.iter().enumerate() {
        check_destination(found, &field.index(at), destination.destination.as_ref());
    }
    let weights: Vec<i32> = route.iter().map(|destination| destination.weight).collect();
    check_weights(found, &field, &weights);
}
