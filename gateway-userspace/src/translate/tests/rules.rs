//! What gateways of other make get wrong about Istio's documents: one test a rule, its name says the rule. What only traffic
//! shows stands with the end-to-end tests.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::api::Code;
use crate::model::{
    Affinity, Cluster, FilterChain, Fraction, HttpLimits, RedirectPort, RetryOn, RetryPolicy,
    UpstreamProtocol,
};

/// A VirtualService of Gateway `g`.
fn bound(name: &str, hosts: &str, rules: &str) -> String {
    virtual_service(&format!("{{name: {name}}}"), &format!("{{gateways: [g], hosts: [{hosts}], {rules}}}"))
}

fn matching(condition: &str, service: &str) -> String {
    format!("{{match: [{{{condition}}}], route: {}}}", to(service))
}

fn everything(service: &str) -> String {
    format!("{{route: {}}}", to(service))
}

fn cluster<'a>(translation: &'a Translation, name: &str) -> &'a Cluster {
    let found = translation.snapshot.clusters.values().find(|it| it.name.to_string().starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {:?}", translation.snapshot.clusters.keys()))
}

fn destination_rule(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: {namespace}}}\nspec: \
         {spec}\n"
    )
}

fn forward(rule: &str) -> Forward {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        bound("v", "a.test", &format!("http: [{rule}]")),
        services(&["a", "b"]),
    ];
    let translation = world(&parts);
    let found = route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/");
    match found.map(|route| route.action.clone()) {
        Some(RouteAction::Forward(forward)) => forward,
        other => panic!("{other:?} by {rule}"),
    }
}

/// The chains of port 443.
fn chains(translation: &Translation) -> Vec<Arc<FilterChain>> {
    let listeners = &translation.snapshot.listeners;
    let listener = listeners.iter().find(|listener| listener.key.port == 443).expect("a listener");
    let ListenerKind::Tls(tls) = &listener.kind else { panic!("{listener:?}") };
    tls.chains.clone()
}

#[test]
fn routing_ignores_the_hosts_port_and_a_match_of_the_authority_does_not() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        bound(
            "v",
            "a.test",
            &format!("http: [{}, {}]", matching("authority: {exact: a.test}", "a"), everything("b")),
        ),
        services(&["a", "b"]),
    ];
    ask(&parts, &[("a.test", "/", "a"), ("a.test:80", "/", "b"), ("A.test", "/", "b")]);
}

#[test]
fn a_security_policy_is_an_error_where_nothing_enforces_it() {
    for kind in ["AuthorizationPolicy", "RequestAuthentication"] {
        let text =
            format!("apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{}}\n");
        let file = "t.yaml".into();
        let readings =
            api::split(&text).into_iter().flat_map(|chunk| api::read_document(&file, chunk, "default"));
        let found: Vec<_> = readings.flat_map(|reading| reading.diagnostics).collect();
        assert!(found.iter().any(|it| it.code == Code::NotEnforced && it.is_error()), "{kind}: {found:?}");
    }
}

#[test]
fn a_virtual_host_without_a_matching_route_does_not_fall_through_to_a_wider_one() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        bound("exact", "a.foo.test", &format!("http: [{}]", matching("uri: {prefix: /a}", "a"))),
        bound("wild", "'*.foo.test'", &format!("http: [{}]", matching("uri: {prefix: /b}", "b"))),
        bound("all", "'*'", &format!("http: [{}]", everything("c"))),
        services(&["a", "b", "c"]),
    ];
    ask(
        &parts,
        &[
            ("a.foo.test", "/a", "a"),
            ("a.foo.test", "/b", "404"),
            ("b.foo.test", "/b", "b"),
            ("b.foo.test", "/c", "404"),
            ("foo.test", "/b", "c"),
        ],
    );
}

#[test]
fn routes_are_tried_in_the_order_of_lists_and_ages_and_never_longest_first() {
    let aged = |name: &str, year: u32, http: &str| {
        virtual_service(
            &format!("{{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}"),
            &format!("{{gateways: [g], hosts: [a.test], http: [{http}]}}"),
        )
    };
    let short = matching("uri: {prefix: /x}", "older");
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        aged(
            "a",
            2022,
            &format!(
                "{}, {}",
                matching("uri: {prefix: /x/y}", "younger"),
                matching("uri: {prefix: /z}", "z")
            ),
        ),
        aged("b", 2021, &format!("{short}, {}", everything("rest"))),
        services(&["older", "younger", "rest", "z"]),
    ];
    // The older one's catch-all goes behind the younger one's routes.
    ask(&parts, &[("a.test", "/x/y", "older"), ("a.test", "/z", "z"), ("a.test", "/", "rest")]);
}

