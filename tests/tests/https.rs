//! HTTPS through the real gateway: certificates by SNI, client certificates, ALPN, redirects, and secrets that come,
//! change and go.

use std::net::SocketAddr;

use harness::authority::Authority;
use harness::backend::Backend;
use harness::client::{self, get};
use harness::documents::{self, Server, http_route, http_service, secret};
use harness::gateway::Gateway;
use harness::program::{Said, curl, run};
use harness::serve::Place;
use harness::tls::{TlsClient, exchange};
use harness::{port, wait, websocket};
use hyper::StatusCode;

const WEBAPP: &str = "webapp.istioinaction.io";
const CATALOG: &str = "catalog.istioinaction.io";

/// The tutorial's two hosts on one HTTPS port, each with a certificate of its own.
struct Site {
    gateway: Gateway,
    authority: Authority,
    address: SocketAddr,
    _backends: [Backend; 2],
}

impl Site {
    fn new() -> Self {
        Self::with("SIMPLE", None)
    }

    /// `mode` and the authority of client certificates are for webapp alone.
    fn with(mode: &str, clients: Option<&Authority>) -> Self {
        Self::arrange(mode, clients, true)
    }

    /// Webapp's Secret is not there yet.
    fn without_webapps_secret() -> Self {
        Self::arrange("SIMPLE", None, false)
    }

    fn arrange(mode: &str, clients: Option<&Authority>, has_secret: bool) -> Self {
        let backends = [Backend::http("webapp"), Backend::http("catalog")];
        let authority = Authority::new("the test's");
        let port = port::free();
        let documents = http_route("webapp", WEBAPP, "edge", "webapp")
            + &http_route("catalog", CATALOG, "edge", "catalog")
            + &http_service("webapp", &[backends[0].server.address])
            + &http_service("catalog", &[backends[1].server.address]);
        let clients = clients.map(Authority::certificate);
        let webapp = secret("webapp-credential", &authority.issue(&[WEBAPP]), clients.as_deref());
        let gateway = Gateway::arrange()
            .document("edge", &edge(port, mode))
            .document("site", &documents)
            .document("webapp", if has_secret { &webapp } else { "" })
            .document("catalog", &secret("catalog-credential", &authority.issue(&[CATALOG]), None))
            .start();
        Self { address: gateway.at(port), gateway, authority, _backends: backends }
    }

    /// Removes webapp's Secret and waits until the gateway has noticed.
    fn remove_webapps_secret(&self) {
        self.gateway.remove("webapp");
        let status = || self.gateway.sluice(&["status"]).all();
        wait::until("the Secret's end", || status().contains("webapp-credential not found").then_some(()));
    }

    fn client(&self, name: &str) -> TlsClient {
        TlsClient::new(self.authority.roots(), name)
    }

    fn fetch(&self, name: &str) -> anyhow::Result<String> {
        fetch(&self.client(name), self.address, name)
    }

    fn curl(&self, arguments: &[&str], url: &str) -> Said {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = self.authority.write(directory.path());
        let mut curl = curl();
        curl.arg("--cacert").arg(authority);
        for host in [WEBAPP, CATALOG, "unknown.istioinaction.io"] {
            curl.args(["--resolve", &format!("{host}:{}:127.0.0.1", self.address.port())]);
        }
        run(curl.args(arguments).arg(url.replace("PORT", &self.address.port().to_string())))
    }
}

/// The Gateway; `mode` is for webapp alone.
fn edge(port: u16, mode: &str) -> String {
    documents::gateway(
        "edge",
        &[
            Server::https(port, mode, "webapp-credential", &[WEBAPP]),
            Server::https(port, "SIMPLE", "catalog-credential", &[CATALOG]),
        ],
    )
}

/// A GET over a TLS connection of its own, as text with its head.
fn fetch(client: &TlsClient, address: SocketAddr, host: &str) -> anyhow::Result<String> {
    let mut stream = client.connect(address)?;
    exchange(&mut stream, &format!("GET /api HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
}

#[track_caller]
fn assert_served_by(answer: anyhow::Result<String>, backend: &str) {
    let answer = answer.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("\"backend\":\"{backend}\"")), "{answer}");
}

