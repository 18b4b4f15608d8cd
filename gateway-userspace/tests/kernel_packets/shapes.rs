//! What a segment may carry besides its numbers. The gateway reads little of it and keeps all: what leaves differs in
//! addresses, ports, one hop and the checksums.

use gateway_common::{Phase, State, Verdict};
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{Bench, FAMILIES, Opened, Peek, ROOMY};
use crate::kernel::frame::{ACK, CWR, ECE, PSH, SYN, Segment, URG};
use crate::xdp::{Gateway, REDIRECT, TX, sent};

/// What is made of a plain ACK.
type Shape = (&'static str, fn(Segment) -> Segment);

/// Of segments of an established flow.
pub(crate) const SHAPES: &[Shape] = &[
    ("bare", |plain| plain),
    ("no flag", |plain| Segment { flags: 0, ..plain }),
    ("PSH alone", |plain| Segment { flags: PSH, ..plain }),
    ("one byte", |plain| plain.with_payload(b"1")),
    ("two bytes", |plain| plain.with_payload(b"12")),
    ("an odd payload", |plain| plain.with_payload(b"odd")),
    ("a payload of zeros", |plain| plain.with_payload(&[0; 64])),
    ("a payload of ones", |plain| plain.with_payload(&[0xff; 63])),
    ("a full segment", |plain| plain.with_payload(&[0xa5; 1380])),
    ("an urgent byte", |plain| Segment { flags: ACK | URG, urgent: 1, ..plain }.with_payload(b"!")),
    ("an urgent byte far ahead", |plain| Segment { flags: ACK | URG, urgent: 0xffff, ..plain }),
    ("an urgent pointer without its flag", |plain| Segment { urgent: 7, ..plain }),
    ("congestion seen", |plain| Segment { flags: ACK | ECE, ..plain }),
    ("congestion window lowered", |plain| Segment { flags: ACK | CWR, ..plain }),
    ("both bits of ECN", |plain| Segment { flags: ACK | ECE | CWR, ..plain }),
    ("the accurate bit of ECN", |plain| Segment { reserved: 1, ..plain }),
    ("reserved bits", |plain| Segment { reserved: 0x0e, ..plain }),
    ("a closed window", |plain| Segment { window: 0, ..plain }),
    ("a wide window", |plain| Segment { window: 0xffff, ..plain }),
    ("a probe of keepalive", |plain| numbered(plain, -1, 0)),
    ("a probe of keepalive with a byte", |plain| numbered(plain, -1, 0).with_payload(&[0])),
    ("a probe of a closed window", |plain| numbered(plain, 0, 0).with_payload(b"x")),
    ("sent again", |plain| numbered(plain, -1380, 0).with_payload(&[7; 1380])),
    ("numbers about to go round", |plain| plain.with_numbers(u32::MAX, u32::MAX)),
    ("numbers of nothing", |plain| plain.with_numbers(0, 0)),
    ("timestamps", |plain| plain.with_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])),
    ("a gap", |plain| plain.with_options(&[1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0])),
    ("a gap and timestamps", |plain| {
        plain.with_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0])
    }),
    ("four gaps", |plain| plain.with_options(&[&[1, 1, 5, 34][..], &[9; 32]].concat())),
    ("a signature of MD5", |plain| plain.with_options(&[&[1, 1, 19, 18][..], &[0x5a; 16]].concat())),
    ("an authentication", |plain| plain.with_options(&[&[29, 16, 1, 2][..], &[0x5a; 12]].concat())),
    ("another path's data", |plain| plain.with_options(&[30, 8, 0x20, 1, 0, 0, 0, 1]).with_payload(b"data")),
    ("a user timeout", |plain| plain.with_options(&[28, 4, 0x80, 5])),
    ("an unknown option", |plain| plain.with_options(&[0xfd, 4, 0xbe, 0xef])),
    ("a window scale that no SYN carries", |plain| plain.with_options(&[1, 3, 3, 14])),
    ("a segment size that no SYN carries", |plain| plain.with_options(&[2, 4, 0xff, 0xff])),
    ("the end, and more behind it", |plain| plain.with_options(&[0, 8, 10, 3])),
    ("an option of no length", |plain| plain.with_options(&[8, 0, 0, 0])),
    ("an option beyond the header", |plain| plain.with_options(&[8, 40, 0, 0])),
    ("forty bytes of padding", |plain| plain.with_options(&[1; 40])),
    ("expedited", |plain| Segment { service: 0xb8, ..plain }),
    ("able to tell of congestion", |plain| Segment { service: 0x02, ..plain }),
    ("able to tell of it sooner", |plain| Segment { service: 0x01, ..plain }),
    ("congestion experienced", |plain| Segment { service: 0x03, ..plain }),
    ("every bit of the service class", |plain| Segment { service: 0xff, ..plain }),
    ("no flow label", |plain| Segment { label: 0, ..plain }),
    ("the last flow label", |plain| Segment { label: 0xf_ffff, ..plain }),
    ("may be fragmented", |plain| Segment { fragment: 0, ..plain }),
    ("the reserved bit of IPv4", |plain| Segment { fragment: 0x8000, ..plain }),
    ("every hop", |plain| plain.with_hops(255)),
    ("the last hop but one", |plain| plain.with_hops(2)),
    ("a SYN", |plain| Segment { flags: SYN, ..plain }),
    ("a SYN-ACK", |plain| Segment { flags: SYN | ACK, ..plain }),
    ("an option of its address header", |plain| {
        let is_v4 = plain.source.is_ipv4();
        if is_v4 { plain.with_ip_options(&[0x5e, 4, 1, 2]) } else { plain.with_extensions(&[(60, &[0; 8])]) }
    }),
];

