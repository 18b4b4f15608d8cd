//! Ports, servers, filter chains.

use super::*;

#[test]
fn ports_are_translated_by_the_gateways_own_service() {
    let service = |more: &str, ports: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ingress, namespace: istio-system{more}}}\nspec: {{selector: \
             {{istio: ingressgateway}}, ports: [{ports}]}}\n"
        )
    };
    for (service, want) in [
        (service("", "{port: 80, targetPort: 8080}"), "0.0.0.0_8080"),
        (service("", "{port: 80}"), "0.0.0.0_80"),
        (service("", "{port: 443, targetPort: 8443}"), "0.0.0.0_80"),
        (service("", "{port: 80, targetPort: http}"), "0.0.0.0_80"),
        (
            service(
                ", labels: {experimental.istio.io/disable-gateway-port-translation: 'true'}",
                "{port: 80, targetPort: 8080}",
            ),
            "0.0.0.0_80",
        ),
        (service("", "{port: 80, targetPort: 8080}").replace("ingressgateway", "other"), "0.0.0.0_80"),
        (service("", "{port: 80, targetPort: 8080}").replace("istio-system", "default"), "0.0.0.0_80"),
    ] {
        assert_eq!(
            names(&world(&[gateway("{name: g}", &["80 http HTTP '*'"]), service.clone()]).snapshot),
            [want],
            "{service}"
        );
    }
    let unknown = world(&[gateway("{name: g}", &["80 http HTTP '*'"]), service("", "{port: 443}")]);
    assert_eq!(codes(&unknown), ["IST0162"], "a port that the Service does not have");
    // Both numbers are kept: match.port and redirects speak of the Service's.
    let spec = "{gateways: [g], hosts: [a.test], http: [{match: [{port: 80}], redirect: {derivePort: FROM_REQUEST_PORT, uri: /}}]}";
    let parts = [
        gateway("{name: g}", &["80 http HTTP '*'"]),
        service("", "{port: 80, targetPort: 8080}"),
        virtual_service("{name: v}", spec),
    ];
    let translation = world(&parts);
    let table = table(&translation.snapshot, "0.0.0.0_8080", None);
    assert_eq!(&*table.name, "http.8080");
    let Some(RouteAction::Redirect(redirect)) = route(table, "a.test", "/").map(|route| &route.action) else {
        panic!("{table:?}")
    };
    assert_eq!(redirect.port, Some(crate::model::RedirectPort::Request(80)));
}

#[test]
fn it_is_known_where_clients_outside_find_the_gateway() {
    let found = |spec: &str, status: &str| {
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ingress, namespace: istio-system}}\nspec: {{selector: \
             {{istio: ingressgateway}}, ports: [{{port: 80, nodePort: 30080}}, {{port: 443}}]{spec}}}\nstatus: {status}\n"
        );
        let translation = world(&[gateway("{name: g}", &["80 http HTTP '*'"]), service]);
        assert!(translation.diagnostics.is_empty(), "{:?}", translation.diagnostics);
        translation.snapshot.exposures.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let ports = "port 80 (of nodes 30080), 443";
    let balancer = "{loadBalancer: {ingress: [{ip: 203.0.113.7}, {hostname: lb.test}]}}";
    for (spec, status, want) in [
        (
            ", type: LoadBalancer, externalIPs: [198.51.100.1]",
            balancer,
            Some(format!("203.0.113.7, lb.test, 198.51.100.1, {ports} (LoadBalancer istio-system/ingress)")),
        ),
        (
            ", type: LoadBalancer",
            "{}",
            Some(format!("no address yet, {ports} (LoadBalancer istio-system/ingress)")),
        ),
        // Somebody else's words are no reason to refuse a Service.
        (
            ", type: NodePort",
            "{loadBalancer: 7}",
            Some(format!("nodes, {ports} (NodePort istio-system/ingress)")),
        ),
        (
            ", externalIPs: [198.51.100.1]",
            "{}",
            Some(format!("198.51.100.1, {ports} (ClusterIP istio-system/ingress)")),
        ),
        ("", "{}", None),
    ] {
        assert_eq!(found(spec, status), Vec::from_iter(want), "{spec} {status}");
    }
}

