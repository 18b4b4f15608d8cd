//! `localityLbSetting`: who comes first for a gateway in region r1, zone z1, subzone s1.

use super::*;
use crate::model::{Cluster, GatewayIdentity, Placement};

/// `e` has an endpoint in each place; the cluster of its one port.
fn placed(places: &[&str], policy: &str, labels: &[(&str, &str)]) -> Cluster {
    placed_in("{}", places, policy, labels)
}

/// Likewise, in a mesh with settings; without a policy there is no rule.
fn placed_in(mesh: &str, places: &[&str], policy: &str, labels: &[(&str, &str)]) -> Cluster {
    let endpoint = |(at, place): (usize, &&str)| {
        let (locality, labels) = place.split_once(' ').unwrap_or((place, ""));
        format!("{{address: 10.0.0.{at}, locality: '{locality}', labels: {{{labels}}}}}")
    };
    let endpoints: Vec<String> = places.iter().enumerate().map(endpoint).collect();
    let text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec: {{hosts: [e.test], location: \
         MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: \
         [{}]}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n",
        endpoints.join(", ")
    );
    let rule = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: e.test, \
         trafficPolicy: {{{policy}}}}}\n"
    );
    let objects = objects(&(text + if policy.is_empty() { "" } else { &rule }));
    let mut identity = GatewayIdentity::default();
    identity.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut surroundings = Surroundings::of(identity);
    surroundings.learn(&objects);
    let translation = translate(&objects, &surroundings, 1);
    assert!(translation.diagnostics.is_empty(), "{:?}", translation.diagnostics);
    let cluster = translation.snapshot.clusters.values().next().expect("a cluster").clone();
    (*cluster).clone()
}

const HERE: &[(&str, &str)] = &[("istio-locality", "r1.z1.s1")];
const BY_NODE: &[(&str, &str)] = &[
    ("topology.kubernetes.io/region", "r1"),
    ("topology.kubernetes.io/zone", "z1"),
    ("topology.istio.io/subzone", "s1"),
];

#[test]
fn the_nearest_come_first_where_failures_are_noticed() {
    let all: &[&str] = &["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2", "r3"];
    for (places, labels, policy, want) in [
        (all, HERE, "outlierDetection: {}", Some(&[0, 1, 2, 3, 3][..])),
        (all, BY_NODE, "outlierDetection: {}", Some(&[0, 1, 2, 3, 3])),
        // Priorities have no gaps.
        (&["r1/z2", "r2"][..], HERE, "outlierDetection: {}", Some(&[0, 1])),
        (&["r2", "r3"], HERE, "outlierDetection: {}", None),
        (all, HERE, "loadBalancer: {simple: RANDOM}", None),
        (all, &[], "outlierDetection: {}", None),
        (all, HERE, "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}", None),
        (
            all,
            HERE,
            "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}",
            Some(&[0, 1, 2, 4, 3]),
        ),
        (
            all,
            HERE,
            "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r2, to: r3}]}}",
            Some(&[0, 1, 2, 3, 3]),
        ),
    ] {
        let cluster = placed(places, policy, labels);
        let want = want.map_or(Placement::Anywhere, |priorities: &[u32]| Placement::Failover {
            priorities: priorities.to_vec(),
        });
        assert_eq!(cluster.placement, want, "{places:?} {policy}");
    }
}

#[test]
fn the_meshs_setting_holds_where_no_rule_has_one() {
    let places: &[&str] = &["r1/z1", "r2", "r3"];
    let shares = "{localityLbSetting: {distribute: [{from: r1, to: {r1: 60, r2: 40}}]}}";
    let failover = "{localityLbSetting: {failover: [{from: r1, to: r3}]}}";
    let off = "{localityLbSetting: {enabled: false}}";
    let by_shares =
        || Placement::Distribute { groups: vec![Some(0), Some(1), None], weights: vec![6000, 4000] };
    let by_place = |priorities: &[u32]| Placement::Failover { priorities: priorities.to_vec() };
    for (mesh, policy, want) in [
        (shares, "", by_shares()),
        (shares, "outlierDetection: {}", by_shares()),
        (shares, "outlierDetection: {}, loadBalancer: {localityLbSetting: {}}", by_place(&[0, 1, 1])),
        (shares, "loadBalancer: {localityLbSetting: {enabled: false}}", Placement::Anywhere),
        (failover, "", Placement::Anywhere),
        (failover, "outlierDetection: {}", by_place(&[0, 2, 1])),
        (off, "outlierDetection: {}", Placement::Anywhere),
        (
            off,
            "outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}",
            by_place(&[0, 1, 1]),
        ),
    ] {
        assert_eq!(
            placed_in(mesh, places, policy, &[("istio-locality", "r1.z1")]).placement,
            want,
            "{mesh} {policy}"
        );
    }
}

#[test]
fn regions_decide_among_those_whom_labels_find_alike() {
    let places: &[&str] = &["r2 version: v1", "r3 version: v1", "r3 version: v2", "r1/z1/s1 version: v2"];
    let labels: Vec<(&str, &str)> = HERE.iter().copied().chain([("version", "v1")]).collect();
    let policy = "outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [version], failover: [{from: r1, to: \
                  r3}]}}";
    let want = Placement::Failover { priorities: vec![1, 0, 3, 2] };
    assert_eq!(placed(places, policy, &labels).placement, want);
}

