//! `sluice explain`: what it says is what the proxy does, on files and of a running agent, to people and to machines.

use std::fmt::Write as _;
use std::process::Command;

use fastrand::Rng;
use gateway_userspace::model::PathForm;
use gateway_userspace::model::Snapshot;
use gateway_userspace::model::explain::{Explanation, Outcome, Question, Stage, State, decide};
use gateway_userspace::proxy::as_rules_see;
use gateway_userspace::source::FileSource;
use gateway_userspace::translate::{Surroundings, translate};
use harness::backend::Backend;
use harness::client::{self, request};
use harness::documents::{self, Server, http_route, http_service, sni_route};
use harness::gateway::{Gateway, program};
use harness::port;
use harness::program::run;
use serde_json::Value;

const HOST: &str = "webapp.istioinaction.io";
const NAMESPACE: &str = documents::NAMESPACE;

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

/// VirtualServices whose every rule answers with its own name, so that an answer tells which one it was.
fn site(port: u16, rng: &mut Rng) -> String {
    let mut text = documents::gateway("edge", &[Server::http(port, &["*"])]);
    for service in 0..8 {
        let host = one(rng, &["a.test", "b.test", "*.test", "*.b.test", "*", "c.b.test"]);
        let mut rules = "  http:\n".to_owned();
        for rule in 0..rng.usize(1..6) {
            let condition = one(
                rng,
                &[
                    "",
                    "match: [{uri: {prefix: /a}}], ",
                    "match: [{uri: {exact: /a/b}}, {uri: {exact: /b}, method: {exact: POST}}], ",
                    "match: [{headers: {x-k: {exact: v}}}], ",
                    "match: [{uri: {regex: '/[ab].*'}, withoutHeaders: {x-k: {}}}], ",
                    "match: [{uri: {prefix: /A}, ignoreUriCase: true, queryParams: {q: {prefix: '1'}}}], ",
                    "match: [{authority: {prefix: a}, scheme: {exact: http}}], ",
                    "match: [{scheme: {exact: https}}], ",
                    // What clients say of themselves is not what rules see.
                    "match: [{headers: {x-envoy-internal: {}}}], ",
                    "match: [{headers: {x-request-id: {exact: mine}}}], ",
                    "match: [{headers: {x-forwarded-for: {exact: 127.0.0.1}}}], ",
                ],
            );
            let name = format!("r{rule} of v{service}.{NAMESPACE}");
            let _ = writeln!(
                rules,
                "  - {{name: r{rule}, {condition}directResponse: {{status: 200, body: {{string: '{name}'}}}}}}"
            );
        }
        text += &documents::virtual_service(&format!("v{service}"), &[host], "edge", &rules);
    }
    text
}

fn snapshot(documents: &str) -> Snapshot {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("site.yaml"), documents).expect("writing");
    let loaded = FileSource::new(vec![directory.path().to_owned()], "default").load();
    translate(&loaded.objects, &Surroundings::default(), 1).snapshot
}

struct Asked {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl Asked {
    fn new(rng: &mut Rng) -> Self {
        Self {
            method: one(rng, &["GET", "POST"]),
            host: one(rng, &["a.test", "A.Test:80", "b.test", "c.b.test", "x.b.test", "else.org", "a.test."]),
            path: one(rng, &["/", "/a", "/A/c", "/a/b", "/b", "/x/../a", "/%61/b", "/c"]),
            query: one(rng, &["", "q=1", "q=2&q=1"]),
            headers: match rng.u8(..4) {
                0 | 1 => vec![("x-k", one(rng, &["v", "w"]))],
                2 => vec![
                    ("x-k", "v"),
                    ("connection", one(rng, &["x-k", "close"])),
                    ("x-envoy-internal", "true"),
                    ("x-request-id", "mine"),
                    ("x-forwarded-for", one(rng, &["127.0.0.1", "10.0.0.1"])),
                ],
                _ => Vec::new(),
            },
        }
    }

    fn question(&self, port: u16) -> Question {
        Question {
            port,
            method: self.method.to_owned(),
            authority: self.host.to_owned(),
            path: PathForm::Base.of(self.path).expect("a path").into_owned(),
            query: Some(self.query.to_owned()).filter(|query| !query.is_empty()),
            headers: as_rules_see(&self.sent(), None, false),
            ..Question::default()
        }
    }

