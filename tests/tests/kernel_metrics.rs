//! Metrics of what the kernel plane carries: the bytes of client and server, while a flow lasts and at its end, each once,
//! wherever it began. Needs root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use harness::authority::Authority;
use harness::bulk::{self, Plan};
use harness::client::{self, echoed, read_to_end};
use harness::documents::{self, Server, service, sni_route, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::metrics::{Scrape, asked_by_what_is_deployed, expect_answered};
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PORT: u16 = 31400;
const TLS_PORT: u16 = 443;
const NAME: &str = "chat.test";
/// What a [`Plan`] is told by, and the digest that answers it.
const OF_PLAN: u64 = 24;
const OF_DIGEST: u64 = 32;

fn start(lab: &Lab, backend: SocketAddr, flags: &[&str]) -> Gateway {
    let servers = [Server::tcp(PORT), Server::passthrough(TLS_PORT, &[NAME])];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("steered", PORT, "edge", "steered")
        + &sni_route("chat", TLS_PORT, NAME, "edge", "chat")
        + &tcp_service("steered", &[backend])
        + &service("chat", "https", &[backend]);
    let gateway = Gateway::arrange().within(&lab.gateway).kernel(Kernel::Require);
    gateway.flags(&["--interface", "c0"]).flags(flags).document("site", &documents).start()
}

fn place(lab: &Lab) -> Place {
    Place::within(&lab.backends[0], SocketAddr::new(lab.backend_address(Family::V4, 0), 0))
}

fn address(lab: &Lab, port: u16) -> SocketAddr {
    SocketAddr::new(lab.gateway_address(Family::V4), port)
}

/// Bytes received and sent, connections opened and closed.
fn told(scrape: &Scrape, service: &str) -> [u64; 4] {
    ["received_bytes", "sent_bytes", "connections_opened", "connections_closed"].map(|what| {
        let labels = [("destination_service_name", service), ("request_protocol", "tcp")];
        scrape.sum(&format!("istio_tcp_{what}_total"), &labels) as u64
    })
}

#[track_caller]
fn expect(gateway: &Gateway, service: &str, want: [u64; 4]) {
    let mut last = Scrape::default();
    let reached = wait::within(wait::PATIENCE, || {
        last = gateway.scrape();
        (told(&last, service) == want).then_some(())
    });
    assert!(reached.is_some(), "{:?}, not {want:?}:\n{}", told(&last, service), last.text);
}

#[test]
fn steered_bytes_equal_those_of_client_and_server() {
    let lab = Lab::new(1).expect("namespaces");
    let server = bulk::start(place(&lab));
    let gateway = start(&lab, server.address, &[]);
    let plan = Plan { up: 64 << 20, down: 64 << 20, seed: 7 };
    let to = address(&lab, PORT);
    lab.client
        .enter(move || bulk::transfer(client::connect(to), plan, |_| {}).map(drop))
        .expect("equal digests");
    expect(&gateway, "steered", [plan.up + OF_PLAN, plan.down + OF_DIGEST, 1, 1]);
    let scrape = gateway.scrape();
    scrape.expect_sound();
    assert!(scrape.sum("sluice_kernel_verdicts_total", &[("verdict", "steered")]) >= 1.0, "{}", scrape.text);
    expect_answered(&scrape, &asked_by_what_is_deployed());
    assert!((scrape.sum("sluice_kernel_plane_up", &[]) - 1.0).abs() < f64::EPSILON, "{}", scrape.text);
    for map in ["flows4", "flows6", "translations", "source_ports"] {
        let [used, room] =
            ["entries", "capacity"].map(|of| scrape.sum(&format!("sluice_kernel_map_{of}"), &[("map", map)]));
        assert!(room >= 64.0 && used < room / 2.0, "{map}: {used} of {room}");
    }
}

#[test]
fn a_flow_that_lasts_is_told_of_while_it_does() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab));
    let gateway = start(&lab, server.address, &[]);
    let to = address(&lab, PORT);
    let mut stream = lab.client.enter(move || client::connect(to));
    for round in 1..=2 {
        echoed(&mut stream, 50_000);
        expect(&gateway, "steered", [round * 50_000, round * 50_000, 1, 0]);
    }
    stream.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut stream).0.len(), 0);
    expect(&gateway, "steered", [100_000, 100_000, 1, 1]);
}

#[test]
fn bytes_before_and_after_a_hand_over_count_once() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab));
    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    let length = hello.len() as u64;
    // At once, and after user space has carried much.
    for (number, tier) in [(1, "handoff"), (2, "lasting")] {
        let gateway = start(&lab, server.address, &["--tier", tier]);
        let (to, hello) = (address(&lab, TLS_PORT), hello.clone());
        let mut stream = lab.client.enter(move || client::connect(to));
        stream.write_all(&hello).expect("sending");
        stream.read_exact(&mut vec![0; hello.len()]).expect("hearing");
        echoed(&mut stream, 600_000);
        wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));
        expect(&gateway, "chat", [length + 600_000, length + 600_000, 1, 0]);
        echoed(&mut stream, 100_000);
        stream.shutdown(Shutdown::Write).expect("half-closing");
        assert_eq!(read_to_end(&mut stream).0.len(), 0);
        expect(&gateway, "chat", [length + 700_000, length + 700_000, 1, 1]);
        let scrape = gateway.scrape();
        assert!(
            (scrape.sum("sluice_handoffs_total", &[]) - 1.0).abs() < f64::EPSILON,
            "round {number}: {}",
            scrape.text
        );
    }
}

