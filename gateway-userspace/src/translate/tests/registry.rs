//! Who serves what: ServiceEntries, workloads, aliases, and who sees them.

use super::*;
use crate::model::{ClusterName, GatewayIdentity, Resolved};

const HTTP: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

fn istio(kind: &str, metadata: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n")
}

fn entry(spec: &str) -> String {
    istio("ServiceEntry", "{name: e}", spec)
}

fn pod(name: &str, labels: &str, address: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  containers:\n  - ports: \
         [{{name: web, containerPort: 8081}}]\nstatus: {{podIP: {address}{more}}}\n"
    )
}

/// `address weight` of a cluster's endpoints; `None` without the cluster.
fn endpoints(snapshot: &Snapshot, host: &str, port: u16, subset: Option<&str>) -> Option<Vec<String>> {
    let name = ClusterName { host: host.into(), port, subset: subset.map(Into::into) };
    let of = |endpoint: &crate::model::Endpoint| match endpoint.health {
        Health::Healthy => format!("{} {}", endpoint.address, endpoint.weight),
        other => format!("{} {other:?}", endpoint.address),
    };
    Some(snapshot.clusters.get(&name)?.endpoints.iter().map(of).collect())
}

fn resolved(names: &[(&str, &[&str])]) -> Resolved {
    let mut resolved = Resolved::default();
    for (name, addresses) in names {
        resolved.insert(name, addresses.iter().map(|address| address.parse().unwrap()).collect());
    }
    resolved
}

#[test]
fn service_entries_are_services_whose_endpoints_the_resolution_says() {
    let known = resolved(&[("a.test", &["192.0.2.2", "192.0.2.1"]), ("b.test", &["192.0.2.3"])]);
    let target = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]";
    for (spec, want, names) in [
        (HTTP.to_owned(), &[][..], &[][..]),
        (format!("{HTTP}, resolution: STATIC"), &[], &[]),
        (
            format!(
                "{HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.0.2, weight: 5}}, {{address: 'fd00::1'}}]"
            ),
            &["10.0.0.2:80 5", "[fd00::1]:80 1"],
            &[],
        ),
        (
            format!(
                "{target}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, ports: {{http: 81}}}}, {{address: 10.0.0.2}}]"
            ),
            &["10.0.0.1:81 1", "10.0.0.2:8080 1"],
            &[],
        ),
        (format!("{HTTP}, resolution: DNS"), &["192.0.2.1:80 1", "192.0.2.2:80 1"], &["a.test"]),
        (format!("{target}, resolution: DNS"), &["192.0.2.1:8080 1", "192.0.2.2:8080 1"], &["a.test"]),
        (
            format!(
                "{HTTP}, resolution: DNS, endpoints: [{{address: B.test, weight: 2, ports: {{http: 1}}}}, {{address: 10.0.0.1}}]"
            ),
            &["10.0.0.1:80 1", "192.0.2.3:1 2"],
            &["b.test"],
        ),
        (format!("{HTTP}, resolution: DNS, endpoints: [{{address: c.test}}]"), &[], &["c.test"]),
        (format!("{target}, resolution: DNS_ROUND_ROBIN"), &["192.0.2.1:8080 1"], &["a.test"]),
        (
            format!("{HTTP}, resolution: DNS_ROUND_ROBIN, endpoints: [{{address: b.test}}]"),
            &["192.0.2.3:80 1"],
            &["b.test"],
        ),
    ] {
        let objects = objects(&entry(&format!("{{hosts: [A.test], {spec}}}")));
        let mut surroundings = Surroundings { resolved: known.clone(), ..Surroundings::default() };
        surroundings.learn(&objects);
        let translation = translate(&objects, &surroundings, 1);
        assert_eq!(
            endpoints(&translation.snapshot, "a.test", 80, None).as_deref(),
            Some(&to_owned(want)[..]),
            "{spec}"
        );
        assert_eq!(translation.names.iter().collect::<Vec<_>>(), names, "{spec}");
        let worst = translation.diagnostics.iter().map(|found| found.severity).max();
        assert!(
            worst.is_none_or(|worst| worst == api::Severity::Info),
            "{spec}: {:?}",
            translation.diagnostics
        );
    }
}

