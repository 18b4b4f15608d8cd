//! Segments of strangers who know a flow's addresses and ports, but not how far its numbers have got. All are sent on; a
//! FIN or a RST counts only with numbers that fit.

use gateway_common::numbers::REACH;
use gateway_common::{Direction, Phase, Seen, State, Verdict};

use crate::bench::{Bench, FAMILIES, Opened, REDIRECT, ROOMY};
use crate::kernel::frame::{ACK, BACKEND_INITIAL, CLIENT_INITIAL, FIN, PSH, RST, SYN, Segment};

const FLIGHT: i32 = REACH.cast_signed();

/// A segment's flags, how far its two numbers are from the right ones, and whether its FIN or RST is believed.
pub(crate) type End = (&'static str, u8, i32, i32, bool);

pub(crate) const ENDS: &[End] = &[
    ("RST, exact", RST, 0, 0, true),
    ("RST, whatever its acknowledgement field", RST, 0, 1 << 30, true),
    ("RST, one ahead", RST, 1, 0, false),
    ("RST, one behind", RST, -1, 0, false),
    ("RST, a segment ahead", RST, 1460, 0, false),
    ("RST, half way round", RST, i32::MIN, 0, false),
    ("RST with data, exact", RST | PSH, 0, 0, true),
    ("RST and ACK, exact", RST | ACK, 0, 0, true),
    ("RST and ACK, a segment ahead", RST | ACK, 1460, 0, true),
    ("RST and ACK, a flight ahead", RST | ACK, FLIGHT - 1, 0, true),
    ("RST and ACK, more than a flight ahead", RST | ACK, FLIGHT, 0, false),
    ("RST and ACK, a flight behind", RST | ACK, -FLIGHT, 0, true),
    ("RST and ACK, more than a flight behind", RST | ACK, -FLIGHT - 1, 0, false),
    ("RST and ACK, acknowledges a flight", RST | ACK, 0, FLIGHT - 1, true),
    ("RST and ACK, acknowledges more than a flight", RST | ACK, 0, FLIGHT, false),
    ("RST and ACK, acknowledges the distant past", RST | ACK, 0, -FLIGHT - 1, false),
    ("RST and ACK, half way round", RST | ACK, i32::MIN, 0, false),
    ("RST and ACK, acknowledges half way round", RST | ACK, 0, i32::MIN, false),
    ("FIN, exact", FIN | ACK, 0, 0, true),
    ("FIN with PSH", FIN | ACK | PSH, 0, 0, true),
    ("FIN sent again", FIN | ACK, -1000, 0, true),
    ("FIN behind a flight", FIN | ACK, FLIGHT - 1, 0, true),
    ("FIN out of the blue", FIN | ACK, FLIGHT, 0, false),
    ("FIN that acknowledges the blue", FIN | ACK, 0, FLIGHT, false),
    ("FIN half way round", FIN | ACK, i32::MIN, 0, false),
    ("FIN without ACK", FIN, 0, 0, false),
    ("FIN and RST, exact", FIN | RST | ACK, 0, 0, true),
    ("FIN and RST out of the blue", FIN | RST | ACK, 1 << 26, 0, false),
    ("SYN, FIN and RST out of the blue", SYN | FIN | RST | ACK, 1 << 26, 0, false),
    ("every flag out of the blue", 0xff, 1 << 26, 0, false),
];

/// How far an acknowledgement and the sequence number beside it are from the right ones, and whether it is kept.
pub(crate) const ACKS: &[(&str, u8, i32, i32, bool)] = &[
    ("a segment", ACK, 0, 1460, true),
    ("a super-packet", ACK | PSH, 0, 65_000, true),
    ("a flight", ACK, 0, FLIGHT - 1, true),
    ("more than a flight", ACK, 0, FLIGHT, false),
    ("one that was overtaken", ACK, 0, -1460, true),
    ("the distant past", ACK, 0, -FLIGHT - 1, false),
    ("half way round", ACK, 0, i32::MIN, false),
    ("beside data in flight", ACK | PSH, 100_000, 1460, true),
    ("beside what nobody sends", ACK | PSH, FLIGHT, 1460, false),
    ("beside the distant past", ACK | PSH, -FLIGHT - 1, 1460, false),
    ("a probe of keepalive", ACK, -1, 1460, true),
    ("a field without its flag", PSH, 0, 1460, false),
    ("FIN", FIN | ACK, 0, 1460, true),
    ("RST", RST | ACK, 0, 1460, true),
    ("RST out of the blue", RST | ACK, FLIGHT, 1460, false),
];

/// A segment of either end, its numbers so far from the right ones.
fn shifted(flow: Opened, from_client: bool, flags: u8, sequence: i32, acknowledgement: i32) -> Segment {
    // The right numbers are those behind the handshake, also for flags that only a handshake has.
    let right = if from_client { flow.by_client(ACK) } else { flow.by_backend(ACK) };
    let (sequence, acknowledgement) = (
        right.sequence.wrapping_add_signed(sequence),
        right.acknowledgement.wrapping_add_signed(acknowledgement),
    );
    Segment { flags, ..right }.with_numbers(sequence, acknowledgement)
}

/// Whether a FIN or a RST of an end was believed.
fn has_ended(bench: &Bench, flow: Opened, from_client: bool) -> bool {
    let direction = if from_client { Direction::ToBackend } else { Direction::ToClient };
    flow.seen(bench, direction).any(Seen::FIN | Seen::RST)
}

/// A flow's end, at tc or XDP.
pub(crate) fn end(flow: Opened, from_client: bool, (_, flags, sequence, acknowledgement, _): End) -> Segment {
    shifted(flow, from_client, flags, sequence, acknowledgement)
}

/// Whether the record is as a segment should have left it.
pub(crate) fn check(bench: &Bench, flow: Opened, from_client: bool, (what, flags, .., is_believed): End) {
    assert_eq!(has_ended(bench, flow, from_client), is_believed, "{what}");
    assert!(!has_ended(bench, flow, !from_client), "{what}");
    let phase = if is_believed && flags & RST != 0 { Phase::Reset } else { Phase::Established };
    assert_eq!(flow.phase(bench), phase, "{what}");
}

#[test]
fn an_end_is_believed_by_its_numbers_and_sent_on_in_any_case() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for from_client in [true, false] {
            for row in ENDS {
                let flow = bench.established(net);
                let before = flow.peek(&bench);
                flow.passes_on(&mut bench, row.0, &end(flow, from_client, *row));
                check(&bench, flow, from_client, *row);
                let (after, at) = (flow.peek(&bench), usize::from(!from_client));
                assert_eq!(after.packets[at], before.packets[at] + 1, "{}", row.0);
                assert_eq!(after.packets[1 - at], before.packets[1 - at], "{}", row.0);
                flow.passes_on(&mut bench, "goes on", &flow.by_client(ACK | PSH));
            }
        }
    }
}

