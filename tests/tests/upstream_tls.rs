//! TLS from the real gateway to backends, and what else connections to them begin with.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use harness::authority::{Authority, Identity};
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, get};
use harness::documents::{self, Server, http_route, secret, service, tcp_route};
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::tls::server_config;
use harness::workshop::{Extensions, Key, Workshop};
use harness::{echo, port, wait, websocket};
use hyper::StatusCode;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "shop.test";

/// A backend that has a certificate for [`HOST`] and `*.wild.test`, and the files of its authority.
struct Shop {
    authority: Authority,
    identity: Identity,
    directory: TempDir,
}

impl Shop {
    fn new() -> Self {
        let authority = Authority::new("the backend's");
        let identity = authority.issue(&[HOST, "*.wild.test"]);
        let directory = tempfile::tempdir().expect("a directory");
        authority.write(directory.path());
        Self { authority, identity, directory }
    }

    /// `caCertificates: FILE`.
    fn ca(&self) -> String {
        format!("caCertificates: {}", self.directory.path().join("ca-chain.cert.pem").display())
    }

    fn backend(&self, version: Version) -> Backend {
        let mut config = (*server_config(&self.identity)).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Backend::sealed("shop", version, Arc::new(config), Place::loopback())
    }

    /// One that wants certificates of clients, by the same authority.
    fn strict_backend(&self) -> Backend {
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.authority.roots())).build();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(self.identity.chain(), self.identity.private_key())
            .expect("a certificate that fits its key");
        Backend::tls("shop", Arc::new(config), Place::loopback())
    }
}

/// All hosts of a port lead to a service, whose DestinationRule has the policy.
fn arrange(port_name: &str, backend: SocketAddr, policy: &str, more: &str) -> (Gateway, SocketAddr) {
    let port = port::free();
    let gateway = Gateway::arrange()
        .document("edge", &documents::gateway("edge", &[Server::http(port, &["*"])]))
        .document(
            "shop",
            &(http_route("shop", "*", "edge", "shop") + &service("shop", port_name, &[backend])),
        )
        .document("rule", &documents::destination_rule("shop", policy))
        .document("more", more)
        // Each worker has connections of its own, which are counted here.
        .flags(&["--workers", "1"])
        .start();
    let address = gateway.at(port);
    (gateway, address)
}

fn simple(tls: &str) -> String {
    format!("{{tls: {{mode: SIMPLE, {tls}}}}}")
}

#[track_caller]
fn expect_no_tls(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("transport failure reason: TLS_error"), "{}", answer.text());
}

#[test]
fn backends_are_spoken_to_by_tls_and_asked_for_by_the_requests_host() {
    let shop = Shop::new();
    for (port_name, version, alpn) in
        [("http", Version::Http1, json!(null)), ("grpc", Version::Http2, json!("h2"))]
    {
        let backend = shop.backend(version);
        let (_gateway, address) = arrange(port_name, backend.server.address, &simple(&shop.ca()), "");
        for host in [HOST, "a.wild.test", "a.wild.test"] {
            let answer = get(address, host, "/");
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let seen = answer.json();
            assert_eq!(seen["tls"], json!({"sni": host, "alpn": alpn, "shows_certificate": false}));
            assert!(seen["host"].as_str().is_some_and(|seen| seen.starts_with(host)), "{seen}");
            if version == Version::Http2 {
                assert_eq!(seen["scheme"], "https");
            }
        }
        assert_eq!(backend.server.accepted(), 2, "a connection for each name, used again");
        // Whoever is asked for and is not there gets nothing, and nothing goes out in the clear.
        expect_no_tls(&get(address, "other.test", "/"));
        assert_eq!(backend.requests(), 3);
    }
}

/// A server that shows a certificate which it cannot read itself.
fn showing(identity: &Identity) -> Arc<ServerConfig> {
    let key = any_supported_type(&identity.private_key()).expect("a key");
    let certified = SingleCertAndKey::from(CertifiedKey::new(identity.chain(), key));
    Arc::new(ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(certified)))
}

