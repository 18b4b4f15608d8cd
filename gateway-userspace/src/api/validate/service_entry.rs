//! ServiceEntry and WorkloadEntry.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::object::Sourced;
use crate::api::path::FieldPath;
use crate::api::service_entry::{EntryPort, Resolution, ServiceEntry, WorkloadEntry, WorkloadSelector};

use super::virtual_service::check_export_to;
use super::{Findings, check_port, host};

/// Address of an endpoint that is no IP address.
const UNIX: &str = "unix://";

/// Protocols that Istio knows (UDP among them, which no gateway forwards).
const PROTOCOLS: &[&str] = &[
    "TCP",
    "HTTP",
    "HTTPS",
    "TLS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "MONGO",
    "REDIS",
    "MYSQL",
    "UDP",
    "HBONE",
    "HTTP_PROXY",
];

/// Checks one ServiceEntry.
pub fn service_entry(document: &Sourced<ServiceEntry>) -> Vec<Diagnostic> {
    let mut found = Findings::new(&document.source);
    let (spec, field) = (&document.spec, FieldPath::spec());
    check_selector(&mut found, &field, spec);
    check_hosts(&mut found, &field.field("hosts"), spec);
    check_addresses(&mut found, &field.field("addresses"), spec);
    check_ports(&mut found, &field.field("ports"), &spec.ports);
    check_endpoints(&mut found, &field.field("endpoints"), spec);
    check_ambiguity(&mut found, &field, spec);
    check_export_to(&mut found, &field.field("exportTo"), &spec.export_to);
    if spec.export_to.len() > 1 && spec.export_to.iter().any(|namespace| namespace == "~") {
        found.error(&field.field("exportTo"), "cannot export service entry to no one (~) and someone");
    }
    found.list
}

/// Checks one WorkloadEntry.
pub fn workload_entry(document: &Sourced<WorkloadEntry>) -> Vec<Diagnostic> {
    let mut found = Findings::new(&document.source);
    let (entry, field) = (&document.spec, FieldPath::spec());
    if entry.address.is_empty() {
        found.error_with_help(
            &field.field("address"),
            "address must be set",
            "give it an IP address or a name",
        );
    } else if entry.address.starts_with(UNIX) {
        check_unix(&mut found, &field, entry);
    } else {
        check_name_or_address(&mut found, &field, entry);
    }
    check_endpoint_ports(&mut found, &field.field("ports"), entry);
    report_network(&mut found, &field, entry);
    found.list
}

fn check_selector(found: &mut Findings<'_>, field: &FieldPath, spec: &ServiceEntry) {
    let Some(WorkloadSelector { labels }) = &spec.workload_selector else { return };
    let field = field.field("workloadSelector");
    if !spec.endpoints.is_empty() {
        found.error(&field, "only one of WorkloadSelector or Endpoints is allowed in Service Entry");
    }
    if labels.is_empty() {
        found.warning(&field, "workload selector specified without labels");
    }
    for (key, value) in labels {
        let field = field.field("labels");
        if key.is_empty() {
            found.error(&field, format!("empty key is not supported in selector: \"{key}={value}\""));
        }
        if key.contains('*') || value.contains('*') {
            found.error(&field, format!("wildcard is not supported in selector: \"{key}={value}\""));
        }
    }
}

fn check_hosts(found: &mut Findings<'_>, field: &FieldPath, spec: &ServiceEntry) {
    if spec.hosts.is_empty() {
        found.error_with_help(
            field,
            "service entry must have at least one host",
            "name it: `hosts: [api.example.com]`",
        );
    }
    for (at, name) in spec.hosts.iter().enumerate() {
        if name == "*" {
            found.error(&field.index(at), format!("invalid host {name}"));
        } else {
            found.check_host(&field.index(at), host::check_wildcard_domain(name));
        }
    }
    let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if !by_name || !spec.endpoints.is_empty() || spec.workload_selector.is_some() {
        return;
    }
    for (at, _) in spec.hosts.iter().enumerate().filter(|(_, name)| name.starts_with('*') && *name != "*") {
        let message = format!(
            "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode {}, \
             a wildcard cannot be resolved",
            spec.resolution.as_str()
        );
        found.error_with_help(&field.index(at), message, "give the names to resolve in `endpoints`");
    }
}

fn check_addresses(found: &mut Findings<'_>, field: &FieldPath, spec: &ServiceEntry) {
    for (at, address) in spec.addresses.iter().enumerate() {
        let (ip, bits) =
            address.split_once('/').map_or((address.as_str(), None), |(ip, bits)| (ip, Some(bits)));
        let fits = |ip: IpAddr| {
            bits.is_none_or(|bits| {
                bits.parse::<u8>().is_ok_and(|bits| bits <= if ip.is_ipv4() { 32 } else { 128 })
            })
        };
        if !ip.parse::<IpAddr>().is_ok_and(fits) {
            let what = if bits.is_some() { "subnet" } else { "IP" };
            found.error(&field.index(at), format!("{address} is not a valid {what}"));
        }
    }
    let may_be_cidr = matches!(spec.resolution, Resolution::None | Resolution::Static);
    if !may_be_cidr && spec.addresses.iter().any(|address| address.contains('/')) {
        found.error(field, "CIDR addresses are allowed only for NONE/STATIC resolution types");
    }
}

