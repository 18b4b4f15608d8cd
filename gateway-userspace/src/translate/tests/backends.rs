//! Destinations, endpoints, secrets, steering.

use super::*;
use crate::model::ClientAuthority;

#[test]
fn destinations_are_found_as_istio_finds_them() {
    let two_ports = "---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {ports: [{name: http, port: 80}, {name: b, port: 81}]}\n\
                     ---\napiVersion: v1\nkind: Service\nmetadata: {name: alias}\nspec: {type: ExternalName, externalName: x.test}\n";
    for (destination, cluster, found) in [
        ("host: a", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a.default.svc.cluster.local", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a, port: {number: 80}", "outbound|80||a.default.svc.cluster.local", None),
        ("host: a, port: {number: 81}", "outbound|81||a.default.svc.cluster.local", Some("IST0101")),
        ("host: a.default", "outbound|80||a.default", Some("IST0101")),
        ("host: TWO, port: {number: 81}", "outbound|81||two.default.svc.cluster.local", None),
        ("host: A", "outbound|80||a.default.svc.cluster.local", None),
        ("host: none", "outbound|80||none.default.svc.cluster.local", Some("IST0101")),
        ("host: two, port: {number: 81}", "outbound|81||two.default.svc.cluster.local", None),
        ("host: a, subset: v1", "outbound|80|v1|a.default.svc.cluster.local", Some("IST0101")),
        ("host: alias", "outbound|80||x.test", Some("IST0101")),
    ] {
        let spec = format!(
            "{{gateways: [g], hosts: [a.test], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}"
        );
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a"]),
            two_ports.to_owned(),
        ]);
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").map(|route| &route.action)
        else {
            panic!("{destination}")
        };
        let to = &forward.destinations[0];
        assert_eq!(to.name.to_string(), cluster, "{destination}");
        assert_eq!(to.cluster.is_none(), found.is_some(), "{destination}");
        let codes: Vec<_> = codes(&translation).into_iter().filter(|code| code.starts_with("IST")).collect();
        assert_eq!(codes, found.into_iter().collect::<Vec<_>>(), "{destination}");
    }
}

#[test]
fn several_ports_need_a_port_named() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {ports: [{name: a, port: 81}, {name: b, port: 82}]}\n";
    let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: {}}}]}}", to("two"));
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", &spec),
        service.to_owned(),
    ]);
    assert_eq!(codes(&translation), ["IST0112"]);
}

#[test]
fn weights_are_shares_and_zero_is_left_out_unless_alone() {
    for (weights, want) in [
        (&[("a", 0)][..], &[("a", 1)][..]),
        (&[("a", 7)], &[("a", 1)]),
        (&[("a", 3), ("b", 1)], &[("a", 3), ("b", 1)]),
        (&[("a", 0), ("b", 5)], &[("b", 5)]),
    ] {
        let list: Vec<String> = weights
            .iter()
            .map(|(name, weight)| format!("{{destination: {{host: {name}}}, weight: {weight}}}"))
            .collect();
        let spec = format!("{{gateways: [g], hosts: [a.test], http: [{{route: [{}]}}]}}", list.join(", "));
        let translation = world(&[
            gateway("{name: g}", &["80 http HTTP '*'"]),
            virtual_service("{name: v}", &spec),
            services(&["a", "b"]),
        ]);
        let Some(RouteAction::Forward(forward)) =
            route(table(&translation.snapshot, "0.0.0.0_80", None), "a.test", "/").map(|route| &route.action)
        else {
            panic!("{weights:?}")
        };
        let got: Vec<(&str, u32)> = forward
            .destinations
            .iter()
            .map(|to| (to.name.host.split('.').next().unwrap(), to.weight))
            .collect();
        assert_eq!(got, want);
    }
}

#[test]
fn endpoints_come_from_slices_by_the_ports_name() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}, {name: grpc-x, port: 81}, {name: x, port: 82, appProtocol: kubernetes.io/h2c}, {name: tcp, port: 83}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-2, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}, {name: http, port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.0.0.3], conditions: {ready: false}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.1]}
- {addresses: [host.name]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
ports: [{name: http, port: 8080}, {name: grpc-x, port: 9090}]
endpoints: [{addresses: ['fd00::1'], conditions: {ready: true}}, {addresses: [10.0.0.3], conditions: {ready: true}}]
";
    let translation = world(&[text.to_owned()]);
    let clusters: Vec<_> = translation.snapshot.clusters.values().collect();
    let state = |at: usize| -> Vec<(String, Health)> {
        clusters[at]
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.address.to_string(), endpoint.health))
            .collect()
    };
    let named = |address: &str, health| (address.to_owned(), health);
    assert_eq!(
        state(0),
        [
            named("10.0.0.1:8080", Health::Healthy),
            named("10.0.0.2:8080", Health::Draining),
            named("10.0.0.3:8080", Health::Healthy),
            named("[fd00::1]:8080", Health::Healthy),
        ]
    );
    assert_eq!(state(1), [named("10.0.0.3:9090", Health::Healthy), named("[fd00::1]:9090", Health::Healthy)]);
    let protocols: Vec<String> = clusters.iter().map(|cluster| format!("{:?}", cluster.protocol)).collect();
    assert_eq!(protocols, ["Http1", "Http2", "Http2", "Tcp"]);
}

