//! DestinationRule.

use std::collections::HashSet;
use std::time::Duration;

use crate::api::destination_rule::{
    ConnectionPoolSettings, ConsistentHash, DestinationRule, LoadBalancerSettings, OutlierDetection,
    PortTrafficPolicy, TrafficPolicy,
};
use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::duration::DurationText;
use crate::api::object::Sourced;
use crate::api::path::FieldPath;

use super::virtual_service::check_export_to;
use super::{Findings, check_port, host, rows, unsupported};

/// Checks one DestinationRule.
pub fn destination_rule(document: &Sourced<DestinationRule>) -> Vec<Diagnostic> {
    let mut found = Findings::new(&document.source);
    let (spec, field) = (&document.spec, FieldPath::spec());
    found.check_host(&field.field("host"), host::check_host(&spec.host));
    check_export_to(&mut found, &field.field("exportTo"), &spec.export_to);
    let mut places = Vec::new();
    check_policy(&mut found, &field.field("trafficPolicy"), spec.traffic_policy.as_ref(), &mut places);
    let mut names = HashSet::new();
    for (at, subset) in spec.subsets.iter().enumerate() {
        let field = field.field("subsets").index(at);
        if !host::is_label(&subset.name) {
            found.error(&field.field("name"), format!("subset name is invalid: \"{}\"", subset.name));
        } else if !names.insert(&subset.name) {
            found.error(&field.field("name"), format!("duplicate subset names: {}", subset.name));
        }
        check_policy(&mut found, &field.field("trafficPolicy"), subset.traffic_policy.as_ref(), &mut places);
    }
    for place in &places {
        unsupported::report_below(&mut found, place, rows::TRAFFIC_POLICY);
    }
    found.list
}

/// Checks a policy and those of its ports; notes the place of each.
fn check_policy(
    found: &mut Findings<'_>,
    field: &FieldPath,
    policy: Option<&TrafficPolicy>,
    places: &mut Vec<FieldPath>,
) {
    let Some(policy) = policy else { return };
    places.push(field.clone());
    let empty = policy.load_balancer.is_none()
        && policy.connection_pool.is_none()
        && policy.outlier_detection.is_none()
        && policy.tls.is_none()
        && policy.port_level_settings.is_empty()
        && policy.tunnel.is_none()
        && policy.proxy_protocol.is_none()
        && policy.retry_budget.is_none();
    if empty {
        found.error(field, "traffic policy must have at least one field");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        found.error(field, "tunnel and proxyProtocol must not be set together");
    }
    let blocks = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection);
    check_blocks(found, field, blocks);
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        let field = field.field("portLevelSettings").index(at);
        check_port_policy(found, &field, port);
        places.push(field);
    }
}

fn check_port_policy(found: &mut Findings<'_>, field: &FieldPath, policy: &PortTrafficPolicy) {
    if let Some(port) = &policy.port {
        check_port(found, &field.field("port").field("number"), port.number);
    } else {
        let help = "name the Service's port: `port: {number: 80}`";
        found.error_with_help(field, "portTrafficPolicy must have valid port", help);
    }
    let blocks = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection);
    check_blocks(found, field, blocks);
}

type Blocks<'a> =
    (&'a Option<LoadBalancerSettings>, &'a Option<ConnectionPoolSettings>, &'a Option<OutlierDetection>);

fn check_blocks(found: &mut Findings<'_>, field: &FieldPath, (balancer, pool, outlier): Blocks<'_>) {
    if let Some(balancer) = balancer {
        let field = field.field("loadBalancer");
        if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
            found.error(&field, "only one of simple and consistentHash may be given");
        }
        if let Some(hash) = &balancer.consistent_hash {
            check_hash(found, &field.field("consistentHash"), hash);
        }
    }
    if let Some(pool) = pool {
        check_pool(found, &field.field("connectionPool"), pool);
    }
    if let Some(outlier) = outlier {
        check_outlier(found, &field.field("outlierDetection"), outlier);
    }
}

fn check_hash(found: &mut Findings<'_>, field: &FieldPath, hash: &ConsistentHash) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    let count = keys.into_iter().filter(|given| *given).count();
    if count != 1 {
        found.error_with_help(
            field,
            "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName must be given",
            "for TCP only `useSourceIp: true` tells clients apart",
        );
    }
    if hash.use_source_ip == Some(false) {
        let message = "useSourceIp is false: nothing keeps a client at an endpoint";
        found.add(Severity::Warning, Code::NoEffect, &field.field("useSourceIp"), message);
    }
}

fn check_pool(found: &mut Findings<'_>, field: &FieldPath, pool: &ConnectionPoolSettings) {
    if pool.tcp.is_none() && pool.http.is_none() {
        found.error(field, "connection pool must have at least one field");
    }
    let Some(tcp) = &pool.tcp else { return };
    let field = field.field("tcp");
    if tcp.max_connections < 0 {
        found.error(&field.field("maxConnections"), "max connections must be non-negative");
    }
    check_duration(found, &field.field("connectTimeout"), tcp.connect_timeout);
    let idle_timeout = tcp.idle_timeout.filter(|timeout| !timeout.0.is_zero());
    check_duration(found, &field.field("idleTimeout"), idle_timeout);
}

fn check_outlier(found: &mut Findings<'_>, field: &FieldPath, outlier: &OutlierDetection) {
    check_duration(found, &field.field("interval"), outlier.interval);
    check_duration(found, &field.field("baseEjectionTime"), outlier.base_ejection_time);
    if outlier.consecutive_errors != 0 {
        let message = "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead";
        found.warning(&field.field("consecutiveErrors"), message);
    }
    let failures = outlier.consecutive_local_origin_failures.unwrap_or(0);
    if failures > 0 && !outlier.split_external_local_origin_errors {
        found.error_with_help(
            &field.field("consecutiveLocalOriginFailures"),
            "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false",
            "set `splitExternalLocalOriginErrors: true`; without it, failures to connect count as 5xx errors",
        );
    }
    for (name, percent) in [
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ] {
        if !(0..=100).contains(&percent) {
            found.error(&field.field(name), format!("percentage {percent} is not in range 0..100"));
        }
    }
}

fn check_duration(found: &mut Findings<'_>, field: &FieldPath, duration: Option<DurationText>) {
    if duration.is_some_and(|duration| duration.0 < Duration::from_millis(1)) {
        found.error(field, "duration must be greater than 1ms");
    }
}
