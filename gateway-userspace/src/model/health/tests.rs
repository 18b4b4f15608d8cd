//! Rules of health checks, as rows: what checks find, and what is made of it.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Endpoint, Health, UpstreamProtocol};

fn passed() -> Checked {
    Checked::Passed
}

fn failed() -> Checked {
    Checked::Failed("status 503".into())
}

fn unanswered() -> Checked {
    Checked::Unanswered("refused".into())
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + at as u16))
}

fn rules(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
    HealthCheck { healthy_threshold, unhealthy_threshold, ..HealthCheck::new(Probe::Tcp) }
}

/// A cluster with these endpoints, checked or not.
fn cluster(host: &str, endpoints: &[usize], check: Option<HealthCheck>) -> Cluster {
    let name = ClusterName { host: host.into(), port: 80, subset: None };
    let endpoints = endpoints.iter().map(|at| Endpoint::new(address(*at), Health::Healthy)).collect();
    let mut cluster = Cluster::new(name, UpstreamProtocol::Http1, endpoints);
    cluster.health_check = check.map(Arc::new);
    cluster
}

fn snapshot(clusters: &[Cluster]) -> Snapshot {
    let named = |cluster: &Cluster| (cluster.name.clone(), Arc::new(cluster.clone()));
    Snapshot {
        clusters: Arc::new(clusters.iter().map(named).collect::<BTreeMap<_, _>>()),
        ..Snapshot::default()
    }
}

/// Puts clusters in force, as an agent does.
fn put_in_force(checks: &HealthChecks, clusters: &[Cluster]) {
    let snapshot = snapshot(clusters);
    checks.note(&snapshot);
    checks.retain(&snapshot);
}

fn failing(checks: &HealthChecks, cluster: &Cluster) -> Vec<usize> {
    let failing = checks.failing_of(cluster);
    let is_failing = |at: &usize| failing.as_ref().is_some_and(|failing| failing.contains(address(*at)));
    (0..8).filter(is_failing).collect()
}

#[test]
fn a_check_makes_an_endpoint_unhealthy_or_healthy_at_its_threshold() {
    let (pass, fail, none) = (passed(), failed(), unanswered());
    for (thresholds, checks, want) in [
        // The first decides at once.
        ((3, 3), vec![(&pass, true)], "a first success"),
        ((3, 3), vec![(&none, false)], "a first failure"),
        // What is not answered counts, a wrong answer does not wait.
        ((1, 3), vec![(&pass, true), (&none, true), (&none, true), (&none, false)], "the third"),
        (
            (1, 3),
            vec![(&pass, true), (&none, true), (&none, true), (&pass, true), (&none, true)],
            "not in a row",
        ),
        ((1, 3), vec![(&pass, true), (&fail, false)], "a wrong answer"),
        ((1, 1), vec![(&pass, true), (&none, false)], "a threshold of one"),
        // Back again.
        ((1, 3), vec![(&fail, false), (&pass, true)], "one success"),
        ((2, 3), vec![(&fail, false), (&pass, false), (&pass, true)], "two successes"),
        ((2, 3), vec![(&fail, false), (&pass, false), (&none, false), (&pass, false)], "not in a row"),
    ] {
        let cluster = cluster("a", &[0], Some(rules(thresholds.0, thresholds.1)));
        let checks_of = HealthChecks::default();
        put_in_force(&checks_of, std::slice::from_ref(&cluster));
        let mut before = None;
        for (at, (checked, is_healthy)) in checks.into_iter().enumerate() {
            let transition = checks_of.report(&cluster.name, address(0), checked);
            let context = format!("{want}: check {at} by {thresholds:?}");
            assert_eq!(failing(&checks_of, &cluster).is_empty(), is_healthy, "{context}");
            assert_eq!(transition.is_some(), before != Some(is_healthy), "{context}");
            let reason = transition.map(|it| (it.reason.is_none(), it.is_first));
            assert!(reason.is_none_or(|it| it == (is_healthy, at == 0)), "{context}: {reason:?}");
            before = Some(is_healthy);
        }
    }
}

