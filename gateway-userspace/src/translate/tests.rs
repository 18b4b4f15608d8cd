//! The rules of translation, a table each. Documents are written as their users write them.

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue};

use crate::api::{self, Object, Objects};
use crate::model::{
    ChainAction, Forward, GatewayIdentity, Health, ListenerKind, RequestHead, Route, RouteAction, RouteTable,
    Snapshot, Steering, UserSpaceReason,
};

use super::{Translation, translate};

/// A Service with its pod, for every name that the tables route to.
fn services(names: &[&str]) -> String {
    let one = |(at, name): (usize, &&str)| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: \
             {{kubernetes.io/service-name: {name}}}}}\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: \
             [10.0.0.{at}]}}]\n"
        )
    };
    names.iter().enumerate().map(one).collect::<Vec<_>>().concat()
}

/// A Gateway of name and servers, one server a line: `port name protocol hosts [more]`.
fn gateway(name: &str, servers: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name}\nspec:\n  selector: {{istio: \
         ingressgateway}}\n  servers:\n"
    );
    for server in servers {
        let mut words = server.splitn(5, ' ');
        let mut word = || words.next().unwrap_or("");
        let (port, name, protocol, hosts, more) = (word(), word(), word(), word(), word());
        text.push_str(&format!(
            "  - port: {{number: {port}, name: {name}, protocol: {protocol}}}\n    hosts: [{hosts}]\n"
        ));
        if !more.is_empty() {
            text.push_str(&format!("    {more}\n"));
        }
    }
    text
}

/// A VirtualService of metadata and spec.
fn virtual_service(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {metadata}\nspec: {spec}\n"
    )
}

fn to(name: &str) -> String {
    format!("[{{destination: {{host: {name}}}}}]")
}

fn objects(text: &str) -> Objects {
    let file: Arc<str> = "t.yaml".into();
    let read = |chunk| api::read_document(&file, chunk, "default");
    let readings: Vec<api::Reading> = api::split(text).into_iter().flat_map(read).collect();
    let found: Vec<String> = readings
        .iter()
        .flat_map(|r| &r.diagnostics)
        .filter(|d| d.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(found.is_empty(), "{found:#?} in\n{text}");
    readings.into_iter().filter_map(|reading| reading.object).collect::<Vec<Object>>().into_iter().collect()
}

fn world(parts: &[String]) -> Translation {
    translate(&objects(&parts.concat()), &GatewayIdentity::default(), 1)
}

fn codes(translation: &Translation) -> Vec<&'static str> {
    translation.diagnostics.iter().map(|found| found.code.as_str()).collect()
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.listeners.iter().map(|listener| listener.name.to_string()).collect()
}

/// The table of a plaintext port, or of the chain that an SNI chooses.
fn table<'a>(snapshot: &'a Snapshot, name: &str, sni: Option<&str>) -> &'a RouteTable {
    let listener = snapshot.listeners.iter().find(|listener| &*listener.name == name).expect(name);
    match &listener.kind {
        ListenerKind::Http(table) => table,
        ListenerKind::Tls(tls) => match &tls.select(sni).expect("a chain").action {
            ChainAction::TerminateHttp { routes, .. } => routes,
            other => panic!("{other:?}"),
        },
        ListenerKind::Tcp(route) => panic!("{route:?}"),
    }
}

fn route<'a>(table: &'a RouteTable, host: &str, path: &str) -> Option<&'a Route> {
    let headers = HeaderMap::new();
    let head =
        RequestHead { path, query: None, method: "GET", scheme: "http", authority: host, headers: &headers };
    table.virtual_host(host)?.route(&head)
}

/// Where a request on port 80 goes: first label of the cluster's host, `redirect`, `direct`, or `404`.
fn answer(table: &RouteTable, host: &str, path: &str) -> String {
    match route(table, host, path).map(|route| &route.action) {
        None => "404".to_owned(),
        Some(RouteAction::Redirect(_)) => "redirect".to_owned(),
        Some(RouteAction::Direct(_)) => "direct".to_owned(),
        Some(RouteAction::Forward(forward)) => first(forward),
    }
}

fn first(forward: &Forward) -> String {
    forward.destinations[0].name.host.split('.').next().unwrap_or("").to_owned()
}

