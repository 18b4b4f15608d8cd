//! Documents that share rules: what a root and a delegate may say.

use super::{check, read};

const TO: &str = "route: [{destination: {host: a}}]";

#[test]
fn roots_and_delegates_are_checked_in_istios_words() {
    let root = |rule: &str| format!("{{hosts: [a.test], gateways: [g], http: [{{{rule}}}]}}");
    for (spec, want) in [
        (root("delegate: {name: d, namespace: n}"), vec![]),
        (root("match: [{uri: {prefix: /a}}], delegate: {name: d}, timeout: 1s, rewrite: {uri: /}"), vec![]),
        (
            root(&format!("name: r, delegate: {{name: d}}, {TO}")),
            vec!["error spec.http[0].route: root HTTP route r must not specify route"],
        ),
        (
            root("name: r, delegate: {name: d}, redirect: {uri: /}"),
            vec!["error spec.http[0].redirect: root HTTP route r must not specify redirect"],
        ),
        (root("delegate: {nam: d}"), vec!["error spec.http[0].delegate.nam: unknown field \"nam\""]),
        (format!("{{http: [{{{TO}}}]}}"), vec![]),
        (
            "{http: [{delegate: {name: d}}]}".to_owned(),
            vec!["error spec.http[0].delegate: delegate HTTP route cannot contain delegate"],
        ),
        (
            "{http: [{}]}".to_owned(),
            vec!["error spec.http[0]: HTTP route, redirect or direct_response is required"],
        ),
        (
            format!("{{gateways: [g], tcp: [{{{TO}}}], tls: [{{match: [{{sniHosts: [a.test]}}], {TO}}}]}}"),
            vec![
                "error spec.gateways: delegate virtual service must have no gateways specified",
                "error spec.tls: delegate virtual service must have no tls route specified",
                "error spec.tcp: delegate virtual service must have no tcp route specified",
                "error spec.tls[0].match[0].sniHosts[0]: SNI host \"a.test\" is not a compatible subset of any of the virtual \
                 service hosts: []",
            ],
        ),
        ("{}".to_owned(), vec!["error spec: http, tcp or tls must be provided in virtual service"]),
    ] {
        check("VirtualService", &[(&spec, &want)]);
    }
    let forgotten = read("VirtualService", "x", &format!("{{gateways: [g], http: [{{{TO}}}]}}"));
    assert!(forgotten.diagnostics[0].help.as_ref().is_some_and(|help| help.contains("`hosts`")));
}
