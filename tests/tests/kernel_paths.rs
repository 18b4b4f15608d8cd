//! What lies on the way of flows in the kernel: routers whose links carry less, links that lose and swap packets, and
//! the client's own address where backends are to see it. Needs root; fails where the kernel plane cannot be had.

use std::net::{IpAddr, SocketAddr, TcpStream};

use harness::bulk::{self, Plan};
use harness::chatter::Chatter;
use harness::client::{self, line, read_line};
use harness::echo;
use harness::lab::{self, Family, Lab};
use harness::namespace::Namespace;
use harness::serve::{Place, Server};
use harness::steered::{
    OTHER_PORT, PORT, Steered, Wishes, connect_from, greet, place, switch_offloads_off, verify_checksums,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MEBIBYTE: u64 = 1 << 20;

/// Numbers of networks that are not next to the gateway.
const BEHIND_CLIENT: usize = 100;
const BEHIND_BACKEND: usize = 101;
/// What the routers' links carry; less than the ends tell each other, or are told by the gateway.
const NARROW: u32 = 1380;

/// What the kernel has learned of the way from a namespace to an address.
fn learned(from: &Namespace, to: IpAddr) -> String {
    from.ip(&["route", "get", &to.to_string()]).expect("a route")
}

/// A large transfer each way, between ends whose packets do not fit through the routers next to the other end.
fn crosses_narrow_links(family: Family) {
    let lab = Lab::new(1).expect("namespaces");
    let client = lab.behind(0, BEHIND_CLIENT, NARROW).expect("a network");
    let backend = lab.behind(1, BEHIND_BACKEND, NARROW).expect("a network");
    // Packets as they are on a wire: with checksums, and each by itself.
    for end in [&client, &backend] {
        switch_offloads_off(end, "e0");
    }
    let far = lab::address(family, BEHIND_BACKEND, 2);
    let server = bulk::start(Place::within(&backend, SocketAddr::new(far, 0)));
    let steered = Steered::start(lab, &Wishes::default(), &[server.address], &[]);
    let address = steered.address(family);
    assert!(!learned(&client, address.ip()).contains("mtu"), "nothing is known before");

    let plan = Plan { up: 4 * MEBIBYTE, down: 4 * MEBIBYTE, seed: 9 };
    client.enter(move || bulk::transfer(client::connect(address), plan, |_| {})).expect("equal digests");

    assert_eq!(steered.sockets(), 0, "the kernel carried it");
    let errors = steered.verdict("icmp_error");
    assert!(errors >= 2, "{errors} ICMP errors, and each end needs one");
    let narrow = format!("mtu {NARROW}");
    let known = learned(&client, address.ip());
    assert!(known.contains(&narrow), "the client sends to the gateway: {known}");
    let known = learned(&backend, gateway_towards_backend(family));
    assert!(known.contains(&narrow), "the backend sends to the gateway: {known}");
}

#[test]
fn errors_of_routers_reach_both_ends_through_the_translation() {
    crosses_narrow_links(Family::V4);
}

#[test]
fn errors_of_routers_reach_both_ends_through_the_translation_of_ipv6() {
    crosses_narrow_links(Family::V6);
}

/// Mebibytes each way, and many small exchanges, over a link that loses, doubles and swaps packets.
fn survives_a_bad_link(family: Family) {
    let (lab, mut relay) = Lab::relayed(2).expect("namespaces");
    verify_checksums(&lab);
    switch_offloads_off(&lab.gateway, "c0");
    relay.run();
    let bulk_server = bulk::start(place(&lab, family, 0));
    let steered = Steered::start(lab, &Wishes::default(), &[bulk_server.address], &[]);
    let address = steered.address(family);
    let plan = Plan { up: 3 * MEBIBYTE, down: 3 * MEBIBYTE, seed: 77 };
    let transfers = steered.lab.client.enter(move || {
        // Threads begin in the namespace of the one that starts them.
        let transfer =
            move |seed| move || bulk::transfer(client::connect(address), Plan { seed, ..plan }, |_| {});
        let threads: Vec<_> = (1..=2).map(|seed| std::thread::spawn(transfer(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect::<Vec<_>>()
    });
    for outcome in transfers {
        outcome.expect("equal digests");
    }
    let after_bulk = relay.damage();

    let echo_server = echo::start_silent(place(&steered.lab, family, 1));
    steered.gateway.apply("site", &Wishes::default().documents(&[echo_server.address]));
    harness::wait::until("a flow at the echo service", || {
        let answers = steered.lab.client.enter(move || answers(address));
        answers.then_some(())
    });
    // Handshakes and ends are among what gets lost.
    let chat = Chatter::start(&steered.lab.client, address, 30);
    chat.next_round();
    let exchanges = chat.expect_unharmed();
    drop(chat);
    assert_eq!(steered.sockets(), 0, "the kernel carried them");
    let [lost, doubled, swapped] = relay.damage();
    println!("{lost} packets lost, {doubled} doubled, {swapped} swapped; {exchanges} exchanges");
    assert!(after_bulk.iter().all(|count| *count > 50), "the link was too good: {after_bulk:?}");
}

/// The server of large transfers waits for its plan instead.
fn answers(address: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let mut stream = client::connect(address);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("a timeout");
    let mut answer = [0; 3];
    stream.write_all(b"hi\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hi\n"
}

#[test]
fn a_link_that_loses_doubles_and_swaps_packets_harms_no_byte() {
    survives_a_bad_link(Family::V4);
}

#[test]
fn a_link_that_loses_doubles_and_swaps_packets_harms_no_byte_over_ipv6() {
    survives_a_bad_link(Family::V6);
}

/// Tells the client who it is, as seen from here, then echoes.
fn mirror(place: Place) -> Server {
    Server::start(place, |mut stream| async move {
        let peer = stream.peer_addr().expect("a peer");
        // A client that goes away is the client's matter.
        if stream.write_all(format!("{peer}\n").as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    })
}

/// What a mirror says first.
fn peer(stream: &mut TcpStream) -> SocketAddr {
    read_line(stream).trim().parse().expect("an address")
}

const PRESERVE: Wishes<'_> = Wishes { annotations: &["sluice.dev/source-address: preserve"], policy: None };

/// Both addresses of the client use the same port at the same time.
fn shows_clients(family: Family) {
    let lab = Lab::new(1).expect("namespaces");
    verify_checksums(&lab);
    let server = mirror(place(&lab, family, 0));
    let backends = [server.address];
    let clients = [lab.client_address(family), lab.add_client(family, 3).expect("an address")];
    let steered = Steered::start(lab, &PRESERVE, &backends, &["--tier", "copy"]);

    let mut streams: Vec<TcpStream> = Vec::new();
    for client in clients {
        let mut stream = from(&steered, client, 50_001, PORT);
        assert_eq!(peer(&mut stream), SocketAddr::new(client, 50_001));
        assert_eq!(line(&mut stream, "and back\n"), "and back\n");
        streams.push(stream);
    }
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    assert!(steered.dump("PORTS").iter().all(|row| row["inUse"] == 0), "no port of the gateway's is used");

    // To the backend this would be a connection that it has already: it is user space's, from another port.
    let mut other = from(&steered, clients[0], 50_001, OTHER_PORT);
    let gateway = gateway_towards_backend(family);
    let seen = peer(&mut other);
    assert_eq!(seen.ip(), clients[0]);
    assert_ne!(seen.port(), 50_001);
    assert_eq!(steered.verdict("port_taken"), 1);
    assert!(steered.sockets() > 0, "the check above could not fail");
    for stream in streams.iter_mut().chain([&mut other]) {
        assert_eq!(line(stream, "still here\n"), "still here\n");
    }

    steered.gateway.apply("site", &Wishes::default().documents(&backends));
    harness::wait::until("a flow under the gateway's own address", || {
        let mut stream = from(&steered, clients[1], 0, PORT);
        (peer(&mut stream).ip() == gateway).then_some(())
    });
    for stream in &mut streams {
        assert_eq!(line(stream, "as before\n"), "as before\n");
    }
}

/// A connection of the client from an address and port.
fn from(steered: &Steered, source: IpAddr, source_port: u16, port: u16) -> TcpStream {
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let address = SocketAddr::new(steered.address(family).ip(), port);
    let connecting = steered.lab.client.enter(move || connect_from(source, source_port, address));
    connecting.expect("a connection")
}

/// The gateway's address on the first backend's link.
fn gateway_towards_backend(family: Family) -> IpAddr {
    lab::address(family, 1, 1)
}

#[test]
fn backends_see_the_clients_own_address_and_port_where_that_is_wished() {
    shows_clients(Family::V4);
}

#[test]
fn backends_see_the_clients_own_ipv6_address_and_port_where_that_is_wished() {
    shows_clients(Family::V6);
}

/// Not a rule but the measure of the tests above: without damage the link is a link.
#[test]
fn a_relayed_link_carries_flows() {
    let (lab, mut relay) = Lab::relayed(1).expect("namespaces");
    verify_checksums(&lab);
    switch_offloads_off(&lab.gateway, "c0");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let steered = Steered::start(lab, &Wishes::default(), &[server.address], &[]);
    let address = steered.address(Family::V4);
    let dead = steered.lab.client.enter(move || {
        TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300))
            .map_err(|error| error.kind())
    });
    assert_eq!(dead.err(), Some(std::io::ErrorKind::TimedOut), "no packet passes but by the relay");
    relay.run();
    let opened = steered.lab.client.enter(move || greet(address));
    assert!(steered.steers(opened.local_addr().expect("an address")));
}
