//! What a DestinationRule allows of HTTP at a time, and copies of requests, through the real gateway.

use std::io::Write as _;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, get, request, send};
use harness::documents::{self, Server, destination_rule};
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::{port, wait};
use http_body_util::Full;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

const HOST: &str = "webapp.istioinaction.io";
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// A gateway with one worker and one rule, and services of one endpoint each; the first is where requests go.
struct Site {
    _gateway: Gateway,
    address: SocketAddr,
}

impl Site {
    fn new(services: &[(&str, &str, SocketAddr)], more: &str, policy: &str) -> Self {
        let port = port::free();
        let rules = format!("  http:\n  - {{route: [{{destination: {{host: {}}}}}], {more}}}", services[0].0);
        let mut documents = documents::gateway("edge", &[Server::http(port, &["*"])])
            + &documents::virtual_service("webapp", &[HOST], "edge", &rules)
            + &destination_rule(services[0].0, policy);
        for (name, port_name, endpoint) in services {
            documents += &documents::service(name, port_name, &[*endpoint]);
        }
        let gateway = Gateway::arrange().document("site", &documents).flags(&["--workers", "1"]).start();
        Self { address: gateway.at(port), _gateway: gateway }
    }

    fn limited(backend: &Backend, version: &str, policy: &str) -> Self {
        Self::new(&[("webapp", version, backend.server.address)], "", policy)
    }

    /// A GET on a thread of its own.
    fn begin(&self, path: &str) -> JoinHandle<Answer> {
        let (address, path) = (self.address, path.to_owned());
        std::thread::spawn(move || get(address, HOST, &path))
    }
}

fn check_overflow(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.text().as_str(), answer.header("x-envoy-overloaded")), (OVERFLOW, "true"));
}

#[test]
fn requests_beyond_the_streams_of_a_connection_make_another() {
    for (policy, want) in [
        ("{h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 2}", 2),
        ("{h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}", 4),
        ("{h2UpgradePolicy: UPGRADE}", 1),
    ] {
        let backend = Backend::start("webapp", Version::Http2, Place::loopback());
        // The port is one of HTTP/1.1, but for the policy.
        let site = Site::limited(&backend, "http", &format!("{{connectionPool: {{http: {policy}}}}}"));
        let asking: Vec<_> = (1..=4)
            .map(|number| {
                let asking = site.begin("/held");
                wait::until("the request", || (backend.requests() == number).then_some(()));
                asking
            })
            .collect();
        assert_eq!(backend.server.accepted(), want, "{policy}");
        backend.release();
        for answer in asking {
            assert_eq!(answer.join().expect("an answer").json()["version"], "HTTP/2.0");
        }
    }
}

#[test]
fn one_connection_and_one_that_waits_leave_no_room() {
    let backend = Backend::http("webapp");
    let policy = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let site = Site::limited(&backend, "http", policy);
    let first = site.begin("/held");
    wait::until("the first at the backend", || (backend.requests() == 1).then_some(()));
    // One of them waits; which one is not said.
    let (tell, mut told) = mpsc::unbounded_channel();
    for _ in 0..5 {
        let (site, tell) = (site.begin("/held"), tell.clone());
        std::thread::spawn(move || tell.send(site.join().expect("an answer")).expect("somebody listens"));
    }
    for _ in 0..4 {
        check_overflow(&told.blocking_recv().expect("an answer"));
    }
    assert_eq!(backend.server.accepted(), 1);
    backend.release();
    assert_eq!(first.join().expect("an answer").backend(), "webapp");
    assert_eq!(told.blocking_recv().expect("an answer").backend(), "webapp");
    assert_eq!((backend.requests(), backend.server.accepted()), (2, 1));
    assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
}

#[test]
fn requests_beyond_http2_max_requests_overflow_whatever_the_version() {
    for (version, port_name) in [(Version::Http1, "http"), (Version::Http2, "http2")] {
        let backend = Backend::start("webapp", version, Place::loopback());
        let policy = "{connectionPool: {http: {http2MaxRequests: 2}}}";
        let site = Site::limited(&backend, port_name, policy);
        let held = [site.begin("/held"), site.begin("/held")];
        wait::until("two at the backend", || (backend.requests() == 2).then_some(()));
        check_overflow(&get(site.address, HOST, "/"));
        backend.release();
        for held in held {
            assert_eq!(held.join().expect("an answer").backend(), "webapp");
        }
        let freed = wait::until("room", || {
            Some(get(site.address, HOST, "/")).filter(|answer| answer.status == StatusCode::OK)
        });
        assert_eq!(freed.backend(), "webapp", "{version:?}");
    }
}

#[test]
fn a_connection_has_as_many_requests_as_it_may() {
    for (policy, connections) in [
        ("{connectionPool: {http: {maxRequestsPerConnection: 2}}}", 3),
        ("{connectionPool: {http: {maxRequestsPerConnection: 1}}}", 6),
        ("{connectionPool: {http: {maxRequestsPerConnection: 0}}}", 1),
    ] {
        for (version, port_name) in [(Version::Http1, "http"), (Version::Http2, "http2")] {
            let backend = Backend::start("webapp", version, Place::loopback());
            let site = Site::limited(&backend, port_name, policy);
            for _ in 0..6 {
                assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
            }
            assert_eq!(backend.server.accepted(), connections, "{policy} {version:?}");
        }
    }
}