#[test]
fn a_certificate_of_version_one_is_believed_by_its_authority_and_has_no_name() {
    let workshop = Workshop::new();
    for authority in ["own", "stranger"] {
        workshop.authority(authority);
    }
    for key in [Key::Rsa, Key::Ecdsa] {
        workshop.issue("own", "shop", key, Extensions::None);
        let identity = Identity { certificate: workshop.read("shop.crt"), key: workshop.read("shop.key") };
        let backend = Backend::tls("shop", showing(&identity), Place::loopback());
        let ca = |name: &str| format!("caCertificates: {}", workshop.path(&format!("{name}.crt")).display());
        let (gateway, address) =
            arrange("http", backend.server.address, &simple("insecureSkipVerify: true"), "");
        for (policy, believed) in [
            ("insecureSkipVerify: true".to_owned(), true),
            (format!("{}, sni: shop", ca("own")), true),
            (format!("{}, sni: shop", ca("stranger")), false),
            // Names are those of an extension, which such a certificate cannot have.
            (ca("own"), false),
            (format!("{}, subjectAltNames: [shop]", ca("own")), false),
        ] {
            gateway.apply("rule", &documents::destination_rule("shop", &simple(&policy)));
            let answer = get(address, HOST, "/");
            if believed {
                assert_eq!(answer.status, StatusCode::OK, "{key:?} by {policy}: {}", answer.text());
            } else {
                expect_no_tls(&answer);
            }
        }
    }
}

#[test]
fn policies_say_who_is_believed_and_what_is_asked_for() {
    let shop = Shop::new();
    let stranger = Shop::new();
    let backend = shop.backend(Version::Http1);
    let own = secret("own", &shop.identity, Some(&shop.authority.certificate()));
    let (gateway, address) = arrange("http", backend.server.address, &simple(&shop.ca()), &own);
    for (policy, host, want) in [
        (simple(&shop.ca()), HOST, Some(HOST)),
        (simple("credentialName: own"), HOST, Some(HOST)),
        (simple("insecureSkipVerify: true"), "any.test", Some("any.test")),
        (simple(&format!("{}, sni: x.test", shop.ca())), "any.test", Some("x.test")),
        (simple(&format!("{}, subjectAltNames: [{HOST}]", shop.ca())), "any.test", Some("any.test")),
        (simple(&format!("{}, subjectAltNames: [x.test]", shop.ca())), HOST, None),
        (simple(&stranger.ca()), HOST, None),
        // Nobody's system trusts this test's authority.
        (simple("sni: shop.test"), HOST, None),
        (simple("credentialName: gone"), HOST, None),
        (simple("caCertificates: /nowhere/ca.pem"), HOST, None),
    ] {
        gateway.apply("rule", &documents::destination_rule("shop", &policy));
        let answer = get(address, host, "/");
        match want {
            Some(sni) => assert_eq!(answer.json()["tls"]["sni"], sni, "{policy}"),
            None => expect_no_tls(&answer),
        }
    }
    let status = gateway.sluice(&["status"]).all();
    assert!(status.contains("file /nowhere/ca.pem not found"), "{status}");
}

#[test]
fn the_systems_authorities_count_where_no_ca_is_named() {
    let shop = Shop::new();
    let backend = shop.backend(Version::Http1);
    let (mut gateway, address) = arrange("http", backend.server.address, "{tls: {mode: SIMPLE}}", "");
    expect_no_tls(&get(address, HOST, "/"));
    let file = shop.directory.path().join("ca-chain.cert.pem");
    gateway.set_environment(&[("SSL_CERT_FILE", file.to_str().expect("a path of ours"))]);
    gateway.stop();
    gateway.restart();
    assert_eq!(get(address, HOST, "/").json()["tls"]["sni"], HOST);
}

