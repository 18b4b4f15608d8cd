//! What only shows once documents are put together: certificates with their keys, rules that meet on a host.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::analyse;
use crate::api::{Diagnostic, Severity, read_document, split};
use crate::source::Loaded;
use crate::translate::Surroundings;

const WEB: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
";

fn found(text: &str, now: SystemTime) -> Vec<Diagnostic> {
    let file: Arc<str> = "t.yaml".into();
    let readings: Vec<_> =
        split(text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default")).collect();
    let diagnostics: Vec<Diagnostic> = readings.iter().flat_map(|it| it.diagnostics.clone()).collect();
    let objects = readings.into_iter().filter_map(|reading| reading.object).collect();
    let loaded = Loaded { objects, diagnostics, ..Loaded::default() };
    analyse(loaded, &Surroundings::default(), now).diagnostics
}

/// `code line: message`, and the lines of what is related.
fn lines(found: &[Diagnostic]) -> Vec<String> {
    let line = |found: &Diagnostic| {
        let place = found.position.as_ref().map_or(0, |position| position.line);
        let related =
            found.related.iter().filter_map(|it| it.position.as_ref()).map(|it| it.line.to_string());
        let related: Vec<String> = related.collect();
        format!("{} {place} [{}]: {}", found.code, related.join(" "), found.message)
    };
    found.iter().map(line).collect()
}

fn http_gateway(hosts: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n  - port: \
         {{number: 80, name: http, protocol: HTTP}}\n    hosts: [{hosts}]\n"
    )
}

fn virtual_service(name: &str, created: u32, http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, creationTimestamp: \
         \"20{created}-01-01T00:00:00Z\"}}\nspec:\n  hosts: [a.test]\n  gateways: [edge]\n  http:\n{http}"
    )
}

const TO_WEB: &str = "  - route: [{destination: {host: web}}]\n";

#[test]
fn a_rule_behind_another_documents_catch_all_is_reported_with_both_lines() {
    let documents = WEB.to_owned()
        + &http_gateway("a.test")
        + &virtual_service("older", 20, TO_WEB)
        + &virtual_service("newer", 21, TO_WEB);
    let found = found(&documents, SystemTime::now());
    let newer = documents.lines().collect::<Vec<_>>().len();
    let want = format!(
        "IST0130 {newer} [{}]: virtualService rule #0 not used (VirtualService default/older takes every request for \
         a.test before it)",
        newer - 9
    );
    assert_eq!(lines(&found), [want]);
    assert_eq!(found[0].severity, Severity::Warning);
}

#[test]
fn a_rule_that_is_reached_on_one_of_its_hosts_is_not_reported() {
    let wide = virtual_service("newer", 21, TO_WEB).replace("[a.test]", "[a.test, b.test]");
    let narrow = "  - match: [{uri: {prefix: /x}}]\n    route: [{destination: {host: web}}]\n";
    for newer in [wide, virtual_service("newer", 21, narrow)] {
        let documents =
            WEB.to_owned() + &http_gateway("'*.test'") + &virtual_service("older", 20, TO_WEB) + &newer;
        assert_eq!(lines(&found(&documents, SystemTime::now())), [""; 0], "{documents}");
    }
}

fn https_gateway(name: &str, host: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  - port: \
         {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [{host}]\n    tls: {{mode: SIMPLE, credentialName: \
         pair}}\n"
    )
}

fn secret(certificate: &str, key: &str) -> String {
    let block = |pem: &str| format!("    {}\n", pem.trim_end().replace('\n', "\n    "));
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: pair, namespace: istio-system}}\nstringData:\n  tls.crt: \
         |\n{}  tls.key: |\n{}",
        block(certificate),
        block(key)
    )
}

/// A certificate that is in force around a moment, and its key.
fn pair(until: SystemTime) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
    params.not_before = (until - Duration::from_hours(2)).into();
    params.not_after = until.into();
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

#[test]
fn certificates_are_held_against_their_keys_and_the_clock() {
    let now = SystemTime::now();
    let (sound, key) = pair(now + Duration::from_hours(1));
    let (expired, old_key) = pair(now - Duration::from_hours(1));
    for (certificate, key, want) in [
        (&sound, &key, None),
        (&sound, &old_key, Some((Severity::Error, "IST0161", "private key does not match the certificate"))),
        (&expired, &old_key, Some((Severity::Warning, "SLU0013", "is in force from"))),
        (&"x".to_owned(), &key, Some((Severity::Error, "IST0161", "holds no certificate in PEM form"))),
    ] {
        let documents = https_gateway("edge", "a.test") + &secret(certificate, key);
        let found = found(&documents, now);
        let about =
            found.iter().find(|found| found.document.as_ref().is_some_and(|it| &*it.kind == "Secret"));
        let Some((severity, code, message)) = want else {
            assert!(about.is_none(), "{about:?}");
            continue;
        };
        let about = about.expect(message);
        assert_eq!((about.severity, about.code.as_str()), (severity, code));
        assert!(about.message.contains(message), "{about:?}");
        let position = about.position.as_ref().expect("a place in the Secret");
        assert!(position.line > 10 && position.text.is_empty(), "a line, and never its text: {position:?}");
        assert_eq!(about.related[0].position.as_ref().expect("the server's").line, 9, "{about:?}");
    }
}