#[test]
fn each_host_has_its_own_certificate_on_one_port() {
    let site = Site::new();
    assert_served_by(site.fetch(WEBAPP), "webapp");
    assert_served_by(site.fetch(CATALOG), "catalog");
    let names = |name: &str| {
        let mut stream = site.client(name).connect(site.address).expect("a handshake");
        exchange(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("an answer");
        stream.conn.peer_certificates().expect("a certificate")[0].clone()
    };
    assert_ne!(names(WEBAPP), names(CATALOG));
}

#[test]
fn the_tutorials_curl_line_works() {
    let site = Site::new();
    let said = site.curl(&[], &format!("https://{WEBAPP}:PORT/api/catalog")).expect_success();
    assert!(said.out.starts_with("HTTP/2 200"), "ALPN chooses HTTP/2: {}", said.out);
    assert!(said.out.contains("\"x-forwarded-proto\":\"https\""), "{}", said.out);
    let said = site.curl(&["--http1.1"], &format!("https://{CATALOG}:PORT/items")).expect_success();
    assert!(said.out.starts_with("HTTP/1.1 200"), "{}", said.out);
}

#[test]
fn a_client_that_does_not_know_the_authority_fails_as_in_the_tutorial() {
    let site = Site::new();
    let stranger = Authority::new("another");
    let client = TlsClient::new(stranger.roots(), WEBAPP);
    let error = format!("{:#}", fetch(&client, site.address, WEBAPP).expect_err("no trust"));
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_served_by(site.fetch(WEBAPP), "webapp");
}

#[test]
fn an_unknown_name_or_none_is_reset() {
    let site = Site::new();
    for client in [site.client("unknown.istioinaction.io"), site.client(WEBAPP).without_name()] {
        let error = client.connect(site.address).expect_err("nobody answers to that name");
        assert!(is_cut_off(&error), "{error:#}");
    }
    let said = site.curl(&[], "https://unknown.istioinaction.io:PORT/");
    assert_eq!(said.code, Some(35), "curl tells of a failed handshake: {}", said.all());
}

/// Closed without a word of TLS: reset, or the end.
fn is_cut_off(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof))
}

#[test]
fn a_host_of_another_certificate_is_not_served_on_the_connection() {
    let site = Site::new();
    let answer = fetch(&site.client(WEBAPP), site.address, CATALOG).expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 421"),
        "webapp's filter chain has webapp's hosts alone: {answer}"
    );
}

