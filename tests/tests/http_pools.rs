//! Connections of the real gateway to HTTP backends: who shares one, how long it lasts, which version is spoken on it, and
//! what its making costs a try.

use std::io::{Read as _, Write as _};
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

/// Reads a request's head, and returns what has come of its body; `None` at the end of the connection.
async fn read_head(stream: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(read.split_off(end + 4));
        }
        if stream.read_buf(&mut read).await.is_ok_and(|count| count == 0) {
            return None;
        }
    }
}

#[test]
fn a_connection_is_kept_once_the_request_has_ended_be_it_behind_its_answer() {
    const BODY: usize = 10;
    let (tell, told) = std::sync::mpsc::channel();
    let backend = serve::Server::start(Place::loopback(), move |mut stream| {
        let tell = tell.clone();
        async move {
            while let Some(mut body) = read_head(&mut stream).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                while !body.is_empty() && body.len() < BODY {
                    if stream.read_buf(&mut body).await.is_ok_and(|count| count == 0) {
                        return;
                    }
                }
                let _ = tell.send(body);
            }
        }
    });
    let site = Site::new("http", backend.address, "", "{outlierDetection: {}}");
    let mut upload = client::connect(site.address);
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {BODY}\r\n\r\nhello");
    upload.write_all(head.as_bytes()).expect("sending");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut byte = [0];
        upload.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert_eq!(site.get("/").text(), "ok");
    assert_eq!(
        (backend.accepted(), told.recv().expect("a request")),
        (2, Vec::new()),
        "no connection with half a request"
    );
    upload.write_all(b"world").expect("sending");
    assert_eq!(told.recv_timeout(wait::PATIENCE).expect("the rest"), b"helloworld");
    let asking: Vec<_> = (0..20).map(|_| site.get("/").text()).collect();
    assert!(asking.iter().all(|answer| answer == "ok"), "{asking:?}");
    assert_eq!(backend.accepted(), 2);
}

#[test]
fn what_nobody_has_asked_for_ends_a_connection_and_answers_nothing() {
    let (speak, may) = watch::channel(false);
    let (tell, closed) = std::sync::mpsc::channel();
    let backend = serve::Server::start(Place::loopback(), move |mut stream| {
        let (mut may, tell) = (may.clone(), tell.clone());
        async move {
            let _ = read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = may.wait_for(|may| *may).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
            let _ = tell.send(());
        }
    });
    let site = Site::new("http", backend.address, "", "{outlierDetection: {}}");
    for number in 1..=20 {
        assert_eq!(site.get("/").text(), "ok");
        assert_eq!(backend.accepted(), number);
        speak.send_replace(true);
        closed.recv_timeout(wait::PATIENCE).expect("the gateway closes its end, though no request comes");
        speak.send_replace(false);
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_if_tls_says_so_too() {
    let identity = Authority::new("the backend's").issue(&[HOST]);
    for says_so in [true, false] {
        let acceptor = TlsAcceptor::from(server_config(&identity));
        let backend = serve::Server::start(Place::loopback(), move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
                let _ = stream.flush().await;
                if says_so {
                    let _ = stream.shutdown().await;
                } else {
                    let _ = stream.get_mut().0.shutdown().await;
                }
                let _ = stream.get_mut().0.read_to_end(&mut Vec::new()).await;
            }
        });
        let policy = "{tls: {mode: SIMPLE, insecureSkipVerify: true}}";
        let site = Site::new("http", backend.address, "", policy);
        let answer = client::try_send(site.address, client::request("GET", HOST, "/", &[]));
        assert_eq!(answer.is_ok_and(|answer| answer.text() == "until the end"), says_so);
    }
}
