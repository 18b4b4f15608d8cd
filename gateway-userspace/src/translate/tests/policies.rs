//! DestinationRules and the annotations of Gateways.

use std::time::Duration;

use super::*;
use crate::api::MeshConfig;
use crate::api::duration::DurationText;
use crate::model::{
    Affinity, Balance, Cluster, CookieAffinity, GatewayIdentity, HealthCheck, Keepalive, Limits,
    OutlierDetection, Pings, Probe, ProxyVersion, SourceAddress, UpstreamProtocol, Warmup,
};

/// A Service `a` in a namespace, with two ports and two endpoints of which only the first has the label `version: v1`.
fn service_of(namespace: &str) -> String {
    let slice = |name: &str, more: &str, address: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: {namespace}, labels: \
             {{kubernetes.io/service-name: a{more}}}}}\nports: [{{name: tcp, port: 8080}}, {{name: http, port: \
             8081}}]\nendpoints: [{{addresses: [{address}]}}]\n"
        )
    };
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: {namespace}}}\nspec: {{ports: [{{name: tcp, port: \
         80}}, {{name: http, port: 81}}]}}\n"
    ) + &slice("a-1", ", version: v1", "10.0.0.1")
        + &slice("a-2", "", "10.0.0.2")
}

/// The mesh's settings.
fn mesh_config(text: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{text}'}}\n"
    )
}

fn rule(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {metadata}\nspec: {spec}\n"
    )
}

fn cluster<'a>(translation: &'a Translation, name: &str) -> &'a Cluster {
    let found = translation.snapshot.clusters.values().find(|it| it.name.to_string().starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {:?}", translation.snapshot.clusters.keys()))
}

/// Tells rules apart.
fn limit(most: u32) -> String {
    format!("trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {most}}}}}}}")
}

#[test]
fn the_first_namespace_with_a_rule_has_the_service_and_in_it_the_narrowest_host() {
    const FULL: &str = "a.shop.svc.cluster.local";
    let one = |namespace: &str, host: &str, more: &str, seconds| {
        let policy = format!("trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {seconds}s}}}}}}");
        let metadata = format!("{{name: r{seconds}, namespace: {namespace}}}");
        rule(&metadata, &format!("{{host: {host}, {more}{policy}}}"))
    };
    let selecting = |label: &str| format!("workloadSelector: {{matchLabels: {{{label}}}}}, ");
    for (rules, want, found) in [
        (vec![one("shop", "a", "", 1)], 1, &[][..]),
        (vec![one("shop", "'*.shop.svc.cluster.local'", "", 1)], 1, &[]),
        (vec![one("shop", "'*'", "", 1), one("shop", "a", "", 2)], 2, &["SLU0012"]),
        // The gateway lives in the root namespace, whose rules for the whole mesh come last.
        (vec![one("shop", "a", "", 1), one("istio-system", "'*'", "", 2)], 1, &["SLU0012"]),
        (vec![one("shop", "a", "", 1), one("istio-system", FULL, "", 2)], 1, &["SLU0012"]),
        (vec![one("shop", "a", "", 1), one("istio-system", "'*'", "exportTo: [.], ", 2)], 2, &["SLU0012"]),
        (
            vec![one("shop", "a", "", 1), one("istio-system", "'*'", "exportTo: [istio-system], ", 2)],
            2,
            &["SLU0012"],
        ),
        (
            vec![one("istio-system", FULL, "", 1), one("istio-system", "'*'", "exportTo: [.], ", 2)],
            2,
            &["SLU0012"],
        ),
        (
            vec![one("shop", "a", "", 1), one("istio-system", "'*'", &selecting("istio: ingressgateway"), 2)],
            2,
            &["SLU0012"],
        ),
        (vec![one("other", FULL, "", 1), one("istio-system", "'*'", "", 2)], 2, &["SLU0012"]),
        (vec![one("other", FULL, "", 1)], 10, &["SLU0012"]),
        (vec![one("istio-system", "a", "", 1)], 10, &["IST0174"]),
        (vec![one("istio-system", FULL, "exportTo: [.], ", 1)], 1, &[]),
        (vec![one("shop", "a", "exportTo: [.], ", 1)], 10, &["SLU0012"]),
        (vec![one("shop", "a", "exportTo: [x, istio-system], ", 1)], 1, &[]),
        (vec![one("istio-system", FULL, &selecting("istio: ingressgateway"), 1)], 1, &[]),
        (vec![one("istio-system", FULL, &selecting("istio: egressgateway"), 1)], 10, &["SLU0011"]),
        (vec![one("shop", "a", &selecting("istio: ingressgateway"), 1)], 10, &["SLU0011"]),
    ] {
        let translation = world(&[service_of("shop"), rules.concat()]);
        let timeout = cluster(&translation, "outbound|80||").connect_timeout;
        assert_eq!(timeout, Duration::from_secs(want), "{rules:?}");
        assert_eq!(codes(&translation), found, "{rules:?}");
    }
}

