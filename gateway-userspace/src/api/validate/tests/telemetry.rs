//! Telemetry and what MeshConfig says of access logs.

use std::sync::Arc;

use crate::api::{read_document, split};

/// `severity field: message` of each finding in a Telemetry's spec.
fn found(spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: x}}\nspec: {spec}\n");
    lines(&text)
}

/// Likewise in a MeshConfig.
fn mesh(text: &str) -> Vec<String> {
    let indented = text.replace('\n', "\n    ");
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |-\n";
    lines(&format!("{head}    {indented}\n"))
}

fn lines(text: &str) -> Vec<String> {
    let file: Arc<str> = "t.yaml".into();
    let readings = split(text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default"));
    let line = |found: &crate::api::Diagnostic| {
        format!("{} {}: {}", found.severity.as_str(), found.field.as_deref().unwrap_or("-"), found.message)
    };
    readings.flat_map(|reading| reading.diagnostics.iter().map(line).collect::<Vec<_>>()).collect()
}

#[test]
fn telemetry_is_checked_in_istios_words() {
    let error = |line: &str| vec![format!("error spec{line}")];
    let warning = |line: &str| format!("warning spec{line}");
    let tracing = warning(".tracing: tracing is not yet supported: it has no effect here");
    let with = |mut found: Vec<String>, more: &String| {
        found.push(more.clone());
        found
    };
    for (spec, want) in [
        ("{}", vec![]),
        ("{accessLogging: [{providers: [{name: envoy}], match: {mode: CLIENT}, disabled: false}]}", vec![]),
        ("{accessLogging: [{filter: {expression: 'response.code >= 400'}, providers: [{name: envoy}]}]}", vec![]),
        (
            "{accessLogging: [{filter: {expression: 'response.code >= '}}]}",
            error(".accessLogging[0].filter.expression: must be a valid CEL expression, column 18: expected a value"),
        ),
        (
            "{accessLogging: [{filter: {}}]}",
            error(".accessLogging[0].filter.expression: must be a valid CEL expression, column 1: expected a value"),
        ),
        (
            "{accessLogging: [{filter: {expression: \"metadata.x == 'a'\"}}]}",
            error(
                ".accessLogging[0].filter.expression: must be a valid CEL expression, column 12: unknown attribute \
                 `metadata.x`",
            ),
        ),
        (
            "{accessLogging: [{providers: [{}]}]}",
            error(".accessLogging[0].providers[0]: providers.name may not be empty"),
        ),
        (
            "{accessLogging: [{provider: [{name: envoy}]}]}",
            error(".accessLogging[0].provider: unknown field \"provider\""),
        ),
        ("{accessLogging: [{match: {mode: BOTH}}]}", error(".accessLogging[0].match.mode: unknown value \"BOTH\"")),
        (
            "{selector: {matchLabels: {app: a}}, targetRefs: [{kind: Service, name: a}]}",
            error(": only one of targetRefs or workloadSelector can be set"),
        ),
        (
            "{selector: {matchLabels: {app: 'a*'}}}",
            error(".selector.matchLabels.app: wildcard is not supported in selector: \"app=a*\""),
        ),
        ("{selector: {}}", vec![warning(".selector: workload selector specified without labels")]),
        (
            "{targetRefs: [{kind: Service}]}",
            error(".targetRefs[0]: targetRef name must be set"),
        ),
        (
            "{targetRef: {kind: Pod, name: a, namespace: b}}",
            vec![
                "error spec.targetRef.namespace: targetRef namespace must not be set; cross namespace referencing is \
                 not supported"
                    .to_owned(),
                "error spec.targetRef.kind: targetRef must be to one of [core/Service \
                 networking.istio.io/ServiceEntry gateway.networking.k8s.io/GatewayClass \
                 gateway.networking.k8s.io/Gateway] but was /Pod"
                    .to_owned(),
            ],
        ),
        ("{metrics: [{providers: [{name: prometheus}]}]}", vec![]),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]}",
            error(
                ".metrics[0].overrides[0].tagOverrides.a: tagOverrides.value must be set when operation is UPSERT",
            ),
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]}",
            error(
                ".metrics[0].overrides[0].tagOverrides.a: tagOverrides.value may only be set when operation is UPSERT",
            ),
        ),
        (
            "{metrics: [{overrides: [{match: {customMetric: ''}}]}]}",
            error(".metrics[0].overrides[0].match.customMetric: customMetric may not be empty"),
        ),
        (
            "{tracing: [{randomSamplingPercentage: 100.5}]}",
            with(
                error(
                    ".tracing[0].randomSamplingPercentage: randomSamplingPercentage must be in range [0.0, 100.0]",
                ),
                &tracing,
            ),
        ),
        (
            "{tracing: [{customTags: {a: {literal: {value: ''}}, b: {header: {}}}}]}",
            vec![
                "error spec.tracing[0].customTags.a: literal tag value may not be empty".to_owned(),
                "error spec.tracing[0].customTags.b: header tag name may not be empty".to_owned(),
                tracing.clone(),
            ],
        ),
    ] {
        assert_eq!(found(spec), want, "{spec}");
    }
}

