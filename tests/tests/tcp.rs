//! TCP in user space through the real gateway: bytes pass unchanged, both ways, and so do the ends of streams.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use harness::bulk::{self, Plan};
use harness::client::{self, line, read_to_end};
use harness::documents::{self, Server, annotated_gateway, destination_rule, tcp_route, tcp_service};
use harness::echo;
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::{canned, port, wait};

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
    // Whether the gateway passes the reset on, even before we know of the connection, or closes is its choice; that it ends is not.
    match TcpStream::connect(site.address) {
        Ok(mut client) => {
            client.set_read_timeout(Some(client::LIMIT)).expect("a timeout");
            let read = client.read(&mut [0]).or_else(reset);
            assert_eq!(read.expect("an end in time"), 0);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(site.server.accepted(), 1);
}

/// An end, like that of a stream.
fn reset(error: std::io::Error) -> std::io::Result<usize> {
    if error.kind() == ErrorKind::ConnectionReset { Ok(0) } else { Err(error) }
}

/// A gateway on echo servers, with a policy for them and annotations of its own.
fn policed(annotations: &[&str], policy: &str, endpoints: &[SocketAddr]) -> (Gateway, SocketAddr) {
    let port = port::free();
    let documents = annotated_gateway("edge", annotations, &[Server::tcp(port)])
        + &tcp_route("echo", port, "edge", "echo")
        + &tcp_service("echo", endpoints)
        + &destination_rule("echo", policy);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    (gateway, address)
}

/// Connects from an address of this machine's loopback network.
fn connect_from(source: [u8; 4], address: SocketAddr) -> std::net::TcpStream {
    let runtime = client::runtime();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("an address of loopback");
        socket.connect(address).await.expect("a connection").into_std().expect("a stream")
    });
    stream.set_nonblocking(false).expect("a socket option");
    stream.set_read_timeout(Some(client::LIMIT)).expect("a timeout");
    stream
}

#[test]
fn a_client_address_keeps_its_backend_and_others_spread() {
    let names = ["a", "b", "c", "d"];
    let backends = names.map(|name| echo::start(name, Place::loopback()));
    let endpoints: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let (_gateway, address) =
        policed(&[], "{loadBalancer: {consistentHash: {useSourceIp: true}}}", &endpoints);
    let reached = |source| line(&mut connect_from(source, address), "");
    let first: Vec<_> = (1..=30).map(|n| reached([127, 0, 1, n])).collect();
    for _ in 0..3 {
        assert_eq!(first, (1..=30).map(|n| reached([127, 0, 1, n])).collect::<Vec<_>>());
    }
    // 30 clients all at three of four backends: one in two thousand.
    assert!(backends.iter().filter(|backend| backend.accepted() > 0).count() >= 2);
}

#[test]
fn a_backend_that_refuses_is_ejected_and_comes_back() {
    let alive = echo::start("alive", Place::loopback());
    let dead = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let policy = "{outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 2s, interval: 1s}}";
    let (gateway, address) = policed(&[], policy, &[dead, alive.address]);
    let is_ejected = || {
        let table = gateway.sluice(&["proxy-config", "endpoints"]).expect_success().out;
        let row = table.lines().find(|row| row.contains(&dead.to_string())).expect("a row").to_owned();
        assert!(row.contains("FAILED") || row.contains("OK"), "{row}");
        row.contains("FAILED")
    };
    assert!(!is_ejected());
    wait::until("the ejection", || {
        assert!(line(&mut client::connect(address), "").contains("alive"));
        let dump = gateway.ask("/config_dump")?;
        (dump.contains("ejected_for_seconds") && is_ejected()).then_some(())
    });
    wait::until("the end of the ejection", || (!is_ejected()).then_some(()));
    let back = echo::start("back", Place::at(dead));
    wait::until("the backend that is back", || {
        line(&mut client::connect(address), "").contains("back").then_some(())
    });
    assert!(back.accepted() > 0 && gateway.log().contains("endpoint ejected"));
}

#[test]
fn a_backend_that_resets_before_it_says_anything_is_ejected() {
    let alive = echo::start("alive", Place::loopback());
    let bad = serve::Server::start(Place::loopback(), |stream| async move {
        stream.set_zero_linger().expect("a socket option");
    });
    let policy = "{outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 300s}}";
    let (gateway, address) = policed(&[], policy, &[bad.address, alive.address]);
    wait::until("the ejection", || {
        let mut client = client::connect(address);
        // A reset that came already is what this waits for.
        let _ = client.shutdown(Shutdown::Write);
        read_to_end(&mut client);
        gateway.log().contains("endpoint ejected").then_some(())
    });
    let before = bad.accepted();
    for _ in 0..20 {
        assert!(line(&mut client::connect(address), "").contains("alive"));
    }
    assert!(before >= 3 && bad.accepted() == before);
}