#[test]
fn the_oldest_server_decides_what_a_port_speaks() {
    const SIMPLE: &str = "tls: {mode: SIMPLE, credentialName: c}";
    // First server, second server, listeners, findings, what is served.
    for (older, newer, conflict, hosts) in [
        ("80 a HTTP a.test", "80 a HTTP b.test", None, &["a.test", "b.test"][..]),
        ("80 a HTTP a.test", "80 a HTTP2 a.test", None, &["a.test"]),
        ("80 a HTTP a.test", "80 a TCP '*'", Some("SLU0010"), &["a.test"]),
        ("80 a TCP '*'", "80 a HTTP a.test", Some("SLU0010"), &[]),
        ("80 a TCP '*'", "80 a TCP '*'", Some("SLU0010"), &[]),
        ("80 a HTTP a.test", &format!("80 a HTTPS b.test {SIMPLE}"), Some("SLU0010"), &["a.test"]),
        (&format!("80 a HTTPS a.test {SIMPLE}"), "80 a HTTP b.test", Some("SLU0010"), &["a.test"]),
        (
            &format!("80 a HTTPS a.test {SIMPLE}"),
            &format!("80 a HTTPS b.test {SIMPLE}"),
            None,
            &["a.test", "b.test"],
        ),
        // One name in common costs the newer server all of its names.
        (
            &format!("80 a HTTPS a.test {SIMPLE}"),
            &format!("80 a HTTPS b.test,a.test {SIMPLE}"),
            Some("IST0145"),
            &["a.test"],
        ),
        (
            &format!("80 a HTTPS '*.test' {SIMPLE}"),
            &format!("80 a HTTPS a.test {SIMPLE}"),
            None,
            &["a.test", "b.test"],
        ),
        (
            &format!("80 a HTTPS ns1/a.test {SIMPLE}"),
            &format!("80 a HTTPS a.test {SIMPLE}"),
            // No conflict of strings, but nobody's ClientHello tells the two apart.
            Some("IST0145"),
            &["a.test"],
        ),
        // The same on a plaintext port where both redirect.
        (
            "80 a HTTP a.test tls: {httpsRedirect: true}",
            "80 a HTTP a.test,b.test tls: {httpsRedirect: true}",
            Some("IST0145"),
            &["a.test"],
        ),
        (
            "80 a HTTP a.test tls: {httpsRedirect: true}",
            "80 a HTTP a.test,b.test",
            None,
            &["a.test", "b.test"],
        ),
        // Another address is another port.
        ("80 a HTTP a.test", "80 a TCP '*' bind: 10.0.0.1", None, &["a.test"]),
    ] {
        let vs = format!(
            "{{gateways: [older, newer], hosts: [a.test, b.test], http: [{{route: {}}}], tcp: [{{route: {}}}]}}",
            to("a"),
            to("a")
        );
        let translation = world(&[
            gateway("{name: older, creationTimestamp: '2024-01-01T00:00:00Z'}", &[older]),
            gateway("{name: newer, creationTimestamp: '2024-02-01T00:00:00Z'}", &[newer]),
            virtual_service("{name: v}", &vs),
            services(&["a"]),
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: istio-system}\nstringData: {cert: a, key: b}\n".to_owned(),
        ]);
        let grave = translation.diagnostics.iter().filter(|found| found.is_error());
        let conflicts: Vec<&str> = grave.map(|found| found.code.as_str()).collect();
        assert_eq!(conflicts, conflict.iter().copied().collect::<Vec<_>>(), "{older} and {newer}");
        let mut served: Vec<&str> = Vec::new();
        for host in ["a.test", "b.test"] {
            let listener =
                translation.snapshot.listeners.iter().find(|listener| &*listener.name == "0.0.0.0_80");
            let is_served = match &listener.expect("a listener").kind {
                ListenerKind::Http(table) => table.virtual_host(host).is_some(),
                ListenerKind::Tls(tls) => tls.select(Some(host)).is_some(),
                ListenerKind::Tcp(_) => false,
            };
            served.extend(is_served.then_some(host));
        }
        assert_eq!(served, hosts, "{older} and {newer}");
    }
}

#[test]
fn conflicts_name_both_documents() {
    let translation =
        world(&[gateway("{name: a}", &["80 x HTTP '*'"]), gateway("{name: b}", &["80 x TCP '*'"])]);
    let found = &translation.diagnostics[0];
    assert_eq!(found.document.as_ref().map(ToString::to_string).as_deref(), Some("Gateway default/b"));
    assert_eq!(found.related[0].document.to_string(), "Gateway default/a");
    assert!(found.position.is_some() && found.related[0].position.is_some());
}

