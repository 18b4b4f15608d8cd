//! Which backend and which source port a flow gets, held against an account of our own, many times over.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gateway_common::{Addr4, Addr6, Address as _, Table, Verdict};
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{Bench, FAMILIES, Net, REDIRECT};
use crate::kernel::frame::{ACK, PSH, SYN, Segment};

/// Tuples that the kernel chooses backends for: a million, a quarter of them for each way of choosing in each family.
const CHOICES: usize = 250_000;

/// Backends of a large table.
const BACKENDS: u16 = 200;

fn backends(net: Net) -> Vec<SocketAddr> {
    let [first, _] = net.backends();
    (0..BACKENDS).map(|number| SocketAddr::new(first.ip(), 10_000 + number)).collect()
}

/// The address that a frame goes to.
fn destination(net: Net, frame: &[u8]) -> SocketAddr {
    let port = net.headers() + 2;
    let port = u16::from_be_bytes([frame[port], frame[port + 1]]);
    SocketAddr::new(net.backends()[0].ip(), port)
}

/// Any address of a host.
fn stranger(net: Net, random: &mut fastrand::Rng) -> IpAddr {
    loop {
        let (ipv4, ipv6) = (Ipv4Addr::from_bits(random.u32(..)), Ipv6Addr::from_bits(random.u128(..)));
        if if net.is_v4() { Addr4::from(ipv4).is_host() } else { Addr6::from(ipv6).is_host() } {
            return if net.is_v4() { ipv4.into() } else { ipv6.into() };
        }
    }
}

#[test]
fn the_kernel_chooses_as_the_account_says() {
    let mut random = fastrand::Rng::with_seed(3);
    for by_client in [false, true] {
        for net in FAMILIES {
            let mut bench = Bench::new(64);
            // Handshakes make room for each other at once.
            bench.configure(|config| config.handshake_ticks = 0);
            let backends = backends(net);
            bench.serve_as(net, &backends, |table| {
                table.flags = if by_client { Table::BY_CLIENT } else { 0 };
            });
            let mut refused = 0;
            for _ in 0..CHOICES {
                let mut syn = Segment::new(net.client(random.u16(1..)), net.gateway(), SYN);
                syn.source.set_ip(stranger(net, &mut random));
                let client = Tuple { source: syn.source, destination: syn.destination };
                let id = bench.choice(client);
                let (action, out) = bench.quick(&syn.bytes());
                if action != REDIRECT {
                    refused += 1;
                    continue;
                }
                assert_eq!(destination(net, &out), backends[id as usize - 1], "{client:?}");
            }
            println!("{refused} of {CHOICES} refused by an index that is as full as it gets");
            assert!(refused < CHOICES / 20, "{refused}");
        }
    }
}

#[test]
fn ten_thousand_source_ports_without_a_collision() {
    const FLOWS: u32 = 12_000;
    for net in FAMILIES {
        let mut bench = Bench::new(65_536);
        bench.ports(16_384);
        bench.serve(net, &net.backends()[..1]);
        let mut used = BTreeSet::new();
        for number in 0..FLOWS {
            let syn = Segment::new(net.client(1024 + number as u16), net.gateway(), SYN);
            assert_eq!(bench.quick(&syn.bytes()).0, REDIRECT);
            let client = Tuple { source: syn.source, destination: syn.destination };
            let backend = bench.peek(client).unwrap().leaving;
            assert!(used.insert(backend.source), "{} was taken twice", backend.source);
            let synack = Segment::new(backend.destination, backend.source, SYN | ACK);
            assert_eq!(bench.quick(&synack.bytes()).0, REDIRECT);
            let ack = Segment::new(client.source, client.destination, ACK);
            assert_eq!(bench.quick(&ack.bytes()).0, REDIRECT);
        }
        let in_use = bench.ports_in_use();
        assert_eq!(in_use, FLOWS, "each has its bit");
    }
}

/// The frame with its ends turned round: sums over it stay as they are.
fn turned(net: Net, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (address, length) = if net.is_v4() { (26, 4) } else { (22, 16) };
    frame[address..address + 2 * length].rotate_left(length);
    let ports = net.headers();
    frame[ports..ports + 4].rotate_left(2);
    frame
}

#[test]
fn there_and_back_nothing_has_changed_but_two_hops() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut bench = Bench::serving(4096);
    for net in FAMILIES {
        for _ in 0..100 {
            let flow = bench.established(net);
            for _ in 0..10 {
                let payload: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
                let segment = flow
                    .by_client(ACK | PSH)
                    .with_payload(&payload)
                    .with_numbers(random.u32(..), random.u32(..))
                    .with_hops(random.u8(3..));
                let (there, forwarded) = bench.quick(&segment.bytes());
                let (back, returned) = bench.quick(&turned(net, &forwarded));
                assert_eq!((there, back), (REDIRECT, REDIRECT));
                let hops = segment.hops - 2;
                assert_eq!(turned(net, &returned), segment.with_hops(hops).bytes());
            }
        }
    }
}

#[test]
fn a_client_on_a_backends_host_is_a_client_like_others() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        for place in [0, 1] {
            let port = bench.port();
            let mut syn = net.syn(port);
            syn.source.set_ip(net.backends()[place].ip());
            let client = Tuple { source: syn.source, destination: syn.destination };
            let outcome = bench.run(&syn.bytes());
            let backend = bench.peek(client).unwrap().leaving;
            assert_eq!(outcome.verdict, Verdict::Steered);
            assert_eq!(outcome.packet, syn.forwarded(backend.source, backend.destination).bytes());
            let flow = crate::bench::Opened { client, backend };
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.establishes(&mut bench);
            flow.passes_on(&mut bench, "data", &flow.by_client(ACK | PSH).with_payload(b"request"));
            flow.passes_on(&mut bench, "data", &flow.by_backend(ACK | PSH).with_payload(b"response"));
        }
    }
}
