//! Active health checks by the real gateway: endpoints that do not answer well get nothing new, and what they have stays.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, Connection, get, line, request};
use harness::documents::{self, Server, annotated_rule, tcp_route, tcp_service};
use harness::echo;
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::tls::server_config;
use harness::{port, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "webapp.istioinaction.io";
/// Asks often, so that a test need not wait for long.
const OFTEN: &str = "sluice.dev/health-check-interval: 50ms";
const HEALTHZ: &str = "\"sluice.dev/health-check\": \"http:///healthz\"";

/// Both workers send to each endpoint before long.
const TURNS: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";

/// A gateway before some backends of one service, and what of its documents may change.
struct Site {
    gateway: Gateway,
    address: SocketAddr,
    port: u16,
}

/// Requests get no second chance, so that each tells of the endpoint that it met.
fn site(port: u16, port_name: &str, annotations: &[&str], policy: &str, backends: &[SocketAddr]) -> String {
    let rules = "  http:\n  - {route: [{destination: {host: webapp}}], retries: {attempts: 0}}";
    documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &annotated_rule("webapp", annotations, policy)
        + &documents::service("webapp", port_name, backends)
}

impl Site {
    fn new(annotations: &[&str], backends: &[&Backend]) -> Self {
        Self::with("http", annotations, TURNS, backends)
    }

    fn with(port_name: &str, annotations: &[&str], policy: &str, backends: &[&Backend]) -> Self {
        Self::start(&[], (port_name, annotations, policy), backends)
    }

    fn start(
        flags: &[&str],
        (port_name, annotations, policy): (&str, &[&str], &str),
        backends: &[&Backend],
    ) -> Self {
        let (port, backends) = (port::free(), addresses(backends));
        let documents = site(port, port_name, annotations, policy, &backends);
        let gateway = Gateway::arrange().document("site", &documents).flags(flags).start();
        Self { address: gateway.at(port), gateway, port }
    }

    /// Other annotations and backends.
    fn change(&self, annotations: &[&str], backends: &[&Backend]) {
        let documents = site(self.port, "http", annotations, TURNS, &addresses(backends));
        self.gateway.apply("site", &documents);
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, HOST, path)
    }

    /// Who answers, in as many requests as let each worker's turns come round.
    fn answering(&self) -> Vec<String> {
        let mut names: Vec<String> = (0..24).map(|_| self.get("/").backend()).collect();
        names.sort();
        names.dedup();
        names
    }

    #[track_caller]
    fn expect_answering(&self, want: &[&str]) {
        wait::until(&format!("answers of {want:?} alone"), || (self.answering() == want).then_some(()));
    }

    /// The row of an endpoint in `sluice proxy-config endpoints`.
    fn row(&self, of: SocketAddr) -> String {
        let table = self.gateway.sluice(&["proxy-config", "endpoints"]).expect_success().out;
        table.lines().find(|row| row.contains(&of.to_string())).expect("a row").to_owned()
    }
}

fn addresses(backends: &[&Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.server.address).collect()
}