#[test]
fn a_gateway_outside_the_root_namespace_has_its_own_namespaces_rules_first() {
    let identity = GatewayIdentity { namespace: "edge".to_owned(), ..GatewayIdentity::default() };
    let surroundings = Surroundings::of(identity);
    let one = |namespace: &str, host: &str, most| {
        rule(&format!("{{name: r, namespace: {namespace}}}"), &format!("{{host: {host}, {}}}", limit(most)))
    };
    let (edge, shop, root) = (one("edge", "'*'", 1), one("shop", "a", 2), one("istio-system", "'*'", 3));
    for (rules, want) in [(vec![&edge, &shop, &root], 1), (vec![&shop, &root], 2), (vec![&root], 3)] {
        let text: String = rules.into_iter().map(String::as_str).collect();
        let translation = translate(&objects(&(service_of("shop") + &text)), &surroundings, 1);
        assert_eq!(cluster(&translation, "outbound|80||").max_connections, Some(want), "{text}");
    }
}

#[test]
fn the_meshs_connect_timeout_holds_where_no_rule_has_one() {
    let mesh =
        MeshConfig { connect_timeout: Some(DurationText(Duration::from_secs(3))), ..MeshConfig::default() };
    let surroundings = Surroundings { mesh, ..Surroundings::default() };
    for (spec, want) in
        [(limit(1), 3), ("trafficPolicy: {connectionPool: {tcp: {connectTimeout: 5s}}}".to_owned(), 5)]
    {
        let text = service_of("default") + &rule("{name: r}", &format!("{{host: a, {spec}}}"));
        let translation = translate(&objects(&text), &surroundings, 1);
        let timeout = cluster(&translation, "outbound|80||").connect_timeout;
        assert_eq!(timeout, Duration::from_secs(want), "{spec}");
    }
}

#[test]
fn ports_replace_the_whole_policy_and_subsets_its_blocks() {
    let spec = "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s}}, loadBalancer: \
                {consistentHash: {useSourceIp: true}}, portLevelSettings: [{port: {number: 81}, outlierDetection: {}}]}, \
                subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 9s}}}}, {name: \
                v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}, portLevelSettings: [{port: \
                {number: 80}, connectionPool: {tcp: {maxConnections: 2}}}]}}, {name: all}]}";
    let translation = world(&[service_of("default"), rule("{name: r}", spec)]);
    for (name, most, idle, affinity, outlier, endpoints) in [
        ("outbound|80||", Some(7), None, Affinity::SourceAddress, false, 2),
        ("outbound|81||", None, None, Affinity::None, true, 2),
        ("outbound|80|v1|", None, Some(9), Affinity::SourceAddress, false, 1),
        ("outbound|81|v1|", None, Some(9), Affinity::None, true, 1),
        ("outbound|80|v2|", Some(2), None, Affinity::None, false, 0),
        ("outbound|81|v2|", None, None, Affinity::None, true, 0),
        ("outbound|80|all|", Some(7), None, Affinity::SourceAddress, false, 2),
    ] {
        let found = cluster(&translation, name);
        assert_eq!(found.max_connections, most, "{name}");
        assert_eq!(found.idle_timeout, idle.map(Duration::from_secs), "{name}");
        assert_eq!((found.affinity.clone(), found.outlier.is_some()), (affinity, outlier), "{name}");
        assert_eq!(found.endpoints.len(), endpoints, "{name}");
        assert_eq!(found.destination_rule.as_deref(), Some("r.default"), "{name}");
    }
    assert_eq!(cluster(&translation, "outbound|80||").connect_timeout, Duration::from_secs(3));
    assert_eq!(cluster(&translation, "outbound|80|v1|").connect_timeout, Duration::from_secs(10));
    assert_eq!(codes(&translation), ["IST0173"], "nothing has the labels of v2, which is said once");
}

