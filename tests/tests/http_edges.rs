//! Corners of HTTP through the real gateway: what clients and backends may do, and what they must not get away with.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use harness::backend::{Backend, Version, hex};
use harness::client::{self, get, line, read_to_end};
use harness::documents::{self, Server, http_route};
use harness::gateway::Gateway;
use harness::program::{curl, run};
use harness::serve::{self, Place};
use harness::{canned, port, site, wait};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "webapp.istioinaction.io";

/// Sends bytes, says that these were all, and returns the answer.
fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = client::connect(address);
    stream.write_all(bytes.as_bytes()).expect("sending");
    let (answer, _) = read_to_end(&mut stream);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_whose_length_is_in_doubt_is_refused() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let smuggling = [
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "content-length: 5, 6\r\n\r\nhello!",
        "content-length: -1\r\n\r\n",
        "content-length: 5\r\ntransfer-encoding: xchunked\r\n\r\nhello",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    ];
    for rest in smuggling {
        let answer =
            raw(address, &format!("POST /digest HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{rest}"));
        assert!(!answer.starts_with("HTTP/1.1 200"), "{rest:?}: {answer}");
    }
    assert_eq!(get(address, HOST, "/").status, StatusCode::OK);
}

#[test]
fn chunks_win_over_a_length_and_are_passed_on_once() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let request = format!(
        "POST /digest HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(address, &request);
    // RFC 9112, 6.3: an error, or chunks; never the length.
    let digest = hex(&Sha256::digest(b"hello"));
    assert!(answer.starts_with("HTTP/1.1 400") || answer.contains(&digest), "{answer}");
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let large = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-large: {}\r\n\r\n", "x".repeat(100 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{}\r\n", "x-many: x\r\n".repeat(200));
    for request in [large, many] {
        let mut stream = client::connect(address);
        // The gateway may answer, and close, before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let (answer, _) = read_to_end(&mut stream);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    }
    let fits = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\nx-large: {}\r\n\r\n",
        "x".repeat(32 * 1024)
    );
    assert!(raw(address, &fits).starts_with("HTTP/1.1 200"));
    assert_eq!(backend.requests(), 1);
}

#[test]
fn http_1_0_clients_are_told_to_upgrade_as_by_envoy() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let answer = raw(address, &format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.0 426") || answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert_eq!(backend.requests(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{more}\r\n");
    let answer =
        raw(address, &(one("/first", "") + &one("/second", "") + &one("/third", "connection: close\r\n")));
    let at = |path: &str| {
        answer.find(&format!("\"path\":\"{path}\"")).unwrap_or_else(|| panic!("{path}: {answer}"))
    };
    assert!(at("/first") < at("/second") && at("/second") < at("/third"));
}

#[test]
fn head_has_no_body_and_keeps_the_connection() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let request = format!(
        "HEAD / HTTP/1.1\r\nhost: {HOST}\r\n\r\nGET /after HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(address, &request);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(answer.matches("\"backend\"").count(), 1, "{answer}");
}

#[test]
fn a_client_that_expects_to_be_told_to_continue_is_told() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let mut stream = client::connect(address);
    let head = format!(
        "POST /digest HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
    );
    assert!(line(&mut stream, &head).starts_with("HTTP/1.1 100"));
    stream.write_all(b"hello").expect("sending");
    let (answer, _) = read_to_end(&mut stream);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("HTTP/1.1 200") && text.contains(&hex(&Sha256::digest(b"hello"))), "{text}");
}

#[test]
fn a_websocket_is_passed_through() {
    let server = serve::Server::start(Place::loopback(), |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key: x"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst frame\n";
        stream.write_all(answer).await.expect("sending");
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..length]).await.expect("sending");
        }
    });
    let (gateway, address) = site::before(HOST, "http", server.address);
    let mut stream = client::connect(address);
    // The first frame does not wait for the answer, so that the gateway reads it with the head.
    let request = format!(
        "GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\nhasty\n"
    );
    assert!(line(&mut stream, &request).starts_with("HTTP/1.1 101"));
    while line(&mut stream, "") != "\r\n" {}
    assert_eq!(line(&mut stream, ""), "first frame\n");
    assert_eq!(line(&mut stream, ""), "hasty\n");
    assert_eq!(line(&mut stream, "frame\n"), "frame\n");
    // Both its sides are sockets again, which bytes can be spliced between.
    let own = stream.local_addr().expect("an address").to_string();
    let seen =
        || serde_json::from_str::<Vec<Value>>(&gateway.sluice(&["flows", "-o", "json"]).out).expect("JSON");
    let before = seen();
    assert_eq!((before.len(), &before[0]["client"]), (1, &own.clone().into()), "{before:?}");
    assert_eq!(
        (&before[0]["tier"], &before[0]["reason"]),
        (&"copy".into(), &"noKernelPlane".into()),
        "{before:?}"
    );
    assert_eq!(before[0]["bytesToBackend"], "hasty\nframe\n".len(), "{before:?}");
    let mut sending = stream.try_clone().expect("a second handle");
    let much = std::thread::spawn(move || sending.write_all(&vec![b'x'; 4 << 20]));
    stream.read_exact(&mut vec![0; 4 << 20]).expect("all of it");
    much.join().expect("a thread that does not panic").expect("sending");
    let after = seen();
    assert_eq!(after[0]["tier"], "splice", "{after:?}");
    drop(stream);
    wait::until("the end of the connection", || seen().is_empty().then_some(()));
}

