//! Opaque TCP: the first rule of the first VirtualService that fits has the port.

use std::time::Duration;

use crate::api::virtual_service::TcpRoute as Rule;
use crate::api::{Code, FieldPath, Severity};
use crate::model::TcpRoute;

use super::Context;
use super::bind::Bound;
use super::destination::{self, Weighted};
use super::matching::{names_gateway, names_port};
use super::merge::Port;
use super::origin::origin;
use super::report::Report;
use super::select::SelectedServer;

/// Both directions silent for so long: closed.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);

/// The route of a TCP port, or none: then nothing listens, as in Istio, and it is reported.
pub(super) fn port_route(context: &Context<'_>, port: &Port<'_>, report: &mut Report) -> Option<TcpRoute> {
    // Two opaque servers cannot share a port: the oldest is the only one.
    let server = port.servers.first()?;
    server_route(context, server, report)
}

/// The `tcp` route of a TCP server, or of a TLS server that terminates.
pub(super) fn server_route(
    context: &Context<'_>,
    server: &SelectedServer<'_>,
    report: &mut Report,
) -> Option<TcpRoute> {
    for (document, bound) in context.bindings.of(server) {
        if !shares_host(server, bound) {
            continue;
        }
        let fits = |rule: &Rule| {
            rule.matches.is_empty()
                || rule.matches.iter().any(|condition| {
                    names_port(condition.port, server) && names_gateway(&condition.gateways, bound, server)
                })
        };
        let Some((index, rule)) = bound.document.spec.tcp.iter().enumerate().find(|(_, rule)| fits(rule))
        else {
            continue;
        };
        context.bindings.mark(document, "tcp", index);
        let field = FieldPath::spec().field("tcp").index(index).field("route");
        let mut route = route(context, bound, server, &field, &destination::of_l4(&rule.route), report)?;
        let condition = rule.matches.iter().position(|condition| {
            names_port(condition.port, server) && names_gateway(&condition.gateways, bound, server)
        });
        route.origin = Some(origin(&bound.document, "tcp", index, condition));
        return Some(route);
    }
    report_no_route(server, "tcp", report);
    None
}

/// Bytes to clusters.
pub(super) fn route(
    context: &Context<'_>,
    bound: &Bound,
    server: &SelectedServer<'_>,
    field: &FieldPath,
    destinations: &Weighted<'_>,
    report: &mut Report,
) -> Option<TcpRoute> {
    let resolved = destination::resolve(context, bound, field, destinations, server.number, report);
    if resolved.is_empty() {
        return None;
    }
    let first = resolved.first().and_then(|(_, destination)| destination.cluster.as_ref());
    let idle_timeout = first.and_then(|cluster| cluster.idle_timeout).unwrap_or(IDLE_TIMEOUT);
    let max_duration = first.and_then(|cluster| cluster.max_connection_duration);
    Some(TcpRoute {
        virtual_service: bound.label().clone(),
        destinations: resolved.into_iter().map(|(_, cluster)| cluster).collect(),
        idle_timeout,
        max_duration,
        origin: None,
    })
}

/// TCP knows no hosts; those of the documents must only meet somewhere.
pub(super) fn shares_host(server: &SelectedServer<'_>, bound: &Bound) -> bool {
    bound.hosts.iter().any(|host| server.hosts.meets(host, bound.document.namespace()))
}

pub(super) fn report_no_route(server: &SelectedServer<'_>, list: &str, report: &mut Report) {
    let field = server.field().field("port").field("number");
    let message =
        format!("no VirtualService has a {list} route for port {}: it is not opened", server.number);
    report.add(server.gateway.diagnostic(Severity::Warning, Code::NoRoute, &field, message).help(format!(
        "add a VirtualService with this gateway in `gateways` and a `{list}` rule for the port"
    )));
}