#[test]
fn a_prefix_is_one_of_bytes_and_not_of_segments() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        bound("v", "a.test", &format!("http: [{}]", matching("uri: {prefix: /foo}", "a"))),
        services(&["a"]),
    ];
    ask(
        &parts,
        &[
            ("a.test", "/foo", "a"),
            ("a.test", "/foobar", "a"),
            ("a.test", "/foo/bar", "a"),
            ("a.test", "/fo", "404"),
        ],
    );
}

#[test]
fn a_virtual_service_that_names_no_gateway_is_the_meshs_alone() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", &format!("{{hosts: [a.test], http: [{}]}}", everything("a"))),
        services(&["a"]),
    ];
    ask(&parts, &[("a.test", "/", "404")]);
    assert_eq!(codes(&world(&parts)), ["SLU0012"]);
}

#[test]
fn tls_settings_that_say_nothing_pass_tls_through() {
    let translation = world(&[
        gateway("{name: g}", &["443 tls HTTPS a.test tls: {}"]),
        bound("v", "a.test", &format!("tls: [{{match: [{{sniHosts: [a.test]}}], route: {}}}]", to("a"))),
        services(&["a"]),
    ]);
    assert!(matches!(chains(&translation)[0].action, ChainAction::Passthrough(_)));
    assert_eq!(codes(&translation), [""; 0]);
}

#[test]
fn a_newer_server_with_one_host_of_an_older_one_is_dropped_as_a_whole_on_port_80_too() {
    let aged = |name: &str, year: u32, server: &str| {
        gateway(&format!("{{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z'}}"), &[server])
    };
    for (port, protocol, tls) in
        [(443, "HTTPS", "{mode: SIMPLE, credentialName: c}"), (80, "HTTP", "{httpsRedirect: true}")]
    {
        let server = |hosts: &str| format!("{port} x {protocol} {hosts} tls: {tls}");
        let translation =
            world(&[aged("g", 2021, &server("a.test")), aged("h", 2022, &server("b.test,a.test"))]);
        let listener = &translation.snapshot.listeners[0];
        let is_served = |host: &str| match &listener.kind {
            ListenerKind::Http(table) => table.virtual_host(host).is_some(),
            ListenerKind::Tls(tls) => tls.select(Some(host)).is_some(),
            ListenerKind::Tcp(_) => false,
        };
        assert!(is_served("a.test") && !is_served("b.test"), "{port}");
        assert!(codes(&translation).contains(&"IST0145"), "{port}");
    }
}

#[test]
fn the_services_number_is_for_documents_and_the_target_for_listening() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: i, namespace: istio-system}\nspec: {selector: {istio: \
                   ingressgateway}, ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 443, targetPort: 8443}]}\n";
    let redirect = "{match: [{port: 80, uri: {prefix: /r}}], redirect: {derivePort: FROM_REQUEST_PORT}}";
    let translation = world(&[
        service.to_owned(),
        gateway(
            "{name: g}",
            &["80 http HTTP '*'", "443 tls HTTPS a.test tls: {mode: SIMPLE, credentialName: c}"],
        ),
        bound(
            "v",
            "a.test",
            &format!(
                "http: [{redirect}, {}, {}]",
                matching("port: 8080", "never"),
                matching("port: 80", "a")
            ),
        ),
        services(&["a", "never"]),
    ]);
    assert_eq!(names(&translation.snapshot), ["0.0.0.0_8080", "0.0.0.0_8443"]);
    let plain = table(&translation.snapshot, "0.0.0.0_8080", None);
    assert_eq!((&*plain.name, answer(plain, "a.test", "/").as_str()), ("http.8080", "a"));
    let Some(RouteAction::Redirect(redirect)) = route(plain, "a.test", "/r").map(|route| &route.action)
    else {
        panic!("{plain:?}")
    };
    assert_eq!(redirect.port, Some(RedirectPort::Request(80)));
    let secure = table(&translation.snapshot, "0.0.0.0_8443", Some("a.test"));
    assert_eq!(&*secure.name, "https.443.tls.g.default");
}

#[test]
fn a_redirect_to_https_needs_no_virtual_service_and_sticks_to_its_hosts() {
    let translation = world(&[
        gateway("{name: g}", &["80 a HTTP a.test,b.test tls: {httpsRedirect: true}", "80 b HTTP a.test"]),
        bound("v", "a.test", &format!("http: [{}]", everything("a"))),
        services(&["a"]),
    ]);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    for (host, want) in [("a.test", Some(true)), ("b.test", Some(true)), ("c.test", None)] {
        assert_eq!(table.virtual_host(host).map(|host| host.https_redirect), want, "{host}");
    }
}