#[test]
fn the_default_tls_mode_passes_through_and_reads_tls_rules() {
    let translation = world(&[
        gateway("{name: g}", &["443 tls HTTPS a.test tls: {}"]),
        virtual_service(
            "{name: v}",
            &format!(
                "{{gateways: [g], hosts: [a.test], http: [{{route: {}}}], tls: [{{match: [{{sniHosts: [a.test]}}], route: {}}}]}}",
                to("http"),
                to("tls")
            ),
        ),
        services(&["http", "tls"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let ChainAction::Passthrough(route) = &tls.select(Some("a.test")).unwrap().action else { panic!() };
    assert!(route.destinations[0].name.host.starts_with("tls."));
    assert_eq!(translation.snapshot.listeners[0].steering, Steering::UserSpace(UserSpaceReason::NeedsSni));
    // The http rule has no effect here, and that is said.
    assert_eq!(codes(&translation), ["SLU0012"]);
}

#[test]
fn a_repeated_sni_costs_a_match_all_of_its_names() {
    let rule =
        |names: &str, service: &str| format!("{{match: [{{sniHosts: [{names}]}}], route: {}}}", to(service));
    let spec = format!(
        "{{gateways: [g], hosts: ['*.test'], tls: [{}, {}, {}]}}",
        rule("a.test", "first"),
        rule("a.test, b.test", "second"),
        rule("c.test", "third")
    );
    let translation = world(&[
        gateway("{name: g}", &["443 tls TLS '*.test' tls: {mode: PASSTHROUGH}"]),
        virtual_service("{name: v}", &spec),
        services(&["first", "second", "third"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let goes = |sni: &str| match &tls.select(Some(sni))?.action {
        ChainAction::Passthrough(route) => {
            route.destinations[0].name.host.split('.').next().map(str::to_owned)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(goes("a.test").as_deref(), Some("first"));
    assert_eq!(goes("b.test"), None);
    assert_eq!(goes("c.test").as_deref(), Some("third"));
    assert_eq!(codes(&translation), ["IST0145"]);
}

#[test]
fn a_server_name_that_the_server_does_not_have_is_served_all_the_same_unless_another_server_has_it() {
    let rule = |name: &str| format!("{{match: [{{sniHosts: [{name}]}}], route: {}}}", to("a"));
    let spec = format!(
        "{{gateways: [g], hosts: ['*.test'], tls: [{}, {}, {}]}}",
        rule("own.test"),
        rule("foreign.test"),
        rule("other.test")
    );
    let servers = [
        "443 tls TLS own.test tls: {mode: PASSTHROUGH}",
        "443 https HTTPS other.test tls: {mode: SIMPLE, credentialName: c}",
    ];
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: istio-system}\nstringData: {cert: x, key: x}\n";
    let translation = world(&[
        gateway("{name: g}", &servers),
        virtual_service("{name: v}", &spec),
        services(&["a"]),
        secret.to_owned(),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let passes =
        |sni: &str| tls.select(Some(sni)).map(|chain| matches!(chain.action, ChainAction::Passthrough(_)));
    assert_eq!(["own.test", "foreign.test", "other.test"].map(passes), [Some(true), Some(true), Some(false)]);
    let found: Vec<&str> = translation.diagnostics.iter().map(|found| found.message.as_str()).collect();
    assert_eq!(
        found,
        [
            "SNI host foreign.test is not a host of the server: it is served all the same, as at Istio's gateway",
            "SNI host other.test is taken already on this port: the whole match is dropped",
        ]
    );
}

#[test]
fn a_gateway_can_keep_to_its_own_namespace() {
    let text = gateway("{name: own, namespace: istio-system}", &["80 http HTTP '*'"])
        + &gateway("{name: other}", &["81 http HTTP '*'"]);
    let mut surroundings = Surroundings::default();
    let names = |surroundings: &Surroundings| {
        let translation = translate(&objects(&text), surroundings, 1);
        (names(&translation.snapshot), codes(&translation))
    };
    let all = ["0.0.0.0_80", "0.0.0.0_81"].map(str::to_owned).to_vec();
    assert_eq!(names(&surroundings), (all.clone(), vec![]));
    surroundings.identity.own_gateways_only = true;
    assert_eq!(names(&surroundings), (all[..1].to_vec(), vec!["SLU0011"]));
}

#[test]
fn terminated_tls_uses_tcp_rules() {
    let translation = world(&[
        gateway("{name: g}", &["443 tls TLS a.test tls: {mode: SIMPLE, credentialName: c}"]),
        virtual_service(
            "{name: v}",
            &format!(
                "{{gateways: [g], hosts: [a.test], tcp: [{{match: [{{port: 443}}], route: {}}}]}}",
                to("a")
            ),
        ),
        services(&["a"]),
    ]);
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    assert!(matches!(&tls.select(Some("a.test")).unwrap().action, ChainAction::TerminateTcp { .. }));
    assert_eq!(
        translation.snapshot.listeners[0].steering,
        Steering::UserSpace(UserSpaceReason::TerminatesTls)
    );
}

#[test]
fn a_port_without_routes_listens_only_if_it_speaks_http() {
    let simple = "tls: {mode: SIMPLE, credentialName: c}";
    for (server, want) in [
        ("80 x HTTP '*'".to_owned(), vec!["0.0.0.0_80"]),
        (format!("80 x HTTPS '*' {simple}"), vec!["0.0.0.0_80"]),
        (format!("80 x TLS '*' {simple}"), vec![]),
        ("80 x TLS '*' tls: {}".to_owned(), vec![]),
        ("80 x TCP '*'".to_owned(), vec![]),
    ] {
        let translation = world(&[gateway("{name: g}", &[&server])]);
        assert_eq!(names(&translation.snapshot), want, "{server}");
        assert_eq!(codes(&translation).contains(&"SLU0009"), want.is_empty(), "{server}");
    }
}

#[test]
fn the_first_tcp_rule_that_fits_has_the_port() {
    let rule =
        |condition: &str, service: &str| format!("{{match: [{{{condition}}}], route: {}}}", to(service));
    let vs = |name: &str, hosts: &str, rules: &[String]| {
        virtual_service(
            &format!("{{name: {name}}}"),
            &format!("{{gateways: [g], hosts: [{hosts}], tcp: [{}]}}", rules.join(", ")),
        )
    };
    let translation = world(&[
        gateway("{name: g}", &["9000 x TCP a.test"]),
        vs("a", "b.test", &[rule("port: 9000", "foreign")]),
        vs(
            "b",
            "a.test",
            &[
                rule("port: 1", "other"),
                rule("sourceSubnet: 10.0.0.0/8", "subnet"),
                rule("port: 9000", "late"),
            ],
        ),
        vs("c", "a.test", &[rule("port: 9000", "later")]),
        services(&["foreign", "other", "subnet", "late", "later"]),
    ]);
    let ListenerKind::Tcp(route) = &translation.snapshot.listeners[0].kind else { panic!() };
    assert!(route.destinations[0].name.host.starts_with("subnet."), "subnets are not evaluated at a gateway");
    assert_eq!(&*route.virtual_service, "b.default");
    assert_eq!(translation.snapshot.listeners[0].steering, Steering::Kernel);
}

#[test]
fn a_gateway_for_other_labels_is_left_alone_and_no_selector_selects_all() {
    let text = gateway("{name: g}", &["80 http HTTP '*'"]);
    let of = |text: &str| {
        let translation = world(&[text.to_owned()]);
        (names(&translation.snapshot).len(), codes(&translation))
    };
    assert_eq!(of(&text.replace("ingressgateway", "egressgateway")), (0, vec!["SLU0011"]));
    assert_eq!(of(&text.replace("  selector: {istio: ingressgateway}\n", "")), (1, vec![]));
}

#[test]
fn the_same_documents_give_the_same_snapshot() {
    let text = include_str!("../../../../tests/data/documents/everything.yaml");
    let json = |text: &str| {
        let translation = world(&[text.to_owned()]);
        // Lines belong to the files, not to what they mean.
        let shown = serde_json::to_string(&translation.snapshot).unwrap();
        let mut parts = shown.split(" (t.yaml:");
        let mut meaning = parts.next().unwrap_or("").to_owned();
        parts.for_each(|part| meaning.push_str(part.split_once(')').expect("a line").1));
        (meaning, translation.diagnostics)
    };
    let (first, found) = json(text);
    assert_eq!((first.clone(), found), json(text));
    let mut documents: Vec<&str> = text.split("---\n").collect();
    documents.reverse();
    assert_eq!(first, json(&documents.join("\n---\n")).0, "the order of files is no matter");
}

#[test]
fn a_host_of_two_plaintext_gateways_is_told_but_served() {
    let (one, two) = ("80 http HTTP a.test,b.test", "80 http HTTP b.test,'*.test'");
    let translation = world(&[gateway("{name: one}", &[one]), gateway("{name: two}", &[two])]);
    let shared: Vec<(&str, &str, &str)> = translation
        .diagnostics
        .iter()
        .map(|found| (found.code.as_str(), found.severity.as_str(), found.field.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(shared, [("IST0145", "info", "spec.servers[0].hosts[0]")]);
}
