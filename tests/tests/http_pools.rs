//! Connections of the real gateway to HTTP backends: who shares one, how long it lasts, which version is spoken on it, and
//! what its making costs a try.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, get};
use harness::documents::{self, Server, destination_rule};
use harness::gateway::Gateway;
use harness::program::{curl, run};
use harness::serve::{self, Place};
use harness::tls::server_config;
use harness::{port, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

const HOST: &str = "webapp.istioinaction.io";

/// A gateway with one worker and one rule, of which `more` says more, and its backend.
struct Site {
    _gateway: Gateway,
    address: SocketAddr,
}

impl Site {
    fn new(port_name: &str, backend: SocketAddr, more: &str, policy: &str) -> Self {
        let port = port::free();
        let rules = format!("  http:\n  - {{route: [{{destination: {{host: webapp}}}}], {more}}}");
        let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
            + &documents::virtual_service("webapp", &[HOST], "edge", &rules)
            + &destination_rule("webapp", policy)
            + &documents::service("webapp", port_name, &[backend]);
        let gateway = Gateway::arrange().document("site", &documents).flags(&["--workers", "1"]).start();
        Self { address: gateway.at(port), _gateway: gateway }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, HOST, path)
    }

    /// A request in HTTP/2.
    fn get_http2(&self, path: &str) -> Value {
        let mut curl = curl();
        curl.args(["--http2-prior-knowledge", "-H"]).arg(format!("host: {HOST}"));
        let said = run(curl.arg(format!("http://{}{path}", self.address))).expect_success();
        let body = said.out.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }
}

/// Passes once `time` has.
fn pass(time: Duration) {
    let begin = Instant::now();
    wait::until("the time", || (begin.elapsed() > time).then_some(()));
}

#[test]
fn requests_that_meet_at_a_cold_endpoint_share_its_connection() {
    const REQUESTS: usize = 24;
    for (policy, want) in [
        ("{outlierDetection: {}}", 1),
        ("{connectionPool: {tcp: {maxConnections: 1}}}", 1),
        ("{connectionPool: {http: {maxConcurrentStreams: 8}}}", 3),
        ("{connectionPool: {http: {maxRequestsPerConnection: 6}}}", 4),
    ] {
        let backend = Backend::start("webapp", Version::Http2, Place::loopback());
        let site = Site::new("http2", backend.server.address, "", policy);
        let ask = || {
            let address = site.address;
            std::thread::spawn(move || get(address, HOST, "/held"))
        };
        let asking: Vec<_> = (0..REQUESTS).map(|_| ask()).collect();
        wait::until("all requests", || (backend.requests() == REQUESTS).then_some(()));
        assert_eq!(backend.server.accepted(), want, "{policy}");
        backend.release();
        for answer in asking {
            assert_eq!(answer.join().expect("an answer").backend(), "webapp");
        }
    }
}

#[test]
fn all_who_wait_for_a_connection_learn_that_there_is_none() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let never = "{outlierDetection: {consecutive5xxErrors: 0}}";
    let site = Site::new("http2", nobody, "retries: {attempts: 0}", never);
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let address = site.address;
            std::thread::spawn(move || get(address, HOST, "/"))
        })
        .collect();
    for answer in asking {
        let answer = answer.join().expect("an answer");
        assert_eq!(answer.status.as_u16(), 503);
        assert!(answer.text().contains("reset reason: remote connection failure"), "{}", answer.text());
    }
}

/// A backend that shakes hands only when it may, and then answers each connection's first request.
fn reluctant() -> (serve::Server, watch::Sender<bool>) {
    let identity = Authority::new("the backend's").issue(&[HOST]);
    let acceptor = TlsAcceptor::from(server_config(&identity));
    let (let_go, may) = watch::channel(false);
    let server = serve::Server::start(Place::loopback(), move |stream| {
        let (acceptor, mut may) = (acceptor.clone(), may.clone());
        async move {
            let _ = may.wait_for(|may| *may).await;
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut asked = [0; 4096];
            if stream.read(&mut asked).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = stream.read(&mut asked).await;
            }
        }
    });
    (server, let_go)
}

#[test]
fn a_trys_time_begins_with_its_connection() {
    let (backend, let_go) = reluctant();
    let site = Site::new(
        "http",
        backend.address,
        "retries: {attempts: 1, retryOn: reset, perTryTimeout: 200ms}",
        "{tls: {mode: SIMPLE, insecureSkipVerify: true}}",
    );
    let address = site.address;
    let asking = std::thread::spawn(move || get(address, HOST, "/"));
    wait::until("the connection", || (backend.accepted() == 1).then_some(()));
    pass(Duration::from_millis(500));
    let_go.send_replace(true);
    let answer = asking.join().expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".to_owned()));
    assert_eq!(backend.accepted(), 1, "no further try");
}

#[test]
fn the_routes_time_passes_while_connecting_and_nobody_is_to_blame_for_it() {
    let (backend, let_go) = reluctant();
    let policy =
        "{tls: {mode: SIMPLE, insecureSkipVerify: true}, outlierDetection: {consecutive5xxErrors: 1}}";
    let site = Site::new("http", backend.address, "timeout: 200ms", policy);
    let answer = site.get("/");
    assert_eq!((answer.status.as_u16(), answer.text()), (504, "upstream request timeout".to_owned()));
    let_go.send_replace(true);
    assert_eq!(site.get("/").text(), "ok", "the endpoint was not ejected");
}