/// What a request for a WebSocket is answered with when the backend does not switch.
fn asked_for_websocket(address: SocketAddr, host: &str) -> client::Answer {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    client::send(address, client::request("GET", host, "/chat", &headers))
}

#[test]
fn a_websocket_that_does_not_come_about_is_answered_like_any_request() {
    const FORBIDDEN: &[u8] =
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\nx-kept: 1\r\nconnection: close\r\n\r\nshut";
    let refused = port::free();
    let (forbids, mute, rambles) =
        (canned::answer(FORBIDDEN), canned::answer(b""), canned::answer(b"SSH-2.0-OpenSSH\r\n"));
    for (endpoint, status, words) in [
        (forbids.address, StatusCode::FORBIDDEN, "shut"),
        (mute.address, StatusCode::SERVICE_UNAVAILABLE, "reset reason: connection termination"),
        (rambles.address, StatusCode::BAD_GATEWAY, "reset reason: protocol error"),
        (
            ([127, 0, 0, 1], refused).into(),
            StatusCode::SERVICE_UNAVAILABLE,
            "retried and the latest reset reason: remote connection failure",
        ),
    ] {
        let (_gateway, address) = site::before(HOST, "http", endpoint);
        let answer = asked_for_websocket(address, HOST);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().ends_with(words), "{}", answer.text());
        assert_eq!(answer.header("x-kept") == "1", status == StatusCode::FORBIDDEN);
    }
}

