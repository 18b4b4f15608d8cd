//! The documents of public Istio tutorials, exactly as they stand there: sound ones take effect, broken ones are
//! refused with the right words at the right place.

use std::fs;
use std::path::{Path, PathBuf};

use gateway_userspace::api::{Diagnostic, Severity};
use gateway_userspace::model::{ChainAction, ListenerKind, RouteAction, RouteTable, Snapshot, TcpRoute};
use gateway_userspace::source::{FileSource, Loaded};
use gateway_userspace::translate::{Surroundings, Translation, translate};

/// What the tutorials take for granted: the gateway's Service, the applications and the certificates.
const CLUSTER: &str = r"
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports:
  - {name: http2, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
  - {name: tcp, port: 31400, targetPort: 31400}
---
apiVersion: v1
kind: Service
metadata: {name: webapp}
spec: {ports: [{name: http, port: 80}, {name: http-alt, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: catalog}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: apigateway}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {ports: [{name: tcp, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: simple-tls-service-1}
spec: {ports: [{name: https, port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: webapp-credential, namespace: istio-system}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
---
apiVersion: v1
kind: Secret
metadata: {name: catalog-credential, namespace: istio-system}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
---
apiVersion: v1
kind: Secret
metadata: {name: coolstore-gateway-certs, namespace: istio-system}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
";

/// The port of `echo` that the tutorial's own Service gets from its pods.
const ECHO_PODS: &str = r"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: tcp-echo-1, labels: {kubernetes.io/service-name: tcp-echo-service}}
addressType: IPv4
ports: [{port: 2701, protocol: TCP}]
endpoints: [{addresses: [10.1.0.7], conditions: {ready: true}}]
";

fn tutorial(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tutorials"))
        .join(format!("{name}.yaml"))
}

fn load(files: &[PathBuf], more: &[&str]) -> (Loaded, Translation) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut paths = files.to_vec();
    for (at, text) in more.iter().enumerate() {
        let path = directory.path().join(format!("{at}.yaml"));
        fs::write(&path, text).expect("written");
        paths.push(path);
    }
    let loaded = FileSource::new(paths, "default").load();
    let translation = translate(&loaded.objects, &Surroundings::default(), 1);
    (loaded, translation)
}

/// One line for each listener, chain and route: what takes effect.
fn outline(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &snapshot.listeners {
        let name = &listener.name;
        match &listener.kind {
            ListenerKind::Http(table) => lines.extend(table_lines(table, &format!("{name} http"))),
            ListenerKind::Tcp(route) => lines.push(format!("{name} tcp {}", clusters(route))),
            ListenerKind::Tls(tls) => {
                for chain in &tls.chains {
                    let sni: Vec<String> = chain.sni.iter().map(ToString::to_string).collect();
                    let head = format!("{name} sni {}", sni.join(","));
                    match &chain.action {
                        ChainAction::TerminateHttp { tls, routes } => {
                            let state = if tls.credential.is_ok() { "ok" } else { "none" };
                            lines.extend(table_lines(routes, &format!("{head} certificate {state}")));
                        }
                        ChainAction::TerminateTcp { route, .. } => {
                            lines.push(format!("{head} {}", clusters(route)));
                        }
                        ChainAction::Passthrough(route) => {
                            lines.push(format!("{head} passthrough {}", clusters(route)));
                        }
                    }
                }
            }
        }
    }
    lines
}

fn table_lines(table: &RouteTable, head: &str) -> Vec<String> {
    if table.virtual_hosts.is_empty() {
        return vec![format!("{head} {} 404", table.name)];
    }
    let mut lines = Vec::new();
    for host in &table.virtual_hosts {
        let head = format!("{head} {} {}", table.name, host.domain);
        if host.https_redirect {
            lines.push(format!("{head} to https"));
        }
        for route in host.routes.iter() {
            let RouteAction::Forward(forward) = &route.action else { continue };
            let to: Vec<String> = forward.destinations.iter().map(|to| to.name.to_string()).collect();
            lines.push(format!("{head} {}", to.join(",")));
        }
    }
    lines
}

fn clusters(route: &TcpRoute) -> String {
    route.destinations.iter().map(|to| to.name.to_string()).collect::<Vec<_>>().join(",")
}

fn errors(found: &[Diagnostic]) -> Vec<String> {
    found.iter().filter(|found| found.severity == Severity::Error).map(ToString::to_string).collect()
}

#[test]
fn sound_documents_take_effect() {
    let rows: &[(&[&str], &[&str])] = &[
        (
            &["istio-gateways-01-http-gateway", "istio-gateways-02-webapp-route"],
            &[
                "0.0.0.0_8080 http http.8080 webapp.istioinaction.io outbound|80||webapp.default.svc.cluster.local",
            ],
        ),
        (&["istio-gateways-01-http-gateway"], &["0.0.0.0_8080 http http.8080 404"]),
        (&["gateway-resource-01-gateway"], &["0.0.0.0_8080 http http.8080 404"]),
        (
            &["istio-gateways-05-redirect-gateway", "istio-gateways-02-webapp-route"],
            &[
                "0.0.0.0_8080 http http.8080 webapp.istioinaction.io to https",
                "0.0.0.0_8080 http http.8080 webapp.istioinaction.io outbound|80||webapp.default.svc.cluster.local",
                "0.0.0.0_8443 sni webapp.istioinaction.io certificate ok https.443.https.coolstore-gateway.default \
                 webapp.istioinaction.io outbound|80||webapp.default.svc.cluster.local",
            ],
        ),
        (
            &["istio-gateways-05-redirect-gateway"],
            &[
                "0.0.0.0_8080 http http.8080 webapp.istioinaction.io to https",
                "0.0.0.0_8443 sni webapp.istioinaction.io certificate ok https.443.https.coolstore-gateway.default 404",
            ],
        ),
        (
            &[
                "istio-gateways-06-two-certificates",
                "istio-gateways-02-webapp-route",
                "istio-gateways-07-catalog-route",
            ],
            &[
                "0.0.0.0_8443 sni webapp.istioinaction.io certificate ok \
                 https.443.https-webapp.coolstore-gateway.default webapp.istioinaction.io \
                 outbound|80||webapp.default.svc.cluster.local",
                "0.0.0.0_8443 sni catalog.istioinaction.io certificate ok \
                 https.443.https-catalog.coolstore-gateway.default catalog.istioinaction.io \
                 outbound|80||catalog.default.svc.cluster.local",
            ],
        ),
        (
            &["istio-gateways-08-tcp-echo", "istio-gateways-09-tcp-gateway", "istio-gateways-11-tcp-route"],
            &["0.0.0.0_31400 tcp outbound|2701||tcp-echo-service.default.svc.cluster.local"],
        ),
        (
            &["istio-gateways-12-sni-gateway", "istio-gateways-13-sni-route"],
            &["0.0.0.0_31400 sni simple-sni-1.istioinaction.io passthrough \
               outbound|80||simple-tls-service-1.default.svc.cluster.local"],
        ),
        // A TCP port without a route is not opened.
        (&["istio-gateways-09-tcp-gateway"], &[]),
        (&["istio-gateways-12-sni-gateway"], &[]),
    ];
    for (files, want) in rows {
        let files: Vec<PathBuf> = files.iter().map(|name| tutorial(name)).collect();
        let (loaded, translation) = load(&files, &[CLUSTER, ECHO_PODS]);
        assert_eq!(errors(&loaded.diagnostics), Vec::<String>::new(), "{files:?}");
        assert_eq!(errors(&translation.diagnostics), Vec::<String>::new(), "{files:?}");
        assert_eq!(outline(&translation.snapshot), *want, "{files:?}");
    }
}

#[test]
fn the_echo_servers_pod_is_reached_by_the_kernel_plane() {
    let files =
        ["istio-gateways-08-tcp-echo", "istio-gateways-09-tcp-gateway", "istio-gateways-11-tcp-route"];
    let (_, translation) = load(&files.map(tutorial), &[CLUSTER, ECHO_PODS]);
    let listener = &translation.snapshot.listeners[0];
    assert_eq!(listener.steering.to_string(), "kernel");
    let ListenerKind::Tcp(route) = &listener.kind else { panic!("{listener:?}") };
    let cluster = route.destinations[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.endpoints[0].address.to_string(), "10.1.0.7:2701");
}

#[test]
fn a_missing_secret_harms_its_own_server_alone() {
    let files = ["istio-gateways-06-two-certificates", "istio-gateways-02-webapp-route"].map(tutorial);
    let without = CLUSTER.replace("name: webapp-credential", "name: other");
    let (_, translation) = load(&files, &[&without]);
    let lines = outline(&translation.snapshot);
    assert!(lines[0].contains("sni webapp.istioinaction.io certificate none"), "{lines:?}");
    assert!(lines[1].contains("sni catalog.istioinaction.io certificate ok"), "{lines:?}");
    let found = &translation.diagnostics[0];
    assert_eq!(found.code.as_str(), "IST0101");
    assert_eq!(found.position.as_ref().map(|at| (at.line, at.column)), Some((15, 23)));
}

/// Tutorial, line and column, code, a part of the message.
type Refusal = (&'static str, u32, u32, &'static str, &'static str);

#[test]
fn broken_documents_are_refused_at_their_place() {
    const TAB: &str = "a tab in the indentation: YAML allows only spaces there";
    const FRAGMENT: &str = "not a document: it has no apiVersion and no kind";
    let rows: &[Refusal] = &[
        ("traffic-ingress-01-http-gateway", 6, 1, "SLU0001", TAB),
        ("traffic-ingress-02-https-gateway", 7, 1, "SLU0001", TAB),
        ("traffic-ingress-03-tcp-gateway", 6, 1, "SLU0001", TAB),
        ("traffic-ingress-04-tcp-route", 4, 1, "SLU0001", TAB),
        ("traffic-ingress-05-sni-gateway", 4, 1, "SLU0001", TAB),
        ("gateway-resource-02-route", 15, 9, "SLU0001", TAB),
        (
            "edge-notes-01-gateway",
            9,
            37,
            "SLU0001",
            "`port` has the text `---> (2)` and, on the next line, a mapping",
        ),
        ("istio-gateways-03-https-gateway", 16, 7, "IST0106", "port number 0 must be in the range 1..65535"),
        ("istio-gateways-04-redirect-fragment", 1, 1, "SLU0002", FRAGMENT),
        ("istio-gateways-10-hosts-fragment", 1, 1, "SLU0002", FRAGMENT),
    ];
    for (name, line, column, code, message) in rows {
        let (loaded, translation) = load(&[tutorial(name)], &[]);
        let [found] = loaded.diagnostics.as_slice() else { panic!("{name}: {:?}", loaded.diagnostics) };
        let at = found.position.as_ref().unwrap();
        assert_eq!((at.line, at.column, found.code.as_str()), (*line, *column, *code), "{name}");
        assert!(found.message.starts_with(message), "{name}: {}", found.message);
        assert!(found.help.is_some(), "{name} says what to do");
        assert!(translation.snapshot.listeners.is_empty(), "{name} has no effect");
    }
}

#[test]
fn the_arrows_of_the_notes_are_found_one_after_the_other() {
    let text = fs::read_to_string(tutorial("edge-notes-01-gateway")).unwrap();
    let cut = |text: &str, arrow: &str| {
        let lines = text.lines().map(|line| line.split(arrow).next().unwrap_or(line).trim_end());
        lines.collect::<Vec<_>>().join("\n")
    };
    let without_two = cut(&text, "---> (2)");
    let without_three = cut(&without_two, "---> (3)");
    let sound = cut(&without_three, "---> (1)");
    for (text, line, message) in [
        (&without_two, 13, "`hosts` has the text `---> (3)`"),
        (&without_three, 7, "invalid tag value: \"ingressgateway           ---> (1)\""),
    ] {
        let (loaded, _) = load(&[], &[text]);
        let [found] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
        assert!(found.message.contains(message), "{}", found.message);
        assert_eq!(found.position.as_ref().map(|at| at.line), Some(line), "{message}");
    }
    let (loaded, translation) = load(&[tutorial("edge-notes-02-route")], &[CLUSTER, &sound]);
    assert_eq!(errors(&loaded.diagnostics), Vec::<String>::new());
    assert_eq!(
        outline(&translation.snapshot),
        [
            "0.0.0.0_8080 http http.8080 apiserver.istioinaction.io outbound|8080||apigateway.default.svc.cluster.local"
        ]
    );
}

/// Tabs as the author's editor showed them.
fn without_tabs(name: &str, width: usize) -> String {
    let text = fs::read_to_string(tutorial(name)).expect("a tutorial");
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = width - column % width;
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            '\n' => {
                out.push('\n');
                column = 0;
            }
            other => {
                out.push(other);
                column += 1;
            }
        }
    }
    out
}

#[test]
fn documents_are_sound_once_their_tabs_are_spaces() {
    let rows: &[(&str, usize, &str)] = &[
        ("traffic-ingress-01-http-gateway", 4, "0.0.0.0_8080 http http.8080 404"),
        (
            "traffic-ingress-02-https-gateway",
            4,
            "0.0.0.0_8443 sni webapp.istioinaction.io certificate ok https.443.https.coolstore-gateway.default 404",
        ),
    ];
    for (name, width, want) in rows {
        let (loaded, translation) = load(&[], &[CLUSTER, &without_tabs(name, *width)]);
        assert_eq!(errors(&loaded.diagnostics), Vec::<String>::new(), "{name}");
        assert_eq!(outline(&translation.snapshot), [*want], "{name}");
    }
    let (gateway, route) =
        (without_tabs("traffic-ingress-03-tcp-gateway", 2), without_tabs("traffic-ingress-04-tcp-route", 2));
    let (loaded, translation) = load(&[], &[CLUSTER, &gateway, &route]);
    assert_eq!(errors(&loaded.diagnostics), Vec::<String>::new());
    assert_eq!(
        outline(&translation.snapshot),
        ["0.0.0.0_31400 tcp outbound|8080||echo.default.svc.cluster.local"]
    );
    let route = without_tabs("gateway-resource-02-route", 2);
    let (_, translation) = load(&[tutorial("gateway-resource-01-gateway")], &[CLUSTER, &route]);
    assert_eq!(
        outline(&translation.snapshot),
        [
            "0.0.0.0_8080 http http.8080 webapp.istioinaction.io outbound|8080||webapp.default.svc.cluster.local"
        ]
    );
}

#[test]
fn an_illegal_host_comes_to_light_once_the_tabs_are_spaces() {
    let (loaded, translation) = load(&[], &[&without_tabs("traffic-ingress-05-sni-gateway", 2)]);
    let [found] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    assert_eq!(
        found.message,
        "domain name \"simple-sni=1.istioinaction.io\" invalid (label \"simple-sni=1\" invalid)"
    );
    assert_eq!(found.field.as_deref(), Some("spec.servers[0].hosts[0]"));
    assert_eq!(found.position.as_ref().map(|at| (at.line, at.column)), Some((16, 9)));
    assert!(translation.snapshot.listeners.is_empty());
}

#[test]
fn telemetry_turns_the_access_log_of_the_gateway_on() {
    let (loaded, translation) = load(&[tutorial("istio-gateways-14-telemetry")], &[]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let paths: Vec<&Path> = translation.snapshot.logging.paths().map(AsRef::as_ref).collect();
    assert_eq!(paths, [Path::new("/dev/stdout")]);
}

#[test]
fn what_is_not_supported_yet_is_said() {
    let (loaded, _) = load(&[tutorial("istio-gateways-08-tcp-echo")], &[]);
    let [found] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    assert_eq!((found.code.as_str(), found.severity), ("SLU0003", Severity::Info));
}

#[test]
fn every_tutorial_is_in_one_of_these_tables() {
    let here = include_str!("tutorials.rs");
    let directory = tutorial("x").parent().unwrap().to_owned();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(here.contains(&format!("\"{name}\"")), "{name} is not tested");
    }
}

/// Bytes of every document, changed at random: whatever comes out, nothing panics.
#[test]
fn no_document_makes_anything_panic() {
    let directory = tutorial("x").parent().unwrap().to_owned();
    let mut texts: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    texts.sort();
    texts.push(CLUSTER.to_owned());
    texts.push(include_str!("../../tests/data/documents/everything.yaml").to_owned());
    let mut random = fastrand::Rng::with_seed(7);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("a.yaml");
    for round in 0..1500 {
        let mut lines: Vec<String> = Vec::new();
        for _ in 0..random.usize(1..4) {
            lines.extend(texts[random.usize(..texts.len())].lines().map(str::to_owned));
            lines.push("---".to_owned());
        }
        for _ in 0..random.usize(1..6) {
            mutate(&mut lines, &mut random);
        }
        let text = lines.join(if round % 7 == 0 { "\r\n" } else { "\n" });
        fs::write(&file, &text).unwrap();
        let loaded = FileSource::new(vec![file.clone()], "default").load();
        let translation = translate(&loaded.objects, &Surroundings::default(), round);
        for found in loaded.diagnostics.iter().chain(&translation.diagnostics) {
            assert!(!gateway_userspace::api::render(found, true).is_empty());
        }
        serde_json::to_string(&translation.snapshot).unwrap();
    }
}

fn mutate(lines: &mut Vec<String>, random: &mut fastrand::Rng) {
    const WORDS: &[&str] = &[
        "null",
        "\t",
        "---",
        "*",
        "\"",
        "[",
        "{",
        "}",
        "|",
        "&a",
        "*a",
        "<<: *a",
        "0",
        "-1",
        "99999999999",
        "ü",
        "%",
        "~",
        "$1",
        "\\",
        "(",
        "http:",
        "tls:",
        "!!str",
        "? ",
        "*/*",
        "./x",
        "100000h",
        "\u{0}",
        "é",
        ": ",
        "- ",
        "#",
    ];
    let at = random.usize(..lines.len());
    match random.u8(..6) {
        0 => drop(lines.remove(at).pop()),
        1 => lines.swap(at, 0),
        2 => lines.insert(at, lines[random.usize(..lines.len())].clone()),
        3 => lines[at] = format!("{}{}", lines[at], WORDS[random.usize(..WORDS.len())]),
        4 => lines[at] = lines[at].replacen(' ', "", 1),
        _ => {
            let cut = lines[at].char_indices().map(|(index, _)| index).nth(random.usize(..20)).unwrap_or(0);
            let word = WORDS[random.usize(..WORDS.len())];
            lines[at].insert_str(cut, word);
        }
    }
    if lines.is_empty() {
        lines.push("a: 1".to_owned());
    }
}