#[test]
fn access_logs_of_the_mesh_are_checked() {
    for (text, want) in [
        ("accessLogFile: /dev/stdout\naccessLogEncoding: JSON", vec![]),
        ("accessLogFormat: '%START_TIME% %REQ(:METHOD)%'\ndisableEnvoyListenerLog: true", vec![]),
        ("accessLogEncoding: JSON\naccessLogFormat: '{\"a\": {\"b\": \"%DURATION%\"}}'", vec![]),
        ("accessLogEncoding: YAML", vec!["error data.mesh: accessLogEncoding: unknown value \"YAML\""]),
        (
            "accessLogFormat: '%DYNAMIC_METADATA(a:b)%'",
            vec![
                "error data.mesh: accessLogFormat: the operator %DYNAMIC_METADATA(a:b)% is not known or not yet \
                 supported",
            ],
        ),
        (
            "accessLogEncoding: JSON\naccessLogFormat: '[%START_TIME%]'",
            vec!["error data.mesh: accessLogFormat: not JSON: expected value at line 1 column 2"],
        ),
        (
            "extensionProviders:\n- name: a\n  envoyFileAccessLog: {path: /a, logFormat: {labels: {a: '%NO%'}}}\n\
             - name: b\n  envoyOtelAls: {service: otel, port: 4317}\ndefaultProviders: {accessLogging: [a]}",
            vec![
                "error data.mesh: extensionProviders[0].envoyFileAccessLog.logFormat: the operator %NO% is not known \
                 or not yet supported",
            ],
        ),
    ] {
        assert_eq!(mesh(text), want, "{text}");
    }
}

#[test]
fn no_field_of_the_mesh_is_passed_over_in_silence() {
    for (text, want) in [
        ("ingressService: x", "info data.mesh: ingressService has no effect here"),
        (
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            "info data.mesh: outboundTrafficPolicy has no effect here",
        ),
        ("trustDomain: a", "info data.mesh: trustDomain has no effect here"),
        (
            "defaultDestinationRuleExportTo: ['.']",
            "warning data.mesh: defaultDestinationRuleExportTo is not yet supported: it has no effect here",
        ),
        ("enableTracing: true", "info data.mesh: enableTracing has no effect here"),
        (
            "pathNormalization: {normalisation: NONE}",
            "error data.mesh: pathNormalization.normalisation: unknown field \"normalisation\"",
        ),
        (
            "defaultHttpRetryPolicy: {attempts: 2, retryOn: 'never'}",
            "error data.mesh.defaultHttpRetryPolicy.retryOn: \"never\" is not a valid retryOn policy",
        ),
        (
            "zoneAwareLbSetting: {enabled: true}",
            "warning data.mesh: zoneAwareLbSetting is not yet supported: it has no effect here",
        ),
        ("defaultConfig: {concurrency: 2}", "info data.mesh: defaultConfig.concurrency has no effect here"),
        (
            "defaultConfig: {proxyHeaders: {server: {value: x}}}",
            "warning data.mesh: defaultConfig.proxyHeaders is not yet supported: it has no effect here",
        ),
        (
            "defaultConfig: {gatewayTopology: {proxyProtocol: {version: 2}}}",
            "error data.mesh: defaultConfig.gatewayTopology.proxyProtocol.version: unknown field \"version\"",
        ),
        (
            "defaultConfig: {gatewayTopology: {numTrustedProxy: 1}}",
            "warning data.mesh: unknown field \"defaultConfig.gatewayTopology.numTrustedProxy\"",
        ),
        ("conectTimeout: 1s", "warning data.mesh: unknown field \"conectTimeout\""),
    ] {
        assert_eq!(mesh(text), [want], "{text}");
    }
}
