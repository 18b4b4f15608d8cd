//! What an `http` rule does to a request besides choosing where it goes: errors in Istio's words, also in what has no
//! effect here yet.

use super::{found, read};

/// The errors of a rule with a route and these fields, their fields from the rule on.
fn errors(fields: &str) -> Vec<String> {
    let spec = format!(
        "{{hosts: [a.test], gateways: [g], http: [{{route: [{{destination: {{host: a}}}}], {fields}}}]}}"
    );
    let all = found("VirtualService", &spec);
    let is_other = |line: &&String| line.contains("is not yet supported");
    let errors = all.iter().filter(|line| line.starts_with("error ")).filter(|line| !is_other(line));
    errors.map(|line| line.replace("error spec.http[0].", "")).collect()
}

#[test]
fn tries_are_checked_in_istios_words() {
    for (retries, want) in [
        ("{attempts: 3, perTryTimeout: 2s, retryOn: 'connect-failure,refused-stream,503'}", None),
        ("{attempts: 0}", None),
        ("{attempts: 1, retryOn: '5xx,unavailable', retryRemoteLocalities: true, backoff: 10ms}", None),
        ("{attempts: -1}", Some(".attempts: attempts cannot be negative")),
        ("{retryOn: 5xx}", Some(": http retry policy configured when attempts are set to 0 (disabled)")),
        ("{attempts: 1, retryOn: '5xx, reset'}", Some(".retryOn: \" reset\" is not a valid retryOn policy")),
        ("{attempts: 1, retryOn: '799'}", Some(".retryOn: \"799\" is not a valid retryOn policy")),
        ("{attempts: 1, perTryTimeout: 0s}", Some(".perTryTimeout: duration must be greater than 1ms")),
        (
            "{attempts: 1, perTryTimeout: 1.5ms}",
            Some(".perTryTimeout: only durations to ms precision are supported"),
        ),
        ("{attempts: 1, retryon: 5xx}", Some(".retryon: unknown field \"retryon\"")),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("retries{text}")).collect();
        assert_eq!(errors(&format!("retries: {retries}")), want, "{retries}");
    }
}

#[test]
fn faults_are_checked_in_istios_words() {
    for (fault, want) in [
        ("{delay: {fixedDelay: 2s, percentage: {value: 0.1}}}", None),
        ("{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}", None),
        ("{}", Some(": HTTP fault injection must have an abort and/or a delay")),
        (
            "{abort: {grpcStatus: '14', percentage: {value: 1}}}",
            Some(
                ".abort.grpcStatus: gRPC status \"14\" is not supported. See \
                 https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes, for example 'NOT_FOUND'",
            ),
        ),
        ("{abort: {httpStatus: 700}}", Some(".abort.httpStatus: HTTP status 700 is not in range 200-599")),
        (
            "{abort: {http2Error: x}}",
            Some(".abort.http2Error: HTTP/2 abort fault injection not supported yet"),
        ),
        (
            "{abort: {httpStatus: 500, percentage: {value: 0.00001}}}",
            Some(".abort.percentage: percentage 0.00001 is neither 0.0, nor in range [0.0001, 100.0]"),
        ),
        (
            "{delay: {fixedDelay: 1s, percentage: {value: 101}}}",
            Some(".delay.percentage: percentage 101 is neither 0.0, nor in range [0.0001, 100.0]"),
        ),
        ("{delay: {fixedDelay: 0s}}", Some(".delay.fixedDelay: duration must be greater than 1ms")),
        (
            "{delay: {exponentialDelay: 1s}}",
            Some(".delay.exponentialDelay: exponentialDelay not supported yet"),
        ),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("fault{text}")).collect();
        assert_eq!(errors(&format!("fault: {fault}")), want, "{fault}");
    }
}

