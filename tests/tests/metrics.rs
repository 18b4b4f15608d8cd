//! Metrics of what user space carries: counts are those of clients, labels those of Istio, and Prometheus can read them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, get, read_to_end, request};
use harness::deploy;
use harness::documents::{
    self, Server, http_route, http_service, service, sni_route, tcp_route, tcp_service,
};
use harness::gateway::Gateway;
use harness::metrics::{Scrape, asked_by_what_is_deployed, expect_answered, prometheus};
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, port, wait};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

const HOST: &str = "webapp.istioinaction.io";
const SNI: &str = "sni.istioinaction.io";
const WEBAPP: (&str, &str) = ("destination_service", "webapp.istioinaction.svc.cluster.local");
const UNKNOWN: (&str, &str) = ("destination_service", "unknown");

/// A scrape that has as many of something; a request is counted at its end, which its client may see before.
#[track_caller]
fn once(gateway: &Gateway, name: &str, labels: &[(&str, &str)], count: u64) -> Scrape {
    let mut last = Scrape::default();
    let found = wait::within(wait::PATIENCE, || {
        last = gateway.scrape();
        (last.sum(name, labels) as u64 >= count).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("no {count} of {name} {labels:?} in\n{}", last.text))
}

fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> u64 {
    scrape.sum(name, labels) as u64
}

#[test]
fn requests_are_counted_once_by_what_became_of_them() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let dead = ([127, 0, 0, 1], port::free()).into();
    let rules = "  http:\n  - {match: [{uri: {prefix: /dead}}], route: [{destination: {host: dead}}]}\n  \
                 - {route: [{destination: {host: webapp}}]}";
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &http_service("webapp", &[backend.server.address])
        + &http_service("dead", &[dead]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    for _ in 0..7 {
        assert_eq!(get(address, HOST, "/bytes/1000").status, 200);
    }
    for _ in 0..3 {
        let mut posted = request("POST", HOST, "/digest", &[("content-length", "300")]);
        *posted.body_mut() = vec![b'x'; 300].into();
        assert_eq!(client::send(address, posted).status, 200);
    }
    for _ in 0..2 {
        assert_eq!(get(address, HOST, "/status/404").status, 404);
    }
    assert_eq!(get(address, HOST, "/dead").status, 503);
    assert_eq!(get(address, "nobody.test", "/").status, 404);

    let scrape = once(&gateway, "istio_requests_total", &[], 14);
    scrape.expect_sound();
    for (labels, count) in [
        (vec![WEBAPP, ("response_code", "200"), ("response_flags", "-")], 10),
        (vec![WEBAPP, ("response_code", "404"), ("response_flags", "-")], 2),
        (
            vec![
                ("destination_service_name", "dead"),
                ("response_code", "503"),
                ("response_flags", "UF,URX"),
            ],
            1,
        ),
        (vec![UNKNOWN, ("response_code", "404"), ("response_flags", "NR")], 1),
    ] {
        assert_eq!(value(&scrape, "istio_requests_total", &labels), count, "{labels:?}\n{}", scrape.text);
        assert_eq!(value(&scrape, "istio_request_duration_milliseconds_count", &labels), count, "{labels:?}");
    }
    assert_eq!(value(&scrape, "istio_requests_total", &[]), 14, "each once:\n{}", scrape.text);
    let answered = [WEBAPP, ("response_code", "200")];
    let labels = &scrape.one("istio_requests_total", &answered).labels;
    for (label, want) in [
        ("reporter", "source"),
        ("source_workload", "istio-ingressgateway"),
        ("source_workload_namespace", "istio-system"),
        ("source_cluster", "Kubernetes"),
        ("destination_service_name", "webapp"),
        ("destination_service_namespace", "istioinaction"),
        ("request_protocol", "http"),
        ("grpc_response_status", ""),
        ("connection_security_policy", "unknown"),
        ("destination_workload", "unknown"),
    ] {
        assert_eq!(labels[label], want, "{label}");
    }
    assert_eq!(value(&scrape, "istio_request_bytes_sum", &answered), 900);
    assert_eq!(value(&scrape, "istio_response_bytes_sum", &answered), 7 * 1000 + 3 * 64);
    let below = |bound| {
        value(&scrape, "istio_response_bytes_bucket", &[WEBAPP, ("response_code", "200"), ("le", bound)])
    };
    assert_eq!((below("50"), below("100"), below("500"), below("1000"), below("+Inf")), (0, 3, 3, 10, 10));
}

#[test]
fn tcp_bytes_are_the_clients_own_and_are_there_while_it_lasts() {
    let [tcp, passed, refused] = [0; 3].map(|_| port::free());
    let server = echo::start_silent(Place::loopback());
    let nobody = ([127, 0, 0, 1], port::free()).into();
    let servers = [Server::tcp(tcp), Server::passthrough(passed, &[SNI]), Server::tcp(refused)];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("echo", tcp, "edge", "echo")
        + &sni_route("sni", passed, SNI, "edge", "sni")
        + &tcp_route("refused", refused, "edge", "refused")
        + &tcp_service("echo", &[server.address])
        + &service("sni", "https", &[server.address])
        + &tcp_service("refused", &[nobody]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let to = |service: &'static str| [("destination_service_name", service), ("request_protocol", "tcp")];
    let told = |scrape: &Scrape, service| {
        ["received_bytes", "sent_bytes", "connections_opened", "connections_closed"]
            .map(|what| value(scrape, &format!("istio_tcp_{what}_total"), &to(service)))
    };

    let mut stream = client::connect(gateway.at(tcp));
    let said = vec![b'x'; 100_000];
    let mut heard = vec![0; said.len()];
    for round in 1..=3 {
        stream.write_all(&said).expect("sending");
        stream.read_exact(&mut heard).expect("hearing");
        let carried = round * said.len() as u64;
        let scrape = once(&gateway, "istio_tcp_sent_bytes_total", &to("echo"), carried);
        assert_eq!(told(&scrape, "echo"), [carried, carried, 1, 0], "while it lasts");
    }
    stream.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut stream).0.len(), 0);
    let scrape = once(&gateway, "istio_tcp_connections_closed_total", &to("echo"), 1);
    assert_eq!(told(&scrape, "echo"), [300_000, 300_000, 1, 1]);

    let hello = TlsClient::new(Authority::new("nobody's").roots(), SNI).hello();
    let mut stream = client::connect(gateway.at(passed));
    stream.write_all(&hello).and_then(|()| stream.shutdown(Shutdown::Write)).expect("sending");
    assert_eq!(read_to_end(&mut stream).0, hello);
    let scrape = once(&gateway, "istio_tcp_connections_closed_total", &to("sni"), 1);
    assert_eq!(told(&scrape, "sni"), [hello.len() as u64, hello.len() as u64, 1, 1]);

    let mut stream = client::connect(gateway.at(refused));
    let _ = stream.read(&mut [0]);
    let scrape = once(&gateway, "istio_tcp_connections_closed_total", &to("refused"), 1);
    assert_eq!(told(&scrape, "refused"), [0, 0, 1, 1]);
    let flagged = [to("refused").as_slice(), &[("response_flags", "UF,URX")]].concat();
    assert_eq!(value(&scrape, "istio_tcp_connections_opened_total", &flagged), 1);
    scrape.expect_sound();
}

