//! HTTP through the real gateway: virtual hosts, routes, failures, both versions, and bodies of every size.

use std::io::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use harness::backend::{Backend, Version};
use harness::client::{self, Connection, get, read_to_end, request, send};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::program::{curl, run};
use harness::serve::Place;
use harness::{port, wait};
use http_body_util::Full;
use hyper::{Request, StatusCode};
use sha2::{Digest as _, Sha256};

const HOST: &str = "webapp.istioinaction.io";

/// A gateway with one HTTP port for any host, a backend, and the test's own rules.
struct Site {
    gateway: Gateway,
    backend: Backend,
    address: SocketAddr,
}

impl Site {
    fn new(rules: &str) -> Self {
        Self::with(Backend::http("webapp"), "http", rules)
    }

    fn with(backend: Backend, port_name: &str, rules: &str) -> Self {
        let port = port::free();
        let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
            + &documents::virtual_service("webapp", &[HOST], "edge", rules)
            + &documents::service("webapp", port_name, &[backend.server.address]);
        let gateway = Gateway::arrange().document("site", &documents).start();
        Self { address: gateway.at(port), gateway, backend }
    }

    /// Every request goes to the backend.
    fn plain() -> Self {
        Self::new(TO_WEBAPP)
    }
}

const TO_WEBAPP: &str = "  http:\n  - route:\n    - destination: {host: webapp, port: {number: 80}}";

#[test]
fn the_host_header_chooses_the_virtual_host() {
    let (webapp, catalog) = (Backend::http("webapp"), Backend::http("catalog"));
    let port = port::free();
    let hosts = [HOST, "catalog.istioinaction.io"];
    let documents = documents::gateway("edge", &[Server::http(port, &hosts)])
        + &http_route("webapp", hosts[0], "edge", "webapp")
        + &http_route("catalog", hosts[1], "edge", "catalog")
        + &http_service("webapp", &[webapp.server.address])
        + &http_service("catalog", &[catalog.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    assert_eq!(get(address, hosts[0], "/api/catalog").backend(), "webapp");
    assert_eq!(get(address, hosts[1], "/items").backend(), "catalog");
    assert_eq!(get(address, "CATALOG.istioinaction.io", "/").backend(), "catalog");
    let with_port = format!("{}:{port}", hosts[1]);
    assert_eq!(get(address, &with_port, "/").backend(), "catalog");
    let unknown = get(address, "unknown.istioinaction.io", "/");
    assert_eq!((unknown.status, unknown.text().as_str()), (StatusCode::NOT_FOUND, ""));
}

#[test]
fn the_backend_sees_the_request_as_it_was_sent() {
    let site = Site::plain();
    let sent =
        request("DELETE", HOST, "/a/b%20c?x=1&y=%2F", &[("x-custom", "kept"), ("connection", "close")]);
    let seen = send(site.address, sent).json();
    assert_eq!(seen["method"], "DELETE");
    assert_eq!(seen["path"], "/a/b%20c?x=1&y=%2F");
    assert_eq!(seen["host"], HOST);
    assert_eq!(seen["headers"]["x-custom"], "kept");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "http");
    assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["headers"]["connection"], serde_json::Value::Null, "hop-by-hop headers end here");
}

#[test]
fn a_service_without_endpoints_answers_503_with_envoys_words() {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let answer = get(gateway.at(port), HOST, "/");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.text(), "no healthy upstream");
}

#[test]
fn an_unknown_service_answers_503_without_a_body() {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "nowhere");
    let gateway = Gateway::arrange().document("site", &documents).start();
    let answer = get(gateway.at(port), HOST, "/");
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""));
}

#[test]
fn a_dead_endpoint_is_passed_over_and_only_dead_ones_answer_503() {
    let alive = Backend::http("alive");
    let dead = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let port = port::free();
    let with = |endpoints: &[SocketAddr]| {
        documents::gateway("edge", &[Server::http(port, &["*"])])
            + &http_route("webapp", HOST, "edge", "webapp")
            + &http_service("webapp", endpoints)
    };
    let gateway = Gateway::arrange().document("site", &with(&[alive.server.address, dead])).start();
    for _ in 0..20 {
        assert_eq!(get(gateway.at(port), HOST, "/").backend(), "alive");
    }
    gateway.apply("site", &with(&[dead]));
    let answer = wait::until("the dead endpoint alone", || {
        Some(get(gateway.at(port), HOST, "/")).filter(|answer| answer.status != StatusCode::OK)
    });
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("remote connection failure"), "{}", answer.text());
}

