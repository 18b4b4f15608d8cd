//! What istiod 1.32 tells the Envoy of an ingress gateway, as a static configuration: the connection manager with its
//! options and filters, clusters by Istio's names, and access logs in Istio's default formats, as text and as JSON.
//! References are to istio/istio, `pilot/pkg`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy";

/// `model/telemetry_logging.go`, `EnvoyTextLogFormat`.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The same file's `EnvoyJSONLogFormatIstio`.
fn members() -> Value {
    json!({
        "start_time": "%START_TIME%",
        "route_name": "%ROUTE_NAME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "protocol": "%PROTOCOL%",
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "response_code_details": "%RESPONSE_CODE_DETAILS%",
        "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration": "%DURATION%",
        "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
        "user_agent": "%REQ(USER-AGENT)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "authority": "%REQ(:AUTHORITY)%",
        "upstream_host": "%UPSTREAM_HOST%",
        "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
        "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
        "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
        "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "requested_server_name": "%REQUESTED_SERVER_NAME%",
        "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    })
}

/// Files that get a line each.
#[derive(Debug, Clone, Copy)]
pub struct Logs<'a> {
    /// Of Istio's text format.
    pub text: &'a Path,
    /// Of its JSON format.
    pub json: &'a Path,
    /// Of a JSON format of the mesh's own.
    pub own: (&'a Path, &'a Value),
}

impl Logs<'_> {
    fn loggers(self) -> Vec<Value> {
        let file = |path: &Path, format: Value| {
            json!({
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": format!("{TYPE}.extensions.access_loggers.file.v3.FileAccessLog"),
                    "path": path,
                    "log_format": format,
                },
            })
        };
        let text = file(self.text, json!({"text_format_source": {"inline_string": TEXT}}));
        let (path, format) = self.own;
        let own = file(path, json!({"json_format": format}));
        vec![text, file(self.json, json!({"json_format": members()})), own]
    }

    /// `networking/core/accesslog.go`: of connections that no filter chain takes.
    fn of_listener(self) -> Vec<Value> {
        let mut loggers = self.loggers();
        for logger in &mut loggers {
            logger["filter"] = json!({"response_flag_filter": {"flags": ["NR"]}});
        }
        loggers
    }
}

/// All of it, of listeners and clusters.
pub fn whole(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "static_resources": {"listeners": listeners, "clusters": clusters},
        // Istio's bootstrap.
        "layered_runtime": {"layers": [{"name": "global config", "static_layer": {
            "envoy.reloadable_features.http_reject_path_with_fragment": false,
        }}]},
    })
}

/// A listener of all addresses, by its filter chains.
pub fn listener(port: u16, chains: &[Value], logs: Logs<'_>) -> Value {
    let mut listener = json!({
        "name": format!("0.0.0.0_{port}"),
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "traffic_direction": "OUTBOUND",
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": chains,
        "access_log": logs.of_listener(),
    });
    if chains.iter().any(|chain| chain.get("filter_chain_match").is_some()) {
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": format!("{TYPE}.extensions.filters.listener.tls_inspector.v3.TlsInspector")},
        }]);
    }
    listener
}

/// A chain without a match.
pub fn chain(filter: &Value) -> Value {
    json!({"filters": [filter]})
}

/// A chain for server names that stays closed.
pub fn passthrough_chain(names: &[&str], filter: &Value) -> Value {
    json!({"filter_chain_match": {"server_names": names}, "filters": [filter]})
}

/// A chain for server names whose TLS ends at the gateway, by files of certificate and key.
pub fn sealed_chain(names: &[&str], filter: &Value, [certificate, key]: [&Path; 2]) -> Value {
    let mut chain = passthrough_chain(names, filter);
    chain["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": false,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [{
                    "certificate_chain": {"filename": certificate},
                    "private_key": {"filename": key},
                }],
            },
        },
    });
    chain
}

/// `networking/core/networkfilter.go`.
pub fn tcp_proxy(cluster: &str, logs: Logs<'_>) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster,
            "cluster": cluster,
            "access_log": logs.loggers(),
        },
    })
}

