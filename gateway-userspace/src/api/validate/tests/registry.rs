//! ServiceEntry, WorkloadEntry, and the ConfigMap of the mesh.

use super::{Arc, check, read_document, split};

/// The finding, at a field below `spec`.
fn error(at: &str, message: &str) -> String {
    format!("error spec.{at}: {message}")
}

fn rows(kind: &str, rows: &[(&str, Vec<String>)]) {
    for (spec, want) in rows {
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(kind, &[(spec, &want)]);
    }
}

#[test]
fn service_entries_are_checked_in_istios_words() {
    const HOSTS: &str = "hosts: [a.test]";
    const HTTP: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let with = |more: &str| format!("{{{HOSTS}, {HTTP}, {more}}}");
    let (static_, dns) = ("resolution: STATIC, endpoints: ", "resolution: DNS, endpoints: ");
    let list = [
        (with("resolution: DNS"), vec![]),
        (with("location: MESH_INTERNAL"), vec![]),
        (with("resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 8080}, weight: 3, locality: a/b}]"), vec![]),
        (with("workloadSelector: {labels: {app: a}}, resolution: STATIC"), vec![]),
        (with("addresses: [10.0.0.1, 10.0.0.0/8, 'fd00::/8']"), vec![]),
        ("{}".to_owned(), vec![error("hosts", "service entry must have at least one host")]),
        ("{hosts: ['*']}".to_owned(), vec![error("hosts[0]", "invalid host *")]),
        (
            "{hosts: ['*a.test']}".to_owned(),
            vec![error("hosts[0]", "partial wildcard \"*a.test\" not allowed")],
        ),
        (
            "{hosts: ['*.a.test'], resolution: DNS}".to_owned(),
            vec![error(
                "hosts[0]",
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode DNS, a \
                 wildcard cannot be resolved",
            )],
        ),
        ("{hosts: ['*.a.test'], resolution: DNS, endpoints: [{address: b.test}]}".to_owned(), vec![]),
        (with("addresses: [10.0.0.0/33]"), vec![error("addresses[0]", "10.0.0.0/33 is not a valid subnet")]),
        (with("addresses: [a.test]"), vec![error("addresses[0]", "a.test is not a valid IP")]),
        (
            with("resolution: DNS, addresses: [10.0.0.0/8]"),
            vec![error("addresses", "CIDR addresses are allowed only for NONE/STATIC resolution types")],
        ),
        (
            format!("{{{HOSTS}, ports: [{{number: 80, name: a}}, {{number: 80, name: b}}, {{number: 81, name: a}}]}}"),
            vec![
                error("ports[1].number", "service entry port 80 already defined"),
                error("ports[2].name", "service entry port name \"a\" already defined"),
            ],
        ),
        (
            format!("{{{HOSTS}, ports: [{{number: 80, name: a, protocol: WAT}}]}}"),
            vec![error("ports[0].protocol", "unsupported protocol: WAT")],
        ),
        (
            format!("{{{HOSTS}, ports: [{{number: 0, name: a_b}}]}}"),
            vec![
                error("ports[0].name", "invalid port name: a_b"),
                error("ports[0].number", "port number 0 must be in the range 1..65535"),
            ],
        ),
        (
            format!("{{{HOSTS}, ports: [{{number: 80, name: a, targetPort: 70000}}]}}"),
            vec![error("ports[0].targetPort", "port number 70000 must be in the range 1..65535")],
        ),
        (
            with("endpoints: [{address: 10.0.0.1}]"),
            vec![error("endpoints", "no endpoints should be provided for resolution type none")],
        ),
        (
            with(&format!("{static_}[{{address: foo.com}}]")),
            vec![error("endpoints[0].address", "endpoint address \"foo.com\" is not a valid IP address")],
        ),
        (
            with(&format!("{static_}[{{address: 10.0.0.1, ports: {{x: 70000}}}}]")),
            vec![
                error("endpoints[0].ports.x", "endpoint port 70000 is not defined by the service entry"),
                error("endpoints[0].ports.x", "port number 70000 must be in the range 1..65535"),
            ],
        ),
        (
            with(&format!("{dns}[{{address: '*.x.com'}}]")),
            vec![error("endpoints[0].address", "endpoint address \"*.x.com\" is not a valid FQDN or an IP address")],
        ),
        (
            with("resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.test}, {address: b.test}]"),
            vec![error("endpoints", "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN")],
        ),
        (
            with(&format!("workloadSelector: {{labels: {{app: a}}}}, {static_}[{{address: 10.0.0.1}}]")),
            vec![error("workloadSelector", "only one of WorkloadSelector or Endpoints is allowed in Service Entry")],
        ),
        (
            with("workloadSelector: {labels: {app: '*'}}"),
            vec![error("workloadSelector.labels", "wildcard is not supported in selector: \"app=*\"")],
        ),
        (
            with("workloadSelector: {}"),
            vec!["warning spec.workloadSelector: workload selector specified without labels".to_owned()],
        ),
        (with(&format!("{static_}[{{address: 10.0.0.1}}, {{address: 10.0.0.2, weight: 3}}]")), vec![]),
        (
            "{hosts: [a.test, b.test], resolution: DNS, ports: [{number: 1, name: a, protocol: TCP}]}".to_owned(),
            vec![error("hosts", "multiple hosts provided with non-HTTP, non-TLS ports")],
        ),
        ("{hosts: [a.test, b.test], ports: [{number: 1, name: a, protocol: TCP}]}".to_owned(), vec![]),
        (
            with("exportTo: ['*', a]"),
            vec![error("exportTo", "cannot have both public (*) and non-public exportTo values for a resource")],
        ),
        (
            with("exportTo: ['~', a]"),
            vec![error("exportTo", "cannot export service entry to no one (~) and someone")],
        ),
        (with("exportTo: ['~']"), vec![]),
        (with("resolution: dns"), vec![error("resolution", "unknown value \"dns\"")]),
        (with("endpoint: []"), vec![error("endpoint", "unknown field \"endpoint\"")]),
        (
            with("resolution: DYNAMIC_DNS"),
            vec![error("resolution", "DYNAMIC_DNS is not yet supported and must not be ignored: the document is refused")],
        ),
        (
            with(&format!("{static_}[{{address: 'unix:///run/x', ports: {{http: 1}}}}]")),
            vec![
                error("endpoints[0].ports", "unix endpoint unix:///run/x must not include ports"),
                error(
                    "endpoints[0].address",
                    "unix domain sockets are not yet supported and must not be ignored: the document is refused",
                ),
            ],
        ),
        (
            with(&format!("{static_}[{{address: 10.0.0.1, network: far}}]")),
            vec![
                "warning spec.endpoints[0].network: network is not yet supported: the endpoint is reached at its own address"
                    .to_owned(),
            ],
        ),
    ];
    let list: Vec<(&str, Vec<String>)> =
        list.iter().map(|(spec, want)| (spec.as_str(), want.clone())).collect();
    rows("ServiceEntry", &list);
}