#[test]
fn a_websocket_finds_the_endpoint_that_is_alive() {
    let alive = canned::answer(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello\n",
    );
    let dead = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &documents::http_service("webapp", &[dead, alive.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    for _ in 0..10 {
        let request =
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let mut stream = client::connect(gateway.at(port));
        stream.write_all(request.as_bytes()).expect("sending");
        let (answer, _) = read_to_end(&mut stream);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    }
}

#[test]
fn backends_of_http2_are_asked_without_an_upgrade() {
    let backend = Backend::start("webapp", Version::Http2, Place::loopback());
    let (_gateway, address) = site::before(HOST, "grpc", backend.server.address);
    let answer = asked_for_websocket(address, HOST);
    assert_eq!(answer.status, StatusCode::OK);
    let seen = answer.json();
    assert_eq!((&seen["headers"]["upgrade"], &seen["headers"]["connection"]), (&Value::Null, &Value::Null));
}

/// As by Istio's gateway, whose routes match no CONNECT.
#[test]
fn nothing_is_tunnelled_by_connect() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let target = format!("{HOST}:443");
    let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let mut stream = client::connect(address);
    assert!(line(&mut stream, &head).starts_with("HTTP/1.1 404"));
    client::runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(driver);
        let request = Request::connect(target).body(Empty::<Bytes>::new()).expect("a request");
        let asked = tokio::time::timeout(client::LIMIT, sender.send_request(request)).await;
        assert_eq!(asked.expect("in time").expect("an answer").status(), StatusCode::NOT_FOUND);
    });
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_broken_answer_is_not_passed_on() {
    for answer in [
        &b"SSH-2.0-OpenSSH\r\n"[..],
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ] {
        let server = canned::answer(answer);
        let (_gateway, address) = site::before(HOST, "http", server.address);
        let status = get(address, HOST, "/").status;
        assert!(status == StatusCode::BAD_GATEWAY || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let server = canned::answer(answer);
        let (_gateway, address) = site::before(HOST, "http", server.address);
        let error = client::try_send(address, client::request("GET", HOST, "/", &[]));
        assert!(error.is_err(), "half an answer must not look whole: {error:?}");
    }
}

#[test]
fn an_answer_that_ends_with_the_connection_is_whole() {
    let server = canned::answer(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let (_gateway, address) = site::before(HOST, "http", server.address);
    assert_eq!(get(address, HOST, "/").text(), "until the end");
}

#[test]
fn early_hints_do_not_stand_for_the_answer() {
    let server = canned::answer(
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal",
    );
    let (_gateway, address) = site::before(HOST, "http", server.address);
    assert_eq!(get(address, HOST, "/").text(), "real");
}

#[test]
fn a_connection_that_the_backend_has_closed_is_not_used_again() {
    let (closed, closes) = std::sync::mpsc::channel();
    let server = serve::Server::start(Place::loopback(), move |mut stream| {
        let closed = closed.clone();
        async move {
            let mut head = [0; 4096];
            assert_ne!(stream.read(&mut head).await.expect("a request"), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("sending");
            stream.shutdown().await.expect("half-closing");
            // The gateway has noticed when it closes its end.
            while let Ok(1..) = stream.read(&mut head).await {}
            let _ = closed.send(());
        }
    });
    let (_gateway, address) = site::before(HOST, "http", server.address);
    for number in 0..50 {
        let answer = get(address, HOST, "/");
        assert_eq!(answer.status, StatusCode::OK, "request {number}: {}", answer.text());
        closes.recv_timeout(wait::PATIENCE).expect("the gateway closes its end");
    }
    assert_eq!(server.accepted(), 50);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on() {
    let server = canned::answer(
        b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!",
    );
    let (_gateway, address) = site::before(HOST, "http", server.address);
    let mut stream = client::connect(address);
    write!(stream, "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000000000\r\n\r\nfirst")
        .expect("sending");
    let first = line(&mut stream, "");
    assert!(first.starts_with("HTTP/1.1 413"), "{first}");
}

#[test]
fn a_stalled_upload_holds_no_other_request_up() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let stalled: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = client::connect(address);
            write!(stream, "POST /digest HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\n\r\nsome")
                .expect("sending");
            stream
        })
        .collect();
    wait::until("all uploads at the backend", || (backend.requests() == 50).then_some(()));
    for _ in 0..20 {
        assert_eq!(get(address, HOST, "/").status, StatusCode::OK);
    }
    drop(stalled);
}

#[test]
fn http2_carries_many_requests_at_once_to_both_kinds_of_backends() {
    for (version, port_name) in [(Version::Http1, "http"), (Version::Http2, "grpc")] {
        let backend = Backend::start("webapp", version, Place::loopback());
        let (_gateway, address) = site::before(HOST, port_name, backend.server.address);
        client::runtime().block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let (sender, driver) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
            tokio::spawn(driver);
            let requests: Vec<_> = (0..200)
                .map(|number| {
                    let mut sender = sender.clone();
                    tokio::spawn(async move {
                        let request = Request::get(format!("http://{HOST}/{number}"))
                            .body(Empty::<Bytes>::new())
                            .expect("a request");
                        sender.ready().await.expect("an open connection");
                        let response = sender.send_request(request).await.expect("an answer");
                        assert_eq!(response.status(), StatusCode::OK);
                        let body = response.into_body().collect().await.expect("a body").to_bytes();
                        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                        assert_eq!(body["path"], format!("/{number}"));
                    })
                })
                .collect();
            for request in requests {
                tokio::time::timeout(client::LIMIT, request).await.expect("in time").expect("an answer");
            }
        });
        assert_eq!(backend.requests(), 200, "{version:?}");
    }
}

#[test]
fn grpc_clients_get_grpc_failures_and_trailers() {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &documents::service("webapp", "grpc", &[]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let mut curl = curl();
    curl.args(["--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc", "-H"]);
    curl.arg(format!("host: {HOST}")).arg(format!("http://{}/shop.Cart/Get", gateway.at(port)));
    let said = run(&mut curl).expect_success();
    assert!(said.out.starts_with("HTTP/2 200"), "{}", said.out);
    assert!(
        said.out.contains("grpc-status: 14") && said.out.contains("grpc-message: no healthy upstream"),
        "{}",
        said.out
    );
}

#[test]
fn dots_and_slashes_of_a_path_cannot_step_around_a_rule() {
    let backend = Backend::http("webapp");
    let port = port::free();
    let rules = "  http:\n  - match: [{uri: {prefix: /admin}}]\n    directResponse: {status: 403}\n  - route: [{destination: {host: webapp, port: {number: 80}}}]";
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &documents::http_service("webapp", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    for path in ["/admin", "/x/../admin", "/./admin", "/x/%2e%2e/admin", "/%61dmin"] {
        let answer = raw(
            gateway.at(port),
            &format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"),
        );
        assert!(
            answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400"),
            "{path} reached the backend: {answer}"
        );
    }
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_slow_reader_gets_all_of_a_large_answer() {
    const LENGTH: usize = 8 << 20;
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let mut stream = client::connect(address);
    write!(stream, "GET /bytes/{LENGTH} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")
        .expect("sending");
    // A small buffer, read in small pieces: every queue on the way fills and empties many times.
    let mut buffer = [0; 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).expect("bytes") {
            0 => break,
            length => total += length,
        }
    }
    assert!(total > LENGTH, "{total} bytes");
}
