//! Metrics of what the kernel plane carries: the bytes of client and server, while a flow lasts and at its end, each once,
//! wherever it began. Needs root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use harness::authority::Authority;
use harness::bulk::{self, Plan};
use harness::client::{self, read_to_end};
use harness::documents::{self, Server, service, sni_route, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::metrics::{Scrape, asked_by_what_is_deployed, expect_answered};
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, wait};

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
}

#[test]
fn a_flow_that_lasts_is_told_of_while_it_does() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab));
    let gateway = start(&lab, server.address, &[]);
    let to = address(&lab, PORT);
    let mut stream = lab.client.enter(move || client::connect(to));
    for round in 1..=2 {
        exchange(&mut stream, 50_000);
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
        exchange(&mut stream, 600_000);
        wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));
        expect(&gateway, "chat", [length + 600_000, length + 600_000, 1, 0]);
        exchange(&mut stream, 100_000);
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
    exchange(&mut stream, 50_000);
    gateway.kill();
    gateway.restart();
    expect(&gateway, "steered", [0, 0, 1, 0]);
    exchange(&mut stream, 30_000);
    expect(&gateway, "steered", [30_000, 30_000, 1, 0]);
    stream.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut stream).0.len(), 0);
    expect(&gateway, "steered", [30_000, 30_000, 1, 1]);
}

/// Says so much and hears it again.
fn exchange(stream: &mut TcpStream, bytes: usize) {
    let said = vec![b'x'; bytes];
    let mut talker = stream.try_clone().expect("a second handle");
    let talking = std::thread::spawn(move || talker.write_all(&said));
    stream.read_exact(&mut vec![0; bytes]).expect("hearing");
    talking.join().expect("no panic").expect("sending");
}
