//! `connectionPool` of a DestinationRule's policy.

use crate::api::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, Http2KeepAlive, HttpSettings, TcpSettings,
};
use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;

use super::{Findings, check_duration};

pub(super) fn check_pool(found: &mut Findings<'_>, field: &FieldPath, pool: &ConnectionPoolSettings) {
    if pool.tcp.is_none() && pool.http.is_none() {
        found.error(field, "connection pool must have at least one field");
    }
    if let Some(http) = &pool.http {
        check_http(found, &field.field("http"), http);
    }
    if let Some(tcp) = &pool.tcp {
        check_tcp(found, &field.field("tcp"), tcp);
    }
}

fn check_http(found: &mut Findings<'_>, field: &FieldPath, http: &HttpSettings) {
    for (name, words, value) in [
        ("http1MaxPendingRequests", "http1 max pending requests", http.http1_max_pending_requests),
        ("http2MaxRequests", "http2 max requests", http.http2_max_requests),
        ("maxRequestsPerConnection", "max requests per connection", http.max_requests_per_connection),
        ("maxRetries", "max retries", http.max_retries),
        ("maxConcurrentStreams", "max concurrent streams", http.max_concurrent_streams),
    ] {
        check_count(found, &field.field(name), words, value);
    }
    check_duration(found, &field.field("idleTimeout"), http.idle_timeout);
    if let Some(pings) = &http.http2_keep_alive {
        check_pings(found, &field.field("http2KeepAlive"), pings);
    }
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        let message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
        found.error(&field.field("useClientProtocol"), message);
    }
}

/// Envoy refuses a cluster that lacks the second of the two.
fn check_pings(found: &mut Findings<'_>, field: &FieldPath, pings: &Http2KeepAlive) {
    check_duration(found, &field.field("interval"), pings.interval);
    check_duration(found, &field.field("timeout"), pings.timeout);
    if pings.timeout.is_none() {
        let help = "say how long an answer may take: `timeout: 10s`";
        found.error_with_help(field, "http2 keep alive must have a timeout", help);
    }
    if pings.interval.is_none() {
        let message = "without an interval no PINGs are sent";
        found.add(Severity::Warning, Code::NoEffect, field, message);
    }
}

fn check_tcp(found: &mut Findings<'_>, field: &FieldPath, tcp: &TcpSettings) {
    check_count(found, &field.field("maxConnections"), "max connections", tcp.max_connections);
    check_duration(found, &field.field("connectTimeout"), tcp.connect_timeout);
    check_duration(found, &field.field("maxConnectionDuration"), tcp.max_connection_duration);
    let idle_timeout = tcp.idle_timeout.filter(|timeout| !timeout.0.is_zero());
    check_duration(found, &field.field("idleTimeout"), idle_timeout);
}

fn check_count(found: &mut Findings<'_>, field: &FieldPath, words: &str, value: i32) {
    if value < 0 {
        found.error(field, format!("{words} must be non-negative"));
    }
}
