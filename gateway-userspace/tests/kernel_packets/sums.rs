//! What devices do to packets: super-packets of many segments, sums found by the device, and bytes that were damaged.
//! A test run cannot have a checksum that the device is still to fill in; that is for live traffic.

use aya::programs::{TestRun, TestRunOptions};
use gateway_common::{Direction, Seen, State, Verdict};

use crate::bench::{Bench, FAMILIES, NEXT, Net, Opened, REDIRECT, ROOMY, SHOT};
use crate::kernel::frame::{ACK, ECE, FIN, PSH, RST, SYN, Segment, icmp_error};
use crate::raw::run_summed;
use crate::reset::answer;

/// Length of `struct __sk_buff`, and where some of its fields are.
const CONTEXT: usize = 192;
const SEGMENTS: usize = 164;
const SEGMENT_SIZE: usize = 176;

/// Segments of a super-packet, and the payload of each.
pub(crate) const SUPER_PACKETS: &[(u32, u32)] =
    &[(2, 1), (2, 1400), (2, 1000), (3, 1000), (30, 100), (100, 30)];

/// Runs a super-packet of so many segments: the verdict, what comes out, and how many segments it still has.
pub(crate) fn run_super(
    bench: &mut Bench,
    packet: &[u8],
    segments: u32,
    size: u32,
) -> (Verdict, Vec<u8>, u32) {
    let before = bench.counters();
    let mut context = [0; CONTEXT];
    context[SEGMENTS..SEGMENTS + 4].copy_from_slice(&segments.to_ne_bytes());
    context[SEGMENT_SIZE..SEGMENT_SIZE + 4].copy_from_slice(&size.to_ne_bytes());
    let (mut out, mut context_out) = (vec![0; packet.len()], [0; CONTEXT]);
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ctx_out: Some(&mut context_out),
        ..TestRunOptions::default()
    };
    let result = bench.loaded.classifier().unwrap().test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    let [verdict] = bench.counted_since(&before)[..] else { panic!("not one verdict") };
    let left = context_out[SEGMENTS..SEGMENTS + 4].try_into().unwrap();
    (verdict, out, u32::from_ne_bytes(left))
}

#[test]
fn a_super_packet_is_rewritten_once_and_counted_as_its_segments() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        let start = flow.peek(&bench).packets;
        for (segments, size) in SUPER_PACKETS {
            let payload = vec![0x5a; (segments * size) as usize];
            for packet in [flow.by_client(ACK | PSH), flow.by_backend(ACK | PSH | ECE)] {
                for options in [&[][..], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]] {
                    let packet = packet.clone().with_payload(&payload).with_options(options);
                    let what = format!("{segments} segments of {size}");
                    let (verdict, out, left) = run_super(&mut bench, &packet.bytes(), *segments, *size);
                    assert_eq!((verdict, left), (Verdict::Forwarded, *segments), "{what}");
                    assert_eq!(out, flow.rewritten(&packet).bytes(), "{what}");
                }
            }
        }
        let sent: u32 = SUPER_PACKETS.iter().map(|(segments, _)| 2 * segments).sum();
        assert_eq!(flow.peek(&bench).packets, start.map(|packets| packets + u64::from(sent)));
        let last = flow.by_client(ACK | FIN).with_payload(&[7; 2800]);
        let (verdict, ..) = run_super(&mut bench, &last.bytes(), 2, 1400);
        assert_eq!(verdict, Verdict::Forwarded);
        assert!(flow.seen(&bench, Direction::ToBackend).any(Seen::FIN), "the last of the segments has it");
    }
}

#[test]
fn a_super_packet_of_a_condemned_flow_is_cut_to_one_reset() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        bench.mark(flow, State::CONDEMNED);
        let packet = flow.by_client(ACK | PSH).with_payload(&[0x5a; 2800]).with_numbers(1, 2);
        let (verdict, out, left) = run_super(&mut bench, &packet.bytes(), 2, 1400);
        assert_eq!((verdict, left), (Verdict::Reset, 0));
        assert_eq!(out, answer(&packet, (RST, 2, 0)));
        let reset = flow.by_client(RST).with_payload(&[0x5a; 2800]);
        let (verdict, out, _) = run_super(&mut bench, &reset.bytes(), 2, 1400);
        assert_eq!((verdict, out), (Verdict::Unanswered, reset.bytes()));
    }
}

/// Runs a packet whose sum the device has found; it must still fit when the packet leaves.
fn fits(bench: &mut Bench, what: &str, packet: &[u8], want: &[u8]) {
    let (action, out) = run_summed(bench, packet).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((action, out), (REDIRECT, want.to_vec()), "{what}");
}

