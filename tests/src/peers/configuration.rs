//! The contenders' configurations, each as its own documentation would have it for this work.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::Contender;
use crate::arena::{Arena, BULK, REQUESTS, SILENT};
use crate::documents::{Server, gateway, tcp_route, tcp_service};

/// Of Debian's package libnginx-mod-stream.
pub(super) const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

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

/// Name of the file below the contender's directory.
pub(super) fn file_name(contender: Contender) -> &'static str {
    match contender {
        Contender::Routed => "none",
        Contender::Sluice | Contender::SluiceUser => "documents/edge.yaml",
        Contender::Nftables => "ruleset.nft",
        Contender::Haproxy => "haproxy.cfg",
        Contender::Envoy => "envoy.yaml",
        Contender::Nginx => "nginx.conf",
    }
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
    let mut text =
        "global\n    nbthread 1\n    maxconn 4000\ndefaults\n    mode tcp\n    balance roundrobin\n    \
                    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
            .to_owned();
    for Listener { name, at, backends, .. } in listeners(arena) {
        let _ = writeln!(text, "listen {name}\n    bind {at} backlog 16384");
        for (index, backend) in backends.iter().enumerate() {
            let _ = writeln!(text, "    server s{index} {backend}");
        }
    }
    text
}

fn nginx(arena: &Arena) -> String {
    let mut text = format!(
        "load_module {STREAM_MODULE};\nuser root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 16384;\n\
         pid nginx.pid;\nevents {{ worker_connections 8192; }}\nstream {{\n  access_log off;\n  proxy_timeout 1h;\n"
    );
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

fn envoy_cluster(name: &str, backends: &[SocketAddr]) -> String {
    let mut text = format!(
        "  - name: {name}\n    type: STATIC\n    circuit_breakers:\n      thresholds:\n      \
         - {{max_connections: 10000, max_pending_requests: 10000}}\n    load_assignment:\n      \
         cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n"
    );
    for backend in backends {
        let _ = writeln!(text, "        - endpoint: {{{}}}", envoy_address(*backend));
    }
    text
}

fn envoy_address(at: SocketAddr) -> String {
    format!("address: {{socket_address: {{address: {}, port_value: {}}}}}", at.ip(), at.port())
}