#[test]
fn cors_policies_are_checked_in_istios_words() {
    let re2 = "Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)";
    for (cors, want) in [
        (
            "{allowOrigins: [{exact: 'https://a.test'}, {regex: '.*'}], allowMethods: [GET], maxAge: 24h}",
            None,
        ),
        ("{allowOrigin: ['*'], allowCredentials: true, unmatchedPreflights: IGNORE}", None),
        (
            "{allowOrigins: [{}]}",
            Some(".allowOrigins[0]: '' is not a valid match type for CORS allow origins".to_owned()),
        ),
        (
            "{allowOrigins: [{regex: '('}]}",
            Some(format!(
                ".allowOrigins[0].regex: \"corsPolicy.allowOrigins\": error parsing regexp: missing closing ): `(`; {re2}"
            )),
        ),
        (
            "{allowMethods: [foo]}",
            Some(".allowMethods[0]: \"foo\" is not a supported HTTP method".to_owned()),
        ),
        ("{exposeHeaders: ['']}", Some(".exposeHeaders[0]: header name cannot be empty".to_owned())),
        ("{allowHeaders: [x, '*']}", None),
        (
            "{allowHeaders: ['a b']}",
            Some(".allowHeaders[0]: header name \"a b\" is not a valid header name".to_owned()),
        ),
        (
            "{maxAge: 1.5s}",
            Some(".maxAge: max_age duration is accurate only to seconds precision".to_owned()),
        ),
        ("{unmatchedPreflights: DROP}", Some(".unmatchedPreflights: unknown value \"DROP\"".to_owned())),
    ] {
        let want: Vec<String> = want.iter().map(|text| format!("corsPolicy{text}")).collect();
        assert_eq!(errors(&format!("corsPolicy: {cors}")), want, "{cors}");
    }
}

#[test]
fn mirrors_are_checked_in_istios_words() {
    for (mirror, want) in [
        ("mirror: {host: b, subset: v2, port: {number: 80}}, mirrorPercentage: {value: 0.5}", None),
        ("mirrors: [{destination: {host: b}, percentage: {value: 0}}]", None),
        ("mirror: {host: '*'}", Some("mirror.host: invalid destination host *")),
        (
            "mirror: {host: b}, mirrorPercent: 101",
            Some("mirrorPercent: mirror_percent must have a max value of 100 (it has 101)"),
        ),
        (
            "mirror: {host: b}, mirrorPercentage: {value: 100.5}",
            Some("mirrorPercentage: mirror_percentage must have a max value of 100 (it has 100.500000)"),
        ),
        ("mirrors: [{}]", Some("mirrors[0]: destination is required for mirrors")),
    ] {
        let want: Vec<String> = want.iter().map(ToString::to_string).collect();
        assert_eq!(errors(mirror), want, "{mirror}");
    }
    let both = errors("mirror: {host: b}, mirrors: [{destination: {host: c}}]");
    assert_eq!(both, ["error spec.http[0]: HTTP route cannot contain both mirror and mirrors"]);
}

#[test]
fn timeouts_are_whole_milliseconds() {
    assert_eq!(errors("timeout: 1.5ms"), ["timeout: only durations to ms precision are supported"]);
    assert!(errors("timeout: 1.5s").is_empty());
}

#[test]
fn what_is_served_passes_without_a_word_and_the_rest_is_reported() {
    let rule = |more: &str| {
        format!(
            "{{hosts: [a.test], gateways: [g], http: [{{route: [{{destination: {{host: a}}}}], {more}}}]}}"
        )
    };
    let policy = |http: &str| format!("{{host: a, trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}}}");
    for (kind, spec, want) in [
        (
            "VirtualService",
            rule("retries: {attempts: 3, retryOn: '5xx,503', perTryTimeout: 1s, backoff: 5ms}"),
            0,
        ),
        ("VirtualService", rule("retries: {attempts: 1, retryIgnorePreviousHosts: false}"), 0),
        ("VirtualService", rule("retries: {attempts: 1, retryRemoteLocalities: true}"), 0),
        ("VirtualService", rule("mirror: {host: b}, mirrorPercent: 10"), 0),
        ("VirtualService", rule("mirrors: [{destination: {host: b}, percentage: {value: 5}}]"), 0),
        ("DestinationRule", policy("http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRetries: 3"), 0),
        ("DestinationRule", policy("maxRequestsPerConnection: 1, idleTimeout: 5s"), 0),
        ("DestinationRule", policy("h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 5"), 0),
        ("DestinationRule", policy("useClientProtocol: true"), 0),
        ("DestinationRule", policy("http2KeepAlive: {interval: 10s, timeout: 1s}"), 0),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnectionDuration: 1h}}, loadBalancer: {warmup: {duration: \
             30s}}, outlierDetection: {outlierDetectionHttpErrorCodes: [429]}}}"
                .to_owned(),
            0,
        ),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: true}}}}".to_owned(),
            1,
        ),
        ("DestinationRule", "{host: a, trafficPolicy: {retryBudget: {percent: 10}}}".to_owned(), 0),
    ] {
        let reading = read(kind, "x", &spec);
        let codes: Vec<&str> = reading.diagnostics.iter().map(|found| found.code.as_str()).collect();
        assert_eq!(codes, vec!["SLU0004"; want], "{spec}");
        assert!(!reading.is_refused(), "{spec}");
    }
}
