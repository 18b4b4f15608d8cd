//! TLS passthrough: the gateway reads the SNI, however the ClientHello is cut, and passes every byte on untouched.

use std::io::Write;
use std::net::SocketAddr;

use harness::authority::Authority;
use harness::backend::Backend;
use harness::client::{self, get, read_to_end};
use harness::documents::{self, Server, service, sni_route};
use harness::gateway::Gateway;
use harness::port;
use harness::program::{run, run_with_input};
use harness::serve::Place;
use harness::tls::{TlsClient, exchange, in_records, padded, server_config};

const FIRST: &str = "simple-sni-1.istioinaction.io";
const SECOND: &str = "simple-sni-2.istioinaction.io";

/// Two backends that hold their own keys, on one port of the gateway.
struct Site {
    _gateway: Gateway,
    authority: Authority,
    address: SocketAddr,
    backends: [Backend; 2],
}

impl Site {
    fn new() -> Self {
        let authority = Authority::new("the backends'");
        let backend =
            |name: &str| Backend::tls(name, server_config(&authority.issue(&[name])), Place::loopback());
        let backends = [backend(FIRST), backend(SECOND)];
        let port = port::free();
        let documents = documents::gateway("edge", &[Server::passthrough(port, &["*.istioinaction.io"])])
            + &sni_route("first", port, FIRST, "edge", "first")
            + &sni_route("second", port, SECOND, "edge", "second")
            + &service("first", "https", &[backends[0].server.address])
            + &service("second", "https", &[backends[1].server.address]);
        let gateway = Gateway::arrange().document("site", &documents).start();
        Self { address: gateway.at(port), _gateway: gateway, authority, backends }
    }

    fn client(&self, name: &str) -> TlsClient {
        TlsClient::new(self.authority.roots(), name)
    }

    /// Shakes hands with the ClientHello sent as the caller says; returns who answered.
    fn fetch_by(
        &self,
        name: &str,
        send: impl FnOnce(&mut std::net::TcpStream, &[u8]) -> std::io::Result<()>,
    ) -> anyhow::Result<String> {
        let mut stream = self.client(name).connect_by(self.address, send)?;
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        exchange(&mut stream, &request)
    }

    #[track_caller]
    fn assert_reaches(name: &str, answer: anyhow::Result<String>) {
        let answer = answer.expect("an answer");
        assert!(answer.contains(&format!("\"backend\":\"{name}\"")), "{answer}");
    }

    fn accepted(&self) -> usize {
        self.backends.iter().map(|backend| backend.server.accepted()).sum()
    }

    /// What a client that sends these bytes and no more gets back.
    fn raw(&self, bytes: &[u8]) -> (Vec<u8>, Option<std::io::ErrorKind>) {
        let mut stream = client::connect(self.address);
        stream.write_all(bytes).expect("sending");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_to_end(&mut stream)
    }
}

#[test]
fn the_sni_chooses_the_backend_which_holds_the_key() {
    let site = Site::new();
    for name in [FIRST, SECOND] {
        Site::assert_reaches(name, site.fetch_by(name, Write::write_all));
    }
}

#[test]
fn the_tutorials_lines_work() {
    let site = Site::new();
    let directory = tempfile::tempdir().expect("a directory");
    let authority = site.authority.write(directory.path());
    let port = site.address.port();
    let said = run(harness::program::curl()
        .args(["--http1.1", "--resolve", &format!("{FIRST}:{port}:127.0.0.1"), "--cacert"])
        .arg(&authority)
        .arg(format!("https://{FIRST}:{port}/")))
    .expect_success();
    assert!(said.out.contains(&format!("\"backend\":\"{FIRST}\"")), "{}", said.out);
    let said = run_with_input(
        std::process::Command::new("openssl")
            .args(["s_client", "-connect", &format!("localhost:{port}"), "-servername", SECOND, "-CAfile"])
            .arg(&authority),
        b"",
    );
    assert!(said.out.contains("Verify return code: 0 (ok)"), "{}", said.all());
    assert!(said.out.contains(SECOND), "the backend's own certificate is shown: {}", said.out);
}

#[test]
fn a_hello_in_segments_of_one_byte_is_understood() {
    let site = Site::new();
    let answer = site.fetch_by(SECOND, |stream, hello| {
        // With TCP_NODELAY each write is a segment of its own, as long as the peer keeps up.
        hello.iter().try_for_each(|byte| stream.write_all(&[*byte]))
    });
    Site::assert_reaches(SECOND, answer);
}

#[test]
fn a_hello_over_several_records_is_understood() {
    let site = Site::new();
    for size in [1, 7, 100] {
        let hello = in_records(&site.client(FIRST).hello(), size);
        let before = site.backends[0].server.accepted();
        let (answer, _) = site.raw(&hello);
        // rustls, as the backend, reads it too; it answers with a ServerHello record.
        assert_eq!(answer.first(), Some(&22), "records of {size} bytes");
        assert_eq!(site.backends[0].server.accepted(), before + 1, "records of {size} bytes");
    }
}