fn to_owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_route_finds_a_service_entry_by_its_host() {
    let spec = format!("{{gateways: [g], hosts: [x.test], http: [{{route: {}}}]}}", to("a.test"));
    let parts = |entry_: String| {
        [gateway("{name: g}", &["80 http HTTP '*'"]), virtual_service("{name: v}", &spec), entry_]
    };
    let found = |entry_: String| {
        let translation = world(&parts(entry_));
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "x.test", "/").map(|route| &route.action)
        else {
            panic!("a route")
        };
        let codes = codes(&translation);
        (forward.destinations[0].name.to_string(), forward.destinations[0].cluster.is_some(), codes)
    };
    let static_ = "resolution: STATIC, endpoints: [{address: 10.0.0.1}]";
    let to_81 = "ports: [{number: 81, name: http, protocol: HTTP}]";
    let name = |port: u16| format!("outbound|{port}||a.test");
    assert_eq!(found(entry(&format!("{{hosts: [a.test], {HTTP}, {static_}}}"))), (name(80), true, vec![]));
    assert_eq!(found(entry(&format!("{{hosts: [a.test], {to_81}, {static_}}}"))), (name(81), true, vec![]));
    assert_eq!(
        found(entry(&format!("{{hosts: [b.test], {HTTP}, {static_}}}"))),
        (name(80), false, vec!["IST0101"])
    );
    let hidden = format!("{{hosts: [a.test], {HTTP}, {static_}, exportTo: ['.']}}");
    assert_eq!(found(entry(&hidden)), (name(80), false, vec!["SLU0012", "IST0101"]));
}

#[test]
fn protocols_are_those_of_the_entrys_ports() {
    let ports: Vec<String> = ["HTTP", "http2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO", "''", "UDP"]
        .iter()
        .zip(1..)
        .map(|(protocol, number)| format!("{{number: {number}, name: p{number}, protocol: {protocol}}}"))
        .collect();
    let translation = world(&[entry(&format!("{{hosts: [a.test], ports: [{}]}}", ports.join(", ")))]);
    let protocols: Vec<String> =
        translation.snapshot.clusters.values().map(|cluster| format!("{:?}", cluster.protocol)).collect();
    assert_eq!(protocols, ["Http1", "Http2", "Http2", "Tcp", "Tcp", "Tcp", "Tcp", "Tcp"]);
}

#[test]
fn labels_of_endpoints_make_subsets() {
    let entry_ = entry(&format!(
        "{{hosts: [a.test], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, labels: {{version: v1}}}}, \
         {{address: 10.0.0.2, labels: {{version: v2, more: x}}}}]}}"
    ));
    let rule = istio(
        "DestinationRule",
        "{name: r}",
        "{host: a.test, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: \
         v3}}]}",
    );
    let translation = world(&[entry_, rule]);
    let of = |subset: &str| endpoints(&translation.snapshot, "a.test", 80, Some(subset)).expect(subset);
    assert_eq!(of("v1"), ["10.0.0.1:80 1"]);
    assert_eq!(of("v2"), ["10.0.0.2:80 1"]);
    assert!(of("v3").is_empty());
    assert_eq!(codes(&translation), ["IST0173"], "an empty subset is said");
}

#[test]
fn selectors_choose_pods_and_workload_entries_of_the_namespace() {
    let select = |resolution: &str| {
        entry(&format!(
            "{{hosts: [a.test], {HTTP}, resolution: {resolution}, workloadSelector: {{labels: {{app: a}}}}}}"
        ))
    };
    let workloads = [
        pod("p1", "app: a", "10.0.0.1", ""),
        pod("p2", "app: b", "10.0.0.2", ""),
        pod("p3", "app: a", "10.0.0.3", ", conditions: [{type: Ready, status: 'False'}]"),
        pod("p4", "app: a", "10.0.0.4", ", phase: Succeeded"),
        pod("p5", "app: a", "''", ""),
        pod("p6", "app: a", "10.0.0.6", "").replace("name: p6,", "name: p6, namespace: other,"),
        istio(
            "WorkloadEntry",
            "{name: w1}",
            "{address: 10.0.1.1, labels: {app: a}, weight: 4, ports: {http: 81}}",
        ),
        istio("WorkloadEntry", "{name: w2, labels: {app: a}}", "{address: 10.0.1.2, labels: {app: b}}"),
        istio("WorkloadEntry", "{name: w3, labels: {app: b}}", "{address: 10.0.1.3, labels: {app: a}}"),
        istio("WorkloadEntry", "{name: w4}", "{address: vm.test, labels: {app: a}}"),
    ];
    for (resolution, want, names, found) in [
        ("STATIC", &["10.0.0.1:80 1", "10.0.1.1:81 4", "10.0.1.2:80 1"][..], 0, vec!["SLU0012"]),
        ("DNS", &["10.0.0.1:80 1", "10.0.1.1:81 4", "10.0.1.2:80 1"], 1, vec![]),
    ] {
        let mut parts = vec![select(resolution)];
        parts.extend(workloads.clone());
        let translation = world(&parts);
        assert_eq!(endpoints(&translation.snapshot, "a.test", 80, None).unwrap(), want, "{resolution}");
        assert_eq!(translation.names.len(), names, "{resolution}");
        assert_eq!(codes(&translation), found, "{resolution}");
    }
}

