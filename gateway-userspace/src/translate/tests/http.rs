//! Virtual hosts and routes.

use super::*;

#[test]
fn the_chosen_virtual_host_is_never_left_for_a_wider_one() {
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service(
            "{name: narrow}",
            &format!(
                "{{gateways: [g], hosts: [a.test], http: [{{match: [{{uri: {{prefix: /a}}}}], route: {}}}]}}",
                to("a")
            ),
        ),
        virtual_service(
            "{name: wide}",
            &format!("{{gateways: [g], hosts: ['*'], http: [{{route: {}}}]}}", to("b")),
        ),
        services(&["a", "b"]),
    ];
    ask(
        &parts,
        &[("a.test", "/a", "a"), ("a.test", "/b", "404"), ("b.test", "/b", "b"), ("A.test:99", "/a", "a")],
    );
}

#[test]
fn routes_are_tried_oldest_document_first_with_catch_alls_last() {
    let vs = |metadata: &str, http: &str| {
        virtual_service(metadata, &format!("{{gateways: [g], hosts: [a.test], http: [{http}]}}"))
    };
    let parts = [
        gateway("{name: g}", &["80 http HTTP a.test"]),
        vs(
            "{name: a, creationTimestamp: '2024-02-01T00:00:00Z'}",
            &format!("{{match: [{{uri: {{prefix: /x}}}}], route: {}}}", to("younger")),
        ),
        vs(
            "{name: b, creationTimestamp: '2024-01-01T00:00:00Z'}",
            &format!(
                "{{match: [{{uri: {{prefix: /x/y}}}}], route: {}}}, {{match: [{{}}], route: {}}}, {{match: [{{uri: {{prefix: /z}}}}], route: {}}}",
                to("older"),
                to("all"),
                to("never")
            ),
        ),
        services(&["younger", "older", "all", "never"]),
    ];
    ask(
        &parts,
        &[
            ("a.test", "/x/y", "older"),
            ("a.test", "/x", "younger"),
            // Behind the catch-all of its own document nothing is reached, before it everything of the others is.
            ("a.test", "/z", "all"),
            ("a.test", "/", "all"),
        ],
    );
}

#[test]
fn equally_old_documents_are_ordered_by_name_then_namespace() {
    let vs = |name: &str, namespace: &str, service: &str| {
        let spec = format!(
            "{{gateways: [default/g], hosts: [a.test], http: [{{match: [{{uri: {{prefix: /}}}}], route: {}}}]}}",
            to(service)
        );
        virtual_service(&format!("{{name: {name}, namespace: {namespace}}}"), &spec)
    };
    let parts = [
        gateway("{name: g}", &["80 http HTTP a.test"]),
        vs("b", "aaa", "second"),
        vs("a", "zzz", "third"),
        vs("a", "aaa", "first"),
    ];
    ask(&parts, &[("a.test", "/", "first")]);
}

#[test]
fn no_gateways_means_the_mesh_and_not_this_gateway() {
    for (gateways, want) in [
        ("", "404"),
        ("gateways: [mesh], ", "404"),
        ("gateways: [mesh, g], ", "a"),
        ("gateways: [./g], ", "a"),
    ] {
        let spec = format!("{{{gateways}hosts: [a.test], http: [{{route: {}}}]}}", to("a"));
        let parts = [
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
        ];
        ask(&parts, &[("a.test", "/", want)]);
    }
}