#[test]
fn an_idle_connection_is_not_used_again_beyond_its_time() {
    let backend = Backend::http("webapp");
    for (policy, want) in [
        ("{connectionPool: {http: {idleTimeout: 1ms}}}", 2),
        ("{connectionPool: {tcp: {idleTimeout: 1ms}}}", 2),
        ("{connectionPool: {tcp: {idleTimeout: 1ms}, http: {idleTimeout: 1h}}}", 1),
    ] {
        let site = Site::limited(&backend, "http", policy);
        let before = backend.server.accepted();
        let answers = client::get_apart(site.address, HOST, Duration::from_millis(2));
        assert!(answers.iter().all(|answer| answer.backend() == "webapp"));
        assert_eq!(backend.server.accepted() - before, want, "{policy}");
    }
}

#[test]
fn retries_at_a_time_are_bounded() {
    let backend = Backend::http("webapp");
    let retries = "retries: {attempts: 1, retryOn: 5xx}";
    let of = |policy: &str| Site::new(&[("webapp", "http", backend.server.address)], retries, policy);
    for policy in
        ["{connectionPool: {http: {maxRetries: 1}}}", "{retryBudget: {percent: 0, minRetryConcurrency: 1}}"]
    {
        let site = of(policy);
        let before = backend.requests();
        // Its further try stalls, and keeps the only place until the client leaves.
        let mut stalled = client::connect(site.address);
        write!(stalled, "GET /turns/503,stall/{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", policy.len())
            .expect("sending");
        wait::until("the further try", || (backend.requests() - before == 2).then_some(()));
        let answer = get(site.address, HOST, &format!("/turns/503,200/{}", policy.len()));
        assert_eq!(answer.status.as_u16(), 503, "{policy}");
        assert_eq!(backend.requests() - before, 3, "{policy}");
    }
}

/// A backend that tells what it is asked, head and body, and answers with its own words.
fn recorder(answer: &'static [u8]) -> (serve::Server, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = serve::Server::start(Place::loopback(), move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut read = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => read.extend_from_slice(&buffer[..length]),
                }
                let text = String::from_utf8_lossy(&read).into_owned();
                if text.contains("\r\n\r\n") && (text.starts_with("GET") || text.ends_with("the end")) {
                    let _ = tell.send(text);
                    read.clear();
                    let _ = stream.write_all(answer).await;
                }
            }
        }
    });
    (server, told)
}

fn post(address: SocketAddr, body: &'static str) -> Answer {
    send(address, request("POST", HOST, "/path?x=1", &[]).map(|_| Full::from(Bytes::from(body))))
}

#[test]
fn a_mirror_gets_a_copy_and_its_answer_is_nobodys() {
    let backend = Backend::http("webapp");
    let (mirror, mut told) = recorder(b"HTTP/1.1 500 Broken\r\ncontent-length: 6\r\n\r\nmirror");
    let services = [("webapp", "http", backend.server.address), ("shadow", "http", mirror.address)];
    let site = Site::new(&services, "mirror: {host: shadow}, rewrite: {uri: /new}", "{outlierDetection: {}}");
    for _ in 0..3 {
        let answer = post(site.address, "a body and the end");
        assert_eq!((answer.status, answer.backend().as_str()), (StatusCode::OK, "webapp"));
        let copy = told.blocking_recv().expect("a copy").to_lowercase();
        assert!(copy.starts_with("post /newpath?x=1 http/1.1\r\n"), "{copy}");
        assert!(copy.ends_with("\r\n\r\na body and the end"), "{copy}");
        for line in [
            "x-envoy-internal: true".to_owned(),
            format!("host: {HOST}"),
            "x-forwarded-for: 127.0.0.1,127.0.0.1".to_owned(),
            "content-length: 18".to_owned(),
        ] {
            assert!(copy.contains(&format!("\r\n{line}\r\n")), "{line} in {copy}");
        }
    }
    assert_eq!(mirror.accepted(), 1, "its connection is used again");
}

#[test]
fn a_mirror_that_is_dead_slow_or_gone_harms_nobody() {
    let backend = Backend::http("webapp");
    let slow = Backend::http("slow");
    let dead = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let services = [
        ("webapp", "http", backend.server.address),
        ("slow", "http", slow.server.address),
        ("dead", "http", dead),
    ];
    let mirrors =
        "mirrors: [{destination: {host: dead}}, {destination: {host: slow}}, {destination: {host: gone}}]";
    let site = Site::new(&services, mirrors, "{outlierDetection: {}}");
    backend.release();
    for _ in 0..5 {
        assert_eq!(get(site.address, HOST, "/held").backend(), "webapp");
    }
    wait::until("five copies", || (slow.requests() == 5).then_some(()));
}

#[test]
fn a_body_that_is_too_long_is_not_copied() {
    let (backend, mirror) = (Backend::http("webapp"), Backend::http("shadow"));
    let services = [("webapp", "http", backend.server.address), ("shadow", "http", mirror.server.address)];
    let site = Site::new(&services, "mirror: {host: shadow}", "{outlierDetection: {}}");
    let long = request("POST", HOST, "/digest", &[]).map(|_| Full::from(vec![7; (1 << 20) + 1]));
    assert_eq!(send(site.address, long).status, StatusCode::OK);
    let short = request("POST", HOST, "/digest", &[]).map(|_| Full::from(vec![7; 1 << 20]));
    assert_eq!(send(site.address, short).status, StatusCode::OK);
    wait::until("a copy", || (mirror.requests() == 1).then_some(()));
    assert_eq!(backend.requests(), 2);
}
