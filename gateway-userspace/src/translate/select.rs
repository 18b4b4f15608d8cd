//! Which Gateways are for this gateway, and what their servers' hosts mean.

use std::net::IpAddr;
use std::sync::Arc;

use crate::api::gateway::{Gateway, Mode, ProtocolFamily, Server};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};
use crate::model::GatewayIdentity;

use super::hosts::ServerHosts;
use super::report::Report;

/// A server of a Gateway that is for us.
#[derive(Debug, Clone)]
pub(super) struct SelectedServer<'a> {
    pub(super) gateway: &'a Sourced<Gateway>,
    pub(super) index: usize,
    pub(super) server: &'a Server,
    pub(super) family: ProtocolFamily,
    /// `port.number`: what VirtualServices and redirects speak of.
    pub(super) number: u16,
    pub(super) bind: Option<IpAddr>,
    pub(super) hosts: Arc<ServerHosts>,
}

impl SelectedServer<'_> {
    /// `spec.servers[i]`.
    pub(super) fn field(&self) -> FieldPath {
        FieldPath::spec().field("servers").index(self.index)
    }

    pub(super) fn port_name(&self) -> &str {
        self.server.port.as_ref().map_or("", |port| port.name.as_str())
    }

    /// `GRPC-WEB`; case does not count.
    pub(super) fn speaks_grpc_web(&self) -> bool {
        self.server.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("GRPC-WEB"))
    }

    pub(super) fn redirects_to_https(&self) -> bool {
        self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// A TLS server that leaves the bytes alone.
    pub(super) fn passes_through(&self) -> bool {
        self.family.is_tls() && self.server.tls.as_ref().is_none_or(|tls| tls.mode == Mode::Passthrough)
    }
}

/// The servers of the Gateways that select this gateway's labels, in any namespace unless the gateway takes its own's alone; no
/// selector selects all. Oldest Gateway first.
pub(super) fn gateways<'a>(
    objects: &'a Objects,
    identity: &GatewayIdentity,
    report: &mut Report,
) -> Vec<SelectedServer<'a>> {
    let mut servers = Vec::new();
    for gateway in &objects.gateways {
        if identity.own_gateways_only && **gateway.namespace() != *identity.namespace {
            report.add(elsewhere(gateway, identity));
            continue;
        }
        let selector = &gateway.spec.selector;
        let missing: Vec<String> = selector
            .iter()
            .filter(|(key, value)| identity.labels.get(*key) != Some(value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if missing.is_empty() {
            servers
                .extend(gateway.spec.servers.iter().enumerate().filter_map(|(at, s)| server(gateway, at, s)));
            continue;
        }
        let field = FieldPath::spec().field("selector");
        let message = format!("this gateway is not selected: it has no label {}", missing.join(", "));
        report.add(
            gateway
                .diagnostic(Severity::Info, Code::NotSelected, &field, message)
                .help("the gateway's labels are set with --labels"),
        );
    }
    servers
}

fn elsewhere(gateway: &Sourced<Gateway>, identity: &GatewayIdentity) -> Diagnostic {
    let message = format!("this gateway takes Gateways of its own namespace, {}, alone", identity.namespace);
    let field = FieldPath::metadata().field("namespace");
    gateway
        .diagnostic(Severity::Info, Code::NotSelected, &field, message)
        .help("--scope-gateway-to-namespace says so, or PILOT_SCOPE_GATEWAY_TO_NAMESPACE")
}

fn server<'a>(gateway: &'a Sourced<Gateway>, index: usize, server: &'a Server) -> Option<SelectedServer<'a>> {
    let port = server.port.as_ref()?;
    Some(SelectedServer {
        gateway,
        index,
        server,
        family: ProtocolFamily::parse(&port.protocol)?,
        number: u16::try_from(port.number).ok()?,
        bind: server.bind.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified()),
        hosts: Arc::new(ServerHosts::new(&server.hosts, gateway.namespace())),
    })
}