#[test]
fn documents_of_one_host_are_joined_and_the_older_wins() {
    let translation = world(&[
        service_of("default"),
        rule(
            "{name: a, creationTimestamp: '2024-02-01T00:00:00Z'}",
            &format!("{{host: a, {}, subsets: [{{name: x}}, {{name: y}}]}}", limit(2)),
        ),
        rule(
            "{name: b, creationTimestamp: '2024-01-01T00:00:00Z'}",
            &format!("{{host: a, {}, subsets: [{{name: x, labels: {{version: v1}}}}]}}", limit(1)),
        ),
    ]);
    assert_eq!(cluster(&translation, "outbound|80||").max_connections, Some(1));
    assert_eq!(cluster(&translation, "outbound|80|x|").endpoints.len(), 1);
    assert_eq!(cluster(&translation, "outbound|80|y|").endpoints.len(), 2);
    let twice: Vec<_> = translation.diagnostics.iter().filter(|it| it.code.as_str() == "SLU0012").collect();
    assert_eq!(twice.len(), 2, "{twice:?}");
    assert!(twice.iter().all(|found| found.related[0].document.to_string() == "DestinationRule default/b"));
}

#[test]
fn documents_that_others_see_otherwise_are_not_joined() {
    let one = |name: &str, day: u32, more: &str, most| {
        let metadata =
            format!("{{name: {name}, namespace: shop, creationTimestamp: '2024-01-0{day}T00:00:00Z'}}");
        rule(&metadata, &format!("{{host: a, {more}{}, subsets: [{{name: {name}}}]}}", limit(most)))
    };
    for (documents, want, subsets) in [
        // Equal lists are one, in any order; of different ones the newest counts alone.
        (
            [
                one("x", 1, "exportTo: [a, istio-system], ", 1),
                one("y", 2, "exportTo: [istio-system, a], ", 2),
            ],
            1,
            &["x", "y"][..],
        ),
        ([one("x", 1, "exportTo: ['*'], ", 1), one("y", 2, "", 2)], 2, &["y"]),
        ([one("x", 2, "exportTo: ['*'], ", 1), one("y", 1, "", 2)], 1, &["x"]),
    ] {
        let translation = world(&[service_of("shop"), documents.concat()]);
        assert_eq!(cluster(&translation, "outbound|80||").max_connections, Some(want), "{documents:?}");
        let names = translation.snapshot.clusters.keys().filter(|name| name.port == 80);
        let found: Vec<&str> = names.filter_map(|name| name.subset.as_deref()).collect();
        assert_eq!(found, subsets, "{documents:?}");
        assert_eq!(codes(&translation), ["SLU0012"], "{documents:?}");
    }
    let metadata = "{name: r, namespace: istio-system}";
    let full = "a.istio-system.svc.cluster.local";
    let selecting = "workloadSelector: {matchLabels: {istio: ingressgateway}}, exportTo: ['.'], ";
    let translation = world(&[
        service_of("istio-system"),
        rule(metadata, &format!("{{host: {full}, {selecting}{}}}", limit(1))),
        rule(
            "{name: s, namespace: istio-system}",
            &format!("{{host: {full}, exportTo: ['.'], {}}}", limit(2)),
        ),
    ]);
    assert_eq!(cluster(&translation, "outbound|80||").max_connections, Some(1), "who selects us comes first");
}