#[test]
fn requests_are_tried_three_times_by_default_but_not_after_5xx_and_without_a_timeout() {
    let silent = forward(&everything("a"));
    assert_eq!((silent.timeout, silent.retries.clone()), (None, Some(RetryPolicy::default())));
    let policy = silent.retries.unwrap();
    assert_eq!((policy.attempts, policy.statuses.as_slice(), policy.per_try_timeout), (2, &[][..], None));
    for on in [RetryOn::SERVER_ERROR, RetryOn::GATEWAY_ERROR, RetryOn::RESET] {
        assert_ne!(policy.on.with(on), policy.on, "{on:?}");
    }
}

#[test]
fn a_fault_without_a_percentage_never_happens_and_a_mirror_without_one_always() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        bound(
            "v",
            "a.test",
            &format!(
                "http: [{{fault: {{abort: {{httpStatus: 500}}, delay: {{fixedDelay: 1s}}}}, mirror: {{host: b}}, route: {}}}]",
                to("a")
            ),
        ),
        services(&["a", "b"]),
    ];
    let translation = world(&parts);
    let route = route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").unwrap();
    assert!(route.filters.fault.is_none());
    let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
    assert_eq!(forward.mirrors[0].share, Fraction::of_percent(100.0));
}

#[test]
fn a_secret_is_the_gateways_own_namespaces_and_its_generic_keys_come_first() {
    let secret = |name: &str, namespace: &str, data: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{{data}}}\n"
        )
    };
    let translation = world(&[
        gateway("{name: g}", &["443 x HTTPS '*' tls: {mode: MUTUAL, credentialName: c}"]),
        secret("c", "default", "cert: FAR, key: FAR, cacert: FAR"),
        secret("c", "istio-system", "tls.crt: TLS, tls.key: TLS, cert: GENERIC, key: K, cacert: SAME"),
        secret("c-cacert", "istio-system", "ca.crt: OTHER"),
    ]);
    let ChainAction::TerminateHttp { tls, .. } = &chains(&translation)[0].action else { panic!() };
    let found = tls.credential.as_ref().unwrap();
    assert_eq!(&*found.certificates[0].chain, b"GENERIC");
    assert_eq!(found.client_authority.as_ref().map(|authority| &*authority.bundle), Some(&b"OTHER"[..]));
}

#[test]
fn the_settings_of_a_port_inherit_nothing_and_those_of_a_subset_go_block_by_block() {
    let spec = "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, connectionPool: {tcp: \
                {maxConnections: 7, connectTimeout: 3s}}, portLevelSettings: [{port: {number: 80}, outlierDetection: {}}]}, \
                subsets: [{name: s, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 4s}}}}]}";
    let rule = destination_rule("default", spec);
    let translation = world(&[services(&["a"]), rule.clone()]);
    let port = cluster(&translation, "outbound|80||a.");
    assert_eq!(
        (port.max_connections, port.affinity.clone(), port.outlier.is_some()),
        (None, Affinity::None, true)
    );
    let subset = cluster(&translation, "outbound|80|s|a.");
    assert_eq!((subset.connect_timeout, subset.outlier.is_some()), (Duration::from_secs(4), true));
    // Without settings of the port the subset's pool replaces the rule's, of which its balancing stays.
    let start = rule.find(", portLevelSettings").unwrap();
    let end = rule.find("}, subsets").unwrap();
    let translation = world(&[services(&["a"]), format!("{}{}", &rule[..start], &rule[end..])]);
    let subset = cluster(&translation, "outbound|80|s|a.");
    assert_eq!((subset.max_connections, subset.affinity.clone()), (None, Affinity::SourceAddress));
}

#[test]
fn a_destination_rule_is_of_the_first_namespace_that_has_one_and_none_are_merged() {
    let rule = |namespace: &str, host: &str, policy: &str| {
        destination_rule(
            namespace,
            &format!("{{host: {host}, trafficPolicy: {{connectionPool: {{{policy}}}}}}}"),
        )
    };
    let near = rule("default", "a", "tcp: {maxConnections: 1}");
    let root = rule("istio-system", "a.default.svc.cluster.local", "tcp: {connectTimeout: 2s}");
    let far = rule("other", "a.default.svc.cluster.local", "tcp: {maxConnections: 3}");
    for (rules, most, seconds) in [
        ([&*near, &*root, &*far].concat(), Some(1), 10),
        ([&*root, &*far].concat(), None, 2),
        (far.clone(), None, 10),
    ] {
        let translation = world(&[services(&["a"]), rules.clone()]);
        let found = cluster(&translation, "outbound|80||a.");
        assert_eq!(
            (found.max_connections, found.connect_timeout),
            (most, Duration::from_secs(seconds)),
            "{rules}"
        );
    }
}