#[test]
fn alpn_offers_both_versions_and_is_not_needed() {
    let site = Site::new();
    let chosen = |protocols: &[&str]| {
        let stream = site.client(WEBAPP).alpn(protocols).connect(site.address).expect("a handshake");
        stream.conn.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&["h2", "http/1.1"]).as_deref(), Some(&b"h2"[..]));
    assert_eq!(chosen(&["http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(chosen(&[]), None);
}

#[test]
fn mutual_tls_asks_for_a_certificate_of_the_right_authority() {
    let clients = Authority::new("of clients");
    let site = Site::with("MUTUAL", Some(&clients));
    assert!(site.fetch(WEBAPP).is_err(), "no certificate was shown");
    let wrong = site.authority.issue(&["mallory"]);
    assert!(
        fetch(&site.client(WEBAPP).identity(&wrong), site.address, WEBAPP).is_err(),
        "of the wrong authority"
    );
    let right = clients.issue(&["alice"]);
    assert_served_by(fetch(&site.client(WEBAPP).identity(&right), site.address, WEBAPP), "webapp");
    assert_served_by(site.fetch(CATALOG), "catalog");
}

#[test]
fn optional_mutual_tls_verifies_what_is_shown() {
    let clients = Authority::new("of clients");
    let site = Site::with("OPTIONAL_MUTUAL", Some(&clients));
    assert_served_by(site.fetch(WEBAPP), "webapp");
    let right = clients.issue(&["alice"]);
    assert_served_by(fetch(&site.client(WEBAPP).identity(&right), site.address, WEBAPP), "webapp");
    let wrong = site.authority.issue(&["mallory"]);
    assert!(fetch(&site.client(WEBAPP).identity(&wrong), site.address, WEBAPP).is_err());
}

#[test]
fn cleartext_is_redirected_where_the_server_says_so() {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::redirecting(port, &[WEBAPP])])
        + &http_route("webapp", WEBAPP, "edge", "webapp")
        + &http_service("webapp", &[]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let answer = get(gateway.at(port), WEBAPP, "/api/catalog?page=2");
    assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(answer.header("location"), format!("https://{WEBAPP}/api/catalog?page=2"));
}

#[test]
fn a_missing_secret_resets_its_own_names_alone() {
    let site = Site::without_webapps_secret();
    let error = site.client(WEBAPP).connect(site.address).expect_err("there is no certificate");
    assert!(is_cut_off(&error), "{error:#}");
    assert_served_by(site.fetch(CATALOG), "catalog");
    let status = site.gateway.sluice(&["status"]).all();
    assert!(status.contains("webapp-credential"), "the status names the secret:\n{status}");
    // It comes later.
    site.gateway.apply("webapp", &secret("webapp-credential", &site.authority.issue(&[WEBAPP]), None));
    assert_served_by(site.fetch(WEBAPP), "webapp");
}

#[test]
fn a_secret_that_goes_away_is_served_on() {
    let site = Site::new();
    site.remove_webapps_secret();
    assert_served_by(site.fetch(WEBAPP), "webapp");
    // Through further generations too.
    site.gateway.apply("more", &http_service("more", &[]));
    assert_served_by(site.fetch(WEBAPP), "webapp");
}

#[test]
fn a_secret_that_went_away_does_not_stand_in_where_clients_must_show_a_certificate() {
    let site = Site::new();
    site.remove_webapps_secret();
    site.gateway.apply("edge", &edge(site.address.port(), "MUTUAL"));
    let error = site.client(WEBAPP).connect(site.address).expect_err("nobody could be verified");
    assert!(is_cut_off(&error), "{error:#}");
    assert_served_by(site.fetch(CATALOG), "catalog");
}

#[test]
fn a_key_of_another_certificate_harms_its_own_names_alone() {
    let site = Site::new();
    let mut mixed = site.authority.issue(&[WEBAPP]);
    mixed.key = site.authority.issue(&[WEBAPP]).key;
    site.gateway.apply("webapp", &secret("webapp-credential", &mixed, None));
    assert_served_by(site.fetch(CATALOG), "catalog");
    let status = site.gateway.sluice(&["status"]).all();
    assert!(status.contains("webapp-credential"), "the status names the secret:\n{status}");
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_old_connections_go_on() {
    let site = Site::new();
    let mut old = site.client(WEBAPP).connect(site.address).expect("a handshake");
    exchange_one(&mut old);
    let before = certificate(&old);
    site.gateway.apply("webapp", &secret("webapp-credential", &site.authority.issue(&[WEBAPP]), None));
    wait::until("the new certificate", || {
        let mut new = site.client(WEBAPP).connect(site.address).ok()?;
        exchange_one(&mut new);
        (certificate(&new) != before).then_some(())
    });
    exchange_one(&mut old);
}

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>;

fn certificate(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

/// A request and its answer; the connection stays.
#[track_caller]
fn exchange_one(stream: &mut TlsStream) {
    let request = format!("GET /status/200 HTTP/1.1\r\nhost: {WEBAPP}\r\n\r\n");
    let first = client::line(stream, &request);
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    while client::line(stream, "") != "\r\n" {}
}

#[test]
fn cleartext_on_the_https_port_harms_nobody() {
    let site = Site::new();
    let mut client = client::connect(site.address);
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("sending");
    let (answer, _) = client::read_to_end(&mut client);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_served_by(site.fetch(WEBAPP), "webapp");
}

#[test]
fn a_websocket_within_tls_is_copied_and_says_why() {
    let authority = Authority::new("the test's");
    let backend = websocket::start(Place::loopback());
    let port = port::free();
    let documents =
        documents::gateway("edge", &[Server::https(port, "SIMPLE", "webapp-credential", &[WEBAPP])])
            + &http_route("webapp", WEBAPP, "edge", "webapp")
            + &http_service("webapp", &[backend.address])
            + &secret("webapp-credential", &authority.issue(&[WEBAPP]), None);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let client = TlsClient::new(authority.roots(), WEBAPP).alpn(&["http/1.1"]);
    let stream = client.connect(gateway.at(port)).expect("a handshake");
    let mut socket = websocket::shake_hands(stream, WEBAPP);
    for (seed, length) in [(1, 10), (2, 1 << 20)] {
        websocket::exchange(&mut socket, seed, length);
    }
    let flows = gateway.sluice(&["flows", "-o", "json"]).expect_success().out;
    let flows: Vec<serde_json::Value> = serde_json::from_str(&flows).expect("rows");
    assert_eq!(
        (flows.len(), &flows[0]["tier"], &flows[0]["reason"]),
        (1, &"copy".into(), &"terminatesTls".into()),
        "{flows:?}"
    );
    socket.close(None).expect("sending");
    websocket::expect_closed(&mut socket);
}