#[test]
fn a_bad_authority_is_told_at_its_place_with_the_server_that_asks_for_it() {
    let now = SystemTime::now();
    let (certificate, key) = pair(now + Duration::from_hours(1));
    let authority = secret("x", "x").replace("name: pair", "name: pair-cacert").replace("tls.crt", "ca.crt");
    let documents = https_gateway("edge", "a.test").replace("SIMPLE", "MUTUAL")
        + &secret(&certificate, &key)
        + &authority;
    let found = found(&documents, now);
    let about = found.iter().find(|it| it.code.as_str() == "IST0161").expect("a finding");
    assert_eq!(about.message, "secret istio-system/pair-cacert: holds no certificate in PEM form");
    assert_eq!(&*about.document.as_ref().expect("a document").name, "pair-cacert");
    assert_eq!(about.related[0].position.as_ref().expect("the server's").line, 9, "{about:?}");
}

#[test]
fn one_certificate_of_two_gateways_is_told() {
    let now = SystemTime::now();
    let (certificate, key) = pair(now + Duration::from_hours(1));
    let documents =
        https_gateway("edge", "a.test") + &https_gateway("other", "b.test") + &secret(&certificate, &key);
    let found = found(&documents, now);
    let duplicate: Vec<&Diagnostic> = found.iter().filter(|it| it.code.as_str() == "IST0138").collect();
    assert_eq!(duplicate.len(), 1, "{found:?}");
    assert_eq!(&*duplicate[0].document.as_ref().expect("a document").name, "other");
}

#[test]
fn ports_whose_names_say_no_protocol_are_told() {
    for (port, is_told) in [
        ("{name: http, port: 80}", false),
        ("{name: http-web, port: 80}", false),
        ("{name: grpc-web-x, port: 80}", false),
        ("{name: web, port: 80, appProtocol: http}", false),
        ("{name: dns, port: 53, protocol: UDP}", false),
        ("{name: web, port: 80}", true),
        ("{name: httpd, port: 80}", true),
        ("{port: 80}", true),
    ] {
        let documents = WEB.replace("{name: http, port: 80}", port);
        let found = found(&documents, SystemTime::now());
        let codes: Vec<&str> = found.iter().map(|found| found.code.as_str()).collect();
        assert_eq!(codes, if is_told { vec!["IST0118"] } else { vec![] }, "{port}");
    }
}

fn entry(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [a.test], \
         resolution: STATIC, endpoints: [{{address: 192.0.2.1}}], {more}}}\n"
    )
}

#[test]
fn entries_that_disagree_about_a_port_are_told_of_where_somebody_sees_both() {
    let port = |protocol: &str| format!("ports: [{{number: 80, name: x, protocol: {protocol}}}]");
    let conflict = |line: u32, protocols: &str| {
        format!(
            "IST0177 {line} []: Multiple ServiceEntries (default/one, default/two) define the same host \"a.test\" and \
             port 80 with conflicting protocols ({protocols})."
        )
    };
    for (one, two, want) in [
        (port("HTTP"), port("http"), vec![]),
        (port("HTTP"), port("GRPC"), vec![conflict(4, "GRPC, HTTP"), conflict(9, "GRPC, HTTP")]),
        (port("HTTP"), port("GRPC") + ", exportTo: ['~']", vec![]),
        (port("HTTP") + ", exportTo: [b]", port("GRPC") + ", exportTo: ['.']", vec![]),
        (
            port("HTTP"),
            port("GRPC") + ", exportTo: [c]",
            vec![conflict(9, "GRPC, HTTP"), conflict(4, "GRPC, HTTP")],
        ),
    ] {
        let text = entry("one", &one) + &entry("two", &two);
        let found: Vec<_> = found(&text, SystemTime::now());
        let mut told = lines(&found);
        told.retain(|line| line.starts_with("IST0177"));
        assert_eq!(told, want, "{text}");
    }
}

#[test]
fn a_port_of_tcp_without_an_address_is_of_no_use_to_sidecars() {
    for (ports, want) in [("protocol: TCP", 1), ("protocol: HTTP", 0), ("protocol: TCP}], addresses: [{", 0)]
    {
        let more = match ports.split_once("}], addresses") {
            Some((ports, _)) => format!("ports: [{{number: 80, name: x, {ports}}}], addresses: [192.0.2.9]"),
            None => format!("ports: [{{number: 80, name: x, {ports}}}]"),
        };
        let found = found(&entry("one", &more), SystemTime::now());
        let told = found.iter().filter(|found| found.code.as_str() == "IST0134");
        assert_eq!(
            told.map(|found| found.severity).collect::<Vec<_>>(),
            vec![Severity::Info; want],
            "{more}"
        );
    }
}

