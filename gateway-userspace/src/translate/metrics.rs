//! What Telemetries change of Istio's metrics: each override over those before it, from the mesh's to the gateway's own.

use crate::api::telemetry::{Metrics, MetricsOverrides, TagOperation, WorkloadMode};
use crate::api::{Code, FieldPath, Severity};
use crate::telemetry::metrics::{Metric, Rules, Tag};

use super::levels::Level;
use super::report::Report;

/// The provider that there is here; MeshConfig's default at Istio's installation.
const PROMETHEUS: &str = "prometheus";
/// All metrics at once.
const ALL: &str = "ALL_METRICS";

/// What is in force.
pub(super) fn rules(levels: &[Level<'_>], report: &mut Report) -> Rules {
    let mut rules = Rules::default();
    for level in levels {
        for (at, metrics) in level.spec.metrics.iter().enumerate() {
            let field = FieldPath::spec().field("metrics").index(at);
            if is_for_prometheus(level, metrics, &field, report) {
                for (at, overrides) in metrics.overrides.iter().enumerate() {
                    let field = field.field("overrides").index(at);
                    if let Some(overrides) = overrides {
                        apply(level, overrides, &field, (&mut rules, report));
                    }
                }
            }
        }
    }
    rules
}

/// Says which providers get nothing.
fn is_for_prometheus(level: Level<'_>, metrics: &Metrics, field: &FieldPath, report: &mut Report) -> bool {
    let mut is_for_it = metrics.providers.is_empty();
    for (at, provider) in metrics.providers.iter().enumerate() {
        if provider.name.eq_ignore_ascii_case(PROMETHEUS) {
            is_for_it = true;
            continue;
        }
        let field = field.field("providers").index(at).field("name");
        let message =
            format!("the provider {} is not yet supported for metrics: it gets none", provider.name);
        let found = level.diagnostic(Severity::Warning, Code::NotSupported, &field, message);
        report.add(found.help("`prometheus` is: it reads them at --metrics-address"));
    }
    if metrics.reporting_interval.is_some() {
        let message = "bytes of connections are told as they pass, those of the kernel plane every 5 s";
        let field = field.field("reportingInterval");
        report.add(level.diagnostic(Severity::Info, Code::NoEffect, &field, message));
    }
    is_for_it
}

fn apply(
    level: Level<'_>,
    overrides: &MetricsOverrides,
    field: &FieldPath,
    (rules, report): (&mut Rules, &mut Report),
) {
    let matches = overrides.matches.as_ref();
    let place = field.field("match");
    if matches.is_some_and(|matches| matches.mode == WorkloadMode::Server) {
        let message = "mode SERVER never applies to a gateway, which is the client of its backends";
        return report.add(level.diagnostic(
            Severity::Warning,
            Code::NoEffect,
            &place.field("mode"),
            message,
        ));
    }
    if let Some(custom) = matches.and_then(|matches| matches.custom_metric.as_ref()) {
        let message = format!("there is no metric {custom} of others here");
        let place = place.field("customMetric");
        return report.add(level.diagnostic(Severity::Warning, Code::NoEffect, &place, message));
    }
    let named = matches.and_then(|matches| matches.metric.as_deref()).unwrap_or(ALL);
    let metrics: Vec<Metric> = match Metric::named(named) {
        Some(metric) => vec![metric],
        None if named == ALL => Metric::ALL.map(|(metric, _)| metric).into(),
        None => {
            let message = format!("there is no metric {named}");
            let found = level.diagnostic(Severity::Warning, Code::NoEffect, &place.field("metric"), message);
            let known = Metric::ALL.map(|(_, name)| name).join(", ");
            return report.add(found.help(format!("{ALL}, or one of {known}")));
        }
    };
    let tags = tags(level, overrides, &field.field("tagOverrides"), report);
    for metric in metrics {
        let change = rules.0.entry(metric).or_default();
        change.disabled = overrides.disabled.unwrap_or(change.disabled);
        change.tags.extend(tags.iter().cloned());
    }
}

fn tags(
    level: Level<'_>,
    overrides: &MetricsOverrides,
    field: &FieldPath,
    report: &mut Report,
) -> Vec<(String, Tag)> {
    let mut tags = Vec::new();
    for (name, tag) in &overrides.tag_overrides {
        let (Some(tag), field) = (tag, field.field(name)) else { continue };
        if !is_label(name) {
            let message =
                format!("{name} can be no label: letters, digits and _ can, without a digit in front");
            report.add(level.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
            continue;
        }
        let said = match tag.operation {
            TagOperation::Remove => Some(Tag::Remove),
            TagOperation::Upsert => Tag::expression(&tag.value),
        };
        if let Some(said) = said {
            tags.push((name.clone(), said));
            continue;
        }
        let message = format!("`{}` is not yet supported for a label, which stays as it is", tag.value);
        let field = field.field("value");
        let found = level.diagnostic(Severity::Warning, Code::NotSupported, &field, message);
        report.add(found.help(
            "a text in quotes, a number, `true`, `false`, `response.code` and `response.grpc_status` are",
        ));
    }
    tags
}

/// As Prometheus has them.
fn is_label(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name != "le"
}