#[test]
fn the_reason_is_that_of_the_last_check() {
    let cluster = cluster("a", &[0], Some(rules(2, 1)));
    let checks = HealthChecks::default();
    put_in_force(&checks, std::slice::from_ref(&cluster));
    let reason = || checks.unhealthy().first().map(|row| row.reason.to_string());
    for (checked, want) in [
        (failed(), Some("status 503")),
        (unanswered(), Some("refused")),
        (passed(), Some("refused")),
        (passed(), None),
    ] {
        checks.report(&cluster.name, address(0), &checked);
        assert_eq!(reason().as_deref(), want, "{checked:?}");
    }
}

#[test]
fn endpoints_that_come_to_a_checked_cluster_are_unhealthy_until_their_first_check() {
    let with = |endpoints: &[usize]| cluster("a", endpoints, Some(rules(1, 3)));
    let checks = HealthChecks::default();
    let first = with(&[0, 1]);
    put_in_force(&checks, &[first]);
    let second = with(&[0, 1, 2]);
    assert_eq!(failing(&checks, &second), [0; 0], "nobody has checked the cluster");
    put_in_force(&checks, std::slice::from_ref(&second));
    assert_eq!(failing(&checks, &second), [2]);
    assert_eq!(checks.unhealthy()[0].reason.as_ref(), "not checked yet");
    checks.report(&second.name, address(2), &passed());
    assert_eq!(failing(&checks, &second), [0; 0]);
    // Who was gone is new.
    put_in_force(&checks, &[with(&[0])]);
    put_in_force(&checks, std::slice::from_ref(&second));
    assert_eq!(failing(&checks, &second), [1, 2]);
}

#[test]
fn an_endpoint_stays_what_it_was_found_to_be_over_documents_that_change() {
    let one = cluster("a", &[0, 1], Some(rules(1, 3)));
    let checks = HealthChecks::default();
    put_in_force(&checks, std::slice::from_ref(&one));
    checks.report(&one.name, address(0), &passed());
    checks.report(&one.name, address(1), &failed());
    assert_eq!(failing(&checks, &one), [1]);
    // Another check, another name, another subset: until that is checked.
    let mut otherwise = one.clone();
    otherwise.health_check = Some(Arc::new(rules(2, 2)));
    put_in_force(&checks, std::slice::from_ref(&otherwise));
    assert_eq!(failing(&checks, &otherwise), [1]);
    let mut subset = one.clone();
    subset.name.subset = Some("v1".into());
    put_in_force(&checks, &[otherwise.clone(), subset.clone()]);
    assert_eq!((failing(&checks, &otherwise), failing(&checks, &subset)), (vec![1], vec![1]));
    // And its first check by the new rules decides at once, whatever their threshold.
    checks.report(&otherwise.name, address(0), &unanswered());
    checks.report(&otherwise.name, address(1), &passed());
    assert_eq!((failing(&checks, &otherwise), failing(&checks, &subset)), (vec![0], vec![1]));
}

#[test]
fn a_cluster_without_checks_has_nobody_unhealthy() {
    let checked = cluster("a", &[0], Some(rules(1, 1)));
    let checks = HealthChecks::default();
    put_in_force(&checks, std::slice::from_ref(&checked));
    checks.report(&checked.name, address(0), &failed());
    let plain = cluster("a", &[0], None);
    assert_eq!(failing(&checks, &plain), [0; 0], "before it is in force, too");
    put_in_force(&checks, &[plain]);
    assert_eq!(checks.unhealthy(), []);
    assert_eq!(checks.report(&checked.name, address(0), &failed()), None, "a check that was under way");
    put_in_force(&checks, std::slice::from_ref(&checked));
    assert_eq!(failing(&checks, &checked), [0; 0], "it begins anew");
}

#[test]
fn endpoints_that_are_not_ready_are_not_checked() {
    let mut cluster = cluster("a", &[0, 1], Some(rules(1, 1)));
    let checks = HealthChecks::default();
    put_in_force(&checks, std::slice::from_ref(&cluster));
    assert!(checks.report(&cluster.name, address(1), &failed()).is_some());
    cluster.endpoints[1].health = Health::Unhealthy;
    put_in_force(&checks, std::slice::from_ref(&cluster));
    assert_eq!(checks.unhealthy(), []);
    assert_eq!(checks.report(&cluster.name, address(1), &failed()), None);
}
