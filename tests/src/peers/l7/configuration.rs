//! The contenders' configurations, each as its own documentation would have it for this work. All keep connections to
//! backends, tell backends of the client's address and protocol, and give session tickets, as they do unless somebody
//! turns that off.
//!
//! Their access logs, each in the form that its documentation has first: Sluice, Envoy and nginx write to a file, by
//! buffers that are written when they are full or after a second or more; HAProxy, which writes no files, writes each line
//! to its standard output, which is one.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::{envoy_address, envoy_cluster, haproxy_head, nginx_main};
use super::{Common, Contender};
use crate::arena::Arena;
use crate::documents::{Server, gateway, secret, service, virtual_service};
use crate::load::http::{CLEAR, GRPC_PATH, GRPC_PORT, HOST, LARGE_PATH, LARGE_PORT, SEALED, SOCKET_PATH};

/// Names of files beside the configuration.
pub(super) const ACCESS_LOG: &str = "access.log";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
/// Certificate and key.
pub(super) const BOTH: &str = "tls.pem";

/// Where gateways listen, and where their backends do.
struct Places {
    clear: SocketAddr,
    sealed: SocketAddr,
    small: Vec<SocketAddr>,
    large: Vec<SocketAddr>,
    grpc: Vec<SocketAddr>,
}

impl Places {
    fn of(arena: &Arena) -> Self {
        Self {
            clear: arena.gateway(CLEAR),
            sealed: arena.gateway(SEALED),
            small: arena.backends(CLEAR),
            large: arena.backends(LARGE_PORT),
            grpc: arena.backends(GRPC_PORT),
        }
    }

