//! Packets of flows whose backend is gone.

use gateway_common::{State, Verdict};

use crate::bench::{Bench, FAMILIES, Net, Opened, ROOMY};
use crate::kernel::frame::{ACK, FIN, PSH, RST, SYN, Segment};

const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// Flags and numbers of an answer; without one the segment is dropped.
pub(crate) type Reset = Option<(u8, u32, u32)>;

/// Flags and bytes of a segment that starts with sequence number 1000 and acknowledges 5000, and its answer.
pub(crate) const ANSWERS: &[(&str, u8, usize, Reset)] = &[
    ("ACK", ACK, 0, Some((RST, 5000, 0))),
    ("data", ACK | PSH, 10, Some((RST, 5000, 0))),
    ("odd data", ACK | PSH, 11, Some((RST, 5000, 0))),
    ("a full segment", ACK, 1400, Some((RST, 5000, 0))),
    ("FIN", FIN | ACK, 0, Some((RST, 5000, 0))),
    ("SYN-ACK", SYN | ACK, 0, Some((RST, 5000, 0))),
    ("SYN", SYN, 0, Some((RST | ACK, 0, 1001))),
    ("SYN with data", SYN, 5, Some((RST | ACK, 0, 1006))),
    ("FIN without ACK", FIN, 0, Some((RST | ACK, 0, 1001))),
    ("FIN without ACK, with data", FIN, 7, Some((RST | ACK, 0, 1008))),
    ("data without ACK", PSH, 7, Some((RST | ACK, 0, 1007))),
    ("no flag", 0, 0, Some((RST | ACK, 0, 1000))),
    ("RST", RST, 0, None),
    ("RST and ACK", RST | ACK, 0, None),
    ("RST with data", RST | ACK, 10, None),
];

/// The answer to a segment.
pub(crate) fn answer(segment: &Segment, (flags, sequence, acknowledgement): (u8, u32, u32)) -> Vec<u8> {
    let mut bytes = Segment {
        options: Vec::new(),
        payload: Vec::new(),
        hops: 64,
        window: 0,
        ..Segment::new(segment.destination, segment.source, flags)
            .with_numbers(sequence, acknowledgement)
            .with_ip_options(&segment.ip_options)
    };
    bytes.extensions.clone_from(&segment.extensions);
    let mut bytes = bytes.bytes();
    bytes[..12].rotate_left(6);
    bytes
}

fn segments(flow: Opened, flags: u8, length: usize) -> [Segment; 2] {
    [flow.by_client(flags), flow.by_backend(flags)]
        .map(|segment| segment.with_numbers(1000, 5000).with_payload(&vec![0xa5; length]))
}

/// An established flow and a handshake, condemned.
fn condemned(bench: &mut Bench, net: Net) -> [Opened; 2] {
    let flows = [bench.established(net), bench.opened(net)];
    for flow in flows {
        bench.mark(flow, State::CONDEMNED);
    }
    flows
}

#[test]
fn each_segment_is_answered_by_a_reset_to_its_sender() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for flow in condemned(&mut bench, net) {
            let before = flow.peek(&bench);
            for (what, flags, length, want) in ANSWERS {
                for segment in segments(flow, *flags, *length) {
                    for segment in [segment.clone(), segment.with_options(&OPTIONS)] {
                        let Some(want) = want else {
                            bench.passes(what, &segment.bytes(), Verdict::Unanswered);
                            continue;
                        };
                        bench.turns(what, &segment.bytes(), Verdict::Reset, &answer(&segment, *want));
                    }
                }
            }
            assert_eq!(flow.peek(&bench), before, "the record waits for the agent as it is");
        }
    }
}

#[test]
fn numbers_go_round() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for flow in condemned(&mut bench, net) {
            for (sequence, length, want) in
                [(u32::MAX, 0, 0), (u32::MAX - 4, 10, 6), (0, 1, 2), (0x7fff_ffff, 0, 0x8000_0000)]
            {
                let syn = flow.by_client(SYN).with_numbers(sequence, 0).with_payload(&vec![1; length]);
                bench.turns("SYN", &syn.bytes(), Verdict::Reset, &answer(&syn, (RST | ACK, 0, want)));
            }
            for acknowledgement in [0, 1, u32::MAX, 0x8000_0000] {
                let ack = flow.by_client(ACK).with_numbers(9, acknowledgement);
                let want = answer(&ack, (RST, acknowledgement, 0));
                bench.turns("ACK", &ack.bytes(), Verdict::Reset, &want);
            }
        }
    }
}

#[test]
fn a_reset_needs_no_hop_and_has_its_own() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for flow in condemned(&mut bench, net) {
            for hops in [0, 1, 2, 255] {
                let ack = flow.by_client(ACK).with_hops(hops).with_numbers(1, 2);
                bench.turns("hops", &ack.bytes(), Verdict::Reset, &answer(&ack, (RST, 2, 0)));
            }
        }
    }
}

#[test]
fn padding_is_cut_off_and_options_of_the_address_header_stay() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for flow in condemned(&mut bench, net) {
            let ack = flow.by_client(ACK).with_numbers(1, 2);
            let padded = [ack.bytes(), vec![0; 6]].concat();
            bench.turns("padding", &padded, Verdict::Reset, &answer(&ack, (RST, 2, 0)));
            let dressed = if net.is_v4() {
                ack.with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                ack.with_extensions(&[(60, &[0; 8])])
            };
            let want = answer(&dressed, (RST, 2, 0));
            bench.turns("options", &dressed.bytes(), Verdict::Reset, &want);
        }
    }
}

#[test]
fn a_new_connection_on_the_tuple_of_a_condemned_flow_that_is_over_is_a_new_flow() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        flow.passes_on(&mut bench, "RST", &flow.by_client(RST));
        bench.mark(flow, State::CONDEMNED);
        let outcome = bench.run(&net.syn(flow.client.source.port()).bytes());
        assert_eq!(outcome.verdict, Verdict::Replaced);
    }
}

#[test]
fn cut_anywhere_it_is_left_alone() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let [flow, _] = condemned(&mut bench, net);
        let packet = flow.by_client(ACK | PSH).with_options(&OPTIONS).with_payload(b"payload").bytes();
        for length in net.headers()..packet.len() {
            bench.passes(&format!("{length} bytes"), &packet[..length], Verdict::Truncated);
        }
    }
}