#[test]
fn gateways_are_named_in_four_ways() {
    for (name, found) in [
        ("g", false),
        ("infra/g", true),
        ("./g", false),
        ("g.infra.svc.cluster.local", true),
        ("other/g", false),
    ] {
        let spec = format!("{{gateways: [{name}], hosts: [a.test], http: [{{route: {}}}]}}", to("a"));
        let parts = [
            gateway("{name: g, namespace: infra}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
        ];
        ask(&parts, &[("a.test", "/", if found { "a" } else { "404" })]);
        assert_eq!(codes(&world(&parts)).contains(&"IST0101"), !found, "{name}");
    }
}

#[test]
fn hosts_meet_in_the_narrower_name() {
    for (server, vs, host, want) in [
        ("'*.foo.com'", "a.foo.com", "a.foo.com", "a"),
        ("'*.foo.com'", "a.foo.com", "b.foo.com", "404"),
        ("x.y.com", "'*.y.com'", "x.y.com", "a"),
        ("x.y.com", "'*.y.com'", "z.y.com", "404"),
        ("other/*.foo.com", "'*'", "a.foo.com", "404"),
        ("default/*.foo.com", "'*'", "a.foo.com", "a"),
        ("./*.foo.com", "'*'", "a.foo.com", "a"),
        ("'*/*.foo.com'", "'*'", "a.foo.com", "a"),
        ("'*/*', b.foo.com", "'*'", "any.where", "a"),
        ("a.foo.com", "b.foo.com", "b.foo.com", "404"),
        // A short host is completed with the document's namespace.
        ("'*'", "a", "a.default.svc.cluster.local", "a"),
        ("'*'", "a", "a", "404"),
    ] {
        let server = format!("80 http HTTP {}", server.replace(", ", ","));
        let spec = format!("{{gateways: [g], hosts: [{vs}], http: [{{route: {}}}]}}", to("a"));
        let parts = [gateway("{name: g}", &[&server]), virtual_service("{name: v}", &spec), services(&["a"])];
        ask(&parts, &[(host, "/", want)]);
    }
}

#[test]
fn a_host_outside_the_gateways_hosts_is_reported() {
    let spec = format!("{{gateways: [g], hosts: [a.test, b.test], http: [{{route: {}}}]}}", to("a"));
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP a.test"]),
        virtual_service("{name: v}", &spec),
        services(&["a"]),
    ]);
    assert_eq!(codes(&translation), ["IST0132"]);
    assert_eq!(
        translation.diagnostics[0].message,
        "one or more host [b.test] defined in VirtualService default/v not found in Gateway default/g."
    );
}

#[test]
fn a_virtual_service_without_any_host_at_its_gateway_is_reported_once() {
    let spec = format!("{{gateways: [g], hosts: [b.test, c.test], http: [{{route: {}}}]}}", to("a"));
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP a.test"]),
        virtual_service("{name: v}", &spec),
        services(&["a"]),
    ]);
    assert_eq!(codes(&translation), ["IST0132"]);
}

#[test]
fn age_is_compared_as_time_and_not_as_text() {
    let vs = |metadata: &str, to_: &str| {
        virtual_service(
            metadata,
            &format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}}}]}}", to(to_)),
        )
    };
    let parts = [
        gateway("{name: g}", &["80 http HTTP a.test"]),
        vs("{name: a, creationTimestamp: 2024-01-01T00:00:00Z}", "younger"),
        vs("{name: b, creationTimestamp: 2024-01-01T01:00:00+02:00}", "older"),
        services(&["younger", "older"]),
    ];
    ask(&parts, &[("a.test", "/", "older")]);
}

#[test]
fn export_to_is_judged_by_the_gateways_own_namespace() {
    for (namespace, export_to, seen) in [
        ("default", "['*']", true),
        ("default", "['.']", false),
        ("default", "[istio-system]", true),
        ("default", "[other]", false),
        ("default", "['~']", false),
        ("istio-system", "['.']", true),
    ] {
        let spec = format!(
            "{{gateways: [default/g], exportTo: {export_to}, hosts: [a.test], http: [{{route: {}}}]}}",
            to("a")
        );
        let parts = [
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service(&format!("{{name: v, namespace: {namespace}}}"), &spec),
        ];
        ask(&parts, &[("a.test", "/", if seen { "a" } else { "404" })]);
    }
}

#[test]
fn private_documents_of_the_gateways_namespace_come_before_older_public_ones() {
    let vs = |metadata: &str, export_to: &str, service: &str| {
        let spec = format!(
            "{{gateways: [default/g], exportTo: [{export_to}], hosts: [a.test], http: [{{match: [{{uri: {{prefix: /x}}}}], route: {}}}]}}",
            to(service)
        );
        virtual_service(metadata, &spec)
    };
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        vs("{name: a, creationTimestamp: '2020-01-01T00:00:00Z'}", "'*'", "public"),
        vs("{name: b, creationTimestamp: '2021-01-01T00:00:00Z'}", "istio-system", "named"),
        vs("{name: c, namespace: istio-system, creationTimestamp: '2022-01-01T00:00:00Z'}", "'.'", "private"),
    ];
    ask(&parts, &[("a.test", "/x", "private")]);
    ask(&parts[..3], &[("a.test", "/x", "named")]);
}