#[test]
fn a_rule_for_others_hides_a_wider_one_of_its_namespace() {
    let wide =
        rule("{name: w, namespace: shop}", &format!("{{host: '*.shop.svc.cluster.local', {}}}", limit(1)));
    let root = rule("{name: r, namespace: istio-system}", &format!("{{host: '*', {}}}", limit(3)));
    for (exports, want) in [("[other]", 3), ("['.']", 1), ("[shop]", 1), ("[other, istio-system]", 2)] {
        let narrow =
            rule("{name: n, namespace: shop}", &format!("{{host: a, exportTo: {exports}, {}}}", limit(2)));
        let translation = world(&[service_of("shop"), wide.clone(), narrow, root.clone()]);
        assert_eq!(cluster(&translation, "outbound|80||").max_connections, Some(want), "{exports}");
    }
}

#[test]
fn settings_for_a_port_that_is_not_there_are_told() {
    for (host, number, want) in [
        ("a", 80, &[][..]),
        ("a", 82, &["default.svc.cluster.local has no port 82, but 80, 81: these settings take no effect"]),
        ("'*.default.svc.cluster.local'", 82, &[]),
    ] {
        let spec = format!(
            "{{host: {host}, trafficPolicy: {{portLevelSettings: [{{port: {{number: {number}}}, loadBalancer: {{simple: \
             RANDOM}}}}]}}}}"
        );
        let translation = world(&[service_of("default"), rule("{name: r}", &spec)]);
        let found: Vec<&str> =
            translation.diagnostics.iter().map(|it| it.message.trim_start_matches("a.")).collect();
        assert_eq!(found, want, "{spec}");
    }
}

#[test]
fn outlier_detection_has_envoys_defaults() {
    let default = OutlierDetection::default;
    for (written, want) in [
        ("{}", default()),
        ("{consecutive5xxErrors: 0}", OutlierDetection { consecutive_5xx: 0, ..default() }),
        (
            "{consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 1m, maxEjectionPercent: 100, minHealthPercent: 50}",
            OutlierDetection {
                consecutive_5xx: 2,
                interval: Duration::from_secs(1),
                base_ejection_time: Duration::from_mins(1),
                max_ejection_percent: 100,
                min_health_percent: 50,
                ..default()
            },
        ),
        ("{maxEjectionPercent: 0}", default()),
        ("{consecutiveGatewayErrors: 3}", OutlierDetection { consecutive_gateway: 3, ..default() }),
        (
            "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}",
            OutlierDetection { split_local_origin: true, consecutive_local_origin: 2, ..default() },
        ),
        (
            "{outlierDetectionHttpErrorCodes: [429, 503]}",
            OutlierDetection { error_codes: vec![429, 503], ..default() },
        ),
        (
            "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0}",
            OutlierDetection { split_local_origin: true, ..default() },
        ),
    ] {
        let spec = format!("{{host: a, trafficPolicy: {{outlierDetection: {written}}}}}");
        let translation = world(&[service_of("default"), rule("{name: r}", &spec)]);
        assert_eq!(cluster(&translation, "outbound|80||").outlier, Some(want), "{written}");
    }
}

/// A DestinationRule of `a` with annotations and no more.
fn checking(metadata: &str, annotations: &str) -> String {
    let annotations = annotations.replace("health-check", "sluice.dev/health-check");
    rule(&format!("{{{metadata}, annotations: {{{annotations}}}}}"), "{host: a, subsets: [{name: v1}]}")
}

