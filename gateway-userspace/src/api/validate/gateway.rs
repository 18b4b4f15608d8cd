//! Gateway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::api::annotation::{self, GatewayAnnotations};
use crate::api::diagnostic::Diagnostic;
use crate::api::gateway::{Gateway, ProtocolFamily, Server};
use crate::api::object::Sourced;
use crate::api::path::FieldPath;

use super::{Findings, check_port, host, rows, server_tls, unsupported};

/// Checks one Gateway.
pub fn gateway(document: &Sourced<Gateway>) -> Vec<Diagnostic> {
    let mut found = Findings::new(&document.source);
    if !host::is_label(document.name()) {
        let message = format!("invalid gateway name: \"{}\"", document.name());
        found.error_with_help(
            &FieldPath::metadata().field("name"),
            message,
            "a gateway's name is one DNS label: letters, digits and dashes, no dots",
        );
    }
    for wrong in GatewayAnnotations::read(&document.metadata.annotations).1 {
        found.error_with_help(&annotation::field(&wrong.key), wrong.message, wrong.help);
    }
    check_selector(&mut found, &document.spec);
    let servers = FieldPath::spec().field("servers");
    if document.spec.servers.is_empty() {
        found.error(&servers, "gateway must have at least one server");
    }
    let mut names = BTreeSet::new();
    for (at, server) in document.spec.servers.iter().enumerate() {
        let field = servers.index(at);
        check_server(&mut found, &field, server);
        let name = server.port.as_ref().map_or("", |port| port.name.as_str());
        if !name.is_empty() && !names.insert(name) {
            let message = format!("port names in servers must be unique: duplicate name {name}");
            found.error(&field.field("port").field("name"), message);
        }
    }
    unsupported::report(&mut found, rows::GATEWAY);
    found.list
}

/// A value that no pod's label can have is most often a remark without `#`.
fn check_selector(found: &mut Findings<'_>, spec: &Gateway) {
    for (key, value) in &spec.selector {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if value.len() > 63 || !value.bytes().all(inner) {
            let field = FieldPath::spec().field("selector").field(key);
            let help = "letters, digits, dashes, underscores and dots only; a comment begins with `#`";
            found.error_with_help(&field, format!("invalid tag value: \"{value}\""), help);
        }
    }
}

fn check_server(found: &mut Findings<'_>, field: &FieldPath, server: &Server) {
    let family = check_port_of(found, field, server);
    if server.hosts.is_empty() {
        found.error(&field.field("hosts"), "server config must contain at least one host");
    }
    for (at, host) in server.hosts.iter().enumerate() {
        found.check_host(&field.field("hosts").index(at), host::check_server_host(host));
    }
    check_bind(found, &field.field("bind"), &server.bind);
    let Some(family) = family else { return };
    let tls = field.field("tls");
    match &server.tls {
        None if family.is_tls() => {
            found.error(field, "server must have TLS settings for HTTPS/TLS protocols").help = Some(
                "add `tls:` with `mode: SIMPLE` and a `credentialName`, or `mode: PASSTHROUGH`".to_owned(),
            );
        }
        None => {}
        Some(settings) => server_tls::check(found, &tls, settings, family),
    }
}

fn check_port_of(found: &mut Findings<'_>, field: &FieldPath, server: &Server) -> Option<ProtocolFamily> {
    let Some(port) = &server.port else {
        found.error(field, "port is required");
        return None;
    };
    let field = field.field("port");
    // Istio asks for no number beside a unix socket.
    if !server.bind.starts_with("unix:") {
        check_port(found, &field.field("number"), port.number);
    }
    if port.name.is_empty() {
        found.error(&field.field("name"), format!("port name must be set: number {}", port.number));
    }
    if port.target_port.is_some_and(|number| number != 0) {
        found.warning(&field.field("targetPort"), "targetPort has no impact on Gateways");
    }
    let family = ProtocolFamily::parse(&port.protocol);
    if family.is_none() {
        let message = format!(
            "invalid protocol \"{}\", supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP",
            port.protocol
        );
        found.error_with_help(&field.field("protocol"), message, "HTTPS and TLS are supported too");
    }
    family
}

fn check_bind(found: &mut Findings<'_>, field: &FieldPath, bind: &str) {
    if bind.starts_with("unix:") {
        let message = "binding to a unix domain socket is not yet supported: the document is refused";
        found.error_with_help(field, message, "give an IP address, or leave `bind` out to listen on all");
    } else if !bind.is_empty() && bind.parse::<IpAddr>().is_err() {
        found.error(field, format!("{bind} is not a valid IP"));
    }
}
