//! Faults and CORS, and rules behind others.

use std::time::Duration;

use ::http::StatusCode;

use super::*;
use crate::model::{AbortStatus, Fault, Filters, Fraction, StringMatch};

fn filters(fields: &str) -> Filters {
    let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}, {fields}}}]}}", to("a"));
    let parts =
        [gateway("{name: g}", &["80 http HTTP '*'"]), virtual_service("{name: v}", &spec), services(&["a"])];
    let translation = world(&parts);
    route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").unwrap().filters.clone()
}

#[test]
fn faults_are_of_the_share_that_is_said_and_else_of_none() {
    let share = Fraction::of_percent;
    let delay = |seconds, percent| Some((Duration::from_secs(seconds), share(percent)));
    let abort = |status, percent| Some((status, share(percent)));
    let teapot = AbortStatus::Http(StatusCode::IM_A_TEAPOT);
    for (fault, want) in [
        ("{delay: {fixedDelay: 2s}}", None),
        ("{delay: {fixedDelay: 2s, percentage: {value: 0}}}", None),
        ("{abort: {httpStatus: 418}}", None),
        ("{abort: {percentage: {value: 5}}}", None),
        ("{delay: {fixedDelay: 2s, percentage: {value: 0.5}}}", Some((delay(2, 0.5), None))),
        ("{delay: {fixedDelay: 2s, percent: 7}}", Some((delay(2, 7.0), None))),
        ("{delay: {fixedDelay: 2s, percent: 7, percentage: {value: 9}}}", Some((delay(2, 9.0), None))),
        ("{abort: {httpStatus: 418, percentage: {value: 100}}}", Some((None, abort(teapot, 100.0)))),
        (
            "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}",
            Some((None, abort(AbortStatus::Grpc(14), 1.0))),
        ),
        (
            "{delay: {fixedDelay: 1s, percentage: {value: 1}}, abort: {httpStatus: 418, percentage: {value: 2}}}",
            Some((delay(1, 1.0), abort(teapot, 2.0))),
        ),
    ] {
        let want = want.map(|(delay, abort)| Fault { delay, abort });
        assert_eq!(filters(&format!("fault: {fault}")).fault.as_deref(), want.as_ref(), "{fault}");
    }
}

#[test]
fn cors_policies_are_read_as_envoy_is_told_them() {
    let cors = filters(
        "corsPolicy: {allowOrigins: [{exact: 'https://a.test'}, {prefix: 'https://b.'}], allowOrigin: [old], allowMethods: \
         [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 2m, allowCredentials: true}",
    )
    .cors
    .unwrap();
    assert_eq!(cors.allow_origins.len(), 2, "allowOrigins beats allowOrigin");
    assert_eq!(cors.allow_methods.unwrap(), "GET,PUT");
    assert_eq!(cors.allow_headers.unwrap(), "x-a,x-b");
    assert_eq!(cors.expose_headers.unwrap(), "x-c");
    assert_eq!(cors.max_age.unwrap(), "120");
    assert!(cors.allow_credentials && cors.forward_unmatched);

    let old = filters("corsPolicy: {allowOrigin: ['*'], unmatchedPreflights: IGNORE}").cors.unwrap();
    assert!(matches!(old.allow_origins.as_slice(), [StringMatch::Exact(any)] if **any == *"*"));
    assert_eq!((old.allow_methods, old.max_age), (None, None));
    assert!(!old.allow_credentials && !old.forward_unmatched);
    let said = filters("corsPolicy: {allowOrigin: ['*'], unmatchedPreflights: FORWARD}").cors.unwrap();
    assert!(said.forward_unmatched);
}