#[test]
fn a_hello_that_is_nearly_64_kib_long_is_understood() {
    let site = Site::new();
    for length in [2_000, 16_000, 60_000] {
        let before = site.backends[1].server.accepted();
        let hello = in_records(&padded(&site.client(SECOND).hello(), length), 16_384);
        let mut stream = client::connect(site.address);
        stream.write_all(&hello).expect("sending");
        harness::wait::until("the connection at the backend", || {
            (site.backends[1].server.accepted() == before + 1).then_some(())
        });
    }
}

#[test]
fn what_is_no_hello_is_closed_and_reaches_no_backend() {
    let site = Site::new();
    let hello = site.client(FIRST).hello();
    let mut no_such_version = hello.clone();
    no_such_version[1] = 9;
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: simple-sni-1.istioinaction.io\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("zeros", &[0; 4096]),
        ("half a hello", &hello[..hello.len() / 2]),
        ("a record of another protocol", &no_such_version),
    ];
    for (what, bytes) in cases {
        let (answer, _) = site.raw(bytes);
        // A TLS alert (21) is an answer too.
        assert!(answer.is_empty() || answer[0] == 21, "{what}: {answer:?}");
    }
    assert_eq!(site.accepted(), 0);
    Site::assert_reaches(FIRST, site.fetch_by(FIRST, Write::write_all));
}

#[test]
fn an_unknown_name_or_none_is_closed_and_reaches_no_backend() {
    let site = Site::new();
    for client in [
        site.client("simple-sni-3.istioinaction.io"),
        site.client("elsewhere.example"),
        site.client(FIRST).without_name(),
    ] {
        assert!(client.connect(site.address).is_err());
    }
    assert_eq!(site.accepted(), 0);
}

#[test]
fn a_hello_that_never_ends_does_not_hold_others_up() {
    let site = Site::new();
    let hello = site.client(FIRST).hello();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = client::connect(site.address);
            stream.write_all(&hello[..hello.len() - 1]).expect("sending");
            stream
        })
        .collect();
    for _ in 0..10 {
        Site::assert_reaches(SECOND, site.fetch_by(SECOND, Write::write_all));
    }
    assert_eq!(site.backends[0].server.accepted(), 0);
    drop(waiting);
}

#[test]
fn terminated_and_passed_through_names_share_a_port() {
    let authority = Authority::new("everybody's");
    let through = Backend::tls(FIRST, server_config(&authority.issue(&[FIRST])), Place::loopback());
    let within = Backend::http("within");
    let port = port::free();
    let host = "webapp.istioinaction.io";
    let servers =
        [Server::passthrough(port, &[FIRST]), Server::https(port, "SIMPLE", "webapp-credential", &[host])];
    let documents = documents::gateway("edge", &servers)
        + &sni_route("through", port, FIRST, "edge", "through")
        + &documents::http_route("within", host, "edge", "within")
        + &service("through", "https", &[through.server.address])
        + &documents::http_service("within", &[within.server.address])
        + &documents::secret("webapp-credential", &authority.issue(&[host]), None);
    let gateway = Gateway::arrange().document("site", &documents).start();
    for (name, backend) in [(FIRST, FIRST), (host, "within")] {
        let mut stream =
            TlsClient::new(authority.roots(), name).connect(gateway.at(port)).expect("a handshake");
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        let answer = exchange(&mut stream, &request).expect("an answer");
        assert!(answer.contains(&format!("\"backend\":\"{backend}\"")), "{answer}");
    }
    // The backend is reachable by itself, too: the test's own arrangement is sound.
    assert_eq!(get(within.server.address, host, "/").backend(), "within");
}

#[test]
fn the_backend_hears_who_the_client_is_before_the_hello() {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let (heard, hears) = std::sync::mpsc::channel();
    let backend = harness::serve::Server::start(Place::loopback(), move |mut stream| {
        let heard = heard.clone();
        async move {
            use tokio::io::AsyncReadExt as _;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("receiving");
            heard.send(all).expect("the test waits");
        }
    });
    let port = port::free();
    let documents = documents::annotated_gateway(
        "edge",
        &["sluice.dev/proxy-protocol: v2"],
        &[Server::passthrough(port, &[FIRST])],
    ) + &sni_route("first", port, FIRST, "edge", "first")
        + &service("first", "https", &[backend.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let hello = TlsClient::new(Authority::new("nobody's").roots(), FIRST).hello();
    let mut client = client::connect(gateway.at(port));
    client.write_all(&hello).expect("sending");
    client.shutdown(std::net::Shutdown::Write).expect("half-closing");
    let own = client.local_addr().expect("an address").port();
    let mut want = [SIGNATURE, &[0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]].concat();
    want.extend([own.to_be_bytes(), port.to_be_bytes()].concat());
    want.extend(hello);
    assert_eq!(hears.recv_timeout(harness::wait::PATIENCE).expect("the bytes"), want);
}
