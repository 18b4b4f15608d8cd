//! What befalls a gateway in its life, while flows in the kernel go on: its agent is killed or replaced, it is flooded,
//! its backends go. Needs root; fails where the kernel plane cannot be had.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::chatter::Chatter;
use harness::client::{self, line};
use harness::lab::{Family, Lab};
use harness::program::{must, run};
use harness::steered::{Steered, Wishes, place, verify_checksums};
use harness::{echo, wait};
use socket2::{Domain, Protocol, Socket, Type};

/// A line there and back over a connection of its own.
fn says(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = client::connect(address);
    assert_eq!(line(&mut stream, text), text);
    stream
}

fn flows(steered: &Steered) -> u64 {
    let flows = &steered.kernel()["flows"];
    flows["ipv4"].as_u64().unwrap_or(0) + flows["ipv6"].as_u64().unwrap_or(0)
}

#[test]
fn five_hundred_flows_outlive_a_killed_agent_and_the_next_one_adopts_them() {
    let lab = Lab::new(2).expect("namespaces");
    verify_checksums(&lab);
    let servers = [(Family::V4, 0), (Family::V4, 1), (Family::V6, 0), (Family::V6, 1)]
        .map(|(family, index)| echo::start_silent(place(&lab, family, index)));
    let backends = servers.each_ref().map(|server| server.address);
    let mut steered = Steered::start(lab, &Wishes::default(), &backends, &[]);
    let chats = [(Family::V4, 400), (Family::V6, 100)]
        .map(|(family, count)| Chatter::start(&steered.lab.client, steered.address(family), count));
    assert_eq!(steered.sockets(), 0, "the kernel carries them");

    steered.gateway.kill();
    chats.iter().for_each(|chat| drop(chat.expect_unharmed()));
    for family in [Family::V4, Family::V6] {
        let address = steered.address(family);
        steered.lab.client.enter(move || (0..50).for_each(|_| drop(says(address, "nobody is home\n"))));
    }
    steered.gateway.restart();
    wait::until("all flows in the next agent's count", || (flows(&steered) >= 500).then_some(()));
    let exchanges: usize = chats.iter().map(Chatter::expect_unharmed).sum();
    println!("500 flows, {exchanges} exchanges of 512 bytes each way, 0 lost");
    assert_eq!(servers.iter().map(harness::serve::Server::accepted).sum::<usize>(), 600);
}

/// SYNs from nobody: IPv4 and TCP headers as a program of ill will would write them (RFC 791, RFC 9293).
fn flood(gateway: SocketAddr, count: u32) {
    let SocketAddr::V4(gateway) = gateway else { panic!("IPv4 is flooded") };
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("a raw socket");
    for number in 0..count {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(198, 19, 0, 0).to_bits() + number);
        let packet = syn(source, *gateway.ip(), gateway.port(), number);
        // A queue that is full is part of a flood.
        let _ = socket.send_to(&packet, &SocketAddr::from(gateway).into());
    }
}

