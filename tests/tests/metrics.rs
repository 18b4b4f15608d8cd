//! Metrics of what user space carries: counts are those of clients, labels those of Istio, and Prometheus can read them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, get, read_to_end, request};
use harness::documents::{
    self, Server, http_route, http_service, service, sni_route, tcp_route, tcp_service,
};
use harness::gateway::Gateway;
use harness::metrics::{Scrape, prometheus};
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, port, wait};

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