#[test]
fn the_backend_hears_first_who_the_client_is() {
    for (annotations, policy) in [
        (&["sluice.dev/proxy-protocol: v1"][..], "{outlierDetection: {}}"),
        (&["sluice.dev/proxy-protocol: v2"], "{proxyProtocol: {version: V1}}"),
        (&[], "{proxyProtocol: {version: V1}}"),
    ] {
        let (backend, hears) = canned::listen();
        let (gateway, address) = policed(annotations, policy, &[backend.address]);
        let mut client = connect_from([127, 0, 3, 4], address);
        client.write_all(b"first words").expect("sending");
        client.shutdown(Shutdown::Write).expect("half-closing");
        let own = client.local_addr().expect("an address").port();
        let want = format!("PROXY TCP4 127.0.3.4 127.0.0.1 {own} {}\r\nfirst words", address.port());
        let heard = hears.recv_timeout(wait::PATIENCE).expect("the bytes");
        assert_eq!(String::from_utf8_lossy(&heard), want);
        let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
        assert!(listeners.contains("user space (sends the PROXY protocol)"), "{listeners}");
    }
}

/// Whether a backend greets a new client. A reset may hit the client while it is still connecting.
fn is_served(address: SocketAddr) -> bool {
    let mut byte = [0];
    let greeted = std::net::TcpStream::connect_timeout(&address, client::LIMIT).and_then(|mut client| {
        client.set_read_timeout(Some(client::LIMIT))?;
        client.read(&mut byte)
    });
    match greeted {
        Ok(count) => count == 1,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

#[test]
fn connections_over_the_limit_of_the_port_are_reset() {
    let backend = echo::start("only", Place::loopback());
    let (gateway, address) =
        policed(&["sluice.dev/max-connections: '2'"], "{outlierDetection: {}}", &[backend.address]);
    let mut held = [client::connect(address), client::connect(address)];
    for client in &mut held {
        assert!(line(client, "").contains("only"));
    }
    assert!(!is_served(address));
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains("1 over the limit"), "{listeners}");
    drop(held);
    wait::until("a free place", || is_served(address).then_some(()));
}

#[test]
fn new_connections_over_the_limit_of_the_second_are_reset() {
    let backend = echo::start("only", Place::loopback());
    let annotations = ["sluice.dev/max-new-connections-per-second: '3'"];
    let (_gateway, address) = policed(&annotations, "{outlierDetection: {}}", &[backend.address]);
    // Three in each second that the attempts take, however slow the machine is.
    let start = std::time::Instant::now();
    wait::until("one too many", || (!is_served(address)).then_some(()));
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!((3..=3 * seconds).contains(&backend.accepted()), "{} in {seconds} s", backend.accepted());
    wait::until("the next second", || is_served(address).then_some(()));
}

#[test]
fn connections_over_the_rules_limit_are_closed() {
    let backend = echo::start("only", Place::loopback());
    let (gateway, address) = policed(&[], "{connectionPool: {tcp: {maxConnections: 1}}}", &[backend.address]);
    let mut held = client::connect(address);
    assert!(line(&mut held, "").contains("only"));
    assert_eq!(read_to_end(&mut client::connect(address)).0, b"");
    assert_eq!(backend.accepted(), 1);
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains("limits connections to the backend"), "{listeners}");
    drop(held);
    wait::until("a free place", || is_served(address).then_some(()));
}

#[test]
fn a_silent_connection_ends_with_the_rules_idle_timeout() {
    let backend = echo::start_silent(Place::loopback());
    let (_gateway, address) =
        policed(&[], "{connectionPool: {tcp: {idleTimeout: 300ms}}}", &[backend.address]);
    let mut client = client::connect(address);
    assert_eq!(line(&mut client, "hi\n"), "hi\n");
    assert_eq!(read_to_end(&mut client).0, b"");
}

#[test]
fn a_busy_connection_ends_when_it_has_lasted_as_long_as_the_rule_allows() {
    let backend = echo::start_silent(Place::loopback());
    let (gateway, address) =
        policed(&[], "{connectionPool: {tcp: {maxConnectionDuration: 500ms}}}", &[backend.address]);
    let mut client = client::connect(address);
    let begin = std::time::Instant::now();
    let mut echoed = [0];
    while client.write_all(b"x").is_ok() && client.read(&mut echoed).is_ok_and(|length| length > 0) {}
    let lasted = begin.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(5)).contains(&lasted), "{lasted:?}");
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    assert!(listeners.contains("limits how long connections last"), "{listeners}");
}