#[test]
fn a_cluster_has_no_limits_no_outlier_detection_and_no_panic_unless_asked_for() {
    let unready = services(&["a"]).replace(
        "[10.0.0.0]}",
        "[10.0.0.0], conditions: {ready: false}}, {addresses: [10.0.0.9], conditions: {ready: false}}",
    );
    let translation = world(&[unready]);
    let found = cluster(&translation, "outbound|80||a.");
    assert_eq!(
        (found.max_connections, found.outlier.is_none(), &found.http),
        (None, true, &HttpLimits::default())
    );
    assert_eq!(found.endpoints.len(), 2);
    assert!(found.endpoints.iter().all(|endpoint| endpoint.health != Health::Healthy));
    assert_eq!(
        found.eligible(None::<fn(SocketAddr) -> bool>).count(),
        0,
        "endpoints that are not ready get nothing, however many they are"
    );
}

#[test]
fn backends_are_spoken_to_in_http_1_1_unless_the_port_says_otherwise() {
    for (port, speaks_http2) in [
        ("{name: http, port: 80}", false),
        ("{name: web, port: 80}", false),
        ("{name: http2, port: 80}", true),
        ("{name: grpc-api, port: 80}", true),
        ("{name: http, port: 80, appProtocol: grpc}", true),
    ] {
        let translation = world(&[services(&["a"]).replace("{name: http, port: 80}", port)]);
        let protocol = cluster(&translation, "outbound|80||a.").protocol;
        assert_eq!(protocol == UpstreamProtocol::Http2, speaks_http2, "{port}");
    }
}

#[test]
fn terminated_tls_has_tcp_rules_and_tls_that_is_passed_through_has_tls_rules() {
    let rules = format!(
        "tcp: [{{match: [{{destinationSubnets: [192.0.2.0/24], sourceLabels: {{x: y}}}}], route: {}}}], tls: [{{match: \
         [{{sniHosts: [b.test]}}], route: {}}}, {{match: [{{sniHosts: [c.test, b.test]}}], route: {}}}]",
        to("tcp"),
        to("tls"),
        to("lost")
    );
    let translation = world(&[
        gateway(
            "{name: g}",
            &[
                "443 a TLS a.test tls: {mode: SIMPLE, credentialName: c}",
                "443 b TLS b.test,c.test tls: {mode: PASSTHROUGH}",
            ],
        ),
        bound("v", "a.test, b.test, c.test", &rules),
        services(&["tcp", "tls", "lost"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let goes = |sni: &str| {
        let chain = tls.select(Some(sni))?;
        let route = match &chain.action {
            ChainAction::Passthrough(route) | ChainAction::TerminateTcp { route, .. } => route,
            ChainAction::TerminateHttp { .. } => panic!("{chain:?}"),
        };
        route.destinations[0].name.host.split('.').next().map(str::to_owned)
    };
    // Networks and labels are not looked at; a repeated name costs its match all of its names.
    assert_eq!(goes("a.test").as_deref(), Some("tcp"));
    assert_eq!(goes("b.test").as_deref(), Some("tls"));
    assert_eq!(goes("c.test"), None);
}

#[test]
fn https_servers_share_no_routes_and_no_certificate_stands_in_for_another() {
    let translation = world(&[
        gateway(
            "{name: g}",
            &[
                "443 a HTTPS a.test tls: {mode: SIMPLE, credentialName: c}",
                "443 b HTTPS b.test tls: {mode: SIMPLE, credentialName: d}",
            ],
        ),
        bound("v", "a.test, b.test", &format!("http: [{}]", everything("a"))),
        services(&["a"]),
    ]);
    let table = table(&translation.snapshot, "0.0.0.0_443", Some("a.test"));
    assert_eq!(answer(table, "a.test", "/"), "a");
    assert_eq!(answer(table, "b.test", "/"), "404");
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    assert!(tls.select(Some("c.test")).is_none() && tls.select(None).is_none());
}

#[test]
fn a_tcp_port_without_a_route_is_closed_and_an_http_port_without_one_answers_404() {
    let translation = world(&[gateway("{name: g}", &["80 a HTTP '*'", "9000 b TCP '*'"])]);
    assert_eq!(names(&translation.snapshot), ["0.0.0.0_80"]);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    assert_eq!(answer(table, "a.test", "/"), "404");
}

#[test]
fn a_service_entry_without_a_resolution_has_no_endpoints() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [a.ext], ports: \
                 [{number: 80, name: http, protocol: HTTP}]}\n";
    let translation = world(&[entry.to_owned()]);
    assert_eq!(cluster(&translation, "outbound|80||a.ext").endpoints.len(), 0);
}