const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{name: http, port: \
                       80, targetPort: web}]}\n";

#[test]
fn endpoints_have_the_labels_of_their_pods() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a-1, labels: {kubernetes.io/service-name: a, \
                 version: v3}}\nports: [{name: http, port: 8081}]\nendpoints:\n- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: \
                 p1}}\n- {addresses: [10.0.0.2]}\n- {addresses: [10.0.0.3]}\n";
    let rule = "{host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: \
                v3}}]}";
    let translation = world(&[
        SERVICE.to_owned(),
        slice.to_owned(),
        istio("DestinationRule", "{name: r}", rule),
        // Named by the slice, and not found by its address.
        pod("p1", "version: v1", "10.9.9.9", ""),
        pod("p2", "version: v2", "10.0.0.2", ""),
    ]);
    let of = |subset: &str| {
        endpoints(&translation.snapshot, "a.default.svc.cluster.local", 80, Some(subset)).expect(subset)
    };
    assert_eq!(of("v1"), ["10.0.0.1:8081 1"]);
    assert_eq!(of("v2"), ["10.0.0.2:8081 1"]);
    assert_eq!(of("v3"), ["10.0.0.3:8081 1"], "without a Pod, the labels are the slice's");
    assert_eq!(codes(&translation), Vec::<&str>::new());
}

#[test]
fn a_service_selects_workload_entries_too() {
    let workload = |name: &str, ports: &str, address: &str| {
        istio(
            "WorkloadEntry",
            &format!("{{name: {name}}}"),
            &format!("{{address: {address}, labels: {{app: a}}{ports}}}"),
        )
    };
    let translation = world(&[
        SERVICE.to_owned(),
        workload("w1", "", "10.0.0.1"),
        workload("w2", ", ports: {web: 81}", "10.0.0.2"),
        workload("w3", ", ports: {http: 82, web: 81}", "10.0.0.3"),
        workload("w4", "", "vm.test"),
    ]);
    let found = endpoints(&translation.snapshot, "a.default.svc.cluster.local", 80, None);
    assert_eq!(found.unwrap(), ["10.0.0.1:80 1", "10.0.0.2:81 1", "10.0.0.3:82 1"]);
}

#[test]
fn endpoints_count_where_there_are_no_slices() {
    let old = "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses: [{ip: 10.0.0.1}, {ip: x}]\n  \
               notReadyAddresses: [{ip: 10.0.0.2}]\n  ports: [{name: http, port: 8080}, {name: http, port: 53, protocol: UDP}]\n- \
               addresses: [{ip: 10.0.0.3}]\n  ports: [{name: http, port: 9090}]\n";
    let host = "a.default.svc.cluster.local";
    let translation = world(&[SERVICE.to_owned(), old.to_owned()]);
    assert_eq!(
        endpoints(&translation.snapshot, host, 80, None).unwrap(),
        ["10.0.0.1:8080 1", "10.0.0.2:8080 Unhealthy", "10.0.0.3:9090 1"]
    );
    assert_eq!(codes(&translation), ["SLU0004"], "what is no address is said");
    let with_slice = world(&[services(&["a"]), old.to_owned()]);
    assert_eq!(endpoints(&with_slice.snapshot, host, 80, None).unwrap(), ["10.0.0.0:8080 1"]);
    let misnamed = world(&[SERVICE.to_owned(), old.replace("name: http", "name: web")]);
    assert!(codes(&misnamed).contains(&"SLU0012"), "{:?}", misnamed.diagnostics);
}

#[test]
fn an_external_name_is_another_name_for_a_service() {
    let alias = |name: &str, target: &str, ports: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {target}{ports}}}\n"
        )
    };
    let e = entry(&format!(
        "{{hosts: [x.test], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.0.9}}]}}"
    ));
    for (destination, cluster, found) in [
        ("host: one", "outbound|80||x.test", true),
        ("host: two", "outbound|80||x.test", true),
        ("host: real", "outbound|80||a.default.svc.cluster.local", true),
        ("host: eighty", "outbound|81||x.test", false),
        ("host: eighty, port: {number: 80}", "outbound|80||x.test", true),
        ("host: nowhere", "outbound|80||y.test", false),
        ("host: self", "outbound|80||self.default.svc.cluster.local", false),
    ] {
        let spec = format!(
            "{{gateways: [g], hosts: [a.test], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}"
        );
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
            e.clone(),
            alias("one", "X.test.", ""),
            alias("two", "one.default.svc.cluster.local", ""),
            alias("real", "a.default.svc.cluster.local", ""),
            alias("eighty", "x.test", ", ports: [{name: http, port: 81}]"),
            alias("nowhere", "y.test", ""),
            alias("self", "self.default.svc.cluster.local", ""),
        ]);
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").map(|route| &route.action)
        else {
            panic!("{destination}")
        };
        let to = &forward.destinations[0];
        assert_eq!((to.name.to_string().as_str(), to.cluster.is_some()), (cluster, found), "{destination}");
        assert_eq!(codes(&translation), if found { vec![] } else { vec!["IST0101"] }, "{destination}");
    }
}