fn check_ports(found: &mut Findings<'_>, field: &FieldPath, ports: &[EntryPort]) {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (at, port) in ports.iter().enumerate() {
        let field = field.index(at);
        if !names.insert(&port.name) {
            let message = format!("service entry port name \"{}\" already defined", port.name);
            found.error(&field.field("name"), message);
        }
        if !numbers.insert(port.number) {
            let message = format!("service entry port {} already defined", port.number);
            found.error(&field.field("number"), message);
        }
        if !host::is_label(&port.name) {
            let help = "a name such as `http` or `tcp-db`: letters, digits and dashes";
            found.error_with_help(&field.field("name"), format!("invalid port name: {}", port.name), help);
        }
        let protocol = port.protocol.to_ascii_uppercase();
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol.as_str()) {
            found.error(&field.field("protocol"), format!("unsupported protocol: {}", port.protocol));
        }
        check_port(found, &field.field("number"), port.number);
        if port.target_port != 0 {
            check_port(found, &field.field("targetPort"), port.target_port);
        }
    }
}

fn check_endpoints(found: &mut Findings<'_>, field: &FieldPath, spec: &ServiceEntry) {
    match spec.resolution {
        Resolution::None if !spec.endpoints.is_empty() => {
            let help = "with endpoints, say `resolution: STATIC` or, where they are names, `resolution: DNS`";
            found.error_with_help(field, "no endpoints should be provided for resolution type none", help);
        }
        Resolution::DnsRoundRobin if spec.endpoints.len() > 1 => {
            found.error(field, "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN");
        }
        Resolution::DynamicDns => {
            let message = "DYNAMIC_DNS is not yet supported and must not be ignored: the document is refused";
            found
                .add(Severity::Error, Code::NotEnforced, &FieldPath::spec().field("resolution"), message)
                .help = Some("name the hosts one by one, with `resolution: DNS`".to_owned());
        }
        _ => {}
    }
    for (at, endpoint) in spec.endpoints.iter().enumerate() {
        check_endpoint(found, &field.index(at), spec, endpoint);
    }
}

fn check_endpoint(
    found: &mut Findings<'_>,
    field: &FieldPath,
    spec: &ServiceEntry,
    endpoint: &WorkloadEntry,
) {
    let is_address = endpoint.address.parse::<IpAddr>().is_ok();
    match spec.resolution {
        Resolution::Static if endpoint.address.starts_with(UNIX) => {
            check_unix(found, field, endpoint);
            if spec.ports.len() != 1 {
                found.error(field, "exactly 1 service port required for unix endpoints");
            }
        }
        Resolution::Static if !is_address => {
            let message = format!("endpoint address \"{}\" is not a valid IP address", endpoint.address);
            let help = "an endpoint with a name needs `resolution: DNS`";
            found.error_with_help(&field.field("address"), message, help);
        }
        Resolution::Dns | Resolution::DnsRoundRobin => check_name_or_address(found, field, endpoint),
        _ => {}
    }
    for port in endpoint.ports.iter().filter(|(name, _)| spec.ports.iter().all(|port| port.name != **name)) {
        let message = format!("endpoint port {} is not defined by the service entry", port.1);
        let help = format!("`{}` is the name of none of `spec.ports`", port.0);
        found.error_with_help(&field.field("ports").field(port.0), message, &help);
    }
    check_endpoint_ports(found, &field.field("ports"), endpoint);
    report_network(found, field, endpoint);
}

fn check_name_or_address(found: &mut Findings<'_>, field: &FieldPath, endpoint: &WorkloadEntry) {
    let address = &endpoint.address;
    let is_name = !address.contains('*') && host::check_wildcard_domain(address).is_ok();
    if address.parse::<IpAddr>().is_err() && !is_name {
        let message = format!("endpoint address \"{address}\" is not a valid FQDN or an IP address");
        found.error_with_help(&field.field("address"), message, host::HELP);
    }
}

fn check_endpoint_ports(found: &mut Findings<'_>, field: &FieldPath, endpoint: &WorkloadEntry) {
    for (name, number) in &endpoint.ports {
        if !host::is_label(name) {
            found.error(&field.field(name), format!("invalid port name: {name}"));
        }
        check_port(found, &field.field(name), *number);
    }
}

fn check_unix(found: &mut Findings<'_>, field: &FieldPath, endpoint: &WorkloadEntry) {
    let address = &endpoint.address;
    if !endpoint.ports.is_empty() {
        found.error(&field.field("ports"), format!("unix endpoint {address} must not include ports"));
    }
    let message =
        "unix domain sockets are not yet supported and must not be ignored: the document is refused";
    found.add(Severity::Error, Code::NotEnforced, &field.field("address"), message).help =
        Some("let the endpoint listen on a TCP port".to_owned());
}

/// An endpoint in another network is reached through that network's gateway, by mutual TLS.
fn report_network(found: &mut Findings<'_>, field: &FieldPath, endpoint: &WorkloadEntry) {
    if !endpoint.network.is_empty() {
        let message = "network is not yet supported: the endpoint is reached at its own address";
        found.add(Severity::Warning, Code::NotSupported, &field.field("network"), message);
    }
}

/// Without a Host or an SNI, nothing tells the hosts apart.
fn check_ambiguity(found: &mut Findings<'_>, field: &FieldPath, spec: &ServiceEntry) {
    let tells = |port: &EntryPort| {
        let protocols = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "HTTPS", "TLS"];
        protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case(&port.protocol))
    };
    if spec.resolution != Resolution::None && spec.hosts.len() > 1 && !spec.ports.iter().all(tells) {
        let help = "make a ServiceEntry of each host";
        found.error_with_help(
            &field.field("hosts"),
            "multiple hosts provided with non-HTTP, non-TLS ports",
            help,
        );
    }
}