#[test]
fn health_checks_are_those_of_the_annotations() {
    let http = |host: Option<&str>, path: &str, expected: &[std::ops::RangeInclusive<u16>]| {
        let host = host.map(Into::into);
        HealthCheck::new(Probe::Http { host, path: path.into(), expected: expected.to_vec() })
    };
    let both = ["outbound|80||", "outbound|80|v1|", "outbound|81||", "outbound|81|v1|"];
    for (annotations, want, clusters) in [
        ("health-check: tcp", HealthCheck::new(Probe::Tcp), &both[..]),
        ("health-check: grpc", HealthCheck::new(Probe::Grpc { service: "".into() }), &both),
        ("health-check: 'grpc:a.B'", HealthCheck::new(Probe::Grpc { service: "a.B".into() }), &both),
        ("health-check: 'http:///healthz'", http(None, "/healthz", &[200..=200]), &both),
        (
            "health-check: 'http://a.test/', health-check-statuses: '200-299,404', health-check-ports: '81'",
            http(Some("a.test"), "/", &[200..=299, 404..=404]),
            &both[2..],
        ),
        (
            "health-check: tcp, health-check-interval: 1m, health-check-timeout: 100ms, health-check-healthy-threshold: '2', \
             health-check-unhealthy-threshold: '4'",
            HealthCheck {
                interval: Duration::from_mins(1),
                timeout: Duration::from_millis(100),
                healthy_threshold: 2,
                unhealthy_threshold: 4,
                ..HealthCheck::new(Probe::Tcp)
            },
            &both,
        ),
    ] {
        let translation = world(&[service_of("default"), checking("name: r", annotations)]);
        for name in both {
            let found = cluster(&translation, name).health_check.as_deref();
            assert_eq!(found, clusters.contains(&name).then_some(&want), "{name}: {annotations}");
        }
    }
    let plain = world(&[service_of("default"), checking("name: r", "health-check-interval: 1s")]);
    assert!(both.iter().all(|name| cluster(&plain, name).health_check.is_none()));
}

#[test]
fn of_several_checks_the_oldest_is_in_force() {
    let (old, young) = (
        checking("name: r1, creationTimestamp: '2020-01-01T00:00:00Z'", "health-check-ports: '80'"),
        checking("name: r2, creationTimestamp: '2021-01-01T00:00:00Z'", "health-check: grpc"),
    );
    let youngest = checking("name: r3, creationTimestamp: '2022-01-01T00:00:00Z'", "health-check: tcp");
    let translation = world(&[service_of("default"), youngest, young, old]);
    for name in ["outbound|80||", "outbound|81||"] {
        let found = cluster(&translation, name).health_check.as_ref().map(|check| check.probe.clone());
        assert_eq!(found, Some(Probe::Grpc { service: "".into() }), "{name}");
    }
}

/// A TCP and an HTTP port of one Gateway, and a route to `a` of which a rule says more.
fn site(annotations: &str, policy: &str) -> Translation {
    let spec =
        "{gateways: [g], hosts: ['*'], tcp: [{route: [{destination: {host: a, port: {number: 80}}}]}]}";
    world(&[
        gateway(&format!("{{name: g, annotations: {{{annotations}}}}}"), &["9000 x TCP '*'"]),
        virtual_service("{name: v}", spec),
        service_of("default"),
        rule(
            "{name: r}",
            &format!(
                "{{host: a, trafficPolicy: {{portLevelSettings: [{{port: {{number: 81}}, outlierDetection: {{}}}}]{policy}}}}}"
            ),
        ),
    ])
}

#[test]
fn endpoints_are_chosen_as_the_rule_says() {
    let cookie = |given: Option<&str>| {
        Affinity::Cookie(CookieAffinity { name: "user".into(), given: given.map(Into::into) }.into())
    };
    for (balancer, want) in [
        ("{simple: UNSPECIFIED}", (Balance::LeastRequest, Affinity::None)),
        ("{simple: LEAST_CONN}", (Balance::LeastRequest, Affinity::None)),
        ("{simple: ROUND_ROBIN}", (Balance::RoundRobin, Affinity::None)),
        ("{simple: RANDOM}", (Balance::Random, Affinity::None)),
        ("{consistentHash: {useSourceIp: true}}", (Balance::LeastRequest, Affinity::SourceAddress)),
        ("{consistentHash: {useSourceIp: false}}", (Balance::LeastRequest, Affinity::None)),
        (
            "{consistentHash: {httpHeaderName: X-User, ringHash: {minimumRingSize: 4096}}}",
            (Balance::LeastRequest, Affinity::Header("x-user".into())),
        ),
        (
            "{consistentHash: {httpQueryParameterName: User, maglev: {tableSize: 101}}}",
            (Balance::LeastRequest, Affinity::QueryParameter("User".into())),
        ),
        ("{consistentHash: {httpCookie: {name: user}}}", (Balance::LeastRequest, cookie(None))),
        (
            "{consistentHash: {httpCookie: {name: user, ttl: 0s}}}",
            (Balance::LeastRequest, cookie(Some("; HttpOnly"))),
        ),
        (
            "{consistentHash: {httpCookie: {name: user, path: /a, ttl: 90s, attributes: [{name: SameSite, value: Lax}, {name: \
             Secure}]}}}",
            (Balance::LeastRequest, cookie(Some("; Max-Age=90; Path=/a; SameSite=Lax; Secure; HttpOnly"))),
        ),
    ] {
        let text = rule("{name: r}", &format!("{{host: a, trafficPolicy: {{loadBalancer: {balancer}}}}}"));
        let translation = world(&[service_of("default"), text]);
        let found = cluster(&translation, "outbound|81||");
        assert_eq!((found.balance, found.affinity.clone()), want, "{balancer}");
        assert!(codes(&translation).is_empty(), "{balancer}");
    }
}

