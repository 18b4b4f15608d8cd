//! Telemetry, in Istio's words.

use crate::api::Diagnostic;
use crate::api::object::Sourced;
use crate::api::path::FieldPath;
use crate::api::telemetry::{
    AccessLogging, CustomTag, LabelSelector, Metrics, ProviderRef, TagOperation, TagOverride, TargetRef,
    Telemetry, Tracing,
};
use crate::telemetry::access::Filter;

use super::{Findings, rows, unsupported};

/// What a Telemetry may be for, besides workloads by label.
const TARGETS: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
];

/// Checks a Telemetry.
pub fn telemetry(document: &Sourced<Telemetry>) -> Vec<Diagnostic> {
    let (spec, spec_field) = (&document.spec, FieldPath::spec());
    let mut found = Findings::new(&document.source);
    check_selection(&mut found, spec);
    for (at, logging) in spec.access_logging.iter().enumerate() {
        check_logging(&mut found, &spec_field.field("accessLogging").index(at), logging);
    }
    let tracing = spec_field.field("tracing");
    if spec.tracing.len() > 1 {
        found.warning(&tracing, "multiple tracing is not currently supported");
    }
    for (at, it) in spec.tracing.iter().enumerate() {
        check_tracing(&mut found, &tracing.index(at), it);
    }
    for (at, metrics) in spec.metrics.iter().enumerate() {
        check_metrics(&mut found, &spec_field.field("metrics").index(at), metrics);
    }
    unsupported::report(&mut found, rows::TELEMETRY);
    found.list
}

fn check_selection(found: &mut Findings<'_>, spec: &Telemetry) {
    let field = FieldPath::spec();
    let ways = [spec.selector.is_some(), spec.target_ref.is_some(), !spec.target_refs.is_empty()];
    if ways.iter().filter(|way| **way).count() > 1 {
        found.error(&field, "only one of targetRefs or workloadSelector can be set");
    }
    if let Some(selector) = &spec.selector {
        check_selector(found, &field.field("selector"), selector);
    }
    if let Some(target) = &spec.target_ref {
        check_target(found, &field.field("targetRef"), target);
    }
    for (at, target) in spec.target_refs.iter().enumerate() {
        check_target(found, &field.field("targetRefs").index(at), target);
    }
}

fn check_selector(found: &mut Findings<'_>, field: &FieldPath, selector: &LabelSelector) {
    let labels = field.field("matchLabels");
    for (key, value) in &selector.match_labels {
        let field = labels.field(key);
        if key.is_empty() {
            found.error(&labels, format!("empty key is not supported in selector: \"{key}={value}\""));
        }
        if key.contains('*') || value.contains('*') {
            found.error(&field, format!("wildcard is not supported in selector: \"{key}={value}\""));
        }
    }
    if selector.match_labels.is_empty() {
        found.warning(field, "workload selector specified without labels");
    }
}

fn check_target(found: &mut Findings<'_>, field: &FieldPath, target: &TargetRef) {
    if target.name.is_empty() {
        found.error(field, "targetRef name must be set");
    }
    if !target.namespace.is_empty() {
        let message = "targetRef namespace must not be set; cross namespace referencing is not supported";
        found.error(&field.field("namespace"), message);
    }
    if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
        let allowed = "[core/Service networking.istio.io/ServiceEntry gateway.networking.k8s.io/GatewayClass gateway.networking.k8s.io/Gateway]";
        let message =
            format!("targetRef must be to one of {allowed} but was {}/{}", target.group, target.kind);
        found.error(&field.field("kind"), message);
    }
}

fn check_providers(found: &mut Findings<'_>, field: &FieldPath, providers: &[ProviderRef]) {
    for (at, _) in providers.iter().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
        found.error(&field.field("providers").index(at), "providers.name may not be empty");
    }
}

fn check_logging(found: &mut Findings<'_>, field: &FieldPath, logging: &AccessLogging) {
    check_providers(found, field, &logging.providers);
    let Some(filter) = &logging.filter else { return };
    if let Err(error) = Filter::parse(&filter.expression) {
        let help = "what is served of CEL, and which attributes, is in docs/telemetry.md";
        let field = field.field("filter").field("expression");
        found.error_with_help(&field, format!("must be a valid CEL expression, {error}"), help);
    }
}

fn check_tracing(found: &mut Findings<'_>, field: &FieldPath, tracing: &Tracing) {
    if tracing.providers.len() > 1 {
        found.warning(&field.field("providers"), "multiple providers is not currently supported");
    }
    check_providers(found, field, &tracing.providers);
    if tracing.random_sampling_percentage.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        let message = "randomSamplingPercentage must be in range [0.0, 100.0]";
        found.error(&field.field("randomSamplingPercentage"), message);
    }
    for (name, tag) in &tracing.custom_tags {
        let tags = field.field("customTags");
        if name.is_empty() {
            found.error(&tags, "tag name may not be empty");
        }
        match tag {
            None => {
                found.error(&tags.field(name), format!("tag '{name}' may not have a nil value"));
            }
            Some(tag) => check_tag(found, &tags.field(name), tag),
        }
    }
}

fn check_tag(found: &mut Findings<'_>, field: &FieldPath, tag: &CustomTag) {
    let CustomTag { literal, environment, header, .. } = tag;
    if literal.as_ref().is_some_and(|literal| literal.value.is_empty()) {
        found.error(field, "literal tag value may not be empty");
    }
    if header.as_ref().is_some_and(|header| header.name.is_empty()) {
        found.error(field, "header tag name may not be empty");
    }
    if environment.as_ref().is_some_and(|environment| environment.name.is_empty()) {
        found.error(field, "environment tag name may not be empty");
    }
}

fn check_metrics(found: &mut Findings<'_>, field: &FieldPath, metrics: &Metrics) {
    check_providers(found, field, &metrics.providers);
    for (at, overrides) in metrics.overrides.iter().enumerate() {
        let field = field.field("overrides").index(at);
        let Some(overrides) = overrides else {
            found.error(&field, "tagOverrides may not be null");
            continue;
        };
        for (name, tag) in &overrides.tag_overrides {
            let tags = field.field("tagOverrides");
            if name.is_empty() {
                found.warning(&tags, "tagOverrides.name may not be empty");
            }
            match tag {
                None => {
                    found.error(&tags.field(name), "tagOverrides may not be null");
                }
                Some(tag) => check_tag_override(found, &tags.field(name), tag),
            }
        }
        let custom = overrides.matches.as_ref().and_then(|matches| matches.custom_metric.as_ref());
        if custom.is_some_and(String::is_empty) {
            found.error(&field.field("match").field("customMetric"), "customMetric may not be empty");
        }
    }
}

fn check_tag_override(found: &mut Findings<'_>, field: &FieldPath, tag: &TagOverride) {
    match (tag.operation, tag.value.is_empty()) {
        (TagOperation::Upsert, true) => {
            found.error(field, "tagOverrides.value must be set when operation is UPSERT");
        }
        (TagOperation::Remove, false) => {
            found.error(field, "tagOverrides.value may only be set when operation is UPSERT");
        }
        _ => {}
    }
}