/// Asks one port-80 world for many answers.
fn ask(parts: &[String], questions: &[(&str, &str, &str)]) {
    let translation = world(parts);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    for (host, path, want) in questions {
        assert_eq!(answer(table, host, path), *want, "{host}{path} in {}", parts.concat());
    }
}

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
fn ports_are_translated_by_the_gateways_own_service() {
    let service = |more: &str, ports: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ingress, namespace: istio-system{more}}}\nspec: {{selector: \
             {{istio: ingressgateway}}, ports: [{ports}]}}\n"
        )
    };
    for (service, want) in [
        (service("", "{port: 80, targetPort: 8080}"), "0.0.0.0_8080"),
        (service("", "{port: 80}"), "0.0.0.0_80"),
        (service("", "{port: 443, targetPort: 8443}"), "0.0.0.0_80"),
        (service("", "{port: 80, targetPort: http}"), "0.0.0.0_80"),
        (
            service(
                ", labels: {experimental.istio.io/disable-gateway-port-translation: 'true'}",
                "{port: 80, targetPort: 8080}",
            ),
            "0.0.0.0_80",
        ),
        (service("", "{port: 80, targetPort: 8080}").replace("ingressgateway", "other"), "0.0.0.0_80"),
        (service("", "{port: 80, targetPort: 8080}").replace("istio-system", "default"), "0.0.0.0_80"),
    ] {
        assert_eq!(
            names(&world(&[gateway("{name: g}", &["80 http HTTP '*'"]), service.clone()]).snapshot),
            [want],
            "{service}"
        );
    }
    // Both numbers are kept: match.port and redirects speak of the Service's.
    let spec = "{gateways: [g], hosts: [a.test], http: [{match: [{port: 80}], redirect: {derivePort: FROM_REQUEST_PORT, uri: /}}]}";
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        service("", "{port: 80, targetPort: 8080}"),
        virtual_service("{name: v}", spec),
    ];
    let translation = world(&parts);
    let table = table(&translation.snapshot, "0.0.0.0_8080", None);
    assert_eq!(&*table.name, "http.8080");
    let Some(RouteAction::Redirect(redirect)) = route(table, "a.test", "/").map(|route| &route.action) else {
        panic!("{table:?}")
    };
    assert_eq!(redirect.port, Some(crate::model::RedirectPort::Request(80)));
}

#[test]
fn the_oldest_server_decides_what_a_port_speaks() {
    const SIMPLE: &str = "tls: {mode: SIMPLE, credentialName: c}";
    // First server, second server, listeners, findings, what is served.
    for (older, newer, conflict, hosts) in [
        ("80 a HTTP a.test", "80 a HTTP b.test", None, &["a.test", "b.test"][..]),
        ("80 a HTTP a.test", "80 a HTTP2 a.test", None, &["a.test"]),
        ("80 a HTTP a.test", "80 a TCP '*'", Some("SLU0010"), &["a.test"]),
        ("80 a TCP '*'", "80 a HTTP a.test", Some("SLU0010"), &[]),
        ("80 a TCP '*'", "80 a TCP '*'", Some("SLU0010"), &[]),
        ("80 a HTTP a.test", &format!("80 a HTTPS b.test {SIMPLE}"), Some("SLU0010"), &["a.test"]),
        (&format!("80 a HTTPS a.test {SIMPLE}"), "80 a HTTP b.test", Some("SLU0010"), &["a.test"]),
        (
            &format!("80 a HTTPS a.test {SIMPLE}"),
            &format!("80 a HTTPS b.test {SIMPLE}"),
            None,
            &["a.test", "b.test"],
        ),
        // One name in common costs the newer server all of its names.
        (
            &format!("80 a HTTPS a.test {SIMPLE}"),
            &format!("80 a HTTPS b.test,a.test {SIMPLE}"),
            Some("IST0145"),
            &["a.test"],
        ),
        (
            &format!("80 a HTTPS '*.test' {SIMPLE}"),
            &format!("80 a HTTPS a.test {SIMPLE}"),
            None,
            &["a.test", "b.test"],
        ),
        (
            &format!("80 a HTTPS ns1/a.test {SIMPLE}"),
            &format!("80 a HTTPS a.test {SIMPLE}"),
            None,
            &["a.test"],
        ),
        // The same on a plaintext port where both redirect.
        (
            "80 a HTTP a.test tls: {httpsRedirect: true}",
            "80 a HTTP a.test,b.test tls: {httpsRedirect: true}",
            Some("IST0145"),
            &["a.test"],
        ),
        (
            "80 a HTTP a.test tls: {httpsRedirect: true}",
            "80 a HTTP a.test,b.test",
            None,
            &["a.test", "b.test"],
        ),
        // Another address is another port.
        ("80 a HTTP a.test", "80 a TCP '*' bind: 10.0.0.1", None, &["a.test"]),
    ] {
        let vs = format!(
            "{{gateways: [older, newer], hosts: [a.test, b.test], http: [{{route: {}}}], tcp: [{{route: {}}}]}}",
            to("a"),
            to("a")
        );
        let translation = world(&[
            gateway("{name: older, creationTimestamp: '2024-01-01T00:00:00Z'}", &[older]),
            gateway("{name: newer, creationTimestamp: '2024-02-01T00:00:00Z'}", &[newer]),
            virtual_service("{name: v}", &vs),
            services(&["a"]),
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: istio-system}\nstringData: {cert: a, key: b}\n".to_owned(),
        ]);
        let found = codes(&translation);
        let conflicts: Vec<_> = found.iter().filter(|code| ["SLU0010", "IST0145"].contains(code)).collect();
        assert_eq!(conflicts, conflict.iter().collect::<Vec<_>>(), "{older} and {newer}");
        let mut served: Vec<&str> = Vec::new();
        for host in ["a.test", "b.test"] {
            let listener =
                translation.snapshot.listeners.iter().find(|listener| &*listener.name == "0.0.0.0_80");
            let is_served = match &listener.expect("a listener").kind {
                ListenerKind::Http(table) => table.virtual_host(host).is_some(),
                ListenerKind::Tls(tls) => tls.select(Some(host)).is_some(),
                ListenerKind::Tcp(_) => false,
            };
            served.extend(is_served.then_some(host));
        }
        assert_eq!(served, hosts, "{older} and {newer}");
    }
}

