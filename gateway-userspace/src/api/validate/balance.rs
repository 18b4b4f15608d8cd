//! `loadBalancer` of a DestinationRule's policy.

use crate::api::destination_rule::{
    ConsistentHash, Distribute, LoadBalancerSettings, LocalityLoadBalancerSetting, Simple,
    WarmupConfiguration,
};
use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;

use super::{Findings, check_duration};

/// Envoy's bound.
const MAX_TABLE: u64 = 5_000_011;

pub(super) fn check_balancer(found: &mut Findings<'_>, field: &FieldPath, balancer: &LoadBalancerSettings) {
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        found.error(field, "only one of simple and consistentHash may be given");
    }
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(found, &field.field("consistentHash"), hash);
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        check_locality(found, &field.field("localityLbSetting"), locality);
    }
    check_duration(found, &field.field("warmupDurationSecs"), balancer.warmup_duration_secs);
    if let Some(warmup) = &balancer.warmup {
        check_warmup(found, &field.field("warmup"), warmup);
    }
    let in_turns_or_by_requests =
        balancer.consistent_hash.is_none() && balancer.simple != Some(Simple::Random);
    for (name, is_given) in [
        ("warmup", balancer.warmup.is_some()),
        ("warmupDurationSecs", balancer.warmup_duration_secs.is_some()),
    ] {
        if is_given && !in_turns_or_by_requests {
            let message = format!("{name} holds for ROUND_ROBIN and LEAST_REQUEST: it has no effect here");
            found.add(Severity::Warning, Code::NoEffect, &field.field(name), message);
        }
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
    if hash.http_cookie.as_ref().is_some_and(|cookie| cookie.name.is_empty()) {
        found.error(&field.field("httpCookie"), "name required for HttpCookie");
    }
    if hash.minimum_ring_size.is_some_and(|size| size > 0) {
        let message = "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration instead";
        found.warning(&field.field("minimumRingSize"), message);
    }
    if let Some(size) = hash.maglev.as_ref().and_then(|maglev| maglev.table_size)
        && (size > MAX_TABLE || !is_prime(size))
    {
        let message = format!("maglev table size {size} must be a prime number not above {MAX_TABLE}");
        found.error(&field.field("maglev").field("tableSize"), message);
    }
    if hash.use_source_ip == Some(false) {
        let message = "useSourceIp is false: nothing keeps a client at an endpoint";
        found.add(Severity::Warning, Code::NoEffect, &field.field("useSourceIp"), message);
    }
}

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

pub(super) fn check_locality(
    found: &mut Findings<'_>,
    field: &FieldPath,
    setting: &LocalityLoadBalancerSetting,
) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        found.error(field, "can not simultaneously specify 'distribute' and 'failover'");
    }
    for (at, distribute) in setting.distribute.iter().enumerate() {
        check_distribute(found, &field.field("distribute").index(at), distribute);
    }
    for (at, failover) in setting.failover.iter().enumerate() {
        let field = field.field("failover").index(at);
        if failover.from == failover.to {
            found.error(&field, "locality lb failover settings must specify different regions");
        }
        if failover.from.contains('/') || failover.to.contains('/') {
            found.error(&field, "locality lb failover only specify region");
        }
    }
}

fn check_distribute(found: &mut Findings<'_>, field: &FieldPath, distribute: &Distribute) {
    let field = field.field("to");
    for (locality, weight) in &distribute.to {
        if !(1..=100).contains(weight) {
            found.error(&field.field(locality), "locality weight must be in range [1, 100]");
        }
    }
    let total: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
    if total != 100 {
        found.error(&field, format!("total locality weight {total} != 100"));
    }
}

fn check_warmup(found: &mut Findings<'_>, field: &FieldPath, warmup: &WarmupConfiguration) {
    check_duration(found, &field.field("duration"), warmup.duration);
    if warmup.duration.is_none() {
        let help = "say how long endpoints are new: `duration: 60s`";
        found.error_with_help(field, "warmup must have a duration", help);
    }
    if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        found.error(&field.field("minimumPercent"), "minimumPercent must be in range [0, 100]");
    }
    if warmup.aggression.is_some_and(|aggression| aggression < 0.0) {
        found.error(&field.field("aggression"), "aggression must not be negative");
    }
}
