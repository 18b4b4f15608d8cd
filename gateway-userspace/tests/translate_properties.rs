//! What holds of every set of documents: nothing that parses makes translation panic, the order in which documents are
//! read changes nothing, a broken one harms no other, and `explain` finds what the proxy's look-ups find.

use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;
use gateway_userspace::analysis::analyse;
use gateway_userspace::api::{self, Reading};
use gateway_userspace::model::explain::{Outcome, Question, State, decide};
use gateway_userspace::model::{ListenerKind, RequestHead, RouteAction, Snapshot};
use gateway_userspace::source::Loaded;
use gateway_userspace::translate::{Surroundings, translate};
use http::{HeaderMap, HeaderValue};

const HOSTS: [&str; 6] = ["a.test", "b.test", "*.test", "*.b.test", "*", "x.b.test"];
const NAMESPACES: [&str; 3] = ["default", "shop", "istio-system"];

fn read(file: &str, text: &str) -> Vec<Reading> {
    let file: Arc<str> = file.into();
    api::split(text).into_iter().flat_map(|chunk| api::read_document(&file, chunk, "default")).collect()
}

/// Each text a file of its own, as lines are a part of the snapshot.
fn load<'a>(files: impl IntoIterator<Item = (usize, &'a String)>) -> Loaded {
    let readings = files.into_iter().flat_map(|(at, text)| read(&format!("{at}.yaml"), text));
    let (mut objects, mut diagnostics) = (Vec::new(), Vec::new());
    for reading in readings {
        diagnostics.extend(reading.diagnostics);
        objects.extend(reading.object);
    }
    Loaded {
        documents: objects.len(),
        objects: objects.into_iter().collect(),
        diagnostics,
        ..Loaded::default()
    }
}

fn shown(snapshot: &Snapshot) -> String {
    serde_json::to_string_pretty(snapshot).expect("a snapshot is JSON")
}

fn one<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.usize(..of.len())]
}

fn head(kind: &str, name: &str, rng: &mut Rng) -> String {
    let version = match kind {
        "Service" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => "networking.istio.io/v1",
    };
    let age = if rng.bool() {
        format!(", creationTimestamp: \"202{}-01-01T00:00:00Z\"", rng.u8(..4))
    } else {
        String::new()
    };
    let namespace = one(rng, &NAMESPACES);
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{age}}}\n")
}

/// A set of documents that have to do with each other, most of them sound.
fn documents(rng: &mut Rng) -> Vec<String> {
    let mut all = Vec::new();
    for at in 0..rng.usize(1..4) {
        all.push(head("Gateway", &format!("g{at}"), rng) + &servers(rng));
    }
    for at in 0..rng.usize(1..6) {
        all.push(head("VirtualService", &format!("v{at}"), rng) + &rules(rng));
    }
    for at in 0..rng.usize(..4) {
        let text = head("DestinationRule", &format!("d{at}"), rng);
        let host = one(rng, &["s0", "s1.shop.svc.cluster.local", "*.local", "s2"]);
        all.push(
            text + &format!("spec: {{host: '{host}', subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n"),
        );
    }
    for at in 0..rng.usize(..4) {
        let text = head("Service", &format!("s{at}"), rng);
        all.push(text + "spec: {ports: [{name: http, port: 80}, {name: tcp, port: 90}]}\n");
    }
    all
}

fn servers(rng: &mut Rng) -> String {
    let mut text = "spec:\n  servers:\n".to_owned();
    for at in 0..rng.usize(1..4) {
        let (port, protocol) = (one(rng, &["80", "81", "443"]), one(rng, &["HTTP", "TCP", "TLS", "HTTPS"]));
        let tls = match protocol {
            "HTTP" if rng.u8(..4) == 0 => ", tls: {httpsRedirect: true}",
            "TLS" => ", tls: {mode: PASSTHROUGH}",
            "HTTPS" => ", tls: {mode: SIMPLE, credentialName: pair}",
            _ => "",
        };
        let (first, second) = (one(rng, &HOSTS), one(rng, &HOSTS));
        let _ = writeln!(
            text,
            "  - {{port: {{number: {port}, name: p{at}, protocol: {protocol}}}, hosts: ['{first}', 'shop/{second}']{tls}}}"
        );
    }
    text
}

