//! The contenders' configurations, each as its own documentation would have it for this work.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::Contender;
use crate::arena::{Arena, BULK, REQUESTS};
use crate::documents::{Server, gateway, tcp_route, tcp_service};

/// Of Debian's package libnginx-mod-stream.
pub(super) const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Ports that gateways listen on, and a name for each.
const LISTENERS: [(&str, u16); 2] = [("requests", REQUESTS), ("bulk", BULK)];

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
    let mut text = gateway("edge", &LISTENERS.map(|(_, port)| Server::tcp(port)));
    for (name, port) in LISTENERS {
        text += &tcp_route(name, port, "edge", name);
        text += &tcp_service(name, &arena.backends(port));
    }
    text
}

fn nftables(arena: &Arena) -> String {
    let backends = arena.backends(0);
    let map: Vec<_> =
        backends.iter().enumerate().map(|(i, backend)| format!("{i} : {}", backend.ip())).collect();
    format!(
        "table ip edge {{\n  chain prerouting {{\n    type nat hook prerouting priority dstnat;\n    \
         ip daddr {} tcp dport {{ {REQUESTS}, {BULK} }} dnat to numgen inc mod {} map {{ {} }}\n  }}\n  \
         chain postrouting {{\n    type nat hook postrouting priority srcnat;\n    oifname \"b0\" masquerade\n  }}\n}}\n",
        arena.gateway(0).ip(),
        backends.len(),
        map.join(", ")
    )
}

fn haproxy(arena: &Arena) -> String {
    let mut text =
        "global\n    nbthread 1\n    maxconn 4000\ndefaults\n    mode tcp\n    balance roundrobin\n    \
                    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
            .to_owned();
    for (name, port) in LISTENERS {
        let _ = writeln!(text, "listen {name}\n    bind {} backlog 16384", arena.gateway(port));
        for (index, backend) in arena.backends(port).iter().enumerate() {
            let _ = writeln!(text, "    server s{index} {backend}");
        }
    }
    text
}

fn nginx(arena: &Arena) -> String {
    let mut text = format!(
        "load_module {STREAM_MODULE};\nuser root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 16384;\npid nginx.pid;\n\
         events {{ worker_connections 8192; }}\nstream {{\n  access_log off;\n  proxy_timeout 1h;\n"
    );
    for (name, port) in LISTENERS {
        let _ = writeln!(text, "  upstream {name} {{");
        for backend in arena.backends(port) {
            let _ = writeln!(text, "    server {backend};");
        }
        let listen = arena.gateway(port);
        let _ = writeln!(text, "  }}\n  server {{ listen {listen} backlog=16384; proxy_pass {name}; }}");
    }
    text + "}\n"
}

fn envoy(arena: &Arena) -> String {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for (name, port) in LISTENERS {
        listeners += &envoy_listener(name, arena.gateway(port));
        clusters += &envoy_cluster(name, &arena.backends(port));
    }
    format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}")
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