/// `networking/core/listener_builder.go`, `buildHTTPConnectionManager`, with the options of `gateway.go`.
pub fn connection_manager(name: &str, virtual_hosts: &[Value], logs: Logs<'_>) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": format!("outbound_{name}"),
            "route_config": {
                "name": name,
                "virtual_hosts": virtual_hosts,
                "validate_clusters": false,
                "max_direct_response_body_size_bytes": 1_048_576,
                "ignore_port_in_host_matching": true,
            },
            "http_filters": filters(),
            "http_protocol_options": {},
            "server_name": "istio-envoy",
            "use_remote_address": true,
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"subject": true, "cert": true, "dns": true, "uri": true},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "stream_idle_timeout": "0s",
            "normalize_path": true,
            "request_id_extension": {"typed_config": {
                "@type": format!("{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig"),
                "use_request_id_for_trace_sampling": true,
            }},
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "access_log": logs.loggers(),
            // A second at Istio, which each client that leaves closing to the gateway would have to wait.
            "delayed_close_timeout": "0.050s",
        },
    })
}

/// Those of Istio's that are Envoy's own.
fn filters() -> Vec<Value> {
    let filter = |name: &str, kind: &str, mut options: Value| {
        options["@type"] = format!("{TYPE}.extensions.filters.http.{kind}").into();
        json!({"name": name, "typed_config": options})
    };
    let stats = json!({"emit_filter_state": true, "stats_for_all_methods": false});
    vec![
        filter("istio.grpc_stats", "grpc_stats.v3.FilterConfig", stats),
        filter("envoy.filters.http.fault", "fault.v3.HTTPFault", json!({})),
        filter("envoy.filters.http.cors", "cors.v3.Cors", json!({})),
        filter("envoy.filters.http.router", "router.v3.Router", json!({})),
    ]
}

/// A virtual host (`networking/core/gateway.go`, `buildGatewayVirtualHost`).
pub fn virtual_host(host: &str, port: u16, routes: &[Value]) -> Value {
    json!({
        "name": format!("{host}:{port}"),
        "domains": [host],
        "routes": routes,
        "include_request_attempt_count": true,
    })
}

/// A route by its path's beginning to a cluster (`networking/core/route/route.go`); its action without a timeout, and with the
/// retries that Istio has by default.
pub fn route(name: &str, prefix: &str, cluster: &str) -> Value {
    json!({
        "name": name,
        "match": {"prefix": prefix, "case_sensitive": true},
        "decorator": {"operation": format!("{cluster}/*")},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "max_grpc_timeout": "0s",
            "retry_policy": retries(
                "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                2,
            ),
        },
    })
}

/// `networking/core/route/retry/retry.go`.
pub fn retries(on: &str, number: u32) -> Value {
    json!({
        "retry_on": on,
        "num_retries": number,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": format!("{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")},
        }],
        "host_selection_retry_max_attempts": "5",
    })
}

/// A delay and an abort of every request, as a route has them among its `typed_per_filter_config`.
pub fn fault(delay: &str, status: u16) -> Value {
    let all = json!({"numerator": 100, "denominator": "HUNDRED"});
    json!({"envoy.filters.http.fault": {
        "@type": format!("{TYPE}.extensions.filters.http.fault.v3.HTTPFault"),
        "delay": {"fixed_delay": delay, "percentage": all},
        "abort": {"http_status": status, "percentage": all},
    }})
}

/// Answers of the gateway's own to preflights from an origin, likewise.
pub fn cors(origin: &str) -> Value {
    json!({"envoy.filters.http.cors": {
        "@type": format!("{TYPE}.extensions.filters.http.cors.v3.CorsPolicy"),
        "allow_origin_string_match": [{"exact": origin}],
        "allow_methods": "GET",
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
    }})
}

/// A cluster of endpoints (`networking/core/cluster.go`).
pub fn cluster(name: &str, endpoints: &[SocketAddr], is_http2: bool) -> Value {
    let endpoint = |endpoint: &SocketAddr| {
        let address = json!({"address": endpoint.ip(), "port_value": endpoint.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    let most = u32::MAX;
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
        "circuit_breakers": {"thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most,
            "track_remaining": true,
        }]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if is_http2 {
        let options = format!("{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions");
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options, "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    cluster
}