#[test]
fn secrets_are_read_in_istios_order() {
    const WRONG: &str =
        "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: ";
    for (mode, secrets, want) in [
        ("SIMPLE", &[("c", "cert: A, key: K, tls.crt: B, tls.key: L")][..], Ok(("A", None))),
        ("SIMPLE", &[("c", "tls.crt: B, tls.key: L, ca.crt: CA")], Ok(("B", None))),
        ("SIMPLE", &[("c", "tls.crt: B, d: x, e: x, f: x")], Err(format!("{WRONG}d, e, f, and 1 more..."))),
        (
            "SIMPLE",
            &[("c", "cert: '', key: K")],
            Err("found keys \"cert\" and \"key\", but they were empty".to_owned()),
        ),
        ("SIMPLE", &[], Err("secret istio-system/c not found".to_owned())),
        ("MUTUAL", &[("c", "cert: A, key: K, ca.crt: X, cacert: Y")], Ok(("A", Some("Y")))),
        ("MUTUAL", &[("c", "cert: A, key: K, cacert: Y"), ("c-cacert", "ca.crt: Z")], Ok(("A", Some("Z")))),
        ("MUTUAL", &[("c", "cert: A, key: K, ca.crt: X, ca.crl: R, crl: S")], Ok(("A", Some("X revoked R")))),
        (
            "MUTUAL",
            &[("c", "cert: '', key: K, tls.crt: B, tls.key: L, cacert: '', ca.crt: X")],
            Ok(("B", Some("X"))),
        ),
        (
            "MUTUAL",
            &[("c", "cert: A, key: K, cacert: ''")],
            Err("found key \"cacert\", but it was empty".to_owned()),
        ),
        (
            "OPTIONAL_MUTUAL",
            &[("c", "cert: A, key: K")],
            Err("found secret, but didn't have expected keys cacert or ca.crt; found: cert, key".to_owned()),
        ),
    ] {
        let mut parts = vec![gateway(
            "{name: g}",
            &[&format!("443 x HTTPS '*' tls: {{mode: {mode}, credentialName: c}}")],
        )];
        for (name, data) in secrets {
            parts.push(format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData: {{{data}}}\n"));
            // The Gateway's own namespace is not where secrets are looked for.
            parts.push(format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{cert: x, key: x}}\n"));
        }
        let translation = world(&parts);
        let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
        let ChainAction::TerminateHttp { tls, .. } = &tls.chains[0].action else { panic!() };
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        let got = tls.credential.as_ref().map_err(ToString::to_string);
        let authority = |found: &ClientAuthority| {
            let revoked = found.revoked.as_deref().map(|list| format!(" revoked {}", text(list)));
            text(&found.bundle) + &revoked.unwrap_or_default()
        };
        let got = got.map(|found| {
            (text(&found.certificates[0].chain), found.client_authority.as_ref().map(authority))
        });
        let want = want.map(|(certificate, ca)| (certificate.to_owned(), ca.map(str::to_owned)));
        assert_eq!(got, want, "{mode} {secrets:?}");
        assert_eq!(codes(&translation).len(), usize::from(want.is_err()), "{mode} {secrets:?}");
    }
}

#[test]
fn the_kernel_carries_plain_tcp_to_backends_that_packets_reach() {
    let slice = |address: &str, ready: bool| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, labels: {{kubernetes.io/service-name: \
             a}}}}\nports: [{{name: tcp, port: 1}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: {ready}}}}}]\n"
        )
    };
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: tcp, port: 80}]}\n";
    for (bind, slice, want) in [
        ("", slice("10.0.0.1", true), Steering::Kernel),
        ("bind: 10.1.1.1", slice("10.0.0.1", true), Steering::Kernel),
        ("bind: 127.0.0.1", slice("10.0.0.1", true), Steering::UserSpace(UserSpaceReason::LoopbackBind)),
        ("", slice("127.0.0.1", true), Steering::UserSpace(UserSpaceReason::LoopbackBackend)),
        ("", slice("10.0.0.1", false), Steering::UserSpace(UserSpaceReason::NoHealthyBackend)),
        ("", String::new(), Steering::UserSpace(UserSpaceReason::NoHealthyBackend)),
    ] {
        let spec = format!("{{gateways: [g], hosts: ['*'], tcp: [{{route: {}}}]}}", to("a"));
        let translation = world(&[
            gateway("{name: g}", &[&format!("9000 x TCP '*' {bind}")]),
            virtual_service("{name: v}", &spec),
            service.to_owned(),
            slice.clone(),
        ]);
        assert_eq!(translation.snapshot.listeners[0].steering, want, "{bind} {slice}");
    }
}

#[test]
fn a_slice_whose_port_has_another_name_is_reported() {
    let parts = [services(&["a"]).replacen("ports: [{name: http, port: 8080}]", "ports: [{port: 8080}]", 1)];
    assert_eq!(codes(&world(&parts)), ["SLU0012"]);
    assert_eq!(codes(&world(&[services(&["a"])])), Vec::<&str>::new());
}

#[test]
fn a_destination_of_weight_0_is_looked_up_too_but_gets_nothing() {
    let spec = "{gateways: [g], hosts: [a.test], http: [{route: [{destination: {host: a}, weight: 1}, {destination: {host: \
                none}, weight: 0}]}]}";
    let translation = world(&[
        gateway("{name: g}", &["80 http HTTP '*'"]),
        virtual_service("{name: v}", spec),
        services(&["a"]),
    ]);
    let [found] = translation.diagnostics.as_slice() else { panic!("{:?}", translation.diagnostics) };
    assert_eq!((found.code.as_str(), found.severity.as_str()), ("IST0101", "error"));
    assert_eq!(found.field.as_deref(), Some("spec.http[0].route[1].destination.host"));
    assert!(found.help.as_ref().is_some_and(|help| help.contains("while the weight is 0")), "{found:?}");
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    assert_eq!(answer(table, "a.test", "/"), "a");
}
