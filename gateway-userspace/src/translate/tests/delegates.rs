//! Rules that stand in another document.

use super::*;

const GATEWAY: &str = "80 http HTTP '*'";

fn root(http: &str) -> String {
    virtual_service("{name: root}", &format!("{{gateways: [g], hosts: [a.test], http: [{http}]}}"))
}

/// The root's rule, and behind it one that takes what is left.
fn delegating(rule: &str) -> String {
    root(&format!("{{{rule}, delegate: {{name: leaf, namespace: team}}}}, {{route: {}}}", to("rest")))
}

fn leaf(spec: &str) -> String {
    virtual_service("{name: leaf, namespace: team}", &format!("{{{spec}}}"))
}

fn parts(root: String, leaf: String) -> [String; 4] {
    let services = services(&["rest"])
        + &services(&["a", "b"])
            .replace("{name: a", "{namespace: team, name: a")
            .replace("{name: b", "{namespace: team, name: b");
    [gateway("{name: g}", &[GATEWAY]), root, leaf, services]
}

#[test]
fn a_delegates_rules_take_effect_within_the_roots() {
    let leaf = leaf(&format!(
        "http: [{{match: [{{uri: {{prefix: /x/deep}}}}], route: {}}}, {{match: [{{uri: {{exact: /x}}}}], route: {}}}]",
        to("a"),
        to("b")
    ));
    let parts = parts(delegating("match: [{uri: {prefix: /x}}]"), leaf);
    ask(
        &parts,
        &[
            ("a.test", "/x/deep/er", "a"),
            ("a.test", "/x", "b"),
            // What the delegate does not take falls to the root's next rule.
            ("a.test", "/x/other", "rest"),
            ("a.test", "/deep", "rest"),
        ],
    );
    let translation = world(&parts);
    assert_eq!(codes(&translation), Vec::<&str>::new(), "{:?}", translation.diagnostics);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    let found = route(table, "a.test", "/x").unwrap();
    let RouteAction::Forward(forward) = &found.action else { panic!("{found:?}") };
    assert_eq!(&*forward.destinations[0].name.host, "b.team.svc.cluster.local", "the delegate's short names");
    assert!(forward.destinations[0].cluster.is_some());
    assert_eq!(&*found.virtual_service, "root.default");
}

#[test]
fn matches_are_joined_pair_by_pair_and_dropped_where_they_contradict() {
    let every = ("GET", "/x/y", None);
    for (of_root, of_leaf, question, taken) in [
        ("{}", "{}", every, true),
        ("{uri: {prefix: /x}}", "{uri: {prefix: /x/y}}", every, true),
        ("{uri: {prefix: /x}}", "{method: {exact: GET}}", every, true),
        ("{uri: {prefix: /x}}", "{method: {exact: PUT}}", every, false),
        ("{uri: {prefix: /x}}, {uri: {prefix: /z}}", "{uri: {prefix: /x/y}}", every, true),
        ("{uri: {prefix: /x}}", "{uri: {prefix: /z}}, {uri: {prefix: /x/y}}", every, false),
        ("{uri: {prefix: /x}}", "{uri: {regex: '/x/.*'}}", every, false),
        ("{uri: {regex: '/x/.*'}}", "{uri: {prefix: /x}}", every, false),
        ("{uri: {regex: '/x/.*'}}", "{}", every, true),
        ("{}", "{uri: {regex: '/x/.*'}}", every, true),
        ("{uri: {exact: /x/y}}", "{uri: {prefix: /x}}", every, false),
        ("{uri: {exact: /x/y}}", "{uri: {exact: /x/y}}", every, true),
        ("{uri: {prefix: /x}, ignoreUriCase: true}", "{uri: {prefix: /x}}", every, false),
        ("{port: 80}", "{port: 81}", every, false),
        ("{port: 80}", "{}", every, true),
        ("{headers: {h: {exact: a}}}", "{headers: {h: {exact: b}}}", ("GET", "/x/y", Some("b")), false),
        ("{headers: {h: {prefix: a}}}", "{headers: {h: {exact: ab}}}", ("GET", "/x/y", Some("ab")), true),
        ("{headers: {h: {prefix: a}}}", "{headers: {h: {exact: ab}}}", ("GET", "/x/y", Some("a")), false),
        ("{sourceNamespace: istio-system}", "{}", every, false),
        ("{sourceNamespace: istio-system}", "{sourceNamespace: istio-system}", every, true),
        ("{sourceLabels: {istio: ingressgateway}}", "{sourceLabels: {istio: other}}", every, false),
        ("{gateways: [g]}", "{gateways: [default/g]}", every, true),
        // The delegate's short name means its own namespace's.
        ("{gateways: [g]}", "{gateways: [g]}", every, false),
    ] {
        let leaf = leaf(&format!("http: [{{match: [{of_leaf}], route: {}}}]", to("a")));
        let translation = world(&parts(delegating(&format!("match: [{of_root}]")), leaf));
        let table = table(&translation.snapshot, "0.0.0.0_80", None);
        let (method, path, header) = question;
        let mut headers = HeaderMap::new();
        headers.extend(
            header.map(|value| (::http::HeaderName::from_static("h"), HeaderValue::from_static(value))),
        );
        let head =
            RequestHead { path, query: None, method, scheme: "http", authority: "a.test", headers: &headers };
        let found = table.virtual_host("a.test").and_then(|host| host.route(&head)).expect("the rest");
        let RouteAction::Forward(forward) = &found.action else { panic!("{found:?}") };
        assert_eq!(first(forward), if taken { "a" } else { "rest" }, "{of_root} + {of_leaf}");
    }
}

