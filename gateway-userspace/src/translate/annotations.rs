//! What the annotations of the Gateways on a port make of its listener.

use crate::api::annotation::{
    self, GRPC_WEB, GatewayAnnotations, MAX_CONNECTIONS, MAX_NEW_CONNECTIONS, PROXY_PROTOCOL, ProxyProtocol,
    SOURCE_ADDRESS, SourceAddress as Written,
};
use crate::api::gateway::{Gateway, ProtocolFamily};
use crate::api::{Code, Severity, Sourced};
use crate::model::{Limits, ProxyVersion, SourceAddress, Steering, UserSpaceReason};

use super::merge::Port;
use super::report::Report;
use super::select::SelectedServer;

/// The settings of a listener that come from annotations.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ListenerSettings {
    pub(super) source_address: SourceAddress,
    pub(super) proxy_protocol: Option<ProxyVersion>,
    pub(super) limits: Limits,
    /// Said, or else meant by the protocol of the oldest server.
    pub(super) grpc_web: bool,
}

/// For each annotation, the oldest Gateway on the port that has it decides.
pub(super) fn of_port(port: &Port<'_>, report: &mut Report) -> ListenerSettings {
    let source = first(port, SOURCE_ADDRESS, |it| it.source_address, report);
    let proxy = first(port, PROXY_PROTOCOL, |it| it.proxy_protocol, report);
    ListenerSettings {
        source_address: match source {
            None | Some(Written::Snat) => SourceAddress::Snat,
            Some(Written::Preserve) => SourceAddress::Preserve,
        },
        proxy_protocol: proxy.map(|version| match version {
            ProxyProtocol::V1 => ProxyVersion::V1,
            ProxyProtocol::V2 => ProxyVersion::V2,
        }),
        limits: Limits {
            connections: first(port, MAX_CONNECTIONS, |it| it.max_connections, report),
            new_per_second: first(port, MAX_NEW_CONNECTIONS, |it| it.max_new_connections, report),
        },
        grpc_web: first(port, GRPC_WEB, |it| it.grpc_web, report)
            .unwrap_or_else(|| port.servers.first().is_some_and(SelectedServer::speaks_grpc_web)),
    }
}

fn first<T: PartialEq + Copy>(
    port: &Port<'_>,
    key: &str,
    get: impl Fn(GatewayAnnotations) -> Option<T>,
    report: &mut Report,
) -> Option<T> {
    let value = |gateway: &Sourced<Gateway>| get(GatewayAnnotations::read(&gateway.metadata.annotations).0);
    let mut with_value =
        port.servers.iter().filter_map(|server| Some((server.gateway, value(server.gateway)?)));
    let (oldest, chosen) = with_value.next()?;
    for (gateway, other) in with_value {
        if other != chosen {
            let field = annotation::field(key);
            let message = format!(
                "an older Gateway on port {} has another {key}: this one takes no effect there",
                port.key.port
            );
            report.add(
                gateway
                    .diagnostic(Severity::Warning, Code::ConflictingGateways, &field, message)
                    .related(oldest.related(&field, "is in force"))
                    .help("give both the same value, or use another port"),
            );
        }
    }
    Some(chosen)
}

/// Reports what the annotations ask for and the port cannot give.
pub(super) fn report_unfulfilled(
    port: &Port<'_>,
    settings: ListenerSettings,
    (steering, behind_proxy): (&Steering, bool),
    report: &mut Report,
) {
    let number = port.key.port;
    if settings.source_address == SourceAddress::Preserve
        && let Some(reason) = hides_clients(port, steering, behind_proxy)
    {
        let message = format!(
            "the source address cannot be preserved on port {number}: {reason}, and backends see the gateway's address"
        );
        let help = "keep ports for which it matters in a Gateway of their own: TCP and TLS, which may be passed through, \
                    without loopback addresses; HTTP backends find the client in x-forwarded-for, others by \
                    `sluice.dev/proxy-protocol` in place of this annotation";
        let with_it =
            port.servers.iter().find(|it| annotations(it).source_address == Some(Written::Preserve));
        if let Some(server) = with_it {
            let field = annotation::field(SOURCE_ADDRESS);
            report.add(
                server.gateway.diagnostic(Severity::Error, Code::NotEnforced, &field, message).help(help),
            );
        }
    }
    let http =
        |server: &&SelectedServer<'_>| annotations(server).proxy_protocol.is_some() && carries_http(server);
    for server in port.servers.iter().filter(http) {
        let field = annotation::field(PROXY_PROTOCOL);
        let message = format!("port {number} carries HTTP, whose backends get no PROXY protocol header");
        report.add(server.gateway.diagnostic(Severity::Warning, Code::NoEffect, &field, message).help(
            "HTTP backends find the client in x-forwarded-for; keep TCP ports in a Gateway of their own",
        ));
    }
}

/// Why the backends of a port would not see its clients' addresses, whatever the machine can do.
fn hides_clients(port: &Port<'_>, steering: &Steering, behind_proxy: bool) -> Option<UserSpaceReason> {
    match steering {
        // There is nobody to see an address.
        Steering::UserSpace(UserSpaceReason::NoHealthyBackend) => None,
        // Connections to its backends are for any client's request.
        _ if port.servers.iter().any(carries_http) => Some(UserSpaceReason::NeedsHttp),
        Steering::UserSpace(reason @ (UserSpaceReason::LoopbackBind | UserSpaceReason::LoopbackBackend)) => {
            Some(*reason)
        }
        // Who connects is the proxy.
        _ if behind_proxy => Some(UserSpaceReason::BehindProxy),
        Steering::UserSpace(_) | Steering::Kernel => None,
    }
}

fn carries_http(server: &SelectedServer<'_>) -> bool {
    match server.family {
        ProtocolFamily::Http => true,
        ProtocolFamily::Https => !server.passes_through(),
        ProtocolFamily::Tls | ProtocolFamily::Tcp => false,
    }
}

fn annotations(server: &SelectedServer<'_>) -> GatewayAnnotations {
    GatewayAnnotations::read(&server.gateway.metadata.annotations).0
}