#[test]
fn an_endpoint_that_was_reached_and_is_silent_is_ejected() {
    let policy = "{outlierDetection: {consecutiveGatewayErrors: 1, consecutive5xxErrors: 0}}";
    for more in ["timeout: 100ms", "retries: {attempts: 1, retryOn: connect-failure, perTryTimeout: 100ms}"] {
        let backend = Backend::http("webapp");
        let site = Site::new("http", backend.server.address, more, policy);
        assert_eq!(site.get("/stall").status.as_u16(), 504, "{more}");
        let answer = site.get("/");
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (503, "no healthy upstream".to_owned()),
            "{more}"
        );
    }
}

#[test]
fn statuses_that_the_rule_names_eject_and_others_do_not() {
    let policy = "{outlierDetection: {consecutive5xxErrors: 2, outlierDetectionHttpErrorCodes: [429]}}";
    let backend = Backend::http("webapp");
    let site = Site::new("http", backend.server.address, "", policy);
    for status in [503, 500, 503, 429, 503, 429] {
        assert_eq!(site.get(&format!("/status/{status}")).status.as_u16(), status);
    }
    assert_eq!(site.get("/status/429").status.as_u16(), 429);
    assert_eq!(site.get("/").text(), "no healthy upstream");
}

#[test]
fn a_connection_gets_no_more_requests_beyond_its_age() {
    let policy = |age: &str| format!("{{connectionPool: {{tcp: {{maxConnectionDuration: {age}}}}}}}");
    for (age, want) in [("1ms", 2), ("1h", 1)] {
        for (version, port_name) in [(Version::Http1, "http"), (Version::Http2, "http2")] {
            let backend = Backend::start("webapp", version, Place::loopback());
            let site = Site::new(port_name, backend.server.address, "", &policy(age));
            let answers = client::get_apart(site.address, HOST, Duration::from_millis(2));
            assert!(answers.iter().all(|answer| answer.backend() == "webapp"));
            assert_eq!(backend.server.accepted(), want, "{age} {version:?}");
        }
    }
}

#[test]
fn requests_go_on_in_the_version_of_their_client() {
    let follows = "{connectionPool: {http: {useClientProtocol: true}}}";
    for port_name in ["http", "http2"] {
        let (one, two) = (
            Backend::start("webapp", Version::Http1, Place::loopback()),
            Backend::start("webapp", Version::Http2, Place::loopback()),
        );
        let answer = Site::new(port_name, one.server.address, "", follows).get("/").json();
        assert_eq!(answer["version"], "HTTP/1.1", "{port_name}");
        let answer = Site::new(port_name, two.server.address, "", follows).get_http2("/");
        assert_eq!(answer["version"], "HTTP/2.0", "{port_name}");
    }
    // Without it, the port's name decides.
    let one = Backend::http("webapp");
    let answer = Site::new("http", one.server.address, "", "{outlierDetection: {}}").get_http2("/");
    assert_eq!(answer["version"], "HTTP/1.1");
}

#[test]
fn within_tls_http2_is_offered_for_requests_in_it_alone() {
    let identity = Authority::new("the backend's").issue(&[HOST]);
    let mut config = (*server_config(&identity)).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let policy =
        "{tls: {mode: SIMPLE, insecureSkipVerify: true}, connectionPool: {http: {useClientProtocol: true}}}";
    for port_name in ["http", "http2"] {
        let one = Backend::sealed("webapp", Version::Http1, config.clone(), Place::loopback());
        let answer = Site::new(port_name, one.server.address, "", policy).get("/").json();
        assert_eq!((&answer["version"], &answer["tls"]["alpn"]), (&json!("HTTP/1.1"), &json!(null)));
        let two = Backend::sealed("webapp", Version::Http2, config.clone(), Place::loopback());
        let answer = Site::new(port_name, two.server.address, "", policy).get_http2("/");
        assert_eq!((&answer["version"], &answer["tls"]["alpn"]), (&json!("HTTP/2.0"), &json!("h2")));
    }
}

#[test]
fn a_backend_that_answers_no_ping_loses_its_connection() {
    // Reads, and says nothing but what an HTTP/2 connection must begin with: its settings (RFC 9113, 3.4 and 6.5).
    let (tell, told) = std::sync::mpsc::channel();
    let backend = serve::Server::start(Place::loopback(), move |mut stream| {
        let tell = tell.clone();
        async move {
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            let mut asked = [0; 4096];
            while stream.read(&mut asked).await.is_ok_and(|length| length > 0) {}
            let _ = tell.send(());
        }
    });
    let policy = "{connectionPool: {http: {http2KeepAlive: {interval: 100ms, timeout: 100ms}}}}";
    let site = Site::new("http2", backend.address, "retries: {attempts: 0}", policy);
    let answer = site.get("/");
    assert_eq!(answer.status.as_u16(), 503);
    assert!(answer.text().contains("connection termination"), "{}", answer.text());
    told.recv().expect("the end of the connection");
}
