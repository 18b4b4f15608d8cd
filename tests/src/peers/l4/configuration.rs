//! The contenders' configurations, each as its own documentation would have it for this work.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::{envoy_address, envoy_cluster, haproxy_tcp_head, nginx_stream_head};
use super::Contender;
use crate::arena::{Arena, BULK, REQUESTS, SILENT};
use crate::documents::{Server, gateway, tcp_route, tcp_service};

/// A port that gateways listen on, and where they take connections to.
struct Listener {
    name: &'static str,
    port: u16,
    at: SocketAddr,
    backends: Vec<SocketAddr>,
}

fn listeners(arena: &Arena) -> Vec<Listener> {
    let all = [
        ("requests", REQUESTS, arena.backends(REQUESTS)),
        ("bulk", BULK, arena.backends(BULK)),
        ("silent", SILENT, arena.silent()),
    ];
    let listener = |(name, port, backends)| Listener { name, port, at: arena.gateway(port), backends };
    all.into_iter().map(listener).collect()
}

/// Text of the file.
pub(super) fn of(contender: Contender, arena: &Arena) -> String {
    match contender {
        Contender::Routed => String::new(),
        Contender::Sluice | Contender::SluiceUser => sluice(arena),
        Contender::Nftables => nftables(arena),
        Contender::Haproxy => haproxy(arena),
        Contender::Envoy => envoy(arena),
        Contender::Nginx => nginx(arena),
    }
}

fn sluice(arena: &Arena) -> String {
    let listeners = listeners(arena);
    let servers: Vec<_> = listeners.iter().map(|listener| Server::tcp(listener.port)).collect();
    let mut text = gateway("edge", &servers);
    for Listener { name, port, backends, .. } in &listeners {
        text += &tcp_route(name, *port, "edge", name);
        text += &tcp_service(name, backends);
    }
    text
}

fn nftables(arena: &Arena) -> String {
    let mut text =
        "table ip edge {\n  chain prerouting {\n    type nat hook prerouting priority dstnat;\n".to_owned();
    for Listener { port, at, backends, .. } in listeners(arena) {
        let numbered =
            backends.iter().enumerate().map(|(number, backend)| format!("{number} : {}", backend.ip()));
        let (count, map) = (backends.len(), numbered.collect::<Vec<_>>().join(", "));
        let _ = writeln!(
            text,
            "    ip daddr {} tcp dport {port} dnat to numgen inc mod {count} map {{ {map} }}",
            at.ip()
        );
    }
    text + "  }\n  chain postrouting {\n    type nat hook postrouting priority srcnat;\n    oifname { \"b0\", \"b1\" } masquerade\n  }\n}\n"
}

fn haproxy(arena: &Arena) -> String {
    let mut text = haproxy_tcp_head("");
    for Listener { name, at, backends, .. } in listeners(arena) {
        let _ = writeln!(text, "listen {name}\n    bind {at} backlog 16384");
        for (index, backend) in backends.iter().enumerate() {
            let _ = writeln!(text, "    server s{index} {backend}");
        }
    }
    text
}

fn nginx(arena: &Arena) -> String {
    let mut text = nginx_stream_head();
    for Listener { name, at, backends, .. } in listeners(arena) {
        let servers: Vec<_> = backends.iter().map(|backend| format!("server {backend};")).collect();
        let _ = writeln!(text, "  upstream {name} {{ {} }}", servers.join(" "));
        let _ = writeln!(text, "  server {{ listen {at} backlog=16384; proxy_pass {name}; }}");
    }
    text + "}\n"
}

fn envoy(arena: &Arena) -> String {
    let (mut inbound, mut clusters) = (String::new(), String::new());
    for Listener { name, at, backends, .. } in listeners(arena) {
        inbound += &envoy_listener(name, at);
        clusters += &envoy_cluster(name, &backends);
    }
    format!("static_resources:\n  listeners:\n{inbound}  clusters:\n{clusters}")
}

fn envoy_listener(name: &str, at: SocketAddr) -> String {
    format!(
        "  - name: {name}\n    {}\n    tcp_backlog_size: 16384\n    filter_chains:\n    - filters:\n      \
         - name: envoy.filters.network.tcp_proxy\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: {name}\n          cluster: {name}\n",
        envoy_address(at)
    )
}