#[test]
fn weights_share_the_requests() {
    let (old, new) = (Backend::http("old"), Backend::http("new"));
    let port = port::free();
    let rules = "  http:\n  - route:\n    - {destination: {host: old}, weight: 80}\n    - {destination: {host: new}, weight: 20}";
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &http_service("old", &[old.server.address])
        + &http_service("new", &[new.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    client::runtime().block_on(async {
        let mut connection = Connection::open(address).await.expect("a connection");
        for _ in 0..1000 {
            let answer = connection.send(request("GET", HOST, "/", &[])).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK);
        }
    });
    assert_eq!(old.requests() + new.requests(), 1000);
    // 200 expected, 12.6 standard deviation: five of them on either side.
    assert!((137..=263).contains(&new.requests()), "{} of 1000 at weight 20", new.requests());
}

#[test]
fn requests_are_rewritten_redirected_and_answered_by_rule() {
    let rules = "  http:
  - name: health
    match: [{uri: {exact: /healthz}}]
    directResponse: {status: 200, body: {string: fine}}
  - name: moved
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: new.istioinaction.io, redirectCode: 308}
  - name: tester
    match: [{headers: {x-tester: {exact: \"yes\"}}, uri: {prefix: /api/}}]
    rewrite: {uri: /test/, authority: tester.local}
    headers:
      request: {set: {x-added: one}, remove: [x-tester]}
      response: {set: {x-answered: by-tester}}
    route: [{destination: {host: webapp, port: {number: 80}}}]
  - route: [{destination: {host: webapp, port: {number: 80}}}]";
    let site = Site::new(rules);
    let health = get(site.address, HOST, "/healthz");
    assert_eq!((health.status, health.text().as_str()), (StatusCode::OK, "fine"));
    let moved = get(site.address, HOST, "/old/page");
    assert_eq!(moved.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(moved.header("location"), "http://new.istioinaction.io/new");
    let tester = send(site.address, request("GET", HOST, "/api/items?q=1", &[("x-tester", "yes")]));
    assert_eq!(tester.header("x-answered"), "by-tester");
    let seen = tester.json();
    assert_eq!((&seen["path"], &seen["host"]), (&"/test/items?q=1".into(), &"tester.local".into()));
    assert_eq!(seen["headers"]["x-added"], "one");
    assert_eq!(seen["headers"]["x-tester"], serde_json::Value::Null);
    let other = get(site.address, HOST, "/api/items").json();
    assert_eq!((&other["path"], &other["host"]), (&"/api/items".into(), &HOST.into()));
    assert_eq!(site.backend.requests(), 2);
}

#[test]
fn http2_is_served_in_cleartext_to_those_who_know() {
    let site = Site::plain();
    let url = format!("http://{HOST}:{}/", site.address.port());
    let said = run(curl()
        .args(["--http2-prior-knowledge", "--resolve", &format!("{HOST}:{}:127.0.0.1", site.address.port())])
        .arg(&url))
    .expect_success();
    assert!(said.out.starts_with("HTTP/2 200"), "{}", said.all());
    assert!(
        said.out.contains("\"version\":\"HTTP/1.1\""),
        "the backend is spoken to in HTTP/1.1: {}",
        said.out
    );
}

#[test]
fn a_port_named_grpc_or_http2_is_spoken_to_in_http2() {
    for name in ["grpc", "http2-web"] {
        let site = Site::with(Backend::start("h2", Version::Http2, Place::loopback()), name, TO_WEBAPP);
        let seen = get(site.address, HOST, "/x?y").json();
        assert_eq!((&seen["version"], &seen["path"]), (&"HTTP/2.0".into(), &"/x?y".into()), "{name}");
        assert_eq!(seen["host"], HOST);
    }
}

#[test]
fn one_connection_carries_many_requests_on_both_sides() {
    let site = Site::plain();
    client::runtime().block_on(async {
        let mut connection = Connection::open(site.address).await.expect("a connection");
        for number in 0..100 {
            let path = format!("/{number}");
            let answer = connection.send(request("GET", HOST, &path, &[])).await.expect("an answer");
            assert_eq!(answer.json()["path"], path);
        }
    });
    assert_eq!(site.backend.requests(), 100);
    assert_eq!(site.backend.server.accepted(), 1, "the connection to the backend is kept");
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let site = Site::plain();
    let body = Bytes::from((0..LENGTH).map(|index| (index / 7) as u8).collect::<Vec<_>>());
    let expected = harness::backend::hex(&Sha256::digest(&body));
    let upload = Request::post("/digest").header("host", HOST).body(Full::from(body)).expect("a request");
    assert_eq!(send(site.address, upload).text(), expected);
    let download = get(site.address, HOST, &format!("/bytes/{LENGTH}"));
    assert_eq!(download.body.len(), LENGTH);
    assert!(download.body.iter().all(|byte| *byte == 0));
}

#[test]
fn a_large_answer_is_streamed_and_not_kept() {
    // More than the gateway may hold: its memory is watched while a client that does not read is served.
    const LENGTH: u64 = 1 << 30;
    let site = Site::plain();
    let mut stalled = client::connect(site.address);
    write!(stalled, "GET /bytes/{LENGTH} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").expect("sending");
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stalled, &mut head).expect("the head");
    assert_eq!(&head, b"HTTP/1.1 200");
    // Others are served meanwhile.
    for _ in 0..50 {
        assert_eq!(get(site.address, HOST, "/").status, StatusCode::OK);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.gateway.pid())).expect("its status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 200 * 1024, "{kib} KiB are held for an answer that nobody reads");
}

#[test]
fn a_backend_that_hangs_up_is_503_and_harms_no_other_request() {
    let site = Site::plain();
    let answer = get(site.address, HOST, "/hang-up");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("reset reason: connection termination"), "{}", answer.text());
    assert_eq!(get(site.address, HOST, "/").status, StatusCode::OK);
}

#[test]
fn a_route_timeout_is_504() {
    let rules =
        "  http:\n  - timeout: 300ms\n    route:\n    - destination: {host: webapp, port: {number: 80}}";
    let site = Site::new(rules);
    let answer = get(site.address, HOST, "/stall");
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.text(), "upstream request timeout");
}

#[test]
fn a_client_that_goes_away_frees_the_backend() {
    let site = Site::plain();
    let before = open_connections(site.gateway.pid());
    let mut client = client::connect(site.address);
    write!(client, "GET /stall HTTP/1.1\r\nhost: {HOST}\r\n\r\n").expect("sending");
    wait::until("the request at the backend", || (site.backend.requests() == 1).then_some(()));
    drop(client);
    wait::until("the end of both connections", || {
        (open_connections(site.gateway.pid()) <= before).then_some(())
    });
}

/// Socket descriptors of a process.
fn open_connections(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors of our own child");
    entries
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn garbage_is_400_or_a_close_and_never_the_end() {
    let site = Site::plain();
    for garbage in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX",
    ] {
        let mut client = client::connect(site.address);
        client.write_all(garbage).expect("sending");
        client.shutdown(std::net::Shutdown::Write).expect("half-closing");
        let (answer, _) = read_to_end(&mut client);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.starts_with("HTTP/1.1 200"), "{garbage:?}: {text}");
    }
    assert_eq!(get(site.address, HOST, "/").status, StatusCode::OK);
}

#[test]
fn a_stop_waits_for_the_request_under_way() {
    let mut site = Site::plain();
    let address = site.address;
    let mut client = client::connect(address);
    write!(client, "GET /bytes/50000000 HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")
        .expect("sending");
    wait::until("the request at the backend", || (site.backend.requests() == 1).then_some(()));
    site.gateway.ask_to_stop();
    let (answer, error) = read_to_end(&mut client);
    assert_eq!(error, None, "the answer is whole");
    assert!(answer.len() > 50_000_000, "{} bytes", answer.len());
    assert!(site.gateway.stop().success());
    assert!(client::try_send(address, request("GET", HOST, "/", &[])).is_err(), "nobody listens any more");
}

#[test]
fn the_ready_address_answers_probes() {
    let port = port::free();
    let gateway = Gateway::arrange().flags(&["--ready-address", &format!("127.0.0.1:{port}")]).start();
    assert_eq!(get(gateway.at(port), "localhost", "/healthz/ready").status, StatusCode::OK);
    assert_eq!(get(gateway.at(port), "localhost", "/config_dump").status, StatusCode::NOT_FOUND);
}