#[test]
fn conflicts_name_both_documents() {
    let translation =
        world(&[gateway("{name: a}", &["80 x HTTP '*'"]), gateway("{name: b}", &["80 x TCP '*'"])]);
    let found = &translation.diagnostics[0];
    assert_eq!(found.document.as_ref().map(ToString::to_string).as_deref(), Some("Gateway default/b"));
    assert_eq!(found.related[0].document.to_string(), "Gateway default/a");
    assert!(found.position.is_some() && found.related[0].position.is_some());
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
fn the_default_tls_mode_passes_through_and_reads_tls_rules() {
    let translation = world(&[
        gateway("{name: g}", &["443 tls HTTPS a.test tls: {}"]),
        virtual_service(
            "{name: v}",
            &format!(
                "{{gateways: [g], hosts: [a.test], http: [{{route: {}}}], tls: [{{match: [{{sniHosts: [a.test]}}], route: {}}}]}}",
                to("http"),
                to("tls")
            ),
        ),
        services(&["http", "tls"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let ChainAction::Passthrough(route) = &tls.select(Some("a.test")).unwrap().action else { panic!() };
    assert!(route.destinations[0].name.host.starts_with("tls."));
    assert_eq!(translation.snapshot.listeners[0].steering, Steering::UserSpace(UserSpaceReason::NeedsSni));
    // The http rule has no effect here, and that is said.
    assert_eq!(codes(&translation), ["SLU0012"]);
}

#[test]
fn a_repeated_sni_costs_a_match_all_of_its_names() {
    let rule =
        |names: &str, service: &str| format!("{{match: [{{sniHosts: [{names}]}}], route: {}}}", to(service));
    let spec = format!(
        "{{gateways: [g], hosts: ['*.test'], tls: [{}, {}, {}]}}",
        rule("a.test", "first"),
        rule("a.test, b.test", "second"),
        rule("c.test", "third")
    );
    let translation = world(&[
        gateway("{name: g}", &["443 tls TLS '*.test' tls: {mode: PASSTHROUGH}"]),
        virtual_service("{name: v}", &spec),
        services(&["first", "second", "third"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let goes = |sni: &str| match &tls.select(Some(sni))?.action {
        ChainAction::Passthrough(route) => {
            route.destinations[0].name.host.split('.').next().map(str::to_owned)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(goes("a.test").as_deref(), Some("first"));
    assert_eq!(goes("b.test"), None);
    assert_eq!(goes("c.test").as_deref(), Some("third"));
    assert_eq!(codes(&translation), ["IST0145"]);
}

#[test]
fn terminated_tls_uses_tcp_rules() {
    let translation = world(&[
        gateway("{name: g}", &["443 tls TLS a.test tls: {mode: SIMPLE, credentialName: c}"]),
        virtual_service(
            "{name: v}",
            &format!(
                "{{gateways: [g], hosts: [a.test], tcp: [{{match: [{{port: 443}}], route: {}}}]}}",
                to("a")
            ),
        ),
        services(&["a"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    assert!(matches!(&tls.select(Some("a.test")).unwrap().action, ChainAction::TerminateTcp { .. }));
    assert_eq!(
        translation.snapshot.listeners[0].steering,
        Steering::UserSpace(UserSpaceReason::TerminatesTls)
    );
}

#[test]
fn a_port_without_routes_listens_only_if_it_speaks_http() {
    let simple = "tls: {mode: SIMPLE, credentialName: c}";
    for (server, want) in [
        ("80 x HTTP '*'".to_owned(), vec!["0.0.0.0_80"]),
        (format!("80 x HTTPS '*' {simple}"), vec!["0.0.0.0_80"]),
        (format!("80 x TLS '*' {simple}"), vec![]),
        ("80 x TLS '*' tls: {}".to_owned(), vec![]),
        ("80 x TCP '*'".to_owned(), vec![]),
    ] {
        let translation = world(&[gateway("{name: g}", &[&server])]);
        assert_eq!(names(&translation.snapshot), want, "{server}");
        assert_eq!(codes(&translation).contains(&"SLU0009"), want.is_empty(), "{server}");
    }
}

#[test]
fn the_first_tcp_rule_that_fits_has_the_port() {
    let rule =
        |condition: &str, service: &str| format!("{{match: [{{{condition}}}], route: {}}}", to(service));
    let vs = |name: &str, hosts: &str, rules: &[String]| {
        virtual_service(
            &format!("{{name: {name}}}"),
            &format!("{{gateways: [g], hosts: [{hosts}], tcp: [{}]}}", rules.join(", ")),
        )
    };
    let translation = world(&[
        gateway("{name: g}", &["9000 x TCP a.test"]),
        vs("a", "b.test", &[rule("port: 9000", "foreign")]),
        vs(
            "b",
            "a.test",
            &[
                rule("port: 1", "other"),
                rule("sourceSubnet: 10.0.0.0/8", "subnet"),
                rule("port: 9000", "late"),
            ],
        ),
        vs("c", "a.test", &[rule("port: 9000", "later")]),
        services(&["foreign", "other", "subnet", "late", "later"]),
    ]);
    let ListenerKind::Tcp(route) = &translation.snapshot.listeners[0].kind else { panic!() };
    assert!(route.destinations[0].name.host.starts_with("subnet."), "subnets are not evaluated at a gateway");
    assert_eq!(&*route.virtual_service, "b.default");
    assert_eq!(translation.snapshot.listeners[0].steering, Steering::Kernel);
}

#[test]
fn destinations_are_found_as_istio_finds_them() {
    let two_ports = "---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {ports: [{name: http, port: 80}, {name: b, port: 81}]}\n\
                     ---\napiVersion: v1\nkind: Service\nmetadata: {name: alias}\nspec: {type: ExternalName, externalName: x.test}\n";
    for (destination, cluster, found) in [
        ("host: a", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a.default.svc.cluster.local", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a, port: {number: 80}", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a, port: {number: 81}", "outbound|81||a.default.svc.cluster.local", Some("IST0101")),
        ("host: a.default", "outbound|80||a.default", Some("IST0101")),
        ("host: none", "outbound|80||none.default.svc.cluster.local", Some("IST0101")),
        ("host: two, port: {number: 81}", "outbound|81||two.default.svc.cluster.local", None),
        ("host: a, subset: v1", "outbound|80|v1|a.default.svc.cluster.local", Some("IST0101")),
        ("host: alias", "outbound|80||alias.default.svc.cluster.local", Some("IST0101")),
    ] {
        let spec = format!(
            "{{gateways: [g], hosts: [a.test], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}"
        );
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
            two_ports.to_owned(),
        ]);
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").map(|route| &route.action)
        else {
            panic!("{destination}")
        };
        let to = &forward.destinations[0];
        assert_eq!(to.name.to_string(), cluster, "{destination}");
        assert_eq!(to.cluster.is_none(), found.is_some(), "{destination}");
        let codes: Vec<_> = codes(&translation).into_iter().filter(|code| code.starts_with("IST")).collect();
        assert_eq!(codes, found.into_iter().collect::<Vec<_>>(), "{destination}");
    }
}

#[test]
fn several_ports_need_a_port_named() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {ports: [{name: a, port: 81}, {name: b, port: 82}]}\n";
    let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}}}]}}", to("two"));
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", &spec),
        service.to_owned(),
    ]);
    assert_eq!(codes(&translation), ["IST0112"]);
}

#[test]
fn weights_are_shares_and_zero_is_left_out_unless_alone() {
    for (weights, want) in [
        (&[("a", 0)][..], &[("a", 1)][..]),
        (&[("a", 7)], &[("a", 1)]),
        (&[("a", 3), ("b", 1)], &[("a", 3), ("b", 1)]),
        (&[("a", 0), ("b", 5)], &[("b", 5)]),
    ] {
        let list: Vec<String> = weights
            .iter()
            .map(|(name, weight)| format!("{{destination: {{host: {name}}}, weight: {weight}}}"))
            .collect();
        let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: [{}]}}]}}", list.join(", "));
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a", "b"]),
        ]);
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").map(|route| &route.action)
        else {
            panic!("{weights:?}")
        };
        let got: Vec<(&str, u32)> = forward
            .destinations
            .iter()
            .map(|to| (to.name.host.split('.').next().unwrap(), to.weight))
            .collect();
        assert_eq!(got, want);
    }
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
    found.request_headers.apply(&mut headers);
    assert_eq!(headers["x"], "destination", "a lone destination's set comes last");
    assert_eq!(headers["y"], "100%");
    assert_eq!(found.request_headers.authority.as_deref(), Some("route.test"), "the route's Host wins");
}

