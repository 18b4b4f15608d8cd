//! ICMP errors about packets of flows, and other ICMP.

use std::net::IpAddr;

use gateway_common::Verdict;

use crate::bench::{Bench, FAMILIES, Net, Opened};
use crate::kernel::frame::{self, ACK, PSH, Segment, icmp_error};

/// Type and code of a message, where a family has one.
pub(crate) type Kind = Option<(u8, u8)>;

/// Types and codes that are translated: name, IPv4's, IPv6's, the four bytes behind the checksum.
pub(crate) const ERRORS: &[(&str, Kind, Kind, [u8; 4])] = &[
    ("network unreachable", Some((3, 0)), Some((1, 0)), [0; 4]),
    ("host unreachable", Some((3, 1)), Some((1, 3)), [0; 4]),
    ("port unreachable", Some((3, 3)), Some((1, 4)), [0; 4]),
    ("administratively prohibited", Some((3, 13)), Some((1, 1)), [0; 4]),
    ("too big", Some((3, 4)), Some((2, 0)), [0, 0, 5, 0]),
    ("too big, without a size", Some((3, 4)), None, [0; 4]),
    ("too big, jumbo", None, Some((2, 0)), [0, 0, 0x22, 0xc8]),
    ("hop limit exceeded", Some((11, 0)), Some((3, 0)), [0; 4]),
    ("reassembly time exceeded", Some((11, 1)), Some((3, 1)), [0; 4]),
    ("parameter problem", Some((12, 0)), Some((4, 0)), [20, 0, 0, 0]),
    ("parameter problem, code 2", Some((12, 2)), Some((4, 2)), [0, 0, 0, 40]),
];

/// Types that are the stack's.
pub(crate) const OTHERS: &[(&str, Option<u8>, Option<u8>)] = &[
    ("echo", Some(8), Some(128)),
    ("echo reply", Some(0), Some(129)),
    ("redirect", Some(5), Some(137)),
    ("source quench", Some(4), None),
    ("router solicitation", Some(10), Some(133)),
    ("neighbour solicitation", None, Some(135)),
    ("neighbour advertisement", None, Some(136)),
    ("timestamp", Some(13), None),
    ("an error of a kind to come", None, Some(5)),
    ("error kind 0", None, Some(0)),
];

/// What an error is about, who sends it to whom, and what leaves.
struct Case {
    about: Segment,
    /// As its sender sent it.
    original: Segment,
    receiver: IpAddr,
    outside: [IpAddr; 2],
}

/// A flow's packet to the backend, as the gateway sent it, and one to the client.
fn cases(flow: Opened) -> [Case; 2] {
    let payload = b"what the packet carried, more than an error has room for";
    let up = flow.by_client(ACK | PSH).with_payload(payload);
    let down = flow.by_backend(ACK | PSH).with_payload(payload);
    [
        Case {
            about: flow.rewritten(&up),
            receiver: flow.backend.source.ip(),
            outside: [flow.client.destination.ip(), flow.client.source.ip()],
            original: Segment { hops: up.hops - 1, ..up },
        },
        Case {
            about: flow.rewritten(&down),
            receiver: flow.client.destination.ip(),
            outside: [flow.backend.source.ip(), flow.backend.destination.ip()],
            original: Segment { hops: down.hops - 1, ..down },
        },
    ]
}

fn kind_of(net: Net, ipv4: Option<(u8, u8)>, ipv6: Option<(u8, u8)>) -> Option<(u8, u8)> {
    if net.is_v4() { ipv4 } else { ipv6 }
}

impl Case {
    /// The error as it comes and as it leaves, with so many bytes of the packet in it.
    fn frames(&self, net: Net, kind: (u8, u8), rest: [u8; 4], length: usize) -> [Vec<u8>; 2] {
        let embed = |packet: Vec<u8>| packet[..length.min(packet.len())].to_vec();
        let (about, mut original) = (embed(self.about.packet()), embed(self.original.packet()));
        let checksum = net.headers() - 14 + 16;
        if length == checksum + 1 {
            // Half a checksum is not kept right.
            original[checksum] = about[checksum];
        }
        let [source, destination] = self.outside;
        [
            icmp_error((net.router(), self.receiver), 61, kind, rest, &about),
            icmp_error((source, destination), 60, kind, rest, &original),
        ]
    }
}

#[test]
fn errors_about_a_flow_reach_the_packets_sender_in_its_own_words() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let before = flow.peek(&bench);
        for case in cases(flow) {
            for (what, ipv4, ipv6, rest) in ERRORS {
                let Some(kind) = kind_of(net, *ipv4, *ipv6) else { continue };
                let [comes, leaves] = case.frames(net, kind, *rest, 512);
                bench.turns(what, &comes, Verdict::IcmpError, &leaves);
            }
        }
        assert_eq!(flow.peek(&bench), before, "the flow itself is as it was");
    }
}

/// Every code that IANA lists for the translated types, and one beyond: type, and the last code.
pub(crate) const CODES: [&[(u8, u8)]; 2] = [&[(3, 16), (11, 2), (12, 3)], &[(1, 9), (2, 1), (3, 2), (4, 11)]];

