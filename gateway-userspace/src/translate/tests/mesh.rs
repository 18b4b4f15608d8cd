//! What MeshConfig decides where no document says otherwise.

use super::*;
use crate::model::{
    CipherSuite, ClientCertificates, HttpSettings, KeyGroup, PathForm, ProtocolPolicy, RetryOn, RetryPolicy,
    SourceAddress, Steering, UserSpaceReason,
};

fn mesh(text: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         {text}\n"
    )
}

#[test]
fn paths_and_trusted_proxies_are_the_meshs_word() {
    let topology = |said: &str| format!("defaultConfig: {{gatewayTopology: {{{said}}}}}");
    let default = HttpSettings::default;
    for (text, want) in [
        ("connectTimeout: 1s".to_owned(), default()),
        ("pathNormalization: {}".to_owned(), default()),
        (
            "pathNormalization: {normalization: NONE}".to_owned(),
            HttpSettings { path: PathForm::None, ..default() },
        ),
        (
            "pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}".to_owned(),
            HttpSettings { path: PathForm::DecodeAndMergeSlashes, ..default() },
        ),
        (topology("numTrustedProxies: 2"), HttpSettings { trusted_proxies: 2, ..default() }),
        (topology("forwardClientCertDetails: UNDEFINED"), default()),
        (
            topology("forwardClientCertDetails: APPEND_FORWARD"),
            HttpSettings { client_certificates: ClientCertificates::AppendForward, ..default() },
        ),
    ] {
        assert_eq!(world(&[mesh(&text)]).snapshot.http, want, "{text}");
    }
}

#[test]
fn a_rule_without_retries_has_the_meshs() {
    let policy = RetryPolicy {
        attempts: 7,
        on: RetryOn::default().with(RetryOn::SERVER_ERROR),
        statuses: vec![],
        rescues: false,
        ..RetryPolicy::default()
    };
    for (text, rule, want) in [
        ("defaultHttpRetryPolicy: {attempts: 7, retryOn: 5xx}", "", Some(policy)),
        ("defaultHttpRetryPolicy: {attempts: 0}", "", None),
        (
            "defaultHttpRetryPolicy: {attempts: 0}",
            ", retries: {attempts: 3}",
            Some(RetryPolicy { attempts: 3, ..RetryPolicy::default() }),
        ),
    ] {
        let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}{rule}}}]}}", to("a"));
        let translation = world(&[
            mesh(text),
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
        ]);
        let table = table(&translation.snapshot, "0.0.0.0_80", None);
        let Some(RouteAction::Forward(forward)) = route(table, "a.test", "/").map(|route| &route.action)
        else {
            panic!("no route by {text}");
        };
        assert_eq!(forward.retries, want, "{text}{rule}");
    }
}

#[test]
fn the_meshs_algorithms_hold_towards_backends_and_its_version_does_not() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: a, \
                trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    for (text, suites, groups) in [
        ("connectTimeout: 1s", None, None),
        ("tlsDefaults: {minProtocolVersion: TLSV1_3}", None, None),
        (
            "tlsDefaults: {cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [P-384]}",
            Some(vec![CipherSuite::RsaAes256]),
            Some(vec![KeyGroup::P384]),
        ),
    ] {
        let translation = world(&[mesh(text), services(&["a"]), rule.to_owned()]);
        let tls =
            translation.snapshot.clusters.values().find_map(|cluster| cluster.tls.as_ref()).expect("TLS");
        let want = ProtocolPolicy { cipher_suites: suites, key_groups: groups, ..ProtocolPolicy::default() };
        assert_eq!(tls.protocol, want, "{text}");
    }
}

#[test]
fn behind_a_proxy_user_space_reads_who_the_client_is() {
    const PRESERVE: &str = "sluice.dev/source-address: preserve";
    // With an HTTP port there is one finding of its own about the annotation.
    for (text, annotation, behind_proxy, findings) in [
        ("connectTimeout: 1s", "", false, 0),
        ("connectTimeout: 1s", PRESERVE, false, 1),
        ("defaultConfig: {gatewayTopology: {proxyProtocol: {}}}", "", true, 0),
        ("defaultConfig: {gatewayTopology: {proxyProtocol: {}}}", PRESERVE, true, 2),
    ] {
        let translation = world(&[
            mesh(text),
            gateway(
                &format!("{{name: g, annotations: {{{annotation}}}}}"),
                &["81 x TCP '*'", "80 y HTTP '*'"],
            ),
            virtual_service(
                "{name: v}",
                "{gateways: [g], hosts: ['*'], tcp: [{route: [{destination: {host: a}}]}]}",
            ),
            services(&["a"]),
        ]);
        let found = codes(&translation);
        assert_eq!(found.iter().filter(|code| **code == "SLU0005").count(), findings, "{text}: {found:?}");
        for listener in &translation.snapshot.listeners {
            assert_eq!(listener.behind_proxy, behind_proxy, "{text}");
            let is_told = listener.steering == Steering::UserSpace(UserSpaceReason::BehindProxy);
            assert_eq!(is_told, behind_proxy && listener.key.port == 81, "{text}");
            assert!(!behind_proxy || listener.source_address == SourceAddress::Snat);
        }
    }
}

#[test]
fn requests_of_grpc_web_become_grpc_where_a_server_or_an_annotation_says_so() {
    for (annotation, protocol, want) in [
        ("", "HTTP", false),
        ("", "GRPC", false),
        ("", "GRPC-WEB", true),
        ("", "grpc-web", true),
        ("sluice.dev/grpc-web: 'true'", "HTTP", true),
        ("sluice.dev/grpc-web: 'false'", "GRPC-WEB", false),
    ] {
        let translation = world(&[gateway(
            &format!("{{name: g, annotations: {{{annotation}}}}}"),
            &[&format!("80 x {protocol} '*'")],
        )]);
        assert_eq!(
            table(&translation.snapshot, "0.0.0.0_80", None).grpc_web,
            want,
            "{annotation} {protocol}"
        );
    }
}