#[test]
fn endpoints_come_from_slices_by_the_ports_name() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}, {name: grpc-x, port: 81}, {name: x, port: 82, appProtocol: kubernetes.io/h2c}, {name: tcp, port: 83}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-2, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}, {name: http, port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.0.0.3], conditions: {ready: false}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.1]}
- {addresses: [host.name]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}, {name: grpc-x, port: 9090}]
endpoints: [{addresses: ['fd00::1'], conditions: {ready: true}}, {addresses: [10.0.0.3], conditions: {ready: true}}]
";
    let translation = world(&[text.to_owned()]);
    let clusters: Vec<_> = translation.snapshot.clusters.values().collect();
    let state = |at: usize| -> Vec<(String, Health)> {
        clusters[at]
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.address.to_string(), endpoint.health))
            .collect()
    };
    let named = |address: &str, health| (address.to_owned(), health);
    assert_eq!(
        state(0),
        [
            named("10.0.0.1:8080", Health::Healthy),
            named("10.0.0.2:8080", Health::Draining),
            named("10.0.0.3:8080", Health::Healthy),
            named("[fd00::1]:8080", Health::Healthy),
        ]
    );
    assert_eq!(state(1), [named("10.0.0.3:9090", Health::Healthy), named("[fd00::1]:9090", Health::Healthy)]);
    let protocols: Vec<String> = clusters.iter().map(|cluster| format!("{:?}", cluster.protocol)).collect();
    assert_eq!(protocols, ["Http1", "Http2", "Http2", "Tcp"]);
}