#[test]
fn what_is_never_reached_is_reported() {
    let all = |more: &str| format!("{{{more}route: {}}}", to("a"));
    let prefix = |path: &str| all(&format!("match: [{{uri: {{prefix: {path}}}}}], "));
    let by = |condition: &str| all(&format!("match: [{condition}], "));
    let behind = |why: &str| format!("IST0130 spec.http[1]: virtualService rule #1 not used ({why})");
    let overlap = |mine: &str, theirs: &str| {
        format!(
            "IST0131 spec.http[1].match[0]: VirtualService rule #1 match #0 of {mine} is not used (duplicate/overlapping match \
             in rule #0 of {theirs} on #0)"
        )
    };
    let never = |field: &str| {
        format!(
            "SLU0012 {field}: the match takes no effect at any server of its gateways; the rule's others do"
        )
    };
    let used = "all matches used by prior rules";
    for (rules, want) in [
        (vec![prefix("/a"), all("")], vec![]),
        (vec![all(""), all("")], vec![behind("only the last rule can have no matches")]),
        (vec![all(""), prefix("/a")], vec![behind("route without matches defined before")]),
        (vec![prefix("/a"), prefix("/a/b")], vec![behind(used), overlap("prefix /a/b", "prefix /a")]),
        (vec![prefix("/a/b"), prefix("/a")], vec![]),
        (vec![prefix("/"), all("")], vec![behind(used)]),
        (
            vec![prefix("/"), by("{headers: {x: {exact: a}}}")],
            vec![behind(used), overlap("any path", "prefix /")],
        ),
        (vec![by("{}"), prefix("/a")], vec![behind(used), overlap("prefix /a", "any path")]),
        (
            vec![by("{uri: {regex: '.*'}}"), prefix("/a")],
            vec![behind(used), overlap("prefix /a", "regex .*")],
        ),
        (
            vec![
                by("{uri: {prefix: /a}, headers: {x: {}}}"),
                by("{uri: {exact: /ab}, headers: {x: {exact: y}}}"),
            ],
            vec![behind(used), overlap("exact /ab", "prefix /a")],
        ),
        (
            vec![
                by("{uri: {prefix: /a}, headers: {x: {exact: z}}}"),
                by("{uri: {exact: /ab}, headers: {x: {exact: y}}}"),
            ],
            vec![],
        ),
        (
            vec![prefix("/a"), by("{uri: {prefix: /a}}, {uri: {prefix: /b}}")],
            vec![overlap("prefix /a", "prefix /a")],
        ),
        (vec![by("{uri: {prefix: /a}}, {port: 81}")], vec![never("spec.http[0].match[1]")]),
        (vec![by("{uri: {prefix: /a}}, {gateways: [other]}")], vec![never("spec.http[0].match[1]")]),
        (vec![by("{uri: {prefix: /a}}, {sourceLabels: {a: b}}")], vec![never("spec.http[0].match[1]")]),
    ] {
        let spec = format!("{{gateways: [g], hosts: [a.test], http: [{}]}}", rules.join(", "));
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
        ]);
        let line = |found: &api::Diagnostic| {
            format!("{} {}: {}", found.code, found.field.as_deref().unwrap_or("-"), found.message)
        };
        assert_eq!(translation.diagnostics.iter().map(line).collect::<Vec<_>>(), want, "{spec}");
    }
}

#[test]
fn what_is_reached_at_one_server_is_not_reported() {
    let spec = format!(
        "{{gateways: [g], hosts: [a.test], http: [{{match: [{{port: 80}}], route: {}}}, {{match: [{{uri: {{prefix: /x}}}}], route: \
         {}}}]}}",
        to("a"),
        to("b")
    );
    let translation = world(&[
        gateway("{name: g}", &["80 one HTTP '*'", "81 two HTTP '*'"]),
        virtual_service("{name: v}", &spec),
        services(&["a", "b"]),
    ]);
    assert_eq!(codes(&translation), Vec::<&str>::new(), "{:?}", translation.diagnostics);
    let second = table(&translation.snapshot, "0.0.0.0_81", None);
    assert_eq!(answer(second, "a.test", "/x"), "b");
}