#[test]
fn an_acknowledgement_is_kept_if_both_of_its_numbers_fit() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for from_client in [true, false] {
            for (what, flags, sequence, acknowledgement, is_kept) in ACKS {
                let flow = bench.established(net);
                let before = flow.peek(&bench).expected;
                assert_eq!(before, [CLIENT_INITIAL + 1, BACKEND_INITIAL + 1]);
                let segment = shifted(flow, from_client, *flags, *sequence, *acknowledgement);
                flow.passes_on(&mut bench, what, &segment);
                let mut want = before;
                if *is_kept {
                    // What the client acknowledges are the backend's bytes.
                    want[usize::from(from_client)] = segment.acknowledgement;
                }
                assert_eq!(flow.peek(&bench).expected, want, "{what}");
            }
        }
    }
}

#[test]
fn no_stranger_can_have_a_syn_replace_a_flow() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        let before = flow.peek(&bench);
        for guess in 1..64_i32 {
            for flags in [RST, RST | ACK] {
                flow.passes_on(&mut bench, "a guess", &shifted(flow, true, flags, guess << 26, guess << 26));
            }
        }
        flow.passes_on(&mut bench, "SYN", &net.syn(flow.client.source.port()));
        let after = flow.peek(&bench);
        assert_eq!((after.number, after.state.phase()), (before.number, Phase::Established));
        flow.passes_on(&mut bench, "the client's own", &flow.by_client(RST));
        let syn = net.syn(flow.client.source.port());
        assert_eq!(bench.run(&syn.bytes()).verdict, Verdict::Replaced);
    }
}

#[test]
fn an_end_is_believed_wherever_its_numbers_have_got_to() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for last in [FIN | ACK, RST | ACK, RST] {
            let flow = bench.established(net);
            let [mut up, mut down] = flow.peek(&bench).expected;
            // Far enough that both numbers go round.
            for _ in 0..2000 {
                let sent = random.u32(..REACH);
                let data = flow.by_backend(ACK).with_numbers(down.wrapping_add(sent), up);
                assert_eq!(bench.quick(&data.bytes()).0, REDIRECT);
                down = down.wrapping_add(random.u32(..=sent));
                up = up.wrapping_add(random.u32(..100_000));
                for segment in
                    [flow.by_client(ACK).with_numbers(up, down), flow.by_backend(ACK).with_numbers(down, up)]
                {
                    assert_eq!(bench.quick(&segment.bytes()).0, REDIRECT);
                }
            }
            assert_eq!(flow.peek(&bench).expected, [up, down]);
            flow.passes_on(&mut bench, "by old numbers", &flow.by_backend(last));
            assert!(!has_ended(&bench, flow, false));
            flow.passes_on(&mut bench, "by new ones", &flow.by_backend(last).with_numbers(down, up));
            assert!(has_ended(&bench, flow, false));
        }
    }
}

#[test]
fn a_flow_that_waits_for_room_is_guarded_too() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        let flow = bench.opened(net);
        flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        bench.exhaust(net);
        flow.passes_on(&mut bench, "ACK", &flow.by_client(ACK));
        assert!(flow.peek(&bench).state.any(State::WAITING));
        // More than a first acknowledgement may be ahead.
        for step in 1..=4 {
            flow.passes_on(&mut bench, "ACK", &shifted(flow, true, ACK, 0, step << 20));
        }
        assert_eq!(flow.peek(&bench).expected[1], BACKEND_INITIAL + 1 + (4 << 20));
        flow.passes_on(&mut bench, "a guess", &shifted(flow, true, RST, 1 << 26, 0));
        assert_eq!(flow.phase(&bench), Phase::Established);
        flow.passes_on(&mut bench, "RST", &flow.by_client(RST));
        assert_eq!(flow.phase(&bench), Phase::Reset);
    }
}

#[test]
fn a_handshake_is_ended_by_any_reset() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.opened(net);
        flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        flow.passes_on(&mut bench, "RST", &shifted(flow, true, RST, 1 << 30, 0));
        assert_eq!(flow.phase(&bench), Phase::Reset);
    }
}
