//! What is left to the node's own stack.

use std::net::SocketAddr;

use gateway_common::Verdict;

use crate::bench::{Bench, FAMILIES, V4, V6};
use crate::kernel::frame::{self, ACK, FIN, PSH, RST, SYN, Segment, UDP};

#[test]
fn what_belongs_to_no_flow_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let (client, gateway) = (net.client(40_000), net.gateway());
        let segment = |flags| Segment::new(client, gateway, flags).bytes();
        for (what, flags) in
            [("ACK", ACK), ("SYN-ACK", SYN | ACK), ("RST", RST), ("FIN", FIN | ACK), ("none", 0)]
        {
            bench.passes(what, &segment(flags), Verdict::Miss);
        }
        bench.passes("SYN and FIN", &segment(SYN | FIN), Verdict::Miss);
        let mut elsewhere = gateway;
        elsewhere.set_port(444);
        bench.passes("other port", &Segment::new(client, elsewhere, SYN).bytes(), Verdict::NotSteered);
        let other = SocketAddr::new(net.backends()[0].ip(), 443);
        bench.passes("other address", &Segment::new(client, other, SYN).bytes(), Verdict::NotSteered);
        bench.passes("last hop", &net.syn(40_000).with_hops(1).bytes(), Verdict::HopLimit);
        bench.passes("no hop", &net.syn(40_000).with_hops(0).bytes(), Verdict::HopLimit);
    }
    assert!(bench.entries().is_empty());
}

#[test]
fn what_is_not_plain_tcp_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let (client, gateway) = (net.client(40_000).ip(), net.gateway().ip());
        bench.passes("UDP", &frame::ip(client, gateway, UDP, 64, &[0; 8]), Verdict::NotTcp);
        let icmp = if net.is_v4() { frame::ICMP } else { frame::ICMPV6 };
        bench.passes(
            "ICMP",
            &frame::ip(client, gateway, icmp, 64, &[8, 0, 0, 0, 0, 0, 0, 0]),
            Verdict::NotTcp,
        );
        let mut vlan = net.syn(40_000).bytes();
        vlan.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        bench.passes("VLAN", &vlan, Verdict::Vlan);
        vlan[12..14].copy_from_slice(&[0x88, 0xa8]);
        bench.passes("service VLAN", &vlan, Verdict::Vlan);
        let mut short = net.syn(40_000).bytes();
        let offset = short.len() - 4 - 8;
        short[offset] = 0x40;
        bench.passes("TCP header of four words", &short, Verdict::Malformed);
        short[offset] = 0xf0;
        bench.passes("TCP header beyond the packet", &short, Verdict::Truncated);
    }
    let mut arp = V4.syn(1).bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    bench.passes("ARP", &arp, Verdict::NotIp);
}

#[test]
fn ipv4_headers_that_contradict_themselves_and_fragments() {
    let mut bench = Bench::serving(64);
    let plain = V4.syn(40_000).bytes();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = plain.clone();
        change(&mut packet);
        frame::fix_ipv4_checksum(&mut packet);
        packet
    };
    bench.passes("first fragment", &with(&|packet| packet[20] = 0x20), Verdict::Fragment);
    bench.passes("later fragment", &with(&|packet| packet[21] = 0x10), Verdict::Fragment);
    let mut short_header = plain.clone();
    short_header[14] = 0x44;
    bench.passes("header of four words", &short_header, Verdict::Malformed);
    let mut version = plain.clone();
    version[14] = 0x55;
    bench.passes("version 5", &version, Verdict::Malformed);
    let length = with(&|packet| packet[17] = 19);
    bench.passes("shorter than its own header", &length, Verdict::Truncated);
    // The evil bit (RFC 3514) is no fragment.
    assert_eq!(bench.run(&with(&|packet| packet[20] = 0x80)).verdict, Verdict::Steered);
}