#[test]
fn whatever_code_an_error_has() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        for case in cases(flow) {
            for (kind, last) in CODES[usize::from(!net.is_v4())] {
                for code in 0..=*last {
                    let [comes, leaves] = case.frames(net, (*kind, code), [0, 0, 5, 0], 128);
                    let what = format!("type {kind}, code {code}");
                    bench.comes_out(&what, &comes, Verdict::IcmpError, &leaves);
                }
            }
        }
    }
}

#[test]
fn however_much_of_the_packet_is_embedded() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let header = net.headers() - 14;
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        for case in cases(flow) {
            for length in header + 8..=header + 76 {
                let [comes, leaves] = case.frames(net, kind, [0, 0, 5, 0], length);
                bench.turns(&format!("{length} bytes"), &comes, Verdict::IcmpError, &leaves);
            }
            for length in 0..header + 8 {
                let [comes, _] = case.frames(net, kind, [0, 0, 5, 0], length);
                bench.passes(&format!("{length} bytes"), &comes, Verdict::NotTcp);
            }
        }
    }
}

#[test]
fn errors_about_a_handshake_too() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.opened(net);
        let syn = net.syn(flow.client.source.port());
        let case = Case {
            about: flow.rewritten(&syn),
            receiver: flow.backend.source.ip(),
            outside: [flow.client.destination.ip(), flow.client.source.ip()],
            original: Segment { hops: syn.hops - 1, ..syn },
        };
        let kind = if net.is_v4() { (3, 1) } else { (1, 3) };
        let [comes, leaves] = case.frames(net, kind, [0; 4], 512);
        bench.turns("unreachable", &comes, Verdict::IcmpError, &leaves);
    }
}

#[test]
fn packets_with_options_are_found_in_errors_too() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        for case in cases(flow) {
            let dress = |segment: &Segment| {
                if net.is_v4() {
                    segment.clone().with_ip_options(&[0x5e, 4, 1, 2, 1, 1, 1, 1])
                } else {
                    segment.clone().with_extensions(&[(60, &[0; 16]), (0, &[0; 8])])
                }
            };
            let dressed = Case { about: dress(&case.about), original: dress(&case.original), ..case };
            let kind = if net.is_v4() { (11, 0) } else { (3, 0) };
            let [comes, leaves] = dressed.frames(net, kind, [0; 4], 512);
            bench.turns("options", &comes, Verdict::IcmpError, &leaves);
        }
    }
}

#[test]
fn other_icmp_is_the_stacks() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        for case in cases(flow) {
            for (what, ipv4, ipv6) in OTHERS {
                let Some(kind) = (if net.is_v4() { *ipv4 } else { *ipv6 }) else { continue };
                let [comes, _] = case.frames(net, (kind, 0), [0; 4], 512);
                bench.passes(what, &comes, Verdict::NotTcp);
            }
        }
    }
}

#[test]
fn errors_about_no_flow_are_the_stacks() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        for case in cases(flow) {
            let Case { about, receiver, .. } = &case;
            let mut pass = |what: &str, receiver: IpAddr, embedded: &[u8]| {
                let frame = icmp_error((net.router(), receiver), 61, kind, [0, 0, 5, 0], embedded);
                bench.passes(what, &frame, Verdict::NotTcp);
            };
            let with_port = |mut segment: Segment| {
                segment.source.set_port(9);
                segment
            };
            pass("another port", *receiver, &with_port(about.clone()).packet());
            pass("for somebody else", net.router(), &about.packet());
            pass("nothing", *receiver, &[]);
            let (source, destination) = (about.source.ip(), about.destination.ip());
            let udp = frame::ip(source, destination, frame::UDP, 64, &about.packet()[net.headers() - 14..]);
            pass("about UDP", *receiver, &udp[14..]);
            let mut other_version = about.packet();
            other_version[0] ^= 0x20;
            pass("about another version of IP", *receiver, &other_version);
            if net.is_v4() {
                let mut fragment = about.packet();
                fragment[7] = 1;
                pass("about a later fragment", *receiver, &fragment);
                let mut short = about.packet();
                short[0] = 0x44;
                pass("about a header that is too short", *receiver, &short);
            }
            let turned = Segment { source: about.destination, destination: about.source, ..about.clone() };
            pass("about a packet of the other direction", turned.source.ip(), &turned.packet());
        }
    }
}

#[test]
fn an_error_loses_a_hop_and_ends_at_the_last() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let kind = if net.is_v4() { (11, 0) } else { (3, 0) };
        for case in cases(flow) {
            for hops in [2_u8, 255, 1, 0] {
                let packet = case.about.packet();
                let comes = icmp_error((net.router(), case.receiver), hops, kind, [0; 4], &packet);
                if hops < 2 {
                    bench.passes("last hop", &comes, Verdict::Expired);
                    continue;
                }
                let [source, destination] = case.outside;
                let original = case.original.packet();
                let leaves = icmp_error((source, destination), hops - 1, kind, [0; 4], &original);
                bench.turns("hops", &comes, Verdict::IcmpError, &leaves);
            }
        }
    }
}

#[test]
fn an_error_cut_anywhere_is_left_alone() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        for case in cases(flow) {
            let [comes, _] = case.frames(net, kind, [0, 0, 5, 0], 512);
            for length in net.headers()..comes.len() {
                bench.passes(&format!("{length} bytes"), &comes[..length], Verdict::Truncated);
            }
        }
    }
}
