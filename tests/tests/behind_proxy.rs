//! Clients that come through a proxy which says who they are, by the PROXY protocol (`gatewayTopology.proxyProtocol`).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use harness::authority::Authority;
use harness::backend::Backend;
use harness::client::{self, read_to_end};
use harness::documents::{
    self, Server, annotated_gateway, http_route, http_service, secret, sni_route, tcp_route, tcp_service,
};
use harness::gateway::Gateway;
use harness::program::{curl, run};
use harness::tls::{TlsClient, exchange};
use harness::{canned, port, wait};

const HOST: &str = "webapp.istioinaction.io";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\n";
/// The same in version 2, with a word behind the addresses that nobody needs.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x09\x12\x67\x01\xbb\x04\0\x01\0";
/// A proxy that speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn mesh() -> String {
    documents::config_map(
        "istio-system",
        "istio",
        &[("mesh", "defaultConfig: {gatewayTopology: {proxyProtocol: {}}}")],
    )
}

/// What the backend is told of the client, after bytes that come in such pieces.
fn told(address: SocketAddr, header: &[u8], piece: usize) -> serde_json::Value {
    let mut stream = client::connect(address);
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    for piece in [header, request.as_bytes()].concat().chunks(piece) {
        stream.write_all(piece).expect("sending");
    }
    let (answer, _) = read_to_end(&mut stream);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer: {text}"));
    serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|_| panic!("{text}"))["headers"].clone()
}

#[test]
fn requests_are_the_clients_whom_the_header_tells() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let rule = "  http:\n  - {route: [{destination: {host: webapp}}], headers: {request: {set: {x-who: \
                \"%DOWNSTREAM_REMOTE_ADDRESS% by %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% to \
                %DOWNSTREAM_LOCAL_ADDRESS%\"}}}}";
    let site = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rule)
        + &http_service("webapp", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &site).document("mesh", &mesh()).start();
    let address = gateway.at(port);
    for header in [LINE, BINARY] {
        for piece in [1, 7, 1000] {
            let headers = told(address, header, piece);
            assert_eq!(headers["x-who"], "192.0.2.7:4711 by 127.0.0.1 to 198.51.100.9:443");
            assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
            assert_eq!(headers["x-envoy-external-address"], "192.0.2.7");
        }
    }
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert_eq!(told(address, header, 1000)["x-forwarded-for"], "127.0.0.1");
    }
    let url = format!("http://{HOST}:{}/", address.port());
    let resolve = format!("{HOST}:{}:127.0.0.1", address.port());
    let said = run(curl().args(["--haproxy-protocol", "--resolve", &resolve, &url])).expect_success();
    assert!(said.out.contains("\"x-forwarded-for\":\"127.0.0.1\""), "{}", said.out);

    // Nobody is before the gateway any more.
    gateway.apply("mesh", "");
    assert_eq!(told(address, b"", 1000)["x-forwarded-for"], "127.0.0.1");
}

#[test]
fn who_says_nothing_or_something_else_is_refused_and_counted() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let site = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &site).document("mesh", &mesh()).start();
    let address = gateway.at(port);
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let huge = [&LOCAL[..14], b"\xff\xff"].concat();
    let all = [request.as_bytes(), b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", &endless, &huge];
    for bytes in all {
        let mut stream = client::connect(address);
        // The gateway may close before it has read all.
        let _ = stream.write_all(bytes);
        let (answer, _) = read_to_end(&mut stream);
        assert_eq!(answer, b"", "to {:?}", String::from_utf8_lossy(bytes));
    }
    // Half a header is no header, and nothing at all is no connection that would count.
    for bytes in [&LINE[..20], b""] {
        let mut stream = client::connect(address);
        stream.write_all(bytes).expect("sending");
        stream.shutdown(Shutdown::Write).expect("an end");
        assert_eq!(read_to_end(&mut stream).0, b"");
    }
    assert_eq!(backend.requests(), 0);
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains(&format!("{} without a PROXY header", all.len())), "{listeners}");
}

#[test]
fn opaque_connections_are_the_clients_too() {
    let ((backend, hears), port) = (canned::listen(), port::free());
    let log = tempfile::tempdir().expect("a directory");
    let file = log.path().join("access.log");
    let site = annotated_gateway("edge", &["sluice.dev/proxy-protocol: v1"], &[Server::tcp(port)])
        + &tcp_route("echo", port, "edge", "echo")
        + &tcp_service("echo", &[backend.address]);
    let gateway = Gateway::arrange()
        .document("site", &site)
        .document("mesh", &mesh())
        .flags(&["--access-log", file.to_str().expect("a path")])
        .start();
    let mut stream = client::connect(gateway.at(port));
    stream.write_all(&[LINE, b"first words"].concat()).expect("sending");
    stream.shutdown(Shutdown::Write).expect("half-closing");
    let heard = hears.recv_timeout(wait::PATIENCE).expect("the bytes");
    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&[LINE, b"first words"].concat()));
    let _ = stream.read(&mut [0]);
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains("user space (reads the PROXY protocol)"), "{listeners}");
    let line = wait::until("a line", || {
        std::fs::read_to_string(&file).ok().filter(|text: &String| text.ends_with('\n'))
    });
    assert!(line.contains(" 198.51.100.9:443 192.0.2.7:4711 "), "{line}");
    assert!(line.contains(" 11 0 "), "the header is none of the client's bytes: {line}");
}

#[test]
fn tls_comes_behind_the_header_whoever_ends_it() {
    let authority = Authority::new("the test's");
    let backend = Backend::http("webapp");
    let (passed, hears) = canned::listen();
    let port = port::free();
    let servers =
        [Server::https(port, "SIMPLE", "webapp", &[HOST]), Server::passthrough(port, &["through.test"])];
    let site = documents::gateway("edge", &servers)
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address])
        + &sni_route("through", port, "through.test", "edge", "through")
        + &documents::service("through", "tls", &[passed.address])
        + &secret("webapp", &authority.issue(&[HOST]), None);
    let gateway = Gateway::arrange().document("site", &site).document("mesh", &mesh()).start();
    let address = gateway.at(port);
    let behind = |stream: &mut TcpStream, hello: &[u8]| stream.write_all(&[BINARY, hello].concat());
    let client = TlsClient::new(authority.roots(), HOST);
    let mut stream = client.connect_by(address, behind).expect("a handshake");
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let answer = exchange(&mut stream, &request).expect("an answer");
    assert!(answer.contains("\"x-forwarded-for\":\"192.0.2.7\""), "{answer}");

    let mut sent = Vec::new();
    let ended = TlsClient::new(authority.roots(), "through.test").connect_by(address, |stream, hello| {
        sent = hello.to_vec();
        stream.write_all(&[LINE, hello].concat())?;
        stream.shutdown(Shutdown::Write)
    });
    assert!(ended.is_err(), "the backend speaks no TLS");
    assert_eq!(hears.recv_timeout(wait::PATIENCE).expect("the bytes"), sent, "the hello and nothing else");
}