#[test]
fn workload_entries_are_checked_in_istios_words() {
    let unix = "unix domain sockets are not yet supported and must not be ignored: the document is refused";
    rows(
        "WorkloadEntry",
        &[
            ("{address: 10.0.0.1, ports: {http: 80}, labels: {app: a}, serviceAccount: a}", vec![]),
            ("{address: a.test}", vec![]),
            ("{address: 10.0.0.1, weight: 2}", vec![]),
            ("{}", vec![error("address", "address must be set")]),
            (
                "{address: a b}",
                vec![error("address", "endpoint address \"a b\" is not a valid FQDN or an IP address")],
            ),
            ("{address: 'unix:///run/x'}", vec![error("address", unix)]),
            (
                "{address: 10.0.0.1, ports: {'@': 80, a: 0}}",
                vec![
                    error("ports.@", "invalid port name: @"),
                    error("ports.a", "port number 0 must be in the range 1..65535"),
                ],
            ),
        ],
    );
}

#[test]
fn the_mesh_is_read_from_its_config_map_and_what_is_not_obeyed_is_said() {
    let file: Arc<str> = "t.yaml".into();
    for (name, mesh, is_object, want) in [
        ("istio", "connectTimeout: 3s\n    enableTracing: true", true, vec!["info SLU0012 data.mesh"]),
        ("istio", "enableEnvoyAccessLogService: true", true, vec!["warning SLU0004 data.mesh"]),
        ("istio", "connectTimeout: soon", false, vec!["error IST0106 data.mesh"]),
        ("istio", "a: [", false, vec!["error IST0106 data.mesh"]),
        ("other", "connectTimeout: 3s", false, vec!["info SLU0003 kind"]),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  mesh: |-\n    {mesh}\n"
        );
        let mut readings =
            split(&text).into_iter().flat_map(|chunk| read_document(&file, chunk, "istio-system"));
        let reading = readings.next().expect("a document");
        assert_eq!(reading.object.is_some(), is_object, "{text}");
        let found = reading.diagnostics.iter();
        let found: Vec<String> = found
            .map(|it| format!("{} {} {}", it.severity.as_str(), it.code, it.field.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(found, want, "{text}");
    }
}