#[test]
fn export_to_hides_services_from_the_gateway() {
    let service = |annotation: &str| {
        services(&["a"]).replacen(
            "metadata: {name: a}",
            &format!("metadata: {{name: a, annotations: {{networking.istio.io/exportTo: '{annotation}'}}}}"),
            1,
        )
    };
    let mesh = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                defaultServiceExportTo: ['.']\n";
    for (annotation, default, is_seen, is_said) in [
        ("", "", true, false),
        ("*", "", true, false),
        (".", "", false, true),
        ("~", "", false, true),
        ("other, istio-system", "", true, false),
        ("other", "", false, true),
        ("", mesh, false, false),
        ("*", mesh, true, false),
        // Another namespace's ConfigMap says nothing.
        ("", &mesh.replace("istio-system", "default"), true, false),
    ] {
        let translation = world(&[service(annotation), default.to_owned()]);
        assert_eq!(!translation.snapshot.clusters.is_empty(), is_seen, "{annotation} {default}");
        assert_eq!(codes(&translation) == ["SLU0012"], is_said, "{annotation} {default}");
    }
}

#[test]
fn documents_of_one_host_share_endpoints_within_a_namespace() {
    let host = "a.default.svc.cluster.local";
    let with = |name: &str, namespace: &str, protocol: &str, port: u16, address: &str| {
        istio(
            "ServiceEntry",
            &format!("{{name: {name}, namespace: {namespace}}}"),
            &format!(
                "{{hosts: [{host}], ports: [{{number: {port}, name: http, protocol: {protocol}}}], resolution: STATIC, endpoints: \
                 [{{address: {address}}}]}}"
            ),
        )
    };
    let translation = world(&[
        services(&["a"]),
        with("b", "default", "HTTP", 80, "10.0.0.7"),
        with("c", "default", "TCP", 80, "10.0.0.8"),
        with("d", "other", "HTTP", 80, "10.0.0.9"),
        with("e", "default", "HTTP", 81, "10.0.0.9"),
    ]);
    let of = |port| endpoints(&translation.snapshot, host, port, None).unwrap();
    assert_eq!(of(80), ["10.0.0.0:8080 1", "10.0.0.7:80 1", "10.0.0.8:80 1"]);
    assert_eq!(of(81), ["10.0.0.9:81 1"]);
    let protocol = translation.snapshot.clusters.values().next().unwrap().protocol;
    assert_eq!(protocol, crate::model::UpstreamProtocol::Http1, "the Service says what is spoken");
    assert_eq!(codes(&translation), ["SLU0012", "SLU0012"], "{:?}", translation.diagnostics);
}

#[test]
fn a_named_target_port_of_the_gateways_own_service_is_its_pods() {
    let own = "---\napiVersion: v1\nkind: Service\nmetadata: {name: own, namespace: istio-system}\nspec: {selector: {istio: \
               ingressgateway}, ports: [{name: http, port: 80, targetPort: web}]}\n";
    let of = |pod: String| {
        let translation = world(&[gateway("{name: g}", &["80 http HTTP '*'"]), own.to_owned(), pod]);
        (names(&translation.snapshot), codes(&translation).contains(&"SLU0004"))
    };
    let pod = pod("gw", "istio: ingressgateway", "10.0.0.1", "");
    let placed = pod.replace("name: gw,", "name: gw, namespace: istio-system,");
    assert_eq!(of(placed.clone()), (vec!["0.0.0.0_8081".to_owned()], false));
    assert_eq!(of(pod), (vec!["0.0.0.0_80".to_owned()], true), "a Pod of another namespace");
    assert_eq!(of(placed.replace("web", "other")), (vec!["0.0.0.0_80".to_owned()], true));
}

#[test]
fn the_mesh_is_the_root_namespaces() {
    let mesh = |namespace: &str, timeout: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: {namespace}}}\ndata: {{mesh: 'connectTimeout: \
             {timeout}'}}\n"
        )
    };
    let objects = objects(&(mesh("default", "1s") + &mesh("root", "2s") + &services(&["a"])));
    let identity = GatewayIdentity { root_namespace: "root".to_owned(), ..GatewayIdentity::default() };
    let mut surroundings = Surroundings::of(identity);
    surroundings.learn(&objects);
    let translation = translate(&objects, &surroundings, 1);
    let cluster = translation.snapshot.clusters.values().next().expect("a cluster");
    assert_eq!(cluster.connect_timeout, std::time::Duration::from_secs(2));
}