    fn sent(&self) -> Vec<(String, String)> {
        self.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn target(&self) -> String {
        if self.query.is_empty() { self.path.to_owned() } else { format!("{}?{}", self.path, self.query) }
    }
}

fn route(explanation: &Explanation) -> Option<&str> {
    explanation.steps.iter().find(|step| step.stage == Stage::Route)?.found.as_deref()
}

#[test]
fn the_proxy_answers_as_explain_says() {
    let (mut routed, mut missed) = (0, 0);
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        let port = port::free();
        let documents = site(port, &mut rng);
        let snapshot = snapshot(&documents);
        let gateway = Gateway::arrange().document("site", &documents).start();
        for _ in 0..60 {
            let asked = Asked::new(&mut rng);
            let explanation = decide(&snapshot, &asked.question(port), State::of_documents(&|_| Vec::new()));
            let answer = client::send(
                gateway.at(port),
                request(asked.method, asked.host, &asked.target(), &asked.headers),
            );
            let context = || {
                format!("seed {seed}: {} {}{}\n{explanation:#?}", asked.method, asked.host, asked.target())
            };
            if let Some(route) = route(&explanation) {
                assert_eq!(
                    (explanation.outcome, answer.status.as_u16()),
                    (Outcome::Direct, 200),
                    "{}",
                    context()
                );
                assert_eq!(answer.text(), route, "{}", context());
                routed += 1;
            } else {
                assert_eq!(
                    (explanation.outcome, answer.status.as_u16()),
                    (Outcome::NoRoute, 404),
                    "{}",
                    context()
                );
                missed += 1;
            }
        }
    }
    assert!(routed > 100 && missed > 20, "{routed} found their route, {missed} did not");
}

/// Documents with a route that asks for a header, and TLS passed through.
fn vault(http: u16, tls: u16, backend: &Backend) -> String {
    let rules = "  http:\n  - match: [{uri: {prefix: /api}, headers: {x-user: {exact: jason}}}]\n    route: \
                 [{destination: {host: webapp, port: {number: 80}}}]";
    documents::gateway("edge", &[Server::http(http, &[HOST]), Server::passthrough(tls, &["vault.test"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &sni_route("vault", tls, "vault.test", "edge", "webapp")
        + &http_service("webapp", &[backend.server.address])
}

#[test]
fn files_and_a_running_agent_are_explained_alike() {
    let backend = Backend::http("webapp");
    let (http, tls) = (port::free(), port::free());
    let documents = vault(http, tls, &backend);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("site.yaml");
    std::fs::write(&file, &documents).expect("writing");
    for (url, more, summary, part) in [
        (
            format!("http://{HOST}:{http}/api/x?y=1"),
            &["-H", "x-user: jason"][..],
            "the request goes to outbound|80||webapp.",
            "VirtualService istioinaction/webapp, spec.http[0].match[0] (",
        ),
        (
            format!("http://{HOST}:{http}/api"),
            &["-H", "x-user: eve"],
            "no route of webapp.istioinaction.io fits: 404",
            "header `x-user` is `eve`: it must be `jason`",
        ),
        (format!("http://127.0.0.1:{http}/"), &[], "no virtual host of http.", "is another name"),
        (
            format!("https://127.0.0.1:{tls}/"),
            &["--sni", "vault.test"],
            "the connection goes to outbound|80||webapp.",
            "TLS is passed through",
        ),
        (format!("https://vault.test:{http}/"), &[], "speaks HTTP in clear", "Gateway istioinaction/edge"),
        (
            "http://webapp.istioinaction.io:1/".to_owned(),
            &[],
            "nothing listens on port 1",
            "listens on 0.0.0.0:",
        ),
    ] {
        let words = [&["explain", "--url", &url], more].concat();
        let live = gateway.sluice(&words).expect_success().out;
        let path = file.display().to_string();
        let on_files = run(Command::new(program()).args(&words).arg(&path)).expect_success().out;
        let by_flag =
            run(Command::new(program()).args(&words).args(["--config", &path])).expect_success().out;
        assert_eq!(on_files, by_flag);
        for text in [&live, &on_files] {
            assert!(text.contains(summary) && text.contains(part), "no `{summary}` or `{part}` in\n{text}");
        }
        assert_eq!(without_places(&live), without_places(&on_files));
    }
    let said = gateway.sluice(&["explain", "--url", &format!("http://{HOST}:{http}/api"), "-o", "json"]);
    let json: Value = serde_json::from_str(&said.expect_success().out).expect("JSON");
    assert_eq!(json["outcome"], "noRoute");
    assert_eq!(json["steps"][2]["passedOver"][0]["why"], "no header `x-user`: it must be `jason`");
}

/// The agent's files are others.
fn without_places(text: &str) -> Vec<String> {
    text.lines().map(|line| line.rsplit_once(" (").map_or(line, |(before, _)| before).to_owned()).collect()
}

#[test]
fn what_cannot_be_explained_is_said() {
    for (words, part) in [
        (&["--url", "webapp/x", "-"][..], "begin it with http:// or https://"),
        (&["--url", "ftp://webapp/", "-"], "`ftp` is not served"),
        (&["--url", "http://a/%00", "-"], "answered 400"),
        (&["--url", "http://a/", "-H", "broken", "-"], "is no header: `name: value`"),
        (
            &["--url", "http://a/", "--admin-socket", "/nowhere/admin.sock"],
            "no agent answers on /nowhere/admin.sock",
        ),
    ] {
        let said = run(Command::new(program()).arg("explain").args(words));
        assert_ne!(said.code, Some(0), "{}", said.all());
        assert!(said.all().contains(part), "no `{part}` in\n{}", said.all());
    }
}

#[test]
fn documents_with_errors_are_told_of_beside_the_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("site.yaml");
    let broken = http_route("webapp", HOST, "missing", "webapp");
    std::fs::write(&file, documents::gateway("edge", &[Server::http(80, &[HOST])]) + &broken)
        .expect("writing");
    let mut command = Command::new(program());
    let said =
        run(command.args(["explain", "--url", &format!("http://{HOST}/")]).arg(&file)).expect_success();
    assert!(
        said.all().contains("the documents have 1 error, which may be why: `sluice check`"),
        "{}",
        said.all()
    );
    assert!(said.out.contains("no virtual host of http.80"), "{}", said.out);
}
