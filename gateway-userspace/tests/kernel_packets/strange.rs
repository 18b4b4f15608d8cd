//! Addresses that nobody should send from or to, broken frames on the tuple of a flow, and packets that leave by the
//! interface that they came by.

use std::net::{IpAddr, SocketAddr};

use gateway_common::Verdict;
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{Bench, FAMILIES, Net, Opened, ROOMY, V4, V6};
use crate::kernel::frame::{ACK, PSH, SYN, Segment};
use crate::passing::{self, Change};
use crate::xdp::Gateway;

/// Sources of SYNs.
pub(crate) const SOURCES: &[(&str, Verdict)] = &[
    ("0.0.0.0", Verdict::Martian),
    ("0.1.2.3", Verdict::Martian),
    ("127.0.0.1", Verdict::Martian),
    ("127.255.255.255", Verdict::Martian),
    ("224.0.0.1", Verdict::Martian),
    ("239.255.255.255", Verdict::Martian),
    ("255.255.255.255", Verdict::Martian),
    ("198.18.0.1", Verdict::Martian),
    ("10.0.0.1", Verdict::Steered),
    ("169.254.0.9", Verdict::Steered),
    ("198.18.0.255", Verdict::Steered),
    ("240.0.0.1", Verdict::Steered),
    ("255.255.255.254", Verdict::Steered),
    ("::", Verdict::Martian),
    ("::1", Verdict::Martian),
    ("::198.18.0.2", Verdict::Martian),
    ("::ffff:198.18.0.2", Verdict::Martian),
    ("ff02::1", Verdict::Martian),
    ("ff0e::1", Verdict::Martian),
    ("fd18::1", Verdict::Martian),
    ("fe80::9", Verdict::Steered),
    ("fd18::ffff", Verdict::Steered),
    ("2001:db8::9", Verdict::Steered),
    ("64:ff9b::198.18.0.2", Verdict::Steered),
];

/// Destinations of SYNs to the listener's port.
pub(crate) const DESTINATIONS: &[&str] = &[
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.0",
    "198.18.0.2",
    "198.18.0.255",
    "10.66.0.1",
    "::",
    "::1",
    "ff02::1",
    "fe80::1",
    "fd18::",
    "fd18::2",
    "fd66::1",
];

fn net_of(address: IpAddr) -> Net {
    if address.is_ipv4() { V4 } else { V6 }
}

#[test]
fn no_flow_is_opened_for_whom_nobody_can_answer() {
    let mut bench = Bench::serving(ROOMY);
    for (source, verdict) in SOURCES {
        let source: IpAddr = source.parse().unwrap();
        let port = bench.port();
        let mut syn = net_of(source).syn(port);
        syn.source.set_ip(source);
        let client = Tuple { source: syn.source, destination: syn.destination };
        if *verdict == Verdict::Steered {
            assert_eq!(bench.run(&syn.bytes()).verdict, *verdict, "{source}");
            assert!(bench.peek(client).is_some(), "{source}");
        } else {
            bench.passes(&source.to_string(), &syn.bytes(), *verdict);
            assert!(bench.peek(client).is_none(), "{source}");
        }
    }
}

#[test]
fn both_ends_the_same() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let land = Segment::new(net.gateway(), net.gateway(), SYN);
        bench.passes("SYN", &land.bytes(), Verdict::Martian);
        let ack = Segment::new(net.gateway(), net.gateway(), ACK);
        bench.passes("ACK", &ack.bytes(), Verdict::Miss);
    }
    assert!(bench.entries().is_empty());
}

#[test]
fn what_goes_to_no_listeners_address_is_the_stacks() {
    let mut bench = Bench::serving(64);
    for destination in DESTINATIONS {
        let destination: IpAddr = destination.parse().unwrap();
        let mut syn = net_of(destination).syn(9);
        syn.destination = SocketAddr::new(destination, syn.destination.port());
        bench.passes(&destination.to_string(), &syn.bytes(), Verdict::NotSteered);
    }
    assert!(bench.entries().is_empty());
}

/// The rows that say something of any packet, and not of a SYN alone.
fn of_any_packet((.., verdict): &Change) -> bool {
    use Verdict::{ExtensionHeader, Fragment, Malformed, NotIp, NotTcp, Truncated};
    [NotIp, Malformed, Truncated, Fragment, NotTcp, ExtensionHeader].contains(verdict)
}

/// Frames of a flow that are broken, with the verdict of each.
fn broken(net: Net, flow: Opened) -> Vec<(&'static str, Vec<u8>, Verdict)> {
    let plain = flow.by_client(ACK).bytes();
    let own = if net.is_v4() { passing::IPV4 } else { passing::IPV6 };
    let mut frames = Vec::new();
    for (changes, start) in [(passing::ETHERNET, 0), (own, 0), (passing::TCP, net.headers())] {
        for (what, place, byte, verdict) in changes.iter().filter(|change| of_any_packet(change)) {
            let mut frame = plain.clone();
            frame[start + place] = *byte;
            frames.push((*what, frame, *verdict));
        }
    }
    for (what, tag, verdict) in TAGS {
        let mut frame = plain.clone();
        frame.splice(12..12, tag.iter().copied());
        frames.push((*what, frame, *verdict));
    }
    frames
}

/// What may lie before the type of a frame.
pub(crate) const TAGS: &[(&str, &[u8], Verdict)] = &[
    ("VLAN", &[0x81, 0, 0, 5], Verdict::Vlan),
    ("a priority alone", &[0x81, 0, 0xe0, 0], Verdict::Vlan),
    ("service VLAN", &[0x88, 0xa8, 0, 5], Verdict::Vlan),
    ("VLAN within service VLAN", &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], Verdict::Vlan),
    ("VLAN twice", &[0x81, 0, 0, 5, 0x81, 0, 0, 6], Verdict::Vlan),
    ("old service VLAN", &[0x91, 0, 0, 5], Verdict::NotIp),
    ("MPLS", &[0x88, 0x47, 0, 1, 0x11, 0x40], Verdict::NotIp),
    ("PPPoE", &[0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21], Verdict::NotIp),
];

#[test]
fn broken_frames_on_the_tuple_of_a_flow_are_left_alone_and_so_is_the_flow() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let before = flow.peek(&bench);
        for (what, frame, verdict) in broken(net, flow) {
            bench.passes(what, &frame, verdict);
        }
        assert_eq!(flow.peek(&bench), before);
    }
}

#[test]
fn broken_frames_are_left_alone_at_xdp_too() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        let before = flow.peek(&gateway.bench);
        for (what, frame, _) in broken(net, flow) {
            gateway.leaves(what, &frame);
        }
        assert_eq!(flow.peek(&gateway.bench), before);
    }
}

#[test]
fn padding_behind_a_packet_stays_and_is_no_part_of_it() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for length in [1, 2, 6, 100] {
            let padding = vec![0xee; length];
            let port = bench.port();
            let syn = net.syn(port);
            let outcome = bench.run(&[syn.bytes(), padding.clone()].concat());
            let client = Tuple { source: syn.source, destination: syn.destination };
            let flow = Opened { client, backend: bench.peek(client).unwrap().leaving };
            let want = [flow.rewritten(&syn).bytes(), padding.clone()].concat();
            assert_eq!((outcome.verdict, outcome.packet), (Verdict::Steered, want), "{length}");
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.establishes(&mut bench);
            let data = flow.by_backend(ACK | PSH).with_payload(b"data");
            let want = [flow.rewritten(&data).bytes(), padding.clone()].concat();
            bench.turns("data", &[data.bytes(), padding].concat(), Verdict::Forwarded, &want);
        }
    }
}