/// An HTTP route to a backend, and nothing else.
fn webapp(port: u16, backend: &Backend) -> String {
    documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address])
}

/// HTTP/2 from client to backend; a call of gRPC has a status of its own, and messages.
#[test]
fn grpc_has_its_status_and_its_messages() {
    let backend = Backend::start("webapp", Version::Http2, Place::loopback());
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &service("webapp", "grpc", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    // Three messages of 4, 0 and 2 bytes, which the backend says again.
    let body: &[u8] = b"\0\0\0\0\x04abcd\0\0\0\0\0\0\0\0\0\x02xy";
    for _ in 0..2 {
        call(gateway.at(port), "/echo", "application/grpc", body);
    }
    call(gateway.at(port), "/turns/grpc-5", "application/grpc", b"");
    call(gateway.at(port), "/bytes/10", "text/plain", b"");
    let scrape = once(&gateway, "istio_requests_total", &[], 4);
    scrape.expect_sound();
    for (labels, count) in [
        ([WEBAPP, ("request_protocol", "grpc"), ("grpc_response_status", "0")], 2),
        ([WEBAPP, ("request_protocol", "grpc"), ("grpc_response_status", "5")], 1),
        ([WEBAPP, ("request_protocol", "http"), ("grpc_response_status", "")], 1),
    ] {
        assert_eq!(value(&scrape, "istio_requests_total", &labels), count, "{labels:?}\n{}", scrape.text);
    }
    let spoken = [WEBAPP, ("grpc_response_status", "0")];
    assert_eq!(value(&scrape, "istio_request_messages_total", &spoken), 6, "{}", scrape.text);
    assert_eq!(value(&scrape, "istio_response_messages_total", &spoken), 6, "{}", scrape.text);
    assert!(scrape.samples("istio_request_messages_total", &[("request_protocol", "http")]).is_empty());
    assert_eq!(value(&scrape, "istio_request_bytes_sum", &spoken), 2 * body.len() as u64);
    assert_eq!(value(&scrape, "sluice_downstream_requests_active", &[]), 0, "{}", scrape.text);
}

/// Asks on an HTTP/2 connection of its own and reads the whole answer.
fn call(address: SocketAddr, path: &str, kind: &str, body: &[u8]) {
    client::runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("connecting");
        let (mut sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(driver);
        let request = Request::post(format!("http://{HOST}{path}"));
        let request = request.header("content-type", kind).header("te", "trailers");
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        answer.into_body().collect().await.expect("its body");
    });
}