fn rules(rng: &mut Rng) -> String {
    let host = one(rng, &HOSTS);
    let first = format!("{}/g0", NAMESPACES.join("/g0, "));
    let second = one(rng, &["default/g1", "shop/g1", "istio-system/g1", "g2"]);
    let mut text = format!("spec:\n  hosts: ['{host}']\n  gateways: [{first}, {second}]\n  http:\n");
    for _ in 0..rng.usize(1..5) {
        let condition = one(
            rng,
            &[
                "",
                "match: [{uri: {prefix: /a}}], ",
                "match: [{uri: {exact: /a/b}}, {method: {exact: POST}}], ",
                "match: [{headers: {x-k: {exact: v}}}], ",
                "match: [{uri: {regex: '/[ab].*'}, withoutHeaders: {x-k: {}}}], ",
                "match: [{uri: {prefix: /A}, ignoreUriCase: true, queryParams: {q: {prefix: '1'}}}], ",
                "match: [{authority: {prefix: a}, scheme: {exact: http}}], ",
                "match: [{port: 81}], ",
            ],
        );
        let action = one(
            rng,
            &[
                "directResponse: {status: 418}",
                "redirect: {uri: /moved}",
                "route: [{destination: {host: s0, port: {number: 80}}}]",
                "route: [{destination: {host: s1, subset: v1}, weight: 1}, {destination: {host: s2}, weight: 2}]",
            ],
        );
        let _ = writeln!(text, "  - {{{condition}{action}}}");
    }
    let _ = write!(
        text,
        "  tls:\n  - {{match: [{{sniHosts: ['{host}']}}], route: [{{destination: {{host: s0, port: {{number: 80}}}}}}]}}\n  tcp:\n  \
         - {{route: [{{destination: {{host: s1, port: {{number: 90}}}}}}]}}\n"
    );
    text
}

#[test]
fn the_order_of_documents_changes_nothing() {
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let files = documents(&mut rng);
        let mut order: Vec<(usize, &String)> = files.iter().enumerate().collect();
        let surroundings = Surroundings::default();
        let first = translate(&load(order.iter().copied()).objects, &surroundings, 1);
        rng.shuffle(&mut order);
        let second = translate(&load(order.iter().copied()).objects, &surroundings, 1);
        assert_eq!(shown(&first.snapshot), shown(&second.snapshot), "seed {seed}: {files:#?}");
        assert_eq!(first.diagnostics, second.diagnostics, "seed {seed}: {files:#?}");
    }
}

#[test]
fn a_broken_document_harms_no_other() {
    for seed in 0..50 {
        let files = documents(&mut Rng::with_seed(seed));
        let without = translate(&load(files.iter().enumerate()).objects, &Surroundings::default(), 1);
        let broken =
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: z}\nspec: {servers: [{}]}\n";
        let torn = "kind: VirtualService\nspec: [".to_owned();
        let more = [broken.to_owned(), torn];
        let all = load(files.iter().chain(&more).enumerate());
        assert!(all.diagnostics.iter().filter(|found| found.is_error()).count() >= 2);
        let with = translate(&all.objects, &Surroundings::default(), 1);
        assert_eq!(shown(&without.snapshot), shown(&with.snapshot), "seed {seed}");
    }
}

/// Tears a text: words go, come twice, or are others'.
fn mangle(text: &str, rng: &mut Rng) -> String {
    let strange = [
        "''",
        "~",
        "-1",
        "70000",
        "{}",
        "[]",
        "true",
        "*",
        "1e9",
        "\"\\0\"",
        "ünïcode",
        "x: y",
        "'@'",
        "1.5ms",
        "(",
        "./",
    ];
    let mut out = String::new();
    for line in text.lines() {
        match rng.u8(..120) {
            0 => continue,
            1 => out.push_str(line),
            _ => {}
        }
        let words =
            line.split_inclusive([' ', ',', '{', '}', '[', ']', ':']).map(|word| match rng.u8(..200) {
                0 => "",
                1 => one(rng, &strange),
                _ => word,
            });
        out.extend(words);
        out.push('\n');
    }
    out
}