#[test]
fn a_backend_that_says_it_is_not_well_loses_its_requests_and_gets_them_back() {
    let [good, bad] = ["good", "bad"].map(Backend::http);
    let logging = ["--access-log", "/dev/stdout"];
    let site = Site::start(&logging, ("http", &[HEALTHZ, OFTEN], TURNS), &[&good, &bad]);
    site.expect_answering(&["bad", "good"]);
    let address = bad.server.address;
    assert!(site.row(address).contains(" HEALTHY "), "{}", site.row(address));
    bad.feel(Some(503));
    site.expect_answering(&["good"]);
    // And no other ever after.
    assert_eq!(site.answering(), ["good"]);

    assert!(site.row(address).contains("UNHEALTHY (status 503)"), "{}", site.row(address));
    assert!(site.row(good.server.address).contains(" HEALTHY "));
    let dump = site.gateway.ask("/config_dump").expect("a dump");
    let dump: Value = serde_json::from_str(dump.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
    let [unhealthy] = dump["unhealthy"].as_array().expect("rows").as_slice() else { panic!("{dump}") };
    assert_eq!(unhealthy["endpoint"], *address.to_string());
    assert_eq!(unhealthy["reason"], "status 503");
    assert_eq!(unhealthy["cluster"], "outbound|80||webapp.istioinaction.svc.cluster.local");
    let status = site.gateway.sluice(&["status"]).expect_success().out;
    let line = format!(
        "unhealthy:     {address} of outbound|80||webapp.istioinaction.svc.cluster.local: status 503\n"
    );
    assert!(status.contains(&line), "{status}");
    let url = format!("http://{HOST}:{}/", site.port);
    let explained = site.gateway.sluice(&["explain", "--url", &url]).expect_success().out;
    assert!(explained.contains("1 of 2 endpoints may be chosen"), "{explained}");
    assert!(explained.contains(&format!("{address} ready, but fails its health check")), "{explained}");

    bad.feel(Some(200));
    site.expect_answering(&["bad", "good"]);
    assert!(site.row(address).contains(" HEALTHY "));
    let said = |words: &str| {
        let log = site.gateway.log();
        let is_of = |line: &&str| line.contains(words) && line.contains(&address.to_string());
        log.lines().filter(is_of).count()
    };
    assert_eq!((said("endpoint unhealthy"), said("endpoint healthy")), (1, 1), "{}", site.gateway.log());

    // Checks say who they are, to the backend alone.
    assert!(bad.asked_by().len() > 2 && bad.asked_by().iter().all(|agent| agent == "Sluice/HC"));
    wait::until("the access log", || site.gateway.log().contains("\"GET / HTTP/1.1\" 200").then_some(()));
    let log = site.gateway.log();
    assert!(!log.contains("/healthz") && !log.contains("Sluice/HC"), "{log}");
}

#[test]
fn only_named_statuses_are_healthy() {
    let [one, two] = ["one", "two"].map(Backend::http);
    one.feel(Some(204));
    two.feel(Some(429));
    let statuses = "sluice.dev/health-check-statuses: '200-299,429'";
    let site = Site::new(&[HEALTHZ, OFTEN, statuses], &[&one, &two]);
    site.expect_answering(&["one", "two"]);
    one.feel(Some(301));
    site.expect_answering(&["two"]);
}

#[test]
fn a_backend_that_hangs_loses_its_requests_after_some_checks() {
    let [good, bad] = ["good", "bad"].map(Backend::http);
    let more = ["sluice.dev/health-check-timeout: 100ms", "sluice.dev/health-check-unhealthy-threshold: '2'"];
    let site = Site::new(&[HEALTHZ, OFTEN, more[0], more[1]], &[&good, &bad]);
    site.expect_answering(&["bad", "good"]);
    bad.feel(None);
    site.expect_answering(&["good"]);
    let row = site.row(bad.server.address);
    assert!(row.contains("UNHEALTHY (no answer within 100ms)"), "{row}");
    bad.feel(Some(200));
    site.expect_answering(&["bad", "good"]);
}

#[test]
fn where_nobody_is_healthy_nobody_is_asked_unless_the_rule_says_so() {
    let [one, two] = ["one", "two"].map(Backend::http);
    let panicking = "{outlierDetection: {minHealthPercent: 50}, loadBalancer: {simple: ROUND_ROBIN}}";
    for (policy, answers) in [(TURNS, false), (panicking, true)] {
        for backend in [&one, &two] {
            backend.feel(Some(500));
        }
        let site = Site::with("http", &[HEALTHZ, OFTEN], policy, &[&one, &two]);
        if answers {
            assert_eq!(site.answering(), ["one", "two"]);
        } else {
            // From the first request on: the gateway asks before it serves.
            let answer = site.get("/");
            assert_eq!((answer.status.as_u16(), answer.text()), (503, "no healthy upstream".to_owned()));
        }
        one.feel(Some(200));
        wait::until("an answer", || (site.get("/").status.as_u16() == 200).then_some(()));
    }
}

#[test]
fn a_new_endpoint_gets_nothing_until_it_was_found_healthy() {
    let [old, new] = ["old", "new"].map(Backend::http);
    new.feel(None);
    let patient = "sluice.dev/health-check-timeout: 1m";
    let site = Site::new(&[HEALTHZ, OFTEN, patient], &[&old]);
    site.expect_answering(&["old"]);
    site.change(&[HEALTHZ, OFTEN, patient], &[&old, &new]);
    wait::until("the first check", || (!new.asked_by().is_empty()).then_some(()));
    assert_eq!(site.answering(), ["old"]);
    assert!(site.row(new.server.address).contains("UNHEALTHY (not checked yet)"));
    // A check that is told otherwise is begun anew.
    new.feel(Some(200));
    site.change(&[HEALTHZ, OFTEN], &[&old, &new]);
    site.expect_answering(&["new", "old"]);
}

#[test]
fn documents_that_change_cost_no_request_of_endpoints_that_are_healthy() {
    let [one, two] = ["one", "two"].map(Backend::http);
    let site = Site::new(&[], &[&one, &two]);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let answer = site.get("/");
                assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..4 {
            let interval = format!("sluice.dev/health-check-interval: {}ms", 50 + round);
            site.change(&[HEALTHZ, &interval], &[&one, &two]);
            site.change(&["sluice.dev/health-check: tcp", &interval], &[&one, &two]);
            site.change(&[HEALTHZ, &interval], &[&one]);
            let before = asked.load(Ordering::SeqCst);
            wait::until("requests", || {
                (asking.is_finished() || asked.load(Ordering::SeqCst) > before + 20).then_some(())
            });
        }
        done.store(true, Ordering::SeqCst);
        asking.join().expect("no request fails");
    });
    let checks = one.asked_by().len();
    site.change(&[], &[&one, &two]);
    one.feel(Some(503));
    // A check that was under way may still come.
    let after = one.asked_by().len();
    assert!(after <= checks + 2, "{after} checks");
    site.expect_answering(&["one", "two"]);
    assert!(one.asked_by().len() <= after + 1, "it is not checked any more");
}