#[test]
fn a_request_is_under_way_until_its_client_goes() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let gateway = Gateway::arrange().document("site", &webapp(port, &backend)).start();
    let mut stream = client::connect(gateway.at(port));
    write!(stream, "GET /stall HTTP/1.1\r\nhost: {HOST}\r\n\r\n").expect("sending");
    let name = format!("0.0.0.0:{port}");
    let listener = [("listener", name.as_str())];
    let scrape = once(&gateway, "sluice_downstream_requests_active", &listener, 1);
    assert_eq!(value(&scrape, "sluice_downstream_connections_active", &listener), 1);
    assert_eq!(value(&scrape, "istio_requests_total", &[]), 0);
    drop(stream);
    let gone = [WEBAPP, ("response_code", "0"), ("response_flags", "DC")];
    let scrape = once(&gateway, "istio_requests_total", &gone, 1);
    assert_eq!(value(&scrape, "sluice_downstream_requests_active", &listener), 0);
    wait::until("the connection's end", || {
        let active = gateway.scrape().sum("sluice_downstream_connections_active", &listener);
        (active < 1.0).then_some(())
    });
    assert_eq!(value(&gateway.scrape(), "sluice_downstream_connections_total", &listener), 1);
}

#[test]
fn what_is_beyond_the_limit_of_series_is_counted_together() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let flags = ["--max-metric-series", "3"];
    let gateway = Gateway::arrange().flags(&flags).document("site", &webapp(port, &backend)).start();
    for status in [200, 201, 202, 203, 404, 500] {
        for _ in 0..2 {
            get(gateway.at(port), HOST, &format!("/status/{status}"));
        }
    }
    let scrape = once(&gateway, "istio_requests_total", &[], 12);
    let beyond = [("destination_service", "overflow"), ("response_code", "overflow")];
    assert_eq!(value(&scrape, "istio_requests_total", &[WEBAPP]), 6, "{}", scrape.text);
    assert_eq!(value(&scrape, "istio_requests_total", &beyond), 6, "{}", scrape.text);
    for (name, count) in [("sluice_metric_series", 3), ("sluice_metric_overflow_total", 6)] {
        assert_eq!(value(&scrape, name, &[]), count, "{name}");
    }
    scrape.expect_sound();
}