#[test]
fn a_rule_that_has_no_place_in_the_root_is_reported_with_both_places() {
    let leaf = leaf(&format!("http: [{{match: [{{uri: {{prefix: /z}}}}], route: {}}}]", to("a")));
    let translation = world(&parts(delegating("match: [{uri: {prefix: /x}}]"), leaf));
    let [found] = translation.diagnostics.as_slice() else { panic!("{:?}", translation.diagnostics) };
    assert_eq!(
        found.message,
        "the rule has no place in rule #0 of VirtualService default/root: its uri is not within the conditions there"
    );
    assert_eq!(found.field.as_deref(), Some("spec.http[0].match[0].uri"));
    assert_eq!(&*found.related[0].document.name, "root");
}

#[test]
fn a_delegate_has_what_the_root_says_where_it_says_nothing_itself() {
    let rule = "name: r, timeout: 3s, headers: {request: {set: {x: root}}}, rewrite: {uri: /root}, match: [{name: m}]";
    for (own, timeout, header, rewrite, name) in [
        ("", 3, "root", "/root", "r.m"),
        ("name: l, ", 3, "root", "/root", "r-l.m"),
        ("match: [{name: n}], ", 3, "root", "/root", "r.m-n"),
        ("timeout: 1s, ", 1, "root", "/root", "r.m"),
        // All of the root's header operations are lost.
        ("headers: {request: {set: {y: leaf}}}, ", 3, "", "/root", "r.m"),
        ("rewrite: {uri: /leaf}, ", 3, "root", "/leaf", "r.m"),
    ] {
        let leaf = leaf(&format!("http: [{{{own}route: {}}}]", to("a")));
        let translation = world(&parts(delegating(rule), leaf));
        let found = route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").unwrap();
        let RouteAction::Forward(forward) = &found.action else { panic!("{found:?}") };
        let mut headers = HeaderMap::new();
        found.request_headers.as_ref().unwrap().apply(&mut headers, |_, _| None);
        assert_eq!(forward.timeout, Some(std::time::Duration::from_secs(timeout)), "{own}");
        assert_eq!(headers.get("x").map_or("", |value| value.to_str().unwrap()), header, "{own}");
        assert_eq!(
            forward.rewrite.as_ref().and_then(|rewrite| rewrite.uri.as_deref()),
            Some(rewrite),
            "{own}"
        );
        assert_eq!(&*found.name, name, "{own}");
    }
    let direct = delegating("directResponse: {status: 418}");
    ask(&parts(direct, leaf(&format!("http: [{{route: {}}}]", to("a")))), &[("a.test", "/", "direct")]);
}

#[test]
fn a_delegate_that_is_missing_or_hidden_costs_its_rule_alone() {
    let http = format!("http: [{{route: {}}}]", to("a"));
    for (metadata, export_to, code) in [
        ("{name: leaf, namespace: team}", "", None),
        ("{name: leaf, namespace: team}", "exportTo: ['*'], ", None),
        ("{name: leaf, namespace: team}", "exportTo: [default], ", None),
        ("{name: leaf, namespace: team}", "exportTo: ['.'], ", Some("SLU0012")),
        // The root's namespace must see it, not the gateway's.
        ("{name: leaf, namespace: team}", "exportTo: [istio-system], ", Some("SLU0012")),
        ("{name: other, namespace: team}", "", Some("IST0101")),
        ("{name: leaf, namespace: default}", "", Some("IST0101")),
    ] {
        let parts = parts(
            delegating("match: [{uri: {prefix: /x}}]"),
            virtual_service(metadata, &format!("{{{export_to}{http}}}")),
        );
        ask(&parts, &[("a.test", "/x", if code.is_none() { "a" } else { "rest" })]);
        let translation = world(&parts);
        let loud = translation.diagnostics.iter().filter(|found| found.severity > api::Severity::Info);
        let found: Vec<_> = loud.map(|found| found.code.as_str()).collect();
        assert_eq!(found, code.into_iter().collect::<Vec<_>>(), "{metadata} {export_to}");
    }
    let missing = world(&parts(delegating("match: [{uri: {prefix: /x}}]"), String::new()));
    assert_eq!(missing.diagnostics[0].message, "Referenced delegate not found: \"team/leaf\"");
    assert!(missing.diagnostics[0].is_error());
}

#[test]
fn a_delegate_alone_is_served_by_nobody() {
    let translation = world(&parts(
        root(&format!("{{route: {}}}", to("rest"))),
        leaf(&format!("http: [{{route: {}}}]", to("a"))),
    ));
    let [found] = translation.diagnostics.as_slice() else { panic!("{:?}", translation.diagnostics) };
    assert_eq!(found.severity, api::Severity::Info);
    assert_eq!(found.message, "no VirtualService of this gateway delegates to it: it takes no effect here");
}

#[test]
fn two_roots_may_share_a_delegate() {
    let leaf = leaf(&format!("http: [{{match: [{{method: {{exact: GET}}}}], route: {}}}]", to("a")));
    let mut parts = parts(delegating("match: [{uri: {prefix: /x}}]"), leaf).to_vec();
    parts.push(virtual_service(
        "{name: second}",
        "{gateways: [g], hosts: [b.test], http: [{match: [{uri: {prefix: /y}}], delegate: {name: leaf, namespace: team}}]}",
    ));
    ask(&parts, &[("a.test", "/x", "a"), ("b.test", "/y", "a"), ("b.test", "/x", "404")]);
}