#[test]
fn an_agent_that_starts_knows_how_endpoints_are_before_it_serves() {
    let [good, bad] = ["good", "bad"].map(Backend::http);
    // It takes a while to find out, in which requests would go astray.
    let slow = ["sluice.dev/health-check-timeout: 300ms", "sluice.dev/health-check-unhealthy-threshold: '1'"];
    let mut site = Site::new(&[HEALTHZ, OFTEN, slow[0], slow[1]], &[&good, &bad]);
    bad.feel(None);
    site.expect_answering(&["good"]);
    site.gateway.kill();
    site.gateway.restart();
    assert_eq!(site.answering(), ["good"]);
    // Nor does one that takes another one's place let a request slip.
    let (address, done) = (site.address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::SeqCst) {
                assert_eq!(get(address, HOST, "/").backend(), "good");
                asked += 1;
            }
            asked
        });
        let relieved = site.gateway.replace();
        done.store(true, Ordering::SeqCst);
        assert!(asking.join().expect("no request goes astray") > 0);
        relieved.expect_end();
    });
    assert_eq!(site.answering(), ["good"]);
}

#[test]
fn tcp_asks_for_a_connection() {
    let alive = echo::start("alive", Place::loopback());
    let dead = echo::start("dead", Place::loopback());
    let (port, addresses) = (port::free(), [alive.address, dead.address]);
    let rule = annotated_rule(
        "echo",
        &["sluice.dev/health-check: tcp", OFTEN, "sluice.dev/health-check-unhealthy-threshold: '1'"],
        TURNS,
    );
    let documents = documents::gateway("edge", &[Server::tcp(port)])
        + &tcp_route("echo", port, "edge", "echo")
        + &tcp_service("echo", &addresses)
        + &rule;
    let gateway = Gateway::arrange().document("site", &documents).start();
    let greeting = || line(&mut client::connect(gateway.at(port)), "");
    wait::until("a greeting of each", || greeting().contains("alive").then_some(()));
    wait::until("a greeting of each", || greeting().contains("dead").then_some(()));
    drop(dead);
    wait::until("the check", || {
        let table = gateway.sluice(&["proxy-config", "endpoints"]).expect_success().out;
        table.contains("UNHEALTHY").then_some(())
    });
    for _ in 0..20 {
        assert!(greeting().contains("alive"));
    }
    let back = echo::start("back", Place::at(addresses[1]));
    wait::until("the backend that is back", || greeting().contains("back").then_some(()));
    drop(back);
}

#[test]
fn connections_that_there_are_stay() {
    let [good, bad] = ["good", "bad"].map(Backend::http);
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::tcp(port)])
        + &tcp_route("web", port, "edge", "web")
        + &tcp_service("web", &addresses(&[&good, &bad]))
        + &annotated_rule("web", &[HEALTHZ, OFTEN], TURNS);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let ask = || request("GET", HOST, "/", &[]);
    client::runtime().block_on(async {
        let mut kept = loop {
            let mut connection = Connection::open(gateway.at(port)).await.expect("a connection");
            if connection.send(ask()).await.expect("an answer").backend() == "bad" {
                break connection;
            }
        };
        bad.feel(Some(503));
        wait::until("the check", || (!gateway.status()["unhealthy"].as_array()?.is_empty()).then_some(()));
        for _ in 0..10 {
            let mut new = Connection::open(gateway.at(port)).await.expect("a connection");
            assert_eq!(new.send(ask()).await.expect("an answer").backend(), "good");
            assert_eq!(kept.send(ask()).await.expect("an answer").backend(), "bad");
        }
    });
}