/// A port of its own has metrics and nothing else, in the form that is asked for; traces are named in OpenMetrics alone.
#[test]
fn prometheus_reads_either_form_at_a_port_of_its_own() {
    let (backend, [port, metrics]) = (Backend::http("webapp"), [0; 2].map(|_| port::free()));
    let address = format!("127.0.0.1:{metrics}");
    let arranged = Gateway::arrange().flags(&["--metrics-address", &address]);
    let gateway = arranged.document("site", &webapp(port, &backend)).start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    client::send(gateway.at(port), request("GET", HOST, "/", &[("traceparent", &parent)]));
    once(&gateway, "istio_requests_total", &[], 1);
    let at = gateway.at(metrics);
    for path in ["/stats/prometheus", "/metrics"] {
        let answer = get(at, "sluice", path);
        let kind = answer.header("content-type");
        assert_eq!((answer.status.as_u16(), kind), (200, "text/plain; version=0.0.4; charset=utf-8"));
        Scrape::of(&answer.text()).expect_sound();
        assert!(!answer.text().contains(trace));
    }
    for path in ["/", "/status", "/config_dump", "/healthz/ready"] {
        assert_eq!(get(at, "sluice", path).status, 404, "{path}");
    }
    let wanted = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let answer = client::send(at, request("GET", "sluice", "/metrics", &wanted));
    let kind = answer.header("content-type");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let read = prometheus("openmetrics", &answer.text()).expect_success().out;
    let exemplars: Vec<_> = read.lines().collect();
    let is_told = |line: &&str| {
        line.starts_with("istio_request_duration_milliseconds_bucket {") && line.contains(trace)
    };
    assert!(exemplars.len() == 1 && exemplars.iter().all(is_told), "{exemplars:?}\n{}", answer.text());
}

#[test]
fn telemetry_takes_labels_away_and_leaves_metrics_out() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let telemetry = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: it, namespace: istio-system}\n\
                     spec:\n  metrics:\n  - overrides:\n    - match: {metric: REQUEST_COUNT}\n      tagOverrides: {response_code: \
                     {operation: REMOVE}, site: {value: \"'north'\"}}\n    - match: {metric: REQUEST_SIZE}\n      disabled: true\n";
    let gateway = Gateway::arrange().document("site", &webapp(port, &backend)).start();
    for status in [200, 201, 404] {
        get(gateway.at(port), HOST, &format!("/status/{status}"));
    }
    let before = once(&gateway, "istio_requests_total", &[], 3);
    assert_eq!(before.samples("istio_requests_total", &[WEBAPP]).len(), 3);
    gateway.apply("telemetry", telemetry);
    let scrape = gateway.scrape();
    scrape.expect_sound();
    let one = scrape.one("istio_requests_total", &[WEBAPP, ("site", "north")]);
    assert_eq!((one.value as u64, one.labels.contains_key("response_code")), (3, false));
    assert!(!scrape.text.contains("istio_request_bytes"), "{}", scrape.text);
    assert_eq!(scrape.samples("istio_response_bytes_count", &[WEBAPP]).len(), 3, "others stay");
}

/// Scrapes do not hold up requests, nor lose any of them.
#[test]
fn nothing_is_lost_while_many_read() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let gateway = Arc::new(Gateway::arrange().document("site", &webapp(port, &backend)).start());
    let is_over = Arc::new(AtomicBool::new(false));
    let read = |gateway: Arc<Gateway>, is_over: Arc<AtomicBool>| {
        let (mut scrapes, mut last) = (0u32, 0);
        while !is_over.load(Ordering::Relaxed) {
            let now = value(&gateway.scrape(), "istio_requests_total", &[]);
            assert!(now >= last, "a counter went back from {last} to {now}");
            (scrapes, last) = (scrapes + 1, now);
        }
        scrapes
    };
    let start = |_| {
        let (gateway, is_over) = (gateway.clone(), is_over.clone());
        std::thread::spawn(move || read(gateway, is_over))
    };
    let readers: Vec<_> = (0..3).map(start).collect();
    let address = gateway.at(port);
    let clients: Vec<_> = (0..4).map(|_| std::thread::spawn(move || ask_often(address, 500))).collect();
    for client in clients {
        client.join().expect("a client");
    }
    let scrape = once(&gateway, "istio_requests_total", &[], 2000);
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().expect("a reader") > 0);
    }
    assert_eq!(value(&scrape, "istio_requests_total", &[WEBAPP, ("response_code", "200")]), 2000);
    assert_eq!(value(&scrape, "istio_response_bytes_sum", &[WEBAPP]), 20_000);
}