#[test]
fn connections_are_kept_alive_and_upgraded_as_the_rule_says() {
    use UpstreamProtocol::{Http1, Http2, Tcp};
    let keepalive = |probes, time, interval| {
        let seconds = |seconds: u64| Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero());
        Some(Keepalive { probes, time: seconds(time), interval: seconds(interval) })
    };
    for (pool, want) in [
        ("tcp: {maxConnections: 1}", (None, Tcp, Http1)),
        ("tcp: {tcpKeepalive: {}}", (keepalive(None, 0, 0), Tcp, Http1)),
        (
            "tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}",
            (keepalive(Some(3), 60, 5), Tcp, Http1),
        ),
        // A rule knows what it speaks of, whatever the port's name.
        ("http: {h2UpgradePolicy: UPGRADE}", (None, Http2, Http2)),
        ("http: {h2UpgradePolicy: DO_NOT_UPGRADE}", (None, Tcp, Http1)),
    ] {
        let text = rule("{name: r}", &format!("{{host: a, trafficPolicy: {{connectionPool: {{{pool}}}}}}}"));
        let translation = world(&[service_of("default"), text]);
        let (tcp, http) = (cluster(&translation, "outbound|80||"), cluster(&translation, "outbound|81||"));
        assert_eq!((http.keepalive, tcp.protocol, http.protocol), want, "{pool}");
        assert!(codes(&translation).is_empty(), "{pool}");
    }
}

#[test]
fn what_the_mesh_says_holds_where_the_rule_is_silent() {
    use UpstreamProtocol::{Http1, Http2, Tcp};
    let keepalive = |probes, seconds| {
        let time = Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero());
        Some(Keepalive { probes, time, interval: Some(Duration::from_secs(9)) })
    };
    let mesh = "{h2UpgradePolicy: UPGRADE, tcpKeepalive: {probes: 7, interval: 9s}}";
    for (policy, want) in [
        ("", (keepalive(Some(7), 0), Tcp, Http2, false)),
        ("connectionPool: {tcp: {tcpKeepalive: {probes: 3}}}", (keepalive(Some(3), 0), Tcp, Http2, false)),
        ("connectionPool: {tcp: {tcpKeepalive: {time: 60s}}}", (keepalive(Some(7), 60), Tcp, Http2, false)),
        (
            "connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}",
            (keepalive(Some(7), 0), Tcp, Http1, false),
        ),
        ("connectionPool: {http: {useClientProtocol: true}}", (keepalive(Some(7), 0), Tcp, Http1, true)),
    ] {
        let rule = match policy {
            "" => String::new(),
            policy => rule("{name: r}", &format!("{{host: a, trafficPolicy: {{{policy}}}}}")),
        };
        let translation = world(&[service_of("default"), mesh_config(mesh), rule]);
        let (tcp, http) = (cluster(&translation, "outbound|80||"), cluster(&translation, "outbound|81||"));
        assert_eq!((http.keepalive, tcp.protocol, http.protocol, http.follows_client), want, "{policy}");
        assert!(codes(&translation).is_empty(), "{policy}");
    }
}