/// An agent that takes up the flows of another one counts what they carry from then on.
#[test]
fn an_agent_does_not_count_what_another_one_has() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab));
    let mut gateway = start(&lab, server.address, &[]);
    let to = address(&lab, PORT);
    let mut stream = lab.client.enter(move || client::connect(to));
    echoed(&mut stream, 50_000);
    gateway.kill();
    gateway.restart();
    expect(&gateway, "steered", [0, 0, 1, 0]);
    echoed(&mut stream, 30_000);
    expect(&gateway, "steered", [30_000, 30_000, 1, 0]);
    stream.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut stream).0.len(), 0);
    expect(&gateway, "steered", [30_000, 30_000, 1, 1]);
}

/// Counts what it hears, and says it again.
fn counting(lab: &Lab, heard: &Arc<AtomicU64>) -> harness::serve::Server {
    let heard = heard.clone();
    harness::serve::Server::start(place(lab), move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                heard.fetch_add(length as u64, Ordering::SeqCst);
                if stream.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            let _ = stream.shutdown().await;
        }
    })
}

/// Steered from its SYN, and handed over: what client and server have counted is what every teller tells.
#[test]
fn a_gibibyte_is_told_alike_by_all_who_tell() {
    const PIECE: usize = 64 << 20;
    let lab = Lab::new(1).expect("namespaces");
    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    for (service, port, first) in [("steered", PORT, vec![b'x'; 100]), ("chat", TLS_PORT, hello)] {
        let heard = Arc::new(AtomicU64::new(0));
        let server = counting(&lab, &heard);
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("access");
        let flags = ["--tier", "handoff", "--access-log-format", "json", "--access-log"];
        let flags = [&flags[..], &[log.to_str().expect("a path")]].concat();
        let mut gateway = start(&lab, server.address, &flags);
        let (to, begun) = (address(&lab, port), Instant::now());
        let mut stream = lab.client.enter(move || client::connect(to));
        let own = stream.local_addr().expect("an address").to_string();
        stream.write_all(&first).expect("sending");
        stream.read_exact(&mut vec![0; first.len()]).expect("hearing");
        if service == "chat" {
            wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));
        }
        for _ in 0..16 {
            echoed(&mut stream, PIECE);
        }
        let bytes = 16 * PIECE as u64 + first.len() as u64;
        assert_eq!(heard.load(Ordering::SeqCst), bytes, "{service}");

        let is_among = |flows: &Value| {
            let flow = flows.as_array()?.iter().find(|flow| flow["client"] == own.as_str())?;
            let told = [&flow["bytesToBackend"], &flow["bytesToClient"]];
            let is_even = flow["plane"] == "kernel" && told.iter().all(|told| **told == bytes);
            (is_even && flow["backend"] == server.address.to_string()).then_some(())
        };
        wait::until("the flow with its bytes", || {
            let said = gateway.sluice(&["flows", "-o", "json"]).expect_success();
            is_among(&serde_json::from_str(&said.out).expect("JSON"))
        });
        wait::until("the same on the dashboard", || {
            let answer = gateway.ask("/dashboard/flows")?;
            let page: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).expect("JSON");
            is_among(&page["rows"])
        });
        stream.shutdown(Shutdown::Write).expect("half-closing");
        assert_eq!(read_to_end(&mut stream).0.len(), 0);
        let took = begun.elapsed().as_millis();
        let line: Value = wait::until("a line in the access log", || {
            serde_json::from_str(std::fs::read_to_string(&log).ok()?.lines().next()?).ok()
        });
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&bytes.into(), &bytes.into()), "{line}");
        assert_eq!(line["upstream_host"], server.address.to_string(), "{line}");
        assert_eq!(line["downstream_remote_address"], own, "{line}");
        assert_eq!((&line["response_flags"], &line["response_code"]), (&"-".into(), &0.into()), "{line}");
        // The programs look at a clock that is a second coarse at most.
        let duration = u128::from(line["duration"].as_u64().expect("a number"));
        assert!(duration.abs_diff(took) < 1500, "{took} ms, {line}");
        expect(&gateway, service, [bytes, bytes, 1, 1]);
        // As of the last walk through the records.
        wait::until("the bytes of the backend", || {
            let traffic = gateway.kernel()["backendTraffic"][0].clone();
            let is_even = traffic["bytesToBackend"] == bytes && traffic["bytesToClient"] == bytes;
            (is_even && traffic["backend"] == server.address.to_string()).then_some(())
        });
        assert!(gateway.stop().success());
    }
}