#[test]
fn ipv6_headers_that_contradict_themselves_and_fragments() {
    let mut bench = Bench::serving(64);
    let (client, gateway) = (V6.client(40_000).ip(), V6.gateway().ip());
    let mut fragment = vec![frame::TCP, 0, 0, 1, 0, 0, 0, 1];
    fragment.extend(&V6.syn(40_000).bytes()[54..]);
    bench.passes("fragment", &frame::ip(client, gateway, 44, 64, &fragment), Verdict::Fragment);
    let mut version = V6.syn(40_000).bytes();
    version[14] = 0x50;
    bench.passes("version 5", &version, Verdict::Malformed);
}

/// A byte of the frame of a SYN without options that is changed, and what becomes of the frame. Bytes count from the
/// beginning of Ethernet.
pub(crate) type Change = (&'static str, usize, u8, Verdict);

pub(crate) const ETHERNET: &[Change] = &[
    ("length instead of a type", 12, 0x00, Verdict::NotIp),
    ("ARP", 13, 0x06, Verdict::NotIp),
    ("MPLS", 12, 0x88, Verdict::NotIp),
    ("old service VLAN", 12, 0x91, Verdict::NotIp),
    ("a type next to IPv4's", 13, 0x01, Verdict::NotIp),
];

pub(crate) const IPV4: &[Change] = &[
    ("version 0", 14, 0x05, Verdict::Malformed),
    ("version 3", 14, 0x35, Verdict::Malformed),
    ("version 6", 14, 0x65, Verdict::Malformed),
    ("version 15", 14, 0xf5, Verdict::Malformed),
    ("header of no word", 14, 0x40, Verdict::Malformed),
    ("header of one word", 14, 0x41, Verdict::Malformed),
    ("header of four words", 14, 0x44, Verdict::Malformed),
    ("header beyond the packet", 14, 0x4f, Verdict::Truncated),
    ("no length", 17, 0, Verdict::Truncated),
    ("length of a byte less than the header", 17, 19, Verdict::Truncated),
    ("length of the header alone", 17, 20, Verdict::Truncated),
    ("length of a byte less than TCP's header", 17, 39, Verdict::Truncated),
    ("length of a byte more than the frame", 17, 41, Verdict::Truncated),
    ("length of much more than the frame", 16, 0xff, Verdict::Truncated),
    ("more fragments", 20, 0x20, Verdict::Fragment),
    ("later fragment", 21, 0x01, Verdict::Fragment),
    ("later fragment, far behind", 20, 0x1f, Verdict::Fragment),
    ("last fragment with DF", 20, 0x50, Verdict::Fragment),
    ("no hop", 22, 0, Verdict::HopLimit),
    ("last hop", 22, 1, Verdict::HopLimit),
    ("hop-by-hop as protocol", 23, 0, Verdict::NotTcp),
    ("IGMP", 23, 2, Verdict::NotTcp),
    ("IP in IP", 23, 4, Verdict::NotTcp),
    ("UDP", 23, 17, Verdict::NotTcp),
    ("IPv6 in IP", 23, 41, Verdict::NotTcp),
    ("GRE", 23, 47, Verdict::NotTcp),
    ("ESP", 23, 50, Verdict::NotTcp),
    ("ICMPv6 over IPv4", 23, 58, Verdict::NotTcp),
    ("SCTP", 23, 132, Verdict::NotTcp),
    ("a reserved number", 23, 255, Verdict::NotTcp),
    ("another destination", 33, 9, Verdict::NotSteered),
    ("another port", 37, 0xbc, Verdict::NotSteered),
];

pub(crate) const IPV6: &[Change] = &[
    ("version 0", 14, 0x00, Verdict::Malformed),
    ("version 4", 14, 0x40, Verdict::Malformed),
    ("version 7", 14, 0x70, Verdict::Malformed),
    ("no length", 19, 0, Verdict::Truncated),
    ("length of a byte less than TCP's header", 19, 19, Verdict::Truncated),
    ("length of a byte more than the frame", 19, 21, Verdict::Truncated),
    ("length of much more than the frame", 18, 0xff, Verdict::Truncated),
    ("hop by hop, beyond the packet", 20, 0, Verdict::ExtensionHeader),
    ("IPv4's ICMP", 20, 1, Verdict::NotTcp),
    ("IP in IP", 20, 4, Verdict::NotTcp),
    ("UDP", 20, 17, Verdict::NotTcp),
    ("IPv6 in IPv6", 20, 41, Verdict::NotTcp),
    ("routing with segments left", 20, 43, Verdict::ExtensionHeader),
    ("a fragment", 20, 44, Verdict::Fragment),
    ("nothing behind", 20, 59, Verdict::NotTcp),
    ("no hop", 21, 0, Verdict::HopLimit),
    ("last hop", 21, 1, Verdict::HopLimit),
    ("another destination", 53, 9, Verdict::NotSteered),
    ("another port", 57, 0xbc, Verdict::NotSteered),
];

/// Bytes of the TCP header count from its beginning.
pub(crate) const TCP: &[Change] = &[
    ("header of no word", 12, 0x00, Verdict::Malformed),
    ("header of one word", 12, 0x10, Verdict::Malformed),
    ("header of four words", 12, 0x40, Verdict::Malformed),
    ("header of a word more than there is", 12, 0x60, Verdict::Truncated),
    ("header of fifteen words", 12, 0xf0, Verdict::Truncated),
    ("no flag", 13, 0, Verdict::Miss),
    ("FIN", 13, FIN, Verdict::Miss),
    ("RST", 13, RST, Verdict::Miss),
    ("PSH", 13, PSH, Verdict::Miss),
    ("ACK", 13, ACK, Verdict::Miss),
    ("SYN-ACK", 13, SYN | ACK, Verdict::Miss),
    ("SYN and FIN", 13, SYN | FIN, Verdict::Miss),
    ("SYN and RST", 13, SYN | RST, Verdict::Miss),
    ("every flag", 13, 0xff, Verdict::Miss),
    ("urgent alone", 13, 0x20, Verdict::Miss),
];

#[test]
fn a_byte_changed_in_a_header() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let plain = Segment::new(net.client(40_000), net.gateway(), SYN).bytes();
        let own = if net.is_v4() { IPV4 } else { IPV6 };
        let headers = [(ETHERNET, 0), (own, 0), (TCP, net.headers())];
        for (changes, start) in headers {
            for (what, place, byte, verdict) in changes {
                let mut packet = plain.clone();
                packet[start + place] = *byte;
                bench.passes(what, &packet, *verdict);
            }
        }
    }
    assert!(bench.entries().is_empty());
}

#[test]
fn bits_that_have_nothing_to_say_about_steering() {
    let mut bench = Bench::serving(4096);
    for net in FAMILIES {
        // Service class and, for IPv6, flow label; of TCP the reserved bits, PSH, URG and the two of ECN.
        let tcp = net.headers();
        for (place, byte) in
            [(15, 0xff), (tcp + 12, 0x5f), (tcp + 13, SYN | 0xc0), (tcp + 13, SYN | PSH | 0x20)]
        {
            let port = bench.port();
            let mut packet = Segment::new(net.client(port), net.gateway(), SYN).bytes();
            packet[place] = byte;
            assert_eq!(bench.run(&packet).verdict, Verdict::Steered, "{place}");
        }
    }
}

#[test]
fn no_length_of_a_packet_does_harm() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.opened(net);
        let known = flow.by_client(ACK | PSH).with_options(&[1, 1, 1, 1]).with_payload(b"payload").bytes();
        let new = net.syn(40_001).bytes();
        // The kernel makes no test packet that ends within its IP header.
        for packet in [known, new] {
            for length in net.headers()..packet.len() {
                bench.passes(&format!("{length} bytes"), &packet[..length], Verdict::Truncated);
            }
        }
    }
}