#[test]
fn new_endpoints_warm_up_where_they_take_turns_or_have_the_least_requests() {
    let warmup = |seconds, minimum_percent, aggression| {
        Some(Warmup { window: Duration::from_secs(seconds), minimum_percent, aggression })
    };
    for (balancer, want) in [
        ("{warmupDurationSecs: 30s}", warmup(30, 10.0, 1.0)),
        ("{simple: ROUND_ROBIN, warmup: {duration: 60s}}", warmup(60, 10.0, 1.0)),
        (
            "{simple: LEAST_REQUEST, warmup: {duration: 60s, minimumPercent: 0, aggression: 2.5}}",
            warmup(60, 0.0, 2.5),
        ),
        ("{warmup: {duration: 60s, aggression: 0}}", warmup(60, 10.0, 1.0)),
        ("{warmup: {duration: 60s}, warmupDurationSecs: 5s}", warmup(60, 10.0, 1.0)),
        ("{simple: RANDOM, warmup: {duration: 60s}}", None),
        ("{consistentHash: {useSourceIp: true}, warmup: {duration: 60s}}", None),
        ("{simple: ROUND_ROBIN}", None),
    ] {
        let text = rule("{name: r}", &format!("{{host: a, trafficPolicy: {{loadBalancer: {balancer}}}}}"));
        let translation = world(&[service_of("default"), text]);
        assert_eq!(cluster(&translation, "outbound|81||").warmup, want, "{balancer}");
    }
}

#[test]
fn connections_last_and_are_asked_for_signs_of_life_as_the_rule_says() {
    let seconds = Duration::from_secs;
    for (pool, want) in [
        ("tcp: {maxConnectionDuration: 5s}", (Some(seconds(5)), None)),
        (
            "http: {http2KeepAlive: {interval: 30s, timeout: 2s}}",
            (None, Some(Pings { interval: seconds(30), timeout: seconds(2) })),
        ),
        ("http: {http2KeepAlive: {timeout: 2s}}", (None, None)),
    ] {
        let text = rule("{name: r}", &format!("{{host: a, trafficPolicy: {{connectionPool: {{{pool}}}}}}}"));
        let translation = world(&[service_of("default"), text]);
        let found = cluster(&translation, "outbound|81||");
        assert_eq!((found.max_connection_duration, found.http.pings), want, "{pool}");
    }
}

#[test]
fn what_a_rule_or_annotation_asks_for_decides_the_plane() {
    use UserSpaceReason::{
        Keepalive, MaxConnections, MaxDuration, ProxyProtocol, UpstreamTls, Warmup as WarmsUp,
    };
    for (annotations, policy, want) in [
        ("", "", Steering::Kernel),
        ("", ", loadBalancer: {consistentHash: {useSourceIp: true}}", Steering::Kernel),
        ("", ", outlierDetection: {}", Steering::Kernel),
        ("sluice.dev/source-address: preserve", "", Steering::Kernel),
        ("sluice.dev/source-address: snat, sluice.dev/max-connections: '5'", "", Steering::Kernel),
        ("sluice.dev/proxy-protocol: v2", "", Steering::UserSpace(ProxyProtocol)),
        (
            "sluice.dev/proxy-protocol: v1, sluice.dev/source-address: preserve",
            "",
            Steering::UserSpace(ProxyProtocol),
        ),
        ("", ", proxyProtocol: {version: V2}", Steering::UserSpace(ProxyProtocol)),
        ("", ", tls: {mode: SIMPLE}", Steering::UserSpace(UpstreamTls)),
        ("", ", tls: {mode: DISABLE}", Steering::Kernel),
        ("", ", connectionPool: {tcp: {tcpKeepalive: {}}}", Steering::UserSpace(Keepalive)),
        ("", ", connectionPool: {tcp: {maxConnections: 1}}", Steering::UserSpace(MaxConnections)),
        ("", ", connectionPool: {tcp: {maxConnectionDuration: 1h}}", Steering::UserSpace(MaxDuration)),
        ("", ", loadBalancer: {warmup: {duration: 60s}}", Steering::UserSpace(WarmsUp)),
        ("", ", loadBalancer: {simple: ROUND_ROBIN}", Steering::Kernel),
    ] {
        let translation = site(annotations, policy);
        assert_eq!(translation.snapshot.listeners[0].steering, want, "{annotations}{policy}");
        assert!(codes(&translation).is_empty(), "{annotations}{policy}");
    }
}

