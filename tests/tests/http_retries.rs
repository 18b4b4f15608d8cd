//! Tries of a request through the real gateway: what is tried again and with which body, and how long it may take.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::backend::{Backend, Version, hex};
use harness::client::{self, Answer, get, request, send};
use harness::documents::{self, Server, destination_rule};
use harness::gateway::Gateway;
use harness::program::{curl, run};
use harness::serve::{self, Place};
use harness::{port, wait};
use http_body_util::Full;
use hyper::StatusCode;
use nix::libc::{BPF_K, BPF_RET};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

const HOST: &str = "webapp.istioinaction.io";

/// A gateway with one rule, which says more than its route, and its backends.
struct Site {
    _gateway: Gateway,
    address: SocketAddr,
}

impl Site {
    /// `more` are fields of the rule, `policy` is that of a DestinationRule.
    fn new(port_name: &str, endpoints: &[SocketAddr], more: &str, policy: &str) -> Self {
        let port = port::free();
        let rules = format!("  http:\n  - {{route: [{{destination: {{host: webapp}}}}], {more}}}");
        let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
            + &documents::virtual_service("webapp", &[HOST], "edge", &rules)
            + &destination_rule("webapp", policy)
            + &documents::service("webapp", port_name, endpoints);
        let gateway = Gateway::arrange().document("site", &documents).start();
        Self { address: gateway.at(port), _gateway: gateway }
    }

    fn http(backend: &Backend, more: &str) -> Self {
        Self::new("http", &[backend.server.address], more, "{outlierDetection: {}}")
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, HOST, path)
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        let request = request("POST", HOST, path, &[]).map(|_| Full::from(Bytes::copy_from_slice(body)));
        send(self.address, request)
    }
}

fn digest(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

const RESET: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";

#[test]
fn only_what_the_rule_names_is_tried_again() {
    let backend = Backend::http("webapp");
    let rows = [
        // Istio's default: neither statuses nor what was sent already.
        ("", "/turns/503,200", 503, 1),
        ("", "/turns/hang-up,200", 503, 1),
        ("retries: {attempts: 3}", "/turns/503,200", 503, 1),
        ("retries: {attempts: 2, retryOn: 5xx}", "/turns/503,500,200", 200, 3),
        ("retries: {attempts: 2, retryOn: 5xx}", "/turns/hang-up,200", 200, 2),
        ("retries: {attempts: 2, retryOn: gateway-error}", "/turns/500,200", 500, 1),
        ("retries: {attempts: 2, retryOn: gateway-error}", "/turns/502,504,200", 200, 3),
        ("retries: {attempts: 1, retryOn: '418,retriable-4xx'}", "/turns/418,200", 200, 2),
        ("retries: {attempts: 1, retryOn: '418,retriable-4xx'}", "/turns/409,200", 200, 2),
        ("retries: {attempts: 1, retryOn: reset}", "/turns/hang-up,503", 503, 2),
        ("retries: {attempts: 1, retryOn: 5xx}", "/turns/500,501,200", 501, 2),
        ("retries: {attempts: 0}", "/turns/503,200", 503, 1),
    ];
    for (row, (more, path, status, requests)) in rows.into_iter().enumerate() {
        let site = Site::http(&backend, more);
        let before = backend.requests();
        assert_eq!(site.get(&format!("{path}/{row}")).status.as_u16(), status, "{more} {path}");
        assert_eq!(backend.requests() - before, requests, "{more} {path}");
    }
}

#[test]
fn what_was_tried_in_vain_is_told() {
    let backend = Backend::http("webapp");
    let again = Site::http(&backend, "retries: {attempts: 1, retryOn: reset}");
    let once = Site::http(&backend, "retries: {attempts: 0}");
    assert_eq!(once.get("/hang-up").text(), RESET);
    let answer = again.get("/hang-up");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.text(), RESET.replace("reset reason", "retried and the latest reset reason"));
    let seen = again.get("/turns/503");
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    let described = again.get("/").json();
    assert_eq!(described["headers"]["x-envoy-attempt-count"], "1");
    assert_eq!(described["headers"]["x-envoy-external-address"], "127.0.0.1");
}