#[test]
fn conditions_on_the_gateway_itself_are_judged_at_once() {
    for (condition, holds) in [
        ("port: 80", true),
        ("port: 81", false),
        ("gateways: [g]", true),
        ("gateways: [other/g]", false),
        ("sourceLabels: {istio: ingressgateway}", true),
        ("sourceLabels: {istio: other}", false),
        ("sourceNamespace: istio-system", true),
        ("sourceNamespace: default", false),
        // Labels are not looked at where gateways are named.
        ("gateways: [g], sourceLabels: {istio: other}", true),
    ] {
        let spec = format!(
            "{{gateways: [g], hosts: [a.test], http: [{{match: [{{{condition}}}], route: {}}}]}}",
            to("a")
        );
        let parts = [
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
        ];
        ask(&parts, &[("a.test", "/", if holds { "a" } else { "404" })]);
        // What can never hold is reported.
        assert_eq!(codes(&world(&parts)).contains(&"SLU0012"), !holds, "{condition}");
    }
}

#[test]
fn https_redirect_is_sticky_and_needs_no_virtual_service() {
    let redirecting = "80 redirect HTTP a.test,b.test tls: {httpsRedirect: true}";
    let spec = format!("{{gateways: [g], hosts: [a.test, c.test], http: [{{route: {}}}]}}", to("a"));
    let translation = world(&[
        gateway("{name: g}", &[redirecting, "80 plain HTTP a.test,c.test"]),
        virtual_service("{name: v}", &spec),
        services(&["a"]),
    ]);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    for (host, want) in
        [("a.test", Some(true)), ("b.test", Some(true)), ("c.test", Some(false)), ("d.test", None)]
    {
        assert_eq!(table.virtual_host(host).map(|host| host.https_redirect), want, "{host}");
    }
}

#[test]
fn https_servers_have_tables_of_their_own() {
    let translation = world(&[
        gateway(
            "{name: g}",
            &[
                "443 one HTTPS a.test tls: {mode: SIMPLE, credentialName: c}",
                "443 two HTTPS '*.b.test' tls: {mode: SIMPLE, credentialName: c}",
            ],
        ),
        virtual_service(
            "{name: v}",
            &format!("{{gateways: [g], hosts: ['*'], http: [{{route: {}}}]}}", to("a")),
        ),
        services(&["a"]),
    ]);
    let one = table(&translation.snapshot, "0.0.0.0_443", Some("a.test"));
    assert_eq!(&*one.name, "https.443.one.g.default");
    assert_eq!(
        (answer(one, "a.test", "/"), answer(one, "x.b.test", "/")),
        ("a".to_owned(), "404".to_owned())
    );
    let two = table(&translation.snapshot, "0.0.0.0_443", Some("x.b.test"));
    assert_eq!(
        (answer(two, "x.b.test", "/"), answer(two, "a.test", "/")),
        ("a".to_owned(), "404".to_owned())
    );
}

#[test]
fn header_operations_are_merged_by_the_number_of_destinations() {
    let spec = "{gateways: [g], hosts: [a.test], http: [{headers: {request: {set: {x: route, host: route.test}}}, route: \
                [{destination: {host: a}, headers: {request: {set: {x: destination, Host: other.test}, add: {y: 100%%}}}}]}]}";
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", spec),
        services(&["a"]),
    ]);
    let found = route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x", HeaderValue::from_static("client"));
    let operations = found.request_headers.as_ref().unwrap();
    operations.apply(&mut headers, |_, _| None);
    assert_eq!(headers["x"], "destination", "a lone destination's set comes last");
    assert_eq!(headers["y"], "100%");
    assert_eq!(operations.authority.as_deref(), Some("route.test"), "the route's Host wins");
}
