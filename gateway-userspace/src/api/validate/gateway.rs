//! Gateway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::api::annotation::{self, GatewayAnnotations};
use crate::api::diagnostic::Diagnostic;
use crate::api::gateway::{Gateway, Mode, Protocol, ProtocolFamily, Server, ServerTlsSettings};
use crate::api::object::Sourced;
use crate::api::path::FieldPath;

use super::{Findings, check_port, host, rows, unsupported};

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
        Some(settings) => check_tls(found, &tls, settings, family),
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

fn check_tls(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings, family: ProtocolFamily) {
    let sets_more = tls.mode != Mode::Passthrough || tls.credential().is_some();
    match family {
        ProtocolFamily::Http if sets_more => {
            found.error_with_help(
                field,
                "server cannot have TLS settings for plain text HTTP ports",
                "only `httpsRedirect: true` is allowed here; for TLS set `protocol: HTTPS`",
            );
        }
        ProtocolFamily::Http => {}
        ProtocolFamily::Tcp => {
            found.error_with_help(
                field,
                "server cannot have TLS settings for non HTTPS/TLS ports",
                "for TLS set `protocol: TLS`",
            );
        }
        ProtocolFamily::Https | ProtocolFamily::Tls => check_mode(found, field, tls),
    }
}

fn check_mode(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    if tls.https_redirect {
        let message = "tls.httpsRedirect should only be used with http servers";
        found.warning(&field.field("httpsRedirect"), message);
    }
    if !tls.credential_name.is_empty() && !tls.credential_names.is_empty() {
        found.error(
            &field.field("credentialNames"),
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should \
             be specified",
        );
    }
    let mode = tls.mode.as_str();
    match tls.mode {
        Mode::Simple | Mode::Mutual | Mode::OptionalMutual if tls.credential().is_none() => {
            found.error_with_help(
                field,
                format!("{mode} TLS requires a server certificate"),
                "name a Secret of the gateway's namespace in `credentialName`",
            );
        }
        Mode::Passthrough if tls.credential().is_some() => {
            let name = if tls.credential_name.is_empty() { "credentialNames" } else { "credentialName" };
            found.warning(
                &field.field(name),
                "PASSTHROUGH mode does not use certificates, they will be ignored",
            );
        }
        _ => {}
    }
    check_versions(found, field, tls);
}

fn check_versions(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if matches!(min, Protocol::V1_0 | Protocol::V1_1) {
        found.warning(
            &field.field("minProtocolVersion"),
            "TLS version below TLSV1_2 require setting compatible ciphers by configuring `cipherSuites`; \
             here TLS 1.2 is the least in any case",
        );
    }
    if matches!(max, Protocol::V1_0 | Protocol::V1_1) {
        found.error_with_help(
            &field.field("maxProtocolVersion"),
            "no TLS version is left: TLS below 1.2 is not served",
            "set TLSV1_2 or TLSV1_3, or leave it out",
        );
    }
    if min != Protocol::Auto && max != Protocol::Auto && min > max {
        found.error(&field.field("minProtocolVersion"), "minProtocolVersion is above maxProtocolVersion");
    }
}
