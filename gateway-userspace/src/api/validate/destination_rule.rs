//! DestinationRule.

use std::collections::HashSet;

use crate::api::annotation;
use crate::api::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
    PortTrafficPolicy, TrafficPolicy,
};
use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::health_check::HealthCheckAnnotations;
use crate::api::object::Sourced;
use crate::api::path::FieldPath;

use super::balance::check_balancer;
use super::client_tls::{check_authorities, check_client_tls};
use super::pool::check_pool;
use super::virtual_service::check_export_to;
use super::{Findings, check_duration, check_port, host, rows, unsupported};

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
        if let Err(message) = host::check_subset(&subset.name) {
            found.error(&field.field("name"), message);
        } else if !names.insert(&subset.name) {
            found.error(&field.field("name"), format!("duplicate subset names: {}", subset.name));
        }
        check_policy(&mut found, &field.field("trafficPolicy"), subset.traffic_policy.as_ref(), &mut places);
    }
    check_authorities(&mut found, spec);
    check_annotations(&mut found, document);
    for place in &places {
        unsupported::report_below(&mut found, place, rows::TRAFFIC_POLICY);
    }
    found.list
}

fn check_annotations(found: &mut Findings<'_>, document: &Sourced<DestinationRule>) {
    let (read, errors) = HealthCheckAnnotations::read(&document.metadata.annotations);
    if errors.is_empty() {
        for (key, why) in read.idle() {
            let message = format!("{key} has no effect: {why}");
            found.add(Severity::Warning, Code::NoEffect, &annotation::field(key), message);
        }
    }
    for wrong in errors {
        found.error_with_help(&annotation::field(&wrong.key), wrong.message, wrong.help);
    }
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
    let blocks = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection, &policy.tls);
    check_blocks(found, field, blocks);
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        let field = field.field("portLevelSettings").index(at);
        check_port_policy(found, &field, port);
        let number = port.port.as_ref().map(|port| port.number);
        let is_same = |other: &PortTrafficPolicy| other.port.as_ref().map(|port| port.number) == number;
        if number.is_some() && policy.port_level_settings[..at].iter().any(is_same) {
            let message = "the port has settings above, which are in force: these take no effect";
            found.add(Severity::Warning, Code::NoEffect, &field.field("port"), message);
        }
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
    let blocks = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection, &policy.tls);
    check_blocks(found, field, blocks);
}

fn check_blocks(
    found: &mut Findings<'_>,
    field: &FieldPath,
    (balancer, pool, outlier, tls): (
        &Option<LoadBalancerSettings>,
        &Option<ConnectionPoolSettings>,
        &Option<OutlierDetection>,
        &Option<ClientTlsSettings>,
    ),
) {
    if let Some(balancer) = balancer {
        check_balancer(found, &field.field("loadBalancer"), balancer);
    }
    if let Some(pool) = pool {
        check_pool(found, &field.field("connectionPool"), pool);
    }
    if let Some(outlier) = outlier {
        check_outlier(found, &field.field("outlierDetection"), outlier);
    }
    if let Some(tls) = tls {
        check_client_tls(found, &field.field("tls"), tls);
    }
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
    for (at, code) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(code) {
            let field = field.field("outlierDetectionHttpErrorCodes").index(at);
            found.error(&field, format!("HTTP status {code} is not in range 100-599"));
        }
    }
}