    fn all(&self) -> [(&'static str, &[SocketAddr]); 3] {
        [("small", &self.small), ("large", &self.large), ("grpc", &self.grpc)]
    }
}

/// Text of the file.
pub(super) fn of(contender: Contender, arena: &Arena, common: &Common) -> String {
    let (places, logs) = (Places::of(arena), common.logs);
    match contender {
        Contender::Routed => String::new(),
        Contender::Sluice => sluice(&places, common),
        Contender::Haproxy => haproxy(&places, logs),
        Contender::Envoy => envoy(&places, logs),
        Contender::Nginx => nginx(&places, logs),
    }
}

fn sluice(places: &Places, common: &Common) -> String {
    let to = |name: &str| format!("route: [{{destination: {{host: {name}, port: {{number: 80}}}}}}]");
    let rules = format!(
        "  http:\n  - match: [{{uri: {{prefix: {LARGE_PATH}}}}}]\n    {}\n  - match: [{{uri: {{prefix: {GRPC_PATH}}}}}]\n    \
         {}\n  - {}",
        to("large"),
        to("grpc"),
        to("small")
    );
    let servers = [Server::http(CLEAR, &["*"]), Server::https(SEALED, "SIMPLE", "bench", &[HOST])];
    let mut text = gateway("edge", &servers)
        + &virtual_service("bench", &[HOST], "edge", &rules)
        + &secret("bench", &common.identity, None);
    for (name, backends) in places.all() {
        text += &service(name, if name == "grpc" { "grpc" } else { "http" }, backends);
    }
    text
}

/// "Logging to stdout" of the management guide, and the manual's sections on `bind`, `http-reuse` and `proto`.
fn haproxy(places: &Places, logs: bool) -> String {
    let [global, log] = if logs {
        ["    log stdout format raw local0\n", "    log global\n    option httplog\n"]
    } else {
        ["", ""]
    };
    let defaults = format!(
        "    mode http\n    timeout tunnel 1h\n    http-reuse always\n    option forwardfor\n    option splice-auto\n{log}"
    );
    let mut text = haproxy_head(global, &defaults);
    let _ = write!(
        text,
        "frontend edge\n    bind {} backlog 16384\n    bind {} backlog 16384 ssl crt {BOTH} alpn h2,http/1.1 ssl-min-ver \
         TLSv1.3\n    http-request set-header x-forwarded-proto http unless {{ ssl_fc }}\n    \
         http-request set-header x-forwarded-proto https if {{ ssl_fc }}\n    \
         use_backend large if {{ path_beg {LARGE_PATH} }}\n    use_backend grpc if {{ path_beg {GRPC_PATH} }}\n    \
         default_backend small\n",
        places.clear, places.sealed
    );
    for (name, backends) in places.all() {
        let protocol = if name == "grpc" { " proto h2" } else { "" };
        let _ = writeln!(text, "backend {name}");
        for (index, backend) in backends.iter().enumerate() {
            let _ = writeln!(text, "    server s{index} {backend}{protocol}");
        }
    }
    text
}

/// ngx_http_upstream_module's `keepalive`, the admin guide's page on WebSockets, ngx_http_grpc_module's example. Bodies
/// go through memory, not through files.
fn nginx(places: &Places, logs: bool) -> String {
    let log = if logs { format!("{ACCESS_LOG} combined buffer=64k flush=1s") } else { "off".to_owned() };
    let mut text = nginx_main();
    let _ = write!(
        text,
        "http {{\n  access_log {log};\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n  \
         client_body_buffer_size 64k;\n  proxy_buffers 16 64k;\n  proxy_busy_buffers_size 128k;\n  \
         proxy_max_temp_file_size 0;\n  proxy_http_version 1.1;\n"
    );
    for (name, backends) in places.all() {
        let servers: Vec<_> = backends.iter().map(|backend| format!("server {backend};")).collect();
        let _ = writeln!(
            text,
            "  upstream {name} {{ {} keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h; }}",
            servers.join(" ")
        );
    }
    let forwarded = "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
                     proxy_set_header X-Forwarded-Proto $scheme;";
    let kept = format!("{forwarded} proxy_set_header Connection \"\";");
    let upgraded = format!(
        "{forwarded} proxy_set_header Connection \"upgrade\"; proxy_set_header Upgrade $http_upgrade; \
         proxy_read_timeout 1h;"
    );
    let _ = write!(
        text,
        "  server {{\n    listen {} backlog=16384;\n    listen {} ssl http2 backlog=16384;\n    \
         ssl_certificate {CERTIFICATE};\n    ssl_certificate_key {KEY};\n    ssl_protocols TLSv1.3;\n    \
         location / {{ proxy_pass http://small; {kept} }}\n    \
         location {LARGE_PATH} {{ proxy_pass http://large; {kept} }}\n    \
         location {SOCKET_PATH} {{ proxy_pass http://small; {upgraded} }}\n    \
         location {GRPC_PATH} {{ grpc_pass grpc://grpc; }}\n  }}\n}}\n",
        places.clear, places.sealed
    );
    text
}

/// Envoy's edge proxy, as its "Configuring Envoy as an edge proxy" has it, but with the buffers as they come.
fn envoy(places: &Places, logs: bool) -> String {
    let mut text = "static_resources:\n  listeners:\n".to_owned();
    let tls = format!(
        "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
         common_tls_context:\n            alpn_protocols: [h2, http/1.1]\n            \
         tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}\n            \
         tls_certificates:\n            - {{certificate_chain: {{filename: {CERTIFICATE}}}, private_key: {{filename: \
         {KEY}}}}}\n"
    );
    for (name, at, socket) in [("clear", places.clear, ""), ("sealed", places.sealed, tls.as_str())] {
        text += &envoy_listener(name, at, logs);
        text += socket;
    }
    text += "  clusters:\n";
    for (name, backends) in places.all() {
        text += &envoy_cluster(name, backends);
        if name == "grpc" {
            text += "    typed_extension_protocol_options:\n      \
                     envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
                     \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
                     explicit_http_config: {http2_protocol_options: {}}\n";
        }
    }
    text
}

/// Up to where the transport socket of its filter chain would follow.
fn envoy_listener(name: &str, at: SocketAddr, logs: bool) -> String {
    let log = "          access_log:\n          - name: envoy.access_loggers.file\n            typed_config:\n              \
               \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n              ";
    let log = if logs { format!("{log}path: {ACCESS_LOG}\n") } else { String::new() };
    let routes = format!(
        "              - {{match: {{prefix: {LARGE_PATH}}}, route: {{cluster: large, timeout: 0s}}}}\n              \
         - {{match: {{prefix: {GRPC_PATH}}}, route: {{cluster: grpc, timeout: 0s}}}}\n              \
         - {{match: {{prefix: /}}, route: {{cluster: small, timeout: 0s}}}}\n"
    );
    format!(
        "  - name: {name}\n    {}\n    tcp_backlog_size: 16384\n    filter_chains:\n    - filters:\n      \
         - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
         stat_prefix: {name}\n          use_remote_address: true\n          upgrade_configs: [{{upgrade_type: websocket}}]\n\
         {log}          http_filters:\n          - name: envoy.filters.http.router\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n          \
         route_config:\n            name: {name}\n            virtual_hosts:\n            \
         - name: bench\n              domains: [\"*\"]\n              routes:\n{routes}",
        envoy_address(at)
    )
}