#[test]
fn a_certificate_of_the_gateways_is_shown_where_both_sides_have_one() {
    let shop = Shop::new();
    let ours = shop.authority.issue(&["gateway.test"]);
    let backend = shop.strict_backend();
    let write = |name: &str, text: &str| {
        let path = shop.directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (certificate, key) = (write("own.pem", &ours.certificate), write("own.key", &ours.key));
    let files = format!(
        "{{tls: {{mode: MUTUAL, {}, clientCertificate: {certificate}, privateKey: {key}}}}}",
        shop.ca()
    );
    let own = secret("own", &ours, Some(&shop.authority.certificate()));
    let (gateway, address) = arrange("http", backend.server.address, &files, &own);
    for policy in [files, "{tls: {mode: MUTUAL, credentialName: own}}".to_owned()] {
        gateway.apply("rule", &documents::destination_rule("shop", &policy));
        assert_eq!(get(address, HOST, "/").json()["tls"]["shows_certificate"], true, "{policy}");
    }
    gateway.apply("rule", &documents::destination_rule("shop", &simple(&shop.ca())));
    // With TLS 1.3 a server says only after the handshake that it wanted a certificate.
    assert_eq!(get(address, HOST, "/").status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_ca_that_changes_in_its_file_counts_at_once_and_one_that_goes_away_stays() {
    let (shop, other) = (Shop::new(), Shop::new());
    let backend = shop.backend(Version::Http1);
    let (gateway, address) = arrange("http", backend.server.address, &simple(&other.ca()), "");
    expect_no_tls(&get(address, HOST, "/"));
    let path = other.directory.path().join("ca-chain.cert.pem");
    std::fs::write(&path, shop.authority.certificate()).expect("a file");
    wait::until("the new CA", || get(address, HOST, "/").status.is_success().then_some(()));
    std::fs::remove_file(&path).expect("the file");
    wait::until("word of it", || gateway.sluice(&["status"]).all().contains("not found").then_some(()));
    assert_eq!(get(address, HOST, "/").status, StatusCode::OK);
}

#[test]
fn a_rule_that_comes_later_leaves_no_request_on_a_connection_in_the_clear() {
    let shop = Shop::new();
    let backend = Backend::http("shop");
    let (gateway, address) = arrange("http", backend.server.address, "{outlierDetection: {}}", "");
    assert_eq!(get(address, HOST, "/").json()["tls"], json!(null));
    gateway.apply("rule", &documents::destination_rule("shop", &simple(&shop.ca())));
    expect_no_tls(&get(address, HOST, "/"));
    assert_eq!(backend.requests(), 1);
}

#[test]
fn a_backend_of_http_is_told_each_client_on_connections_of_its_own() {
    let (heard, hears) = std::sync::mpsc::channel();
    let backend = serve::Server::start(Place::loopback(), move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut head = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    heard.send(String::from_utf8_lossy(&head).into_owned()).expect("the test waits");
                    head.clear();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.expect("sending");
                }
            }
        }
    });
    let (_gateway, address) = arrange("http", backend.address, "{proxyProtocol: {version: V1}}", "");
    let mut clients = [client::connect(address), client::connect(address)];
    for is_first in [true, false] {
        for client in &mut clients {
            let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            client.write_all(request.as_bytes()).expect("sending");
            assert_eq!(client::read_line(client).trim_end(), "HTTP/1.1 200 OK");
            while !client::read_line(client).trim_end().is_empty() {}
            let own = client.local_addr().expect("an address").port();
            let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {}\r\n", address.port());
            let head = hears.recv_timeout(wait::PATIENCE).expect("a request");
            // Once a connection, before everything else.
            assert_eq!(head.starts_with(&header), is_first, "{head}");
            assert_eq!(head.contains("PROXY"), is_first, "{head}");
        }
    }
    assert_eq!(backend.accepted(), 2);
}

#[test]
fn websockets_and_opaque_bytes_go_within_tls_too() {
    let shop = Shop::new();
    let chat = websocket::start_sealed(server_config(&shop.identity), Place::loopback());
    let (gateway, address) = arrange("http", chat.address, &simple(&shop.ca()), "");
    let mut socket = websocket::connect(address, HOST);
    for (seed, length) in [(1, 5), (2, 70_000)] {
        websocket::exchange(&mut socket, seed, length);
    }
    drop(gateway);

    let talker = echo::start_sealed("talker", server_config(&shop.identity), Place::loopback());
    let port = port::free();
    let gateway = Gateway::arrange()
        .document("edge", &documents::gateway("edge", &[Server::tcp(port)]))
        .document(
            "shop",
            &(tcp_route("shop", port, "edge", "shop") + &service("shop", "tcp", &[talker.address])),
        )
        .document("rule", &documents::destination_rule("shop", &simple(&shop.ca())))
        .start();
    let mut client = client::connect(gateway.at(port));
    client.write_all(b"hello\n").expect("sending");
    assert!(client::read_line(&mut client).contains("talker"));
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains("user space (speaks TLS to the backend)"), "{listeners}");
    let flows = gateway.sluice(&["flows", "-o", "wide"]).expect_success().out;
    assert!(flows.contains("speaks TLS to the backend"), "{flows}");
    gateway.apply("rule", &documents::destination_rule("shop", &simple(&Shop::new().ca())));
    assert!(client::read_to_end(&mut client::connect(gateway.at(port))).0.is_empty());
}
