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
