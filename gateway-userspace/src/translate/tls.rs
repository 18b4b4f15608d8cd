//! TLS ports: a filter chain for each terminating server, and for each `tls` match of a passthrough server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::api::gateway::ProtocolFamily;
use crate::api::virtual_service::TlsMatchAttributes;
use crate::api::{Code, Diagnostic, FieldPath, Related, Severity};
use crate::model::listener::TlsListener;
use crate::model::{ChainAction, FilterChain, HostPattern};

use super::bind::Bound;
use super::matching::{names_gateway, names_port};
use super::merge::Port;
use super::origin;
use super::report::Report;
use super::select::SelectedServer;
use super::{Context, destination, http, tcp};

/// The chains of a port; a port without any does not listen.
pub(super) fn port_chains(
    context: &Context<'_>,
    (port, grpc_web): (&Port<'_>, bool),
    report: &mut Report,
) -> Option<TlsListener> {
    let mut chains = Chains::new(port);
    for server in &port.servers {
        if server.passes_through() {
            chains.add_passthrough(context, server, report);
        } else {
            chains.add_terminating(context, (server, grpc_web), report);
        }
    }
    (!chains.list.is_empty()).then(|| TlsListener::new(chains.list))
}

struct Chains {
    list: Vec<FilterChain>,
    /// Who has an SNI on this port.
    claimed: HashMap<HostPattern, Related>,
    /// Hosts of the port's servers, each with the first that has it, where clients of some pass through.
    hosts: HashMap<HostPattern, Related>,
}

impl Chains {
    fn new(port: &Port<'_>) -> Self {
        let mut hosts = HashMap::new();
        let any_passes = port.servers.iter().any(SelectedServer::passes_through);
        for server in port.servers.iter().filter(|_| any_passes) {
            for (at, entry) in server.hosts.entries().iter().enumerate() {
                let field = server.field().field("hosts").index(at);
                let place = || server.gateway.related(&field, "has the name");
                hosts.entry(entry.pattern.clone()).or_insert_with(place);
            }
        }
        Self { list: Vec::new(), claimed: HashMap::new(), hosts }
    }

    fn add_terminating(
        &mut self,
        context: &Context<'_>,
        (server, grpc_web): (&SelectedServer<'_>, bool),
        report: &mut Report,
    ) {
        let Some(tls) = context.credentials.server_tls(server, report).map(Arc::new) else { return };
        let (name, action) = if server.family == ProtocolFamily::Https {
            let routes = Arc::new(http::server_table(context, server, report).with_grpc_web(grpc_web));
            (routes.name.clone(), ChainAction::TerminateHttp { tls, routes })
        } else {
            let Some(route) = tcp::server_route(context, server, report) else { return };
            let route = Arc::new(route);
            (http::server_name("tls", server).into(), ChainAction::TerminateTcp { tls, route })
        };
        let mut sni: Vec<HostPattern> = Vec::new();
        let mut seen = HashSet::new();
        for (at, entry) in server.hosts.entries().iter().enumerate() {
            if !seen.insert(&entry.pattern) {
                continue;
            }
            let field = server.field().field("hosts").index(at);
            if let Some(first) = self.claimed.get(&entry.pattern) {
                report.add(claimed(server, &entry.pattern, &field, first));
                continue;
            }
            self.claimed.insert(entry.pattern.clone(), server.gateway.related(&field, "has the name"));
            sni.push(entry.pattern.clone());
        }
        let origin = Some(origin::of_server(server).origin);
        self.list.push(FilterChain { name, sni, action, origin });
    }

    fn add_passthrough(&mut self, context: &Context<'_>, server: &SelectedServer<'_>, report: &mut Report) {
        let before = self.list.len();
        for (document, bound) in context.bindings.of(server) {
            if !tcp::shares_host(server, bound) {
                continue;
            }
            for (index, rule) in bound.document.spec.tls.iter().enumerate() {
                let field = FieldPath::spec().field("tls").index(index);
                for (at, condition) in rule.matches.iter().enumerate() {
                    if !names_port(condition.port, server)
                        || !names_gateway(&condition.gateways, bound, server)
                    {
                        continue;
                    }
                    // Reported on its own when it loses its names.
                    context.bindings.mark(document, "tls", index);
                    let place = field.field("match").index(at).field("sniHosts");
                    let Some(sni) = self.claim(server, bound, condition, &place, report) else { continue };
                    let destinations = destination::of_l4(&rule.route);
                    let to = field.field("route");
                    let Some(mut route) = tcp::route(context, bound, server, &to, &destinations, report)
                    else {
                        continue;
                    };
                    let origin = Some(origin::origin(&bound.document, "tls", index, Some(at)));
                    route.origin.clone_from(&origin);
                    let name = format!(
                        "{}/tls[{index}].match[{at}]/{}",
                        bound.label(),
                        http::server_name("tls", server)
                    );
                    let action = ChainAction::Passthrough(Arc::new(route));
                    self.list.push(FilterChain { name: name.into(), sni, action, origin });
                }
            }
        }
        if self.list.len() == before {
            tcp::report_no_route(server, "tls", report);
        }
    }

    /// The names of a match. One that is taken already costs the match all of its names. One that the server does not have is
    /// served all the same, as at Istio's gateway, which holds the VirtualService's hosts alone against the server's; unless
    /// it is a host of another server, where Envoy would lose the listener.
    fn claim(
        &mut self,
        server: &SelectedServer<'_>,
        bound: &Bound,
        condition: &TlsMatchAttributes,
        field: &FieldPath,
        report: &mut Report,
    ) -> Option<Vec<HostPattern>> {
        let namespace = bound.document.namespace();
        let names: Vec<HostPattern> = condition.sni_hosts.iter().map(|name| HostPattern::new(name)).collect();
        for (at, name) in names.iter().enumerate() {
            let is_own = server.hosts.meets(name, namespace);
            let other = || self.hosts.get(name).filter(|_| !is_own);
            let place = field.index(at);
            if let Some(first) = self.claimed.get(name).or_else(other) {
                let message =
                    format!("SNI host {name} is taken already on this port: the whole match is dropped");
                let (severity, code) = (Severity::Error, Code::ConflictingGateways);
                report.add(bound.document.diagnostic(severity, code, &place, message).related(first.clone()));
                return None;
            }
            if !is_own {
                report.add(foreign(server, bound, name, &place));
            }
        }
        for (at, name) in names.iter().enumerate() {
            let place = bound.document.related(&field.index(at), "has the name");
            self.claimed.entry(name.clone()).or_insert(place);
        }
        Some(names)
    }
}

/// A name that another server of the port has, for another namespace's VirtualServices: a ClientHello does not tell them apart,
/// and Envoy would lose the listener.
fn claimed(
    server: &SelectedServer<'_>,
    name: &HostPattern,
    field: &FieldPath,
    first: &Related,
) -> Diagnostic {
    let message = format!(
        "host {name} is an older server's on this port already: clients who ask for it get that one's"
    );
    let (severity, code) = (Severity::Error, Code::ConflictingGateways);
    let found = server.gateway.diagnostic(severity, code, field, message).related(first.clone());
    found.help("put the hosts of both namespaces into one server, which has one certificate for them")
}

/// A name that the server does not have.
fn foreign(server: &SelectedServer<'_>, bound: &Bound, name: &HostPattern, place: &FieldPath) -> Diagnostic {
    let message = format!(
        "SNI host {name} is not a host of the server: it is served all the same, as at Istio's gateway"
    );
    let (severity, code) = (Severity::Warning, Code::HostNotFoundInGateway);
    let hosts = server.gateway.related(&server.field().field("hosts"), "the server's hosts");
    let help = "add it to the server's hosts if it is meant, or take it out";
    bound.document.diagnostic(severity, code, place, message).related(hosts).help(help)
}
