//! What happens to requests at run time: tries, copies, limits.

use std::time::Duration;

use super::*;
use crate::model::{Fraction, HttpLimits, Mirror, RetryBudget, RetryOn, RetryPolicy};

/// What a rule with a route to `a` forwards, by more fields of it.
fn forwarded(more: &str) -> (Forward, Vec<String>) {
    let spec =
        format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}, timeout: 9s, {more}}}]}}", to("a"));
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", &spec),
        services(&["a", "b", "c"]),
    ]);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    let Some(RouteAction::Forward(forward)) = route(table, "a.test", "/").map(|route| route.action.clone())
    else {
        panic!("no route by {more}");
    };
    (forward, translation.diagnostics.iter().map(ToString::to_string).collect())
}

#[test]
fn a_rules_tries_are_istios_where_it_says_nothing() {
    let default = RetryPolicy::default;
    let on = |names: &[RetryOn]| names.iter().copied().fold(RetryOn::default(), RetryOn::with);
    for (retries, want) in [
        ("", Some(default())),
        ("retries: {attempts: 0}", None),
        ("retries: {attempts: 5}", Some(RetryPolicy { attempts: 5, ..default() })),
        (
            "retries: {attempts: 1, retryOn: '5xx,reset,418,503', perTryTimeout: 2s, backoff: 7ms}",
            Some(RetryPolicy {
                attempts: 1,
                on: on(&[RetryOn::SERVER_ERROR, RetryOn::RESET]),
                statuses: vec![418, 503],
                per_try_timeout: Some(Duration::from_secs(2)),
                backoff: Duration::from_millis(7),
                rescues: false,
                ..default()
            }),
        ),
        (
            "retries: {attempts: 1, retryOn: 'gateway-error,internal', retryIgnorePreviousHosts: false}",
            Some(RetryPolicy {
                attempts: 1,
                on: on(&[RetryOn::GATEWAY_ERROR, RetryOn::INTERNAL]),
                avoid_previous: false,
                rescues: false,
                ..default()
            }),
        ),
        (
            "retries: {attempts: 1, retryRemoteLocalities: true}",
            Some(RetryPolicy { attempts: 1, remote_localities: true, ..default() }),
        ),
    ] {
        let (forward, found) = forwarded(retries);
        assert_eq!(forward.retries, want, "{retries}");
        assert_eq!((forward.timeout, found), (Some(Duration::from_secs(9)), vec![]), "{retries}");
    }
}

#[test]
fn mirrors_have_their_share_and_a_missing_one_is_told() {
    for (more, want) in [
        ("", &[][..]),
        ("mirror: {host: b}", &[("b", 100.0)]),
        ("mirror: {host: b}, mirrorPercentage: {value: 0.5}", &[("b", 0.5)]),
        ("mirror: {host: b}, mirrorPercentage: {value: 0}", &[]),
        ("mirror: {host: b}, mirrorPercent: 7", &[("b", 7.0)]),
        ("mirror: {host: b}, mirrorPercent: 0", &[]),
        ("mirror: {host: b}, mirrorPercent: 7, mirrorPercentage: {value: 50}", &[("b", 50.0)]),
        (
            "mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 0.0001}}]",
            &[("b", 100.0), ("c", 0.0001)],
        ),
    ] {
        let (forward, found) = forwarded(more);
        let first = |mirror: &Mirror| mirror.destination.name.host.split('.').next().unwrap().to_owned();
        let mirrors: Vec<(String, Fraction)> =
            forward.mirrors.iter().map(|mirror| (first(mirror), mirror.share)).collect();
        let want: Vec<(String, Fraction)> =
            want.iter().map(|(to, percent)| ((*to).to_owned(), Fraction::of_percent(*percent))).collect();
        assert_eq!((mirrors, found), (want, vec![]), "{more}");
        assert!(forward.mirrors.iter().all(|mirror| mirror.destination.cluster.is_some()), "{more}");
    }
    for (more, want) in [
        ("mirror: {host: nowhere}", "mirror.host: Referenced mirror host not found: \"nowhere"),
        (
            "mirrors: [{destination: {host: b, subset: v2}}]",
            "mirrors[0].destination.subset: Referenced mirror+subset in destinationrule not found: \"b+v2\"",
        ),
    ] {
        let (forward, found) = forwarded(more);
        assert!(forward.mirrors[0].destination.cluster.is_none(), "{more}");
        assert!(found.len() == 1 && found[0].contains(want), "{more}: {found:?}");
    }
}

#[test]
fn limits_of_http_are_a_clusters_and_none_unless_said() {
    let none = HttpLimits::default;
    let pool = |http: &str| format!("{{host: a, trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}}}");
    for (spec, want) in [
        (pool("http1MaxPendingRequests: 0"), none()),
        (
            pool("http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4"),
            HttpLimits {
                pending: Some(1),
                requests: Some(2),
                requests_per_connection: Some(3),
                retries: Some(4),
                ..none()
            },
        ),
        (pool("idleTimeout: 5s"), HttpLimits { idle_timeout: Some(Duration::from_secs(5)), ..none() }),
        (
            "{host: a, trafficPolicy: {retryBudget: {}}}".to_owned(),
            HttpLimits { retry_budget: Some(RetryBudget { percent: 20.0, at_least: 3 }), ..none() },
        ),
        (
            "{host: a, trafficPolicy: {retryBudget: {percent: 50, minRetryConcurrency: 1}}}".to_owned(),
            HttpLimits { retry_budget: Some(RetryBudget { percent: 50.0, at_least: 1 }), ..none() },
        ),
        // Settings of a port replace the whole policy.
        (
            "{host: a, trafficPolicy: {retryBudget: {}, portLevelSettings: [{port: {number: 80}, connectionPool: {http: \
             {maxRetries: 1}}}]}}"
                .to_owned(),
            HttpLimits { retries: Some(1), ..none() },
        ),
    ] {
        let rule = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {spec}\n"
        );
        let translation = world(&[services(&["a"]), rule]);
        let cluster = translation.snapshot.clusters.values().next().expect("a cluster");
        assert_eq!(cluster.http, want, "{spec}");
        assert!(translation.diagnostics.is_empty(), "{spec}: {:?}", translation.diagnostics);
    }
}