#[test]
fn grpc_is_asked_by_its_own_protocol() {
    let [good, bad] = ["good", "bad"].map(|name| Backend::start(name, Version::Http2, Place::loopback()));
    for check in ["grpc", "'grpc:shop.Cart'"] {
        let check = format!("sluice.dev/health-check: {check}");
        let site = Site::with("grpc", &[&check, OFTEN], TURNS, &[&good, &bad]);
        site.expect_answering(&["bad", "good"]);
        bad.feel(Some(503));
        site.expect_answering(&["good"]);
        assert!(site.row(bad.server.address).contains("UNHEALTHY (NOT_SERVING)"));
        bad.feel(Some(200));
        site.expect_answering(&["bad", "good"]);
        assert!(bad.asked_by().iter().all(|agent| agent == "Sluice/HC"));
    }
}

#[test]
fn checks_are_made_as_requests_are_by_tls_and_in_http2() {
    let config = server_config(&Authority::new("the backend's").issue(&[HOST]));
    let sealed = |name, version| Backend::sealed(name, version, config.clone(), Place::loopback());
    for (port_name, version) in [("http", Version::Http1), ("http2", Version::Http2)] {
        let (good, plain) = (sealed("good", version), Backend::start("plain", version, Place::loopback()));
        let policy = "{tls: {mode: SIMPLE, insecureSkipVerify: true}, loadBalancer: {simple: ROUND_ROBIN}}";
        let site = Site::with(port_name, &[HEALTHZ, OFTEN], policy, &[&good, &plain]);
        assert_eq!(site.answering(), ["good"], "{port_name}");
        let row = site.row(plain.server.address);
        assert!(row.contains("UNHEALTHY (") && row.contains("TLS"), "{row}");
        assert!(plain.asked_by().is_empty() && !good.asked_by().is_empty());
    }
}

/// Says so after the first words of a client, then the same again for ever, or nothing more.
fn stubborn(begin: &'static [u8], again: &'static [u8]) -> serve::Server {
    serve::Server::start(Place::loopback(), move |mut stream| async move {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(begin).await;
        if again.is_empty() {
            // It does not even read.
            std::future::pending::<()>().await;
        }
        while stream.write_all(again).await.is_ok() {}
    })
}

#[test]
fn an_answer_that_does_not_end_costs_neither_memory_nor_descriptors() {
    // An HTTP/2 server must begin with its settings, and may ask again and again whether one is there (RFC 9113, 3.4, 6.7).
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for (port_name, begin, again) in [
        ("http", &b"HTTP/1.1 200 OK\r\n"[..], &b"x-more: and more\r\n"[..]),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b""),
        ("http2", b"", b""),
        ("http2", SETTINGS, b""),
        ("http2", SETTINGS, PING),
    ] {
        let version = if port_name == "http" { Version::Http1 } else { Version::Http2 };
        let (good, stubborn) = (Backend::start("good", version, Place::loopback()), stubborn(begin, again));
        let port = port::free();
        let soon = ["sluice.dev/health-check-timeout: 50ms", "sluice.dev/health-check-interval: 10ms"];
        let backends = [stubborn.address, good.server.address];
        let documents = site(port, port_name, &[HEALTHZ, soon[0], soon[1]], TURNS, &backends);
        let gateway = Gateway::arrange().document("site", &documents).start();
        let of = |file: &str| format!("/proc/{}/{file}", gateway.pid());
        let descriptors = || std::fs::read_dir(of("fd")).expect("descriptors").count();
        let before = descriptors();
        wait::until("checks", || (stubborn.accepted() > 30).then_some(()));
        for _ in 0..20 {
            assert_eq!(get(gateway.at(port), HOST, "/").backend(), "good", "{port_name} {begin:?}");
        }
        let memory = std::fs::read_to_string(of("statm")).expect("a process");
        let pages: u64 = memory.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("pages");
        assert!(pages * 4096 < 128 << 20, "{pages} pages after {port_name} {begin:?}");
        let after = descriptors();
        assert!(after < before + 15, "{before} descriptors, then {after}, by {port_name} {begin:?}");
    }
}

#[test]
fn values_that_nothing_can_be_done_with_are_refused_with_their_place() {
    let port = port::free();
    let good = Backend::http("good");
    let documents = site(
        port,
        "http",
        &[HEALTHZ, "sluice.dev/health-check-interval: 5"],
        "{outlierDetection: {}}",
        &[good.server.address],
    );
    let quoted = documents.replace("interval: 5", "interval: '5'");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("site.yaml");
    std::fs::write(&file, quoted).expect("writing");
    let said = harness::program::run(
        std::process::Command::new(harness::gateway::program()).arg("check").arg(&file),
    );
    assert_eq!(said.code, Some(1), "{}", said.all());
    let all = said.all();
    for words in
        ["IST0106", "unknown value \"5\" of the annotation sluice.dev/health-check-interval", "such as `5s`"]
    {
        assert!(all.contains(words), "{words} in\n{all}");
    }
}