#[test]
fn secrets_are_read_in_istios_order() {
    const WRONG: &str =
        "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: ";
    for (mode, secrets, want) in [
        ("SIMPLE", &[("c", "cert: A, key: K, tls.crt: B, tls.key: L")][..], Ok(("A", None))),
        ("SIMPLE", &[("c", "tls.crt: B, tls.key: L, ca.crt: CA")], Ok(("B", None))),
        ("SIMPLE", &[("c", "tls.crt: B, d: x, e: x, f: x")], Err(format!("{WRONG}d, e, f, and 1 more..."))),
        (
            "SIMPLE",
            &[("c", "cert: '', key: K")],
            Err("found keys \"cert\" and \"key\", but they were empty".to_owned()),
        ),
        ("SIMPLE", &[], Err("secret istio-system/c not found".to_owned())),
        ("MUTUAL", &[("c", "cert: A, key: K, ca.crt: X, cacert: Y")], Ok(("A", Some("Y")))),
        ("MUTUAL", &[("c", "cert: A, key: K, cacert: Y"), ("c-cacert", "ca.crt: Z")], Ok(("A", Some("Z")))),
        (
            "OPTIONAL_MUTUAL",
            &[("c", "cert: A, key: K")],
            Err("found secret, but didn't have expected keys cacert or ca.crt; found: cert, key".to_owned()),
        ),
    ] {
        let mut parts = vec![gateway(
            "{name: g}",
            &[&format!("443 x HTTPS '*' tls: {{mode: {mode}, credentialName: c}}")],
        )];
        for (name, data) in secrets {
            parts.push(format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData: {{{data}}}\n"));
            // The Gateway's own namespace is not where secrets are looked for.
            parts.push(format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{cert: x, key: x}}\n"));
        }
        let translation = world(&parts);
        let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
        let ChainAction::TerminateHttp { tls, .. } = &tls.chains[0].action else { panic!() };
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        let got = tls.credential.as_ref().map_err(ToString::to_string);
        let got = got.map(|found| (text(&found.certificate_chain), found.client_ca.as_deref().map(text)));
        let want = want.map(|(certificate, ca)| (certificate.to_owned(), ca.map(str::to_owned)));
        assert_eq!(got, want, "{mode} {secrets:?}");
        assert_eq!(codes(&translation).len(), usize::from(want.is_err()), "{mode} {secrets:?}");
    }
}

#[test]
fn the_kernel_carries_plain_tcp_to_backends_that_packets_reach() {
    let slice = |address: &str, ready: bool| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, labels: {{kubernetes.io/service-name: \
             a}}}}\nports: [{{name: tcp, port: 1}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: {ready}}}}}]\n"
        )
    };
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: tcp, port: 80}]}\n";
    for (bind, slice, want) in [
        ("", slice("10.0.0.1", true), Steering::Kernel),
        ("bind: 10.1.1.1", slice("10.0.0.1", true), Steering::Kernel),
        ("bind: 127.0.0.1", slice("10.0.0.1", true), Steering::UserSpace(UserSpaceReason::LoopbackBind)),
        ("", slice("127.0.0.1", true), Steering::UserSpace(UserSpaceReason::LoopbackBackend)),
        ("", slice("10.0.0.1", false), Steering::UserSpace(UserSpaceReason::NoHealthyBackend)),
        ("", String::new(), Steering::UserSpace(UserSpaceReason::NoHealthyBackend)),
    ] {
        let spec = format!("{{gateways: [g], hosts: ['*'], tcp: [{{route: {}}}]}}", to("a"));
        let translation = world(&[
            gateway("{name: g}", &[&format!("9000 x TCP '*' {bind}")]),
            virtual_service("{name: v}", &spec),
            service.to_owned(),
            slice.clone(),
        ]);
        assert_eq!(translation.snapshot.listeners[0].steering, want, "{bind} {slice}");
    }
}

#[test]
fn a_gateway_for_other_labels_is_left_alone_and_no_selector_selects_all() {
    let text = gateway("{name: g}", &["80 http HTTP '*'"]);
    let of = |text: &str| {
        let translation = world(&[text.to_owned()]);
        (names(&translation.snapshot).len(), codes(&translation))
    };
    assert_eq!(of(&text.replace("ingressgateway", "egressgateway")), (0, vec!["SLU0011"]));
    assert_eq!(of(&text.replace("  selector: {istio: ingressgateway}\n", "")), (1, vec![]));
}

#[test]
fn the_same_documents_give_the_same_snapshot() {
    let text = include_str!("../../../tests/data/documents/everything.yaml");
    let json = |text: &str| {
        let translation = world(&[text.to_owned()]);
        (serde_json::to_string(&translation.snapshot).unwrap(), translation.diagnostics)
    };
    let (first, found) = json(text);
    assert_eq!((first.clone(), found), json(text));
    let mut documents: Vec<&str> = text.split("---\n").collect();
    documents.reverse();
    assert_eq!(first, json(&documents.join("\n---\n")).0, "the order of files is no matter");
}
