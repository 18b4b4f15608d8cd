//! TCP in user space through the real gateway: bytes pass unchanged, both ways, and so do the ends of streams.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use harness::bulk::{self, Plan};
use harness::client::{self, line, read_to_end};
use harness::documents::{self, Server, tcp_route, tcp_service};
use harness::echo;
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::{port, wait};

fn documents(port: u16, endpoints: &[SocketAddr]) -> String {
    documents::gateway("edge", &[Server::tcp(port)])
        + &tcp_route("echo", port, "edge", "echo")
        + &tcp_service("echo", endpoints)
}

/// A gateway with one TCP port, and the server behind it.
struct Site {
    gateway: Gateway,
    server: serve::Server,
    address: SocketAddr,
}

impl Site {
    fn new(server: serve::Server) -> Self {
        let port = port::free();
        let gateway = Gateway::arrange().document("site", &documents(port, &[server.address])).start();
        Self { address: gateway.at(port), gateway, server }
    }
}

#[test]
fn the_tutorials_echo_greets_and_echoes() {
    let site = Site::new(echo::start("demo", Place::loopback()));
    let mut client = client::connect(site.address);
    assert_eq!(line(&mut client, ""), "Welcome, you are connected to node demo.\r\n");
    for _ in 1..echo::greeting("demo").lines().count() {
        line(&mut client, "");
    }
    assert_eq!(line(&mut client, "hello\r\n"), "hello\r\n");
    assert_eq!(line(&mut client, "again\r\n"), "again\r\n");
}

#[test]
fn a_client_that_has_said_all_still_hears_the_answer() {
    let site = Site::new(echo::start_silent(Place::loopback()));
    let mut client = client::connect(site.address);
    client.write_all(b"last words").expect("sending");
    client.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut client), (b"last words".to_vec(), None));
}

#[test]
fn a_backend_that_has_said_all_still_hears_the_client() {
    let (heard, hears) = std::sync::mpsc::channel();
    let site = Site::new(serve::Server::start(Place::loopback(), move |mut stream| {
        let heard = heard.clone();
        async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            stream.write_all(b"bye").await.expect("sending");
            stream.shutdown().await.expect("half-closing");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("receiving");
            heard.send(all).expect("the test waits");
        }
    }));
    let mut client = client::connect(site.address);
    assert_eq!(read_to_end(&mut client), (b"bye".to_vec(), None));
    client.write_all(b"one more thing").expect("sending after the backend's end");
    drop(client);
    assert_eq!(hears.recv_timeout(wait::PATIENCE).expect("the bytes"), b"one more thing");
}

#[test]
fn many_bytes_arrive_as_they_were_sent_both_ways() {
    let site = Site::new(bulk::start(Place::loopback()));
    let plan = Plan { up: 64 << 20, down: 64 << 20, seed: 7 };
    bulk::transfer(client::connect(site.address), plan, |_| {}).expect("equal digests");
}

#[test]
fn many_clients_at_once_do_not_mix() {
    let site = Site::new(bulk::start(Place::loopback()));
    let address = site.address;
    std::thread::scope(|scope| {
        for seed in 0..32 {
            scope.spawn(move || {
                let plan = Plan { up: 1 << 20, down: (1 << 19) + seed, seed };
                bulk::transfer(client::connect(address), plan, |_| {}).expect("equal digests");
            });
        }
    });
    assert_eq!(site.server.accepted(), 32);
}

#[test]
fn without_a_healthy_backend_connections_are_closed() {
    let port = port::free();
    let gateway = Gateway::arrange().document("site", &documents(port, &[])).start();
    let mut client = client::connect(gateway.at(port));
    let (bytes, _) = read_to_end(&mut client);
    assert_eq!(bytes, b"");
}

#[test]
fn a_dead_backend_is_passed_over() {
    let alive = echo::start_silent(Place::loopback());
    let dead = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let port = port::free();
    let gateway = Gateway::arrange().document("site", &documents(port, &[dead, alive.address])).start();
    for _ in 0..10 {
        assert_eq!(line(&mut client::connect(gateway.at(port)), "hi\n"), "hi\n");
    }
}

#[test]
fn flows_outlive_a_change_of_documents_and_new_ones_go_elsewhere() {
    let (old, new) = (echo::start("old", Place::loopback()), echo::start("new", Place::loopback()));
    let port = port::free();
    let gateway = Gateway::arrange().document("site", &documents(port, &[old.address])).start();
    let mut first = client::connect(gateway.at(port));
    assert!(line(&mut first, "").contains("old"));
    gateway.apply("site", &documents(port, &[new.address]));
    wait::until("the new backend", || {
        line(&mut client::connect(gateway.at(port)), "").contains("new").then_some(())
    });
    for _ in 1..echo::greeting("old").lines().count() {
        line(&mut first, "");
    }
    assert_eq!(line(&mut first, "still here\n"), "still here\n");
}

#[test]
fn a_flow_outlives_the_end_of_its_listener_until_the_drain_is_over() {
    let mut site = Site::new(echo::start_silent(Place::loopback()));
    let mut client = client::connect(site.address);
    assert_eq!(line(&mut client, "before\n"), "before\n");
    site.gateway.ask_to_stop();
    wait::until("the end of the listener", || std::net::TcpStream::connect(site.address).err());
    assert_eq!(line(&mut client, "after\n"), "after\n");
    client.shutdown(Shutdown::Write).expect("half-closing");
    assert_eq!(read_to_end(&mut client).0, b"");
    assert!(site.gateway.stop().success());
}

#[test]
fn weights_choose_the_destination_of_each_connection() {
    let (old, new) = (echo::start("old", Place::loopback()), echo::start("new", Place::loopback()));
    let port = port::free();
    let rules = format!(
        "  tcp:\n  - match: [{{port: {port}}}]\n    route:\n    - {{destination: {{host: old}}, weight: 75}}\n    \
         - {{destination: {{host: new}}, weight: 25}}"
    );
    let documents = documents::gateway("edge", &[Server::tcp(port)])
        + &documents::virtual_service("echo", &["*"], "edge", &rules)
        + &tcp_service("old", &[old.address])
        + &tcp_service("new", &[new.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    for _ in 0..400 {
        line(&mut client::connect(gateway.at(port)), "");
    }
    // 100 expected, 8.7 standard deviation: five of them on either side.
    assert!((57..=143).contains(&new.accepted()), "{} of 400 at weight 25", new.accepted());
    assert_eq!(old.accepted() + new.accepted(), 400);
}

#[test]
fn a_reset_of_the_backend_ends_the_flow() {
    let site = Site::new(serve::Server::start(Place::loopback(), |stream| async move {
        stream.set_zero_linger().expect("a socket option");
    }));
    let mut client = client::connect(site.address);
    let mut byte = [0];
    // Whether the gateway passes the reset on or closes is its choice; that it ends is not.
    assert_eq!(client.read(&mut byte).unwrap_or(0), 0);
    drop(client);
    assert_eq!(site.server.accepted(), 1);
}