#[test]
fn a_tcp_route_has_the_idle_timeout_of_its_first_destination() {
    for (policy, want) in [
        ("", Duration::from_hours(1)),
        (", connectionPool: {tcp: {idleTimeout: 5s}}", Duration::from_secs(5)),
        (", connectionPool: {tcp: {idleTimeout: 0s}}", Duration::from_hours(24 * 365)),
    ] {
        let translation = site("", policy);
        let ListenerKind::Tcp(route) = &translation.snapshot.listeners[0].kind else { panic!() };
        assert_eq!(route.idle_timeout, want, "{policy}");
    }
}

#[test]
fn the_oldest_gateway_with_an_annotation_decides_for_the_port() {
    let one = |name: &str, annotations: &str, host: &str| {
        gateway(
            &format!("{{name: {name}, annotations: {{{annotations}}}}}"),
            &[&format!("443 x TLS {host} tls: {{}}")],
        )
    };
    let route = |gateway: &str, host: &str| {
        let spec = format!(
            "{{gateways: [{gateway}], hosts: [{host}], tls: [{{match: [{{sniHosts: [{host}]}}], route: [{{destination: {{host: \
             a, port: {{number: 80}}}}}}]}}]}}"
        );
        virtual_service(&format!("{{name: {gateway}}}"), &spec)
    };
    for (first, second, want, found) in [
        ("", "", (SourceAddress::Snat, None, Limits::default()), &[][..]),
        (
            "sluice.dev/proxy-protocol: v1",
            "sluice.dev/proxy-protocol: v1",
            (SourceAddress::Snat, Some(ProxyVersion::V1), Limits::default()),
            &[],
        ),
        (
            "sluice.dev/proxy-protocol: v2",
            "sluice.dev/proxy-protocol: v1",
            (SourceAddress::Snat, Some(ProxyVersion::V2), Limits::default()),
            &["IST0145"],
        ),
        (
            "sluice.dev/max-connections: '3'",
            "sluice.dev/max-connections: '4', sluice.dev/max-new-connections-per-second: '9'",
            (SourceAddress::Snat, None, Limits { connections: Some(3), new_per_second: Some(9) }),
            &["IST0145"],
        ),
        (
            "sluice.dev/source-address: preserve",
            "sluice.dev/source-address: preserve",
            (SourceAddress::Preserve, None, Limits::default()),
            &[],
        ),
        (
            "sluice.dev/source-address: snat",
            "sluice.dev/source-address: preserve",
            (SourceAddress::Snat, None, Limits::default()),
            &["IST0145"],
        ),
    ] {
        let translation = world(&[
            one("g1", first, "a.test"),
            one("g2", second, "b.test"),
            route("g1", "a.test"),
            route("g2", "b.test"),
            service_of("default"),
        ]);
        let listener = &translation.snapshot.listeners[0];
        let got = (listener.source_address, listener.proxy_protocol, listener.limits);
        assert_eq!(got, want, "{first} and {second}");
        assert_eq!(codes(&translation), found, "{first} and {second}");
    }
}

#[test]
fn ports_that_cannot_do_what_an_annotation_asks_are_reported() {
    const HTTPS: &str = "80 x HTTPS '*' tls: {mode: SIMPLE, credentialName: c}";
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: istio-system}\nstringData: {cert: a, key: b}\n";
    for (server, annotation, found) in [
        ("80 x HTTP '*'", "sluice.dev/source-address: preserve", &["SLU0005"][..]),
        ("80 x HTTP '*'", "sluice.dev/source-address: snat", &[]),
        ("80 x HTTP '*'", "sluice.dev/proxy-protocol: v1", &["SLU0012"]),
        (HTTPS, "sluice.dev/proxy-protocol: v1", &["SLU0012"]),
        (HTTPS, "sluice.dev/source-address: preserve", &["SLU0005"]),
        ("80 x HTTP '*'", "sluice.dev/max-connections: '1'", &[]),
    ] {
        let gateway = gateway(&format!("{{name: g, annotations: {{{annotation}}}}}"), &[server]);
        let translation = world(&[gateway, secret.to_owned()]);
        assert_eq!(codes(&translation), found, "{server} {annotation}");
    }
}