/// The kernel fills in length and checksum of the IPv4 header.
fn syn(source: Ipv4Addr, destination: Ipv4Addr, port: u16, number: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[20..22].copy_from_slice(&(1024 + (number % 60_000) as u16).to_be_bytes());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 2;
    packet[34..36].copy_from_slice(&0xffff_u16.to_be_bytes());
    // Addresses, ports and flags, the protocol and the length of 20.
    let words = packet[12..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + 6 + 20;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

#[test]
fn a_flood_of_syns_harms_no_flow_and_new_connections_get_through() {
    let lab = Lab::new(1).expect("namespaces");
    // Answers to nobody must be sent somewhere.
    let client = lab.client_address(Family::V4).to_string();
    lab.gateway.ip(&["route", "add", "198.19.0.0/16", "via", &client]).expect("a route");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let steered = Steered::start(lab, &Wishes::default(), &[server.address], &["--max-flows", "4096"]);
    let chat = Chatter::start(&steered.lab.client, steered.address(Family::V4), 100);
    let before = chat.exchanges();

    let (address, namespace) = (steered.address(Family::V4), steered.lab.client.open());
    let flooding = std::thread::spawn(move || {
        harness::namespace::join(&namespace);
        flood(address, 20_000);
    });
    let mut through = 0;
    while !flooding.is_finished() || through < 20 {
        steered.with_client(|address| drop(says(address, "let me in\n")));
        through += 1;
    }
    flooding.join().expect("a flood");
    let kernel = steered.kernel();
    let full = steered.verdict("handshakes_full");
    assert!(full > 0, "the flood was too small: {kernel}");
    let after = chat.expect_unharmed();
    println!("{through} new connections; {} exchanges meanwhile; {full} SYNs found no room", after - before);

    // A second later what the flood left may be overwritten.
    wait::until("a new connection in the kernel", || {
        let opened = steered.with_client(|address| says(address, "as before\n"));
        let steering = steered.sockets() == 0;
        drop(opened);
        steering.then_some(())
    });
    chat.expect_unharmed();
}

#[test]
fn flows_of_a_removed_backend_are_reset_after_the_drain_time_and_no_others() {
    let lab = Lab::new(2).expect("namespaces");
    verify_checksums(&lab);
    let servers = [0, 1].map(|index| echo::start_silent(place(&lab, Family::V4, index)));
    let [gone, kept] = servers.each_ref().map(|server| server.address);
    let wishes = Wishes::default();
    let steered = Steered::start(lab, &wishes, &[gone], &["--backend-drain-time", "1"]);
    let address = steered.address(Family::V4);
    let leaving = Chatter::start(&steered.lab.client, address, 20);
    let mut silent = steered.with_client(|address| says(address, "and then nothing\n"));
    steered.gateway.apply("site", &wishes.documents(&[gone, kept]));
    wait::until("flows at the other backend", || {
        steered.with_client(|address| drop(says(address, "hello\n")));
        (servers[1].accepted() > 0).then_some(())
    });
    steered.gateway.apply("site", &wishes.documents(&[kept]));
    let removed = Instant::now();
    leaving.expect_unharmed();
    wait::until("new flows at the backend that stays alone", || {
        let before = servers[0].accepted();
        steered.with_client(|address| (0..10).for_each(|_| drop(says(address, "hello\n"))));
        (servers[0].accepted() == before).then_some(())
    });
    let staying = Chatter::start(&steered.lab.client, address, 20);

    let end = silent.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "the silent flow");
    let took = removed.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "reset after {took:?}");
    wait::until("the end of all its flows", || (leaving.failures().len() == 20).then_some(()));
    assert!(leaving.failures().iter().all(|failure| failure.contains("reset")), "{:?}", leaving.failures());
    staying.expect_unharmed();
    assert!(steered.verdict("reset") > 0);
}

/// What is attached to the gateway's interfaces, as others see it.
fn attachments(lab: &Lab) -> String {
    let filters = ["c0", "b0"].map(|device| {
        let mut tc = lab.gateway.command("tc");
        run(tc.args(["filter", "show", "dev", device, "ingress"])).out
    });
    let qdiscs = must(lab.gateway.command("tc").args(["qdisc", "show"])).expect("qdiscs");
    let qdiscs: String = qdiscs.lines().filter(|line| line.contains("clsact")).collect();
    let links = lab.gateway.ip(&["-details", "link", "show"]).expect("links");
    let links: String = links.lines().filter(|line| line.contains("xdp")).collect();
    filters.concat() + &qdiscs + &links
}

/// Runs on a hook, has the agent replaced by a kill and by a stop, and cleans up.
fn lives_on(datapath: &str, hook: &str) {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let mut steered =
        Steered::start(lab, &Wishes::default(), &[server.address], &["--datapath", datapath]);
    let hooks = steered.kernel()["interfaces"].to_string();
    assert!(hooks.contains(hook), "{hooks}");
    let chat = Chatter::start(&steered.lab.client, steered.address(Family::V4), 50);
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    steered.gateway.kill();
    chat.expect_unharmed();
    steered.gateway.restart();
    chat.expect_unharmed();
    assert!(steered.gateway.stop().success());
    chat.expect_unharmed();
    steered.gateway.restart();
    let exchanges = chat.expect_unharmed();
    println!("{datapath}: {exchanges} exchanges over four agents' lives");
    drop(chat);

    steered.gateway.kill();
    steered.gateway.sluice(&["cleanup"]).expect_success();
    assert!(!steered.gateway.pin_directory().exists(), "pins are left");
    assert_eq!(attachments(&steered.lab), "");
}

#[test]
fn by_tcx_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("tc", "tcx");
}

#[test]
fn by_clsact_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("clsact", "clsact");
}

#[test]
fn by_xdp_flows_outlive_agents_and_cleaning_up_leaves_nothing() {
    lives_on("xdp", "xdp");
}
