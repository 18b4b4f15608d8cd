//! What breaks no rule of Istio's but can have no effect, or not the one that is meant: warned of.

use super::found;

/// Findings of a rule with these fields, their fields from the rule on.
fn findings(fields: &str) -> Vec<String> {
    let spec = format!("{{hosts: [a.test], gateways: [g], http: [{{{fields}}}]}}");
    found("VirtualService", &spec).iter().map(|line| line.replace(" spec.http[0].", " ")).collect()
}

#[test]
fn what_can_never_happen_is_warned_of() {
    const TO: &str = "route: [{destination: {host: a}}]";
    let matching = |condition: &str| format!("match: [{{{condition}}}], {TO}");
    for (fields, want) in [
        (
            matching("uri: {prefix: rel}"),
            vec!["warning match[0].uri.prefix: prefix \"rel\" never matches: every path begins with a slash"],
        ),
        (
            matching("uri: {exact: '*'}"),
            vec!["warning match[0].uri.exact: exact \"*\" never matches: every path begins with a slash"],
        ),
        (matching("uri: {prefix: ''}"), vec![]),
        (matching("uri: {regex: 'a.*'}"), vec![]),
        (
            matching("headers: {method: {exact: GET}}, withoutHeaders: {uri: {}}"),
            vec![
                "warning match[0].headers.method: \"method\" is not looked at among headers, as in Istio",
                "warning match[0].withoutHeaders.uri: \"uri\" is not looked at among headers, as in Istio",
            ],
        ),
        (
            format!("{TO}, rewrite: {{uri: word}}"),
            vec!["warning rewrite.uri: \"word\" makes no path: such requests are answered with 400"],
        ),
        ("redirect: {uri: word}".to_owned(), vec![]),
        (
            "redirect: {port: 0}".to_owned(),
            vec!["warning redirect.port: port 0 has no effect: the request's port stays"],
        ),
        (
            format!("{TO}, fault: {{abort: {{httpStatus: 500}}}}"),
            vec!["warning fault.abort: without `percentage` the abort never happens, as in Istio"],
        ),
        (
            format!("{TO}, fault: {{abort: {{percentage: {{value: 1}}}}}}"),
            vec!["warning fault.abort: an abort without a status never happens"],
        ),
        (
            format!("{TO}, fault: {{delay: {{fixedDelay: 1s}}}}"),
            vec!["warning fault.delay: without `percentage` the delay never happens, as in Istio"],
        ),
        (
            format!("{TO}, fault: {{delay: {{percent: 5}}}}"),
            vec!["warning fault.delay: a delay without a time never happens"],
        ),
        (format!("{TO}, fault: {{delay: {{fixedDelay: 1s, percent: 5}}}}"), vec![]),
        // Said to be off.
        (format!("{TO}, fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 0}}}}}}"), vec![]),
        (
            format!("{TO}, corsPolicy: {{allowMethods: [GET]}}"),
            vec!["warning corsPolicy: no origin is allowed: the policy allows nothing"],
        ),
        (
            "redirect: {uri: /}, corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}".to_owned(),
            vec![
                "warning corsPolicy: corsPolicy has no effect on a redirect or a direct response, as in Istio",
            ],
        ),
    ] {
        assert_eq!(findings(&fields), want, "{fields}");
    }
}

#[test]
fn the_prefix_that_a_redirect_replaces_must_be_matched() {
    for (fields, want) in [
        ("match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b}", vec![]),
        ("redirect: {prefixRewrite: /b}", vec![]),
        (
            "match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b, uri: /c}",
            vec!["error redirect.prefixRewrite: redirect may only contain one of URI or PrefixRewrite"],
        ),
        (
            "match: [{uri: {prefix: /a}}, {uri: {exact: /c}}], redirect: {prefixRewrite: /b}",
            vec!["error redirect.prefixRewrite: prefixRewrite of a redirect requires a prefix match"],
        ),
        (
            "match: [{uri: {regex: '/a.*'}}], redirect: {prefixRewrite: /b}",
            vec!["error redirect.prefixRewrite: prefixRewrite of a redirect requires a prefix match"],
        ),
    ] {
        assert_eq!(findings(fields), want, "{fields}");
    }
}