fn ask_often(address: SocketAddr, times: usize) {
    client::runtime().block_on(async {
        let mut connection = client::Connection::open(address).await.expect("connecting");
        for _ in 0..times {
            let answer = connection.send(request("GET", HOST, "/bytes/10", &[])).await.expect("an answer");
            assert_eq!(answer.status, 200);
        }
    });
}

/// What the dashboard and the alerts ask for is there, by these names and with these labels; and docs tell of all there is.
#[test]
fn dashboard_alerts_and_docs_speak_of_what_there_is() {
    let (backend, [port, tcp]) = (Backend::http("webapp"), [0; 2].map(|_| port::free()));
    let server = echo::start_silent(Place::loopback());
    let policy = "{outlierDetection: {consecutive5xxErrors: 5}}";
    let documents = documents::gateway("edge", &[Server::http(port, &["*"]), Server::tcp(tcp)])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &tcp_route("echo", tcp, "edge", "echo")
        + &http_service("webapp", &[backend.server.address])
        + &tcp_service("echo", &[server.address])
        + &documents::destination_rule("webapp", policy);
    let gateway = Gateway::arrange().document("site", &documents).start();
    get(gateway.at(port), HOST, "/");
    let mut stream = client::connect(gateway.at(tcp));
    stream.write_all(b"x").and_then(|()| stream.shutdown(Shutdown::Write)).expect("sending");
    read_to_end(&mut stream);
    once(&gateway, "istio_tcp_connections_closed_total", &[], 1);
    let scrape = once(&gateway, "istio_requests_total", &[], 1);
    let asked = asked_by_what_is_deployed();
    assert!(asked.len() > 40, "{asked:?}");
    expect_answered(&scrape, &asked);

    let docs = std::fs::read_to_string(deploy::path("docs/telemetry.md")).expect("docs/telemetry.md");
    let untold: Vec<_> = scrape.families().filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/telemetry.md does not tell of {untold:?}");
}

/// The port is one of the sockets that an agent hands on.
#[test]
fn a_successor_answers_where_the_one_before_it_did() {
    let (backend, [port, metrics]) = (Backend::http("webapp"), [0; 2].map(|_| port::free()));
    let address = format!("127.0.0.1:{metrics}");
    let arranged = Gateway::arrange().flags(&["--metrics-address", &address]);
    let mut gateway = arranged.document("site", &webapp(port, &backend)).start();
    let started = || Scrape::of(&get(([127, 0, 0, 1], metrics).into(), "sluice", "/metrics").text());
    let before = started().one("process_start_time_seconds", &[]).value;
    let relieved = gateway.replace();
    wait::until("the successor's word", || {
        (started().one("process_start_time_seconds", &[]).value > before).then_some(())
    });
    relieved.expect_end();
    get(gateway.at(port), HOST, "/");
    assert_eq!(value(&once(&gateway, "istio_requests_total", &[], 1), "istio_requests_total", &[]), 1);
}
