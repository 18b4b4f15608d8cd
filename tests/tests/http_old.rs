//! Clients of HTTP/1.0, where the gateway serves them: `--http10`.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use harness::backend::{Backend, hex};
use harness::client::{self, read_line, read_to_end};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::port;
use harness::program::{curl, run};
use sha2::{Digest as _, Sha256};

const HOST: &str = "webapp.istioinaction.io";

fn start(backend: &Backend) -> (Gateway, SocketAddr) {
    let port = port::free();
    let site = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &site).flags(&["--http10"]).start();
    let address = gateway.at(port);
    (gateway, address)
}

/// What comes back until the gateway closes: that it does is part of the answer.
fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = client::connect(address);
    stream.write_all(bytes.as_bytes()).expect("sending");
    String::from_utf8_lossy(&read_to_end(&mut stream).0).into_owned()
}

#[test]
fn an_answer_ends_with_its_connection_and_has_no_chunks() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = start(&backend);
    let answer = raw(address, &format!("GET /bytes/100000 HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert!(!head.contains("transfer-encoding") && !head.contains("keep-alive"), "{head}");
    assert_eq!(body.len(), 100_000);

    let answer =
        raw(address, &format!("POST /digest HTTP/1.0\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhello"));
    assert!(answer.ends_with(&hex(&Sha256::digest(b"hello"))), "{answer}");
    // To the backend it is a request like any other, without what HTTP/1.0 has not.
    let answer = raw(
        address,
        &format!("GET / HTTP/1.0\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    );
    assert!(answer.contains("\"version\":\"HTTP/1.1\"") && !answer.contains("websocket"), "{answer}");
    assert!(raw(address, &format!("HEAD / HTTP/1.0\r\nhost: {HOST}\r\n\r\n")).ends_with("\r\n\r\n"));
}

#[test]
fn a_client_that_asks_for_it_keeps_its_connection() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = start(&backend);
    let mut stream = client::connect(address);
    for _ in 0..2 {
        let request = format!("GET /digest HTTP/1.0\r\nhost: {HOST}\r\nconnection: keep-alive\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sending");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &read_line(&mut stream);
        }
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("connection: keep-alive"), "{head}");
        let mut digest = [0; 64];
        stream.read_exact(&mut digest).expect("a digest");
        assert_eq!(String::from_utf8_lossy(&digest), hex(&Sha256::digest(b"")));
    }
    stream.write_all(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n").as_bytes()).expect("sending");
    assert!(read_to_end(&mut stream).0.ends_with(b"}"), "the last answer, and the end");
    assert_eq!(backend.requests(), 3);
}

#[test]
fn what_is_not_http_1_0_is_refused_as_ever() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = start(&backend);
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "400"),
        (format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("GET / HTTP/0.9\r\nhost: {HOST}\r\n\r\n"), "426"),
        (format!("GET / HTTP/1.2\r\nhost: {HOST}\r\n\r\n"), "426"),
        (format!("FROB / HTTP/1.0\r\nhost: {HOST}\r\n\r\n"), "400"),
        ("GET / HTTP/1.0\r\nhost: unknown.test\r\n\r\n".to_owned(), "404"),
    ] {
        let answer = raw(address, &request);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}: {answer}");
    }
    assert_eq!(backend.requests(), 0);
    let resolve = format!("{HOST}:{}:127.0.0.1", address.port());
    let url = format!("http://{HOST}:{}/", address.port());
    let said = run(curl().args(["--http1.0", "--resolve", &resolve, &url])).expect_success();
    assert!(said.out.contains("\"backend\":\"webapp\""), "{}", said.out);
}
