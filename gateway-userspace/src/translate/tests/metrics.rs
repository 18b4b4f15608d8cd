//! What Telemetries change of Istio's metrics.

use crate::telemetry::metrics::{Metric, Rules, Tag};

use super::super::{Surroundings, translate};
use super::{codes, objects};

/// In a gateway of the namespace `edge`: the rules, and what was found.
fn translated(text: &str) -> (Rules, Vec<String>) {
    let objects = objects(text);
    let mut surroundings = Surroundings::default();
    surroundings.identity.namespace = "edge".to_owned();
    surroundings.learn(&objects);
    let translation = translate(&objects, &surroundings, 1);
    let found = codes(&translation).into_iter().map(str::to_owned).collect();
    ((*translation.snapshot.metrics).clone(), found)
}

fn telemetry(namespace: &str, metrics: &str) -> String {
    format!(
        "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: it, namespace: {namespace}}}\nspec: \
         {{metrics: [{metrics}]}}\n"
    )
}

#[test]
fn a_nearer_word_counts_and_all_metrics_are_meant_where_none_is_named() {
    let everywhere = "{overrides: [{tagOverrides: {source_principal: {operation: REMOVE}, site: {value: \"'north'\"}}}, \
                      {match: {metric: REQUEST_SIZE}, disabled: true}]}";
    let here = "{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, tagOverrides: \
                {site: {value: response.code}}}, {match: {metric: REQUEST_SIZE}, disabled: false}]}";
    let (rules, found) = translated(&(telemetry("istio-system", everywhere) + &telemetry("edge", here)));
    assert_eq!((rules.0.len(), found), (10, vec![]));
    let of = |metric| &rules.0[&metric];
    assert_eq!(of(Metric::RequestCount).tags["site"], Tag::Label("response_code"));
    assert_eq!(of(Metric::TcpSentBytes).tags["site"], Tag::Value("north".to_owned()));
    assert!(
        rules.0.values().all(|change| change.tags["source_principal"] == Tag::Remove && !change.disabled)
    );
    let (rules, _) = translated(&telemetry("istio-system", everywhere));
    assert!(rules.0[&Metric::RequestSize].disabled);
    assert!(translated(&telemetry("elsewhere", everywhere)).0.is_empty());
}

#[test]
fn what_is_not_supported_is_said_and_changes_nothing() {
    for (metrics, code) in [
        ("{overrides: [{tagOverrides: {host: {value: request.host}}}]}", "SLU0004"),
        ("{providers: [{name: stackdriver}], overrides: [{disabled: true}]}", "SLU0004"),
        ("{overrides: [{match: {mode: SERVER}, disabled: true}]}", "SLU0012"),
        ("{overrides: [{match: {metric: REQUESTS}, disabled: true}]}", "SLU0012"),
        ("{overrides: [{match: {customMetric: mine}, disabled: true}]}", "SLU0012"),
        ("{overrides: [{tagOverrides: {a-b: {operation: REMOVE}}}]}", "SLU0012"),
    ] {
        let (rules, found) = translated(&telemetry("edge", metrics));
        assert_eq!(found, [code], "{metrics}");
        let is_same = rules.0.values().all(|change| !change.disabled && change.tags.is_empty());
        assert!(is_same, "{metrics}: {rules:?}");
    }
}