#[test]
fn a_body_is_sent_again_up_to_a_bound() {
    let backend = Backend::http("webapp");
    let site = Site::http(&backend, "retries: {attempts: 2, retryOn: 5xx}");
    for length in [0, 1, 100_000, 1 << 20] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let answer = site.post(&format!("/turns/503,500,200/{length}"), &body);
        assert_eq!((answer.status.as_u16(), answer.text()), (200, digest(&body)), "{length}");
    }
    // What is longer is sent once, and whole.
    let body = vec![7; (1 << 20) + 1];
    let before = backend.requests();
    let answer = site.post("/turns/503,200", &body);
    assert_eq!((answer.status.as_u16(), answer.text()), (503, digest(&body)));
    assert_eq!(backend.requests() - before, 1);
}

#[test]
fn an_endless_body_streams_while_its_answer_is_awaited() {
    let backend = Backend::http("webapp");
    let site = Site::http(&backend, "retries: {attempts: 2, retryOn: 5xx}");
    let mut stream = client::connect(site.address);
    write!(stream, "POST /digest HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("sending");
    let piece = vec![7; 64 * 1024];
    let mut hash = Sha256::new();
    for _ in 0..64 {
        write!(stream, "{:x}\r\n", piece.len()).expect("sending");
        stream.write_all(&piece).expect("sending");
        stream.write_all(b"\r\n").expect("sending");
        hash.update(&piece);
    }
    stream.write_all(b"0\r\n\r\n").expect("sending");
    let want = hex(&hash.finalize());
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(&want) {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).expect("an answer");
        assert!(length > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..length]);
    }
    assert!(read.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn endpoints_that_were_tried_come_last() {
    let (one, other) = (Backend::http("one"), Backend::http("other"));
    let endpoints = [one.server.address, other.server.address];
    let site = Site::new(
        "http",
        &endpoints,
        "retries: {attempts: 1, retryOn: 5xx}",
        "{outlierDetection: {consecutive5xxErrors: 0}}",
    );
    for round in 0..10 {
        assert_eq!(site.get(&format!("/turns/503/{round}")).status.as_u16(), 503);
    }
    assert_eq!((one.requests(), other.requests()), (10, 10));
}

#[test]
fn grpc_statuses_and_refused_streams_are_tried_again_by_default() {
    let backend = Backend::start("webapp", Version::Http2, Place::loopback());
    let site = Site::new("grpc", &[backend.server.address], "", "{outlierDetection: {}}");
    for (path, want, requests) in [
        ("/turns/grpc-14,grpc-0", "grpc-status: 0", 2),
        ("/turns/grpc-1,grpc-14,grpc-0", "grpc-status: 0", 3),
        ("/turns/grpc-13,grpc-0", "grpc-status: 13", 1),
        ("/turns/refuse,grpc-0", "grpc-status: 0", 2),
        ("/turns/refuse", "retried and the latest reset reason: remote refused stream reset", 3),
        ("/turns/hang-up,grpc-0", "reset reason: remote reset", 1),
    ] {
        let before = backend.requests();
        let mut curl = curl();
        curl.args(["--http2-prior-knowledge", "-H", "content-type: application/grpc", "-d", "hello", "-H"]);
        curl.arg(format!("host: {HOST}")).arg(format!("http://{}{path}", site.address));
        let said = run(&mut curl).expect_success();
        assert!(said.out.contains(want), "{path}: {}", said.out);
        assert_eq!(backend.requests() - before, requests, "{path}");
    }
}

#[test]
fn each_try_has_its_time_and_all_of_them_have_theirs() {
    let backend = Backend::http("webapp");
    let tries = "retries: {attempts: 1, retryOn: reset, perTryTimeout: 100ms}";
    let rows = [
        (tries, "/turns/stall,200", 200, 2),
        (tries, "/turns/stall", 504, 2),
        (
            "retries: {attempts: 1, retryOn: connect-failure, perTryTimeout: 100ms}",
            "/turns/stall,200",
            504,
            1,
        ),
        ("timeout: 200ms, retries: {attempts: 9, retryOn: reset, perTryTimeout: 5s}", "/turns/stall", 504, 1),
    ];
    for (row, (more, path, status, requests)) in rows.into_iter().enumerate() {
        let site = Site::http(&backend, more);
        let before = backend.requests();
        let answer = site.get(&format!("{path}/{row}"));
        assert_eq!(answer.status.as_u16(), status, "{more} {path}");
        if status == 504 {
            assert_eq!(answer.text(), "upstream request timeout", "{more} {path}");
        }
        assert_eq!(backend.requests() - before, requests, "{more} {path}");
    }
}

#[test]
fn the_timeout_counts_from_the_requests_end() {
    let backend = Backend::http("webapp");
    let site = Site::http(&backend, "timeout: 300ms");
    let mut stream = client::connect(site.address);
    write!(stream, "POST /digest HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhell")
        .expect("sending");
    wait::until("the request at the backend", || (backend.requests() == 1).then_some(()));
    // The request takes longer than its answer may.
    let begin = Instant::now();
    wait::until("more than the timeout", || (begin.elapsed() > Duration::from_millis(600)).then_some(()));
    stream.write_all(b"o").expect("sending");
    assert!(client::read_line(&mut stream).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_grpc_client_says_how_long_it_waits() {
    let backend = Backend::start("webapp", Version::Http2, Place::loopback());
    let site = Site::new("grpc", &[backend.server.address], "timeout: 10s", "{outlierDetection: {}}");
    let mut curl = curl();
    curl.args([
        "--http2-prior-knowledge",
        "-H",
        "content-type: application/grpc",
        "-H",
        "grpc-timeout: 200m",
    ]);
    curl.arg("-H").arg(format!("host: {HOST}")).arg(format!("http://{}/stall", site.address));
    let begin = Instant::now();
    let said = run(&mut curl).expect_success();
    assert!(said.out.contains("grpc-status: 14"), "{}", said.out);
    assert!(said.out.contains("grpc-message: upstream request timeout"), "{}", said.out);
    let taken = begin.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(10)).contains(&taken), "{taken:?}");
}

#[test]
fn the_backend_is_told_what_was_rewritten_and_how_long_it_has() {
    let backend = Backend::http("webapp");
    let site = Site::http(&backend, "timeout: 5s, rewrite: {uri: /new, authority: inner.test}");
    let request = request("GET", HOST, "/old?x=1", &[("x-envoy-original-path", "/forged")]);
    let seen = send(site.address, request);
    assert!(seen.header("x-envoy-upstream-service-time").parse::<u64>().is_ok());
    let seen = seen.json();
    for (name, want) in [
        ("x-envoy-original-path", "/old?x=1"),
        ("x-envoy-original-host", HOST),
        ("x-envoy-expected-rq-timeout-ms", "5000"),
    ] {
        assert_eq!(seen["headers"][name], want, "{name} in {seen}");
    }
    assert_eq!((seen["path"].as_str(), seen["host"].as_str()), (Some("/newold?x=1"), Some("inner.test")));
}

/// Answers the first request of each connection, hears nothing more on it, and closes when it is told to.
async fn answer_once(mut stream: tokio::net::TcpStream, close: Arc<Notify>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut held = Vec::new();
    while !held.ends_with(b"\r\n\r\n") && stream.read_buf(&mut held).await.is_ok_and(|count| count > 0) {}
    // The kernel drops whatever comes, as a network does.
    let drop_all = socket2::SockFilter::new((BPF_RET | BPF_K) as u16, 0, 0, 0);
    let acknowledged = socket2::SockRef::from(&stream).attach_filter(&[drop_all]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    acknowledged.expect("a filter");
    close.notified().await;
}

/// Waits until bytes to a port of this machine are neither acknowledged nor given up.
fn wait_for_bytes_in_flight(port: u16) {
    let to = format!(":{port:04X} 01 ");
    wait::until("a request in flight", || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let line = table.lines().find_map(|line| line.split_once(&to))?.1.to_owned();
        (!line.starts_with("00000000:")).then_some(())
    });
}

#[test]
fn a_request_that_comes_as_its_connection_is_closed_costs_nothing_if_it_may_be_repeated() {
    let off = "retries: {attempts: 0}";
    for (more, method, want) in
        [("name: default", "GET", 200), ("name: default", "POST", 503), (off, "GET", 503)]
    {
        let close = Arc::new(Notify::new());
        let closing = close.clone();
        let backend =
            serve::Server::start(Place::loopback(), move |stream| answer_once(stream, closing.clone()));
        let site = Site::new("http", &[backend.address], more, "{outlierDetection: {}}");
        let runtime = client::runtime();
        let mut client = runtime.block_on(client::Connection::open(site.address)).expect("a connection");
        let first = runtime.block_on(client.send(request("GET", HOST, "/", &[]))).expect("an answer");
        assert_eq!(first.status, 200);
        let second = std::thread::scope(|scope| {
            let asking = scope.spawn(|| runtime.block_on(client.send(request(method, HOST, "/", &[]))));
            wait_for_bytes_in_flight(backend.address.port());
            close.notify_one();
            asking.join().expect("no panic").expect("an answer")
        });
        assert_eq!(second.status.as_u16(), want, "{method} {more}");
        assert_eq!(backend.accepted(), if want == 200 { 2 } else { 1 }, "{method} {more}");
    }
}