#[test]
fn nothing_that_is_read_makes_the_analysis_panic() {
    let (mut sound, mut refused) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let files: Vec<String> = documents(&mut rng).iter().map(|text| mangle(text, &mut rng)).collect();
        let loaded = load(files.iter().enumerate());
        sound += loaded.documents;
        refused += loaded.diagnostics.iter().filter(|found| found.is_error()).count();
        let now = std::time::SystemTime::UNIX_EPOCH;
        let analysis = analyse(loaded, &Surroundings::default(), now);
        for found in &analysis.diagnostics {
            let help = found.help.as_deref().unwrap_or("");
            assert!(!found.is_error() || !help.is_empty(), "no remedy: {found}");
            assert!(found.code.severities().contains(&found.severity), "{found}");
        }
    }
    assert!(sound > 500 && refused > 200, "the generator makes both kinds: {sound} sound, {refused} refused");
}

/// Some request, to a port that may be there.
fn question(rng: &mut Rng) -> Question {
    let header = ("x-k".to_owned(), one(rng, &["v", "w"]).to_owned());
    Question {
        port: if rng.bool() { 80 } else { 81 },
        method: one(rng, &["GET", "POST"]).to_owned(),
        authority: one(rng, &["a.test", "A.test:80", "x.b.test", "b.test", "other"]).to_owned(),
        path: one(rng, &["/", "/a", "/A/c", "/a/b", "/b"]).to_owned(),
        query: Some(one(rng, &["", "q=1", "q=2&q=1"])).filter(|query| !query.is_empty()).map(str::to_owned),
        headers: if rng.bool() { vec![header] } else { Vec::new() },
        ..Question::default()
    }
}

/// What the proxy does with a cleartext request, by the look-ups it makes.
fn proxys(snapshot: &Snapshot, question: &Question) -> Option<Outcome> {
    let listener = snapshot.listeners.iter().find(|listener| listener.key.port == question.port)?;
    let ListenerKind::Http(table) = &listener.kind else { return None };
    let mut headers = HeaderMap::new();
    headers.append("host", HeaderValue::from_str(&question.authority).expect("a value"));
    for (_, value) in &question.headers {
        headers.append("x-k", HeaderValue::from_str(value).expect("a value"));
    }
    let head = RequestHead {
        path: &question.path,
        query: question.query.as_deref(),
        method: &question.method,
        scheme: "http",
        authority: &question.authority,
        headers: &headers,
    };
    let Some(host) = table.virtual_host(&question.authority) else { return Some(Outcome::NoRoute) };
    if host.https_redirect {
        return Some(Outcome::Redirect);
    }
    Some(match host.route(&head).map(|route| &route.action) {
        None => Outcome::NoRoute,
        Some(RouteAction::Redirect(_)) => Outcome::Redirect,
        Some(RouteAction::Direct(_)) => Outcome::Direct,
        // No Service here has an endpoint.
        Some(RouteAction::Forward(_)) => Outcome::Unavailable,
    })
}

#[test]
fn explain_decides_as_the_proxy_does() {
    let mut asked = std::collections::HashMap::new();
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let files = documents(&mut rng);
        let snapshot =
            translate(&load(files.iter().enumerate()).objects, &Surroundings::default(), 1).snapshot;
        for _ in 0..20 {
            let question = question(&mut rng);
            let Some(want) = proxys(&snapshot, &question) else { continue };
            let explanation = decide(&snapshot, &question, State::of_documents(&|_| Vec::new()));
            assert_eq!(explanation.outcome, want, "seed {seed}: {question:#?}\n{explanation:#?}\n{files:#?}");
            *asked.entry(want as u8).or_insert(0) += 1;
        }
    }
    assert!(asked.len() == 4 && asked.values().all(|count| *count > 20), "every end was met: {asked:?}");
}