/// Of SYNs.
pub(crate) const OPENINGS: &[Shape] = &[
    ("bare", |plain| plain),
    ("as Linux sends it", |plain| {
        plain.with_options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
    }),
    ("as Windows sends it", |plain| plain.with_options(&[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2])),
    ("data", |plain| plain.with_payload(b"early")),
    ("data of an odd length", |plain| plain.with_payload(b"odd")),
    ("a request for a cookie of fast open", |plain| plain.with_options(&[34, 2, 1, 1])),
    ("a cookie of fast open, and data", |plain| {
        plain.with_options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]).with_payload(b"GET / HTTP/1.1")
    }),
    ("another path to come", |plain| plain.with_options(&[30, 4, 1, 1])),
    ("a signature of MD5", |plain| plain.with_options(&[&[1, 1, 19, 18][..], &[0x5a; 16]].concat())),
    ("forty bytes of padding", |plain| plain.with_options(&[1; 40])),
    ("broken options", |plain| plain.with_options(&[2, 0, 0, 0])),
    ("able to tell of congestion", |plain| Segment { flags: SYN | ECE | CWR, ..plain }),
    ("able to tell of it accurately", |plain| Segment { flags: SYN | ECE | CWR, reserved: 1, ..plain }),
    ("PSH", |plain| Segment { flags: SYN | PSH, ..plain }),
    ("an urgent byte", |plain| Segment { flags: SYN | URG, urgent: 1, ..plain }.with_payload(b"!")),
    ("an acknowledgement field without its flag", |plain| plain.with_numbers(1, 0xffff_ffff)),
    ("the last sequence number", |plain| plain.with_numbers(u32::MAX, 0)),
    ("a closed window", |plain| Segment { window: 0, ..plain }),
    ("expedited", |plain| Segment { service: 0xb8, ..plain }),
    ("the last flow label", |plain| Segment { label: 0xf_ffff, ..plain }),
    ("may be fragmented", |plain| Segment { fragment: 0, ..plain }),
    ("every hop", |plain| plain.with_hops(255)),
    ("the last hop but one", |plain| plain.with_hops(2)),
];

/// Source ports of SYNs that are worth a look.
const SOURCE_PORTS: [u16; 6] = [0, 1, 443, 8080, 20_000, 65_535];

fn numbered(segment: Segment, sequence: i32, acknowledgement: i32) -> Segment {
    let numbers = (
        segment.sequence.wrapping_add_signed(sequence),
        segment.acknowledgement.wrapping_add_signed(acknowledgement),
    );
    segment.with_numbers(numbers.0, numbers.1)
}

/// What a segment did to its flow's record: counted it in its own direction, and ended nothing.
fn counted(what: &str, before: &Peek, after: &Peek, from_client: bool) {
    let mut packets = before.packets;
    packets[usize::from(!from_client)] += 1;
    assert_eq!(after.packets, packets, "{what}");
    assert_eq!((after.number, after.leaving, after.backend), (before.number, before.leaving, before.backend));
    assert_eq!(after.state.phase(), Phase::Established, "{what}");
    assert_eq!(after.state.0 & !State::SEEN, before.state.0 & !State::SEEN, "{what}");
}

fn shaped(flow: Opened, from_client: bool, shape: fn(Segment) -> Segment) -> Segment {
    shape(if from_client { flow.by_client(ACK) } else { flow.by_backend(ACK) })
}

#[test]
fn all_that_a_segment_carries_is_kept() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        for (what, shape) in SHAPES {
            for from_client in [true, false] {
                let (segment, before) = (shaped(flow, from_client, *shape), flow.peek(&bench));
                flow.passes_on(&mut bench, what, &segment);
                counted(what, &before, &flow.peek(&bench), from_client);
            }
        }
    }
}

#[test]
fn all_that_a_segment_carries_is_kept_at_xdp_too() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        for (what, shape) in SHAPES {
            for (from_client, action, place) in [(true, REDIRECT, 1), (false, TX, 0)] {
                let (segment, before) = (shaped(flow, from_client, *shape), flow.peek(&gateway.bench));
                let want = sent(flow, &segment, place);
                gateway.does(what, &segment.bytes(), action, Verdict::Forwarded, &want);
                counted(what, &before, &flow.peek(&gateway.bench), from_client);
            }
        }
    }
}

/// Opens a flow by a SYN, which comes cut at every length before, and opens nothing.
fn opens(bench: &mut Bench, what: &str, syn: &Segment) -> Opened {
    let client = Tuple { source: syn.source, destination: syn.destination };
    let bytes = syn.bytes();
    let headers = if syn.source.is_ipv4() { 34 } else { 54 };
    for length in headers..bytes.len() {
        bench.passes(what, &bytes[..length], Verdict::Truncated);
    }
    assert!(bench.peek(client).is_none(), "{what}: cut, and opens a flow");
    let outcome = bench.run(&bytes);
    assert_eq!(outcome.verdict, Verdict::Steered, "{what}");
    let record = bench.peek(client).unwrap();
    let flow = Opened { client, backend: record.leaving };
    assert_eq!(outcome.packet, flow.rewritten(syn).bytes(), "{what}");
    assert_eq!((record.packets, record.bytes), ([1, 0], [0, 0]), "{what}");
    assert_eq!(record.state.phase(), Phase::Opening, "{what}");
    flow
}

#[test]
fn whatever_a_syn_carries_it_opens_a_flow() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for (what, shape) in OPENINGS {
            let port = bench.port();
            let syn = shape(net.syn(port).with_options(&[]));
            let flow = opens(&mut bench, what, &syn);
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.establishes(&mut bench);
        }
        for port in SOURCE_PORTS {
            opens(&mut bench, &format!("source port {port}"), &net.syn(port));
        }
    }
}