#[test]
fn certificates_are_told_of_when_their_time_is_over_however_often_they_were_read() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let block = |pem: String| pem.trim_end().replace('\n', "\n    ");
    let text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n  - port: \
         {{number: 443, name: x, protocol: HTTPS}}\n    hosts: [a.test]\n    tls: {{mode: SIMPLE, credentialName: c}}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: c, namespace: istio-system}}\nstringData:\n  tls.crt: |\n    {}\n  \
         tls.key: |\n    {}\n",
        block(certificate.pem()),
        block(key.serialize_pem()),
    );
    let file: Arc<str> = "t.yaml".into();
    let read = || split(&text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default"));
    let mut analyst = super::Analyst::default();
    let far = SystemTime::now() + Duration::from_hours(4000 * 365 * 24);
    for (now, want) in [(SystemTime::now(), 0), (far, 1), (SystemTime::now(), 0), (far, 1)] {
        let objects = read().filter_map(|reading| reading.object).collect();
        let loaded = Loaded { objects, ..Loaded::default() };
        let previous = (&crate::tls::ServerConfigs::default(), &crate::tls::ClientConfigs::default());
        let analysis = analyst.analyse(loaded, &Surroundings::default(), 1, previous, now);
        let told = analysis.diagnostics.iter().filter(|found| found.code.as_str() == "SLU0013").count();
        assert_eq!(told, want);
    }
}

#[test]
fn subsets_that_sidecars_are_told_of_are_no_gateways_rule() {
    let rule = |name: &str, host: &str, gateways: &str, to: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{host}]\n  \
             gateways: [{gateways}]\n  http:\n  - route: [{{destination: {{host: {to}}}}}]\n"
        )
    };
    let mesh = rule("mesh", "web", "mesh", "web, subset: v1");
    let told = |line: u32| {
        format!(
            "IST0140 {line} [6]: Subset in virtual service default/mesh has no effect on ingress gateway default/in requests"
        )
    };
    for (inner, want) in [
        (rule("in", "a.test", "edge", "web"), vec![told(18)]),
        (rule("in", "a.test", "edge", "web.default.svc.cluster.local"), vec![told(18)]),
        (rule("in", "a.test", "edge", "'web', subset: v1"), vec![]),
        (rule("in", "a.test", "edge", "other"), vec![]),
        (rule("in", "a.test", "mesh", "web"), vec![]),
    ] {
        let mut told = lines(&found(&(mesh.clone() + &inner), SystemTime::now()));
        told.retain(|line| line.starts_with("IST0140"));
        assert_eq!(told, want, "{inner}");
    }
}

#[test]
fn documents_count_in_the_namespaces_that_the_mesh_selects() {
    let mesh = |selectors: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
             discoverySelectors: [{selectors}]\n"
        )
    };
    let namespace = |name: &str, labels: &str| {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
    };
    let service = |namespace: &str| WEB.replace("name: web", &format!("name: web, namespace: {namespace}"));
    let analysed = |text: &str| {
        let file: Arc<str> = "t.yaml".into();
        let readings = split(text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default"));
        let loaded =
            Loaded { objects: readings.filter_map(|reading| reading.object).collect(), ..Loaded::default() };
        let mut surroundings = Surroundings::default();
        surroundings.learn(&loaded.objects);
        let analysis = analyse(loaded, &surroundings, SystemTime::UNIX_EPOCH);
        let hosts =
            analysis.snapshot.clusters.keys().map(|name| name.host.split('.').nth(1).map(str::to_owned));
        (hosts.flatten().collect::<Vec<_>>(), lines(&analysis.diagnostics))
    };
    let services = service("shop") + &service("blog") + &service("bare");
    let described = namespace("shop", "env: prod") + &namespace("blog", "env: test");
    for (selectors, described, want) in [
        ("", &*described, &["bare", "blog", "shop"][..]),
        ("{matchLabels: {env: prod}}", &described, &["shop"]),
        ("{matchLabels: {env: prod}}, {matchLabels: {env: test}}", &described, &["blog", "shop"]),
        // A namespace of which nothing is known has no labels.
        ("{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}", &described, &["bare", "blog"]),
        ("{matchLabels: {env: other}}", &described, &[]),
    ] {
        let (namespaces, found) = analysed(&(mesh(selectors) + described + &services));
        assert_eq!(namespaces, want, "{selectors}");
        assert!(found.is_empty(), "{found:?}");
    }
    let (namespaces, found) = analysed(&(mesh("{matchLabels: {env: prod}}") + &services));
    assert_eq!(namespaces, ["bare", "blog", "shop"]);
    assert_eq!(
        found,
        [
            "SLU0012 7 []: discoverySelectors choose namespaces by their labels, and no Namespace is known: all of them count"
        ]
    );
}