#[test]
fn a_sum_that_the_device_found_fits_afterwards() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for _ in 0..50 {
            let flow = bench.established(net);
            let payload: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..)).collect();
            for segment in [flow.by_client(ACK), flow.by_backend(ACK | PSH)] {
                let segment = segment.with_payload(&payload).with_hops(random.u8(2..));
                fits(&mut bench, "segment", &segment.bytes(), &flow.rewritten(&segment).bytes());
            }
            bench.mtu(1000, 1000);
            let limit: u16 = 1000 - if net.is_v4() { 40 } else { 60 };
            for padding in 0..4 {
                let with = |size: u16| {
                    let mut options = [1; 8];
                    options[padding..padding + 2].copy_from_slice(&[2, 4]);
                    options[padding + 2..padding + 4].copy_from_slice(&size.to_be_bytes());
                    options
                };
                let synack = flow.by_backend(SYN | ACK).with_options(&with(1460));
                let want = flow.rewritten(&synack).with_options(&with(limit));
                fits(&mut bench, "segment size", &synack.bytes(), &want.bytes());
            }
            bench.mtu(0, 0);
            let sent = flow.by_client(ACK).with_payload(&payload);
            let about = flow.rewritten(&sent).packet();
            let original = {
                let hops = sent.hops - 1;
                sent.with_hops(hops).packet()
            };
            let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
            let (client, gateway) = (flow.client.source.ip(), flow.client.destination.ip());
            let header = net.headers() - 14;
            for length in [header + 8, header + 18, about.len()] {
                let rest = [0, 0, 5, 0];
                let ends = (net.router(), flow.backend.source.ip());
                let comes = icmp_error(ends, 9, kind, rest, &about[..length]);
                let leaves = icmp_error((gateway, client), 8, kind, rest, &original[..length]);
                fits(&mut bench, "ICMP error", &comes, &leaves);
            }
        }
    }
}

/// Checksums that the arithmetic of ones' complement may get wrong: it has two zeros, and of a sum from nothing only one
/// can come.
const EDGES: [u16; 4] = [0, 1, 0xfffe, 0x8000];

/// A segment with such a word of payload, or of an IPv4 option, that it has a checksum at a place of the frame once it has
/// become another.
fn with_checksum(
    place: usize,
    checksum: u16,
    dress: impl Fn([u8; 2]) -> Segment,
    becomes: impl Fn(&Segment) -> Segment,
) -> Segment {
    let sum = |segment: &Segment| {
        let frame = becomes(segment).bytes();
        u16::from_be_bytes([frame[place], frame[place + 1]])
    };
    // What the word must add to the sum of all others.
    let missing = u32::from(!checksum) + 0xffff - u32::from(!sum(&dress([0; 2])));
    let word = (missing & 0xffff) + (missing >> 16);
    let segment = dress((word as u16).to_be_bytes());
    assert_eq!(sum(&segment), checksum);
    segment
}

/// Segments of a flow whose checksums (TCP's, and IPv4's of the header) are at an edge, as they come or as they leave.
pub(crate) fn at_the_edge(net: Net, flow: Opened) -> Vec<Segment> {
    let mut segments = Vec::new();
    for plain in [flow.by_client(ACK | PSH), flow.by_backend(ACK | PSH)] {
        for checksum in EDGES {
            let tcp = |word: [u8; 2]| plain.clone().with_payload(&word);
            let place = net.headers() + 16;
            segments.push(with_checksum(place, checksum, tcp, Segment::clone));
            segments.push(with_checksum(place, checksum, tcp, |segment| flow.rewritten(segment)));
            if net.is_v4() {
                let ip = |[a, b]: [u8; 2]| plain.clone().with_ip_options(&[0x5e, 4, a, b]);
                segments.push(with_checksum(24, checksum, ip, Segment::clone));
                segments.push(with_checksum(24, checksum, ip, |segment| flow.rewritten(segment)));
            }
        }
    }
    segments
}

#[test]
fn a_checksum_may_be_at_the_edge_before_and_after() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        for segment in at_the_edge(net, flow) {
            flow.passes_on(&mut bench, "at the edge", &segment);
        }
    }
}

#[test]
fn damaged_packets_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut bench = Bench::serving(ROOMY);
    bench.configure(|config| config.handshake_ticks = 0);
    for net in FAMILIES {
        let flow: Opened = bench.established(net);
        let condemned = bench.established(net);
        bench.mark(condemned, State::CONDEMNED);
        bench.mtu(1400, 1400);
        let about = flow.rewritten(&flow.by_client(ACK)).packet();
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        let dressed = if net.is_v4() {
            net.syn(9).with_ip_options(&[0x5e, 4, 1, 2, 1, 1, 1, 0])
        } else {
            net.syn(9).with_extensions(&[(0, &[0; 8]), (43, &[0; 16]), (60, &[0; 8])])
        };
        let seeds = [
            net.syn(8).with_options(&[1, 3, 3, 7, 2, 4, 5, 0xb4, 4, 2, 1, 0]).bytes(),
            dressed.bytes(),
            flow.by_client(ACK | PSH).with_payload(b"payload").bytes(),
            condemned.by_client(ACK).bytes(),
            icmp_error((net.router(), flow.backend.source.ip()), 9, kind, [0; 4], &about),
        ];
        for round in 0..20_000 {
            let mut packet = seeds[round % seeds.len()].clone();
            for _ in 0..random.usize(1..6) {
                let place = random.usize(12..packet.len());
                packet[place] = random.u8(..);
            }
            packet.truncate(random.usize(net.headers()..=packet.len()));
            let (action, out) = bench.quick(&packet);
            match action {
                NEXT | SHOT => assert_eq!(out, packet, "round {round}"),
                action => assert_eq!(action, REDIRECT, "round {round}"),
            }
        }
        flow.passes_on(&mut bench, "afterwards", &flow.by_client(ACK));
        bench.mtu(0, 0);
    }
}