#[test]
fn labels_say_who_is_near_from_the_first_on() {
    let places: &[&str] =
        &["r1/z1 version: v1", "r1/z2 version: v1", "r1/z1 version: v2", "r2/z1 version: v1"];
    let labels: Vec<(&str, &str)> = HERE.iter().copied().chain([("version", "v1")]).collect();
    for (priority, want) in [
        ("version", Some(&[0, 0, 1, 0][..])),
        ("version=v2", Some(&[1, 1, 0, 1])),
        ("topology.kubernetes.io/region, version", Some(&[0, 0, 1, 2])),
        ("version, topology.kubernetes.io/zone", Some(&[0, 1, 2, 0])),
        // Nobody has it, not the gateway either.
        ("network", None),
    ] {
        let policy = format!(
            "outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {{failoverPriority: [{priority}]}}}}"
        );
        let want = want.map_or(Placement::Anywhere, |priorities: &[u32]| Placement::Failover {
            priorities: priorities.to_vec(),
        });
        assert_eq!(placed(places, &policy, &labels).placement, want, "{priority}");
    }
}

#[test]
fn shares_by_locality_hold_without_outlier_detection_too() {
    let places: &[&str] = &["r1/z1", "r1/z1", "r1/z2", "r2/z1", "r3/z1"];
    for (distribute, want) in [
        (
            "[{from: r1, to: {r1: 80, r2: 20}}]",
            Some((&[Some(0), Some(0), Some(1), Some(2), None][..], &[5334, 2667, 2000][..])),
        ),
        (
            "[{from: 'r1/z1/*', to: {'r1/z1': 70, '*': 30}}]",
            // The narrowest pattern has a locality; what is left has the rest.
            Some((&[Some(0), Some(0), Some(1), Some(2), Some(3)], &[7000, 1000, 1000, 1000])),
        ),
        ("[{from: r2, to: {r1: 100}}]", None),
        (
            "[{from: 'r1/z2', to: {r1: 100}}, {from: '*', to: {r3: 100}}]",
            Some((&[None, None, None, None, Some(0)], &[10_000])),
        ),
    ] {
        let policy = format!("loadBalancer: {{localityLbSetting: {{distribute: {distribute}}}}}");
        let got = placed(places, &policy, HERE).placement;
        let want = want.map_or(Placement::Anywhere, |(groups, weights)| Placement::Distribute {
            groups: groups.to_vec(),
            weights: weights.to_vec(),
        });
        assert_eq!(got, want, "{distribute}");
    }
}

/// A Service's pods: `near` in the zone of the gateway, the others elsewhere.
fn of_service(service: &str, rule: &str) -> (Placement, Vec<String>) {
    let slice = |at: u32, zone: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{at}, labels: \
             {{kubernetes.io/service-name: s}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: \
             [{{addresses: [10.0.0.{at}], zone: '{zone}'}}]\n"
        )
    };
    let text = format!("---\napiVersion: v1\nkind: Service\n{service}\n{rule}")
        + &[slice(1, "z2"), slice(2, "z1"), slice(3, "")].concat();
    let mut identity = GatewayIdentity::default();
    identity.labels.extend(BY_NODE.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let objects = objects(&text);
    let mut surroundings = Surroundings::of(identity);
    surroundings.learn(&objects);
    let translation = translate(&objects, &surroundings, 1);
    let cluster = translation.snapshot.clusters.values().next().expect("a cluster").clone();
    let told = translation.diagnostics.iter().map(|found| found.message.clone()).collect();
    (cluster.placement.clone(), told)
}

#[test]
fn a_service_may_wish_for_the_nearest() {
    let service = |annotations: &str, wish: &str| {
        format!(
            "metadata: {{name: s, annotations: {{{annotations}}}}}\nspec: {{ports: [{{name: http, port: 80}}]{wish}}}"
        )
    };
    let rule = |policy: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: s, \
             trafficPolicy: {{{policy}}}}}\n"
        )
    };
    let nearest = || Placement::Failover { priorities: vec![1, 0, 2] };
    let annotated = "networking.istio.io/traffic-distribution: PreferClose";
    let off = rule("loadBalancer: {localityLbSetting: {enabled: false}}");
    for (annotations, wish, rule, want) in [
        ("", "", String::new(), Placement::Anywhere),
        ("", ", trafficDistribution: PreferClose", String::new(), nearest()),
        ("", ", trafficDistribution: PreferSameZone", rule("loadBalancer: {simple: RANDOM}"), nearest()),
        ("", ", trafficDistribution: PreferSameNode", String::new(), nearest()),
        (annotated, "", String::new(), nearest()),
        (
            "networking.istio.io/traffic-distribution: Any",
            ", trafficDistribution: PreferClose",
            String::new(),
            Placement::Anywhere,
        ),
        ("", ", trafficDistribution: PreferClose", off, Placement::Anywhere),
    ] {
        let (placement, told) = of_service(&service(annotations, wish), &rule);
        assert_eq!(placement, want, "{annotations} {wish} {rule}");
        assert!(told.is_empty(), "{told:?}");
    }
    let (placement, told) = of_service(&service("", ", trafficDistribution: Nearest"), "");
    assert_eq!(placement, Placement::Anywhere);
    assert_eq!(told, ["unknown distribution \"Nearest\": endpoints of all zones are used alike"]);
}
