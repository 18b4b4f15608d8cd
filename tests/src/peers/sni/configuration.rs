//! The contenders' configurations, each as its own documentation would have it for this work.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::{envoy_address, envoy_cluster, haproxy_tcp_head, nginx_stream_head};
use super::Contender;
use crate::arena::{Arena, SNI};
use crate::documents::{Server, gateway, service, sni_route};
use crate::load::sni::{DOMAIN, Name};

/// A server name, what its backends are called, and where they are.
struct Route {
    host: String,
    label: String,
    backends: Vec<SocketAddr>,
}

fn routes(arena: &Arena) -> Vec<Route> {
    let route =
        |name: Name| Route { host: name.host(), label: name.label(), backends: name.addresses(arena) };
    Name::all().map(route).collect()
}

/// Text of the file.
pub(super) fn of(contender: Contender, arena: &Arena) -> String {
    let (at, routes) = (arena.gateway(SNI), routes(arena));
    match contender {
        Contender::Routed => String::new(),
        Contender::Handoff | Contender::Splice | Contender::Copy | Contender::Auto => sluice(&routes),
        Contender::Haproxy => haproxy(at, &routes),
        Contender::Envoy => envoy(at, &routes),
        Contender::Nginx => nginx(at, &routes),
    }
}

fn sluice(routes: &[Route]) -> String {
    let mut text = gateway("edge", &[Server::passthrough(SNI, &[&format!("*.{DOMAIN}")])]);
    for Route { host, label, backends } in routes {
        text += &sni_route(label, SNI, host, "edge", label);
        text += &service(label, "tls", backends);
    }
    text
}

/// "SSL/TLS SNI" of the configuration manual's section on `req.ssl_sni`, and `option splice-auto`.
fn haproxy(at: SocketAddr, routes: &[Route]) -> String {
    let mut text = haproxy_tcp_head("    option splice-auto\n");
    let _ = write!(
        text,
        "frontend sni\n    bind {at} backlog 16384\n    tcp-request inspect-delay 5s\n    \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n"
    );
    for Route { host, label, .. } in routes {
        let _ = writeln!(text, "    use_backend {label} if {{ req.ssl_sni -i {host} }}");
    }
    for Route { label, backends, .. } in routes {
        let _ = writeln!(text, "backend {label}");
        for (index, backend) in backends.iter().enumerate() {
            let _ = writeln!(text, "    server s{index} {backend}");
        }
    }
    text
}

/// The example of ngx_stream_ssl_preread_module.
fn nginx(at: SocketAddr, routes: &[Route]) -> String {
    let mut text = nginx_stream_head() + "  map $ssl_preread_server_name $chosen {\n";
    for Route { host, label, .. } in routes {
        let _ = writeln!(text, "    {host} {label};");
    }
    text += "  }\n";
    for Route { label, backends, .. } in routes {
        let servers: Vec<_> = backends.iter().map(|backend| format!("server {backend};")).collect();
        let _ = writeln!(text, "  upstream {label} {{ {} }}", servers.join(" "));
    }
    let _ = writeln!(text, "  server {{ listen {at} backlog=16384; ssl_preread on; proxy_pass $chosen; }}");
    text + "}\n"
}

/// Envoy's FAQ "How do I configure SNI for listeners?".
fn envoy(at: SocketAddr, routes: &[Route]) -> String {
    let mut text = format!(
        "static_resources:\n  listeners:\n  - name: sni\n    {}\n    tcp_backlog_size: 16384\n    listener_filters:\n    \
         - name: envoy.filters.listener.tls_inspector\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\n    \
         filter_chains:\n",
        envoy_address(at)
    );
    for Route { host, label, .. } in routes {
        let _ = write!(
            text,
            "    - filter_chain_match: {{server_names: [{host}]}}\n      filters:\n      \
             - name: envoy.filters.network.tcp_proxy\n        typed_config:\n          \
             \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
             stat_prefix: {label}\n          cluster: {label}\n"
        );
    }
    text += "  clusters:\n";
    for Route { label, backends, .. } in routes {
        text += &envoy_cluster(label, backends);
    }
    text
}
