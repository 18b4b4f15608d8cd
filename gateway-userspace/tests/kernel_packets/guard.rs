//! The guard: what of the gateway's own sockets the ends of handed-over flows must not see.

use aya::programs::{TestRun, TestRunOptions};
use gateway_common::{Direction, State, Verdict};

use crate::bench::{Bench, FAMILIES, NEXT, ROOMY, SHOT, hex};
use crate::handover::{BOTH, HandedOver, ORIGINS, hand_over, translation};
use crate::kernel::frame::{self, ACK, FIN, PSH, RST, SYN, Segment};

/// Length of `struct __sk_buff`, and where the interface that a packet came in by is.
const CONTEXT: usize = 192;
const CAME_BY: usize = 36;

/// What one run did: the action, the verdicts counted, and what comes out.
pub(crate) fn run(bench: &mut Bench, packet: &[u8]) -> (u32, Vec<Verdict>, Vec<u8>) {
    run_with(bench, packet, [0; CONTEXT])
}

fn run_with(bench: &mut Bench, packet: &[u8], context: [u8; CONTEXT]) -> (u32, Vec<Verdict>, Vec<u8>) {
    let before = bench.counters();
    let mut out = vec![0; packet.len() + 64];
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    };
    let result = bench.loaded.other("sluice_guard").unwrap().test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, bench.counted_since(&before), out)
}

/// What becomes of a segment of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It leaves as it is, and is not counted.
    Leaves,
    /// It leaves as a reset, and the flow is condemned.
    Tells,
    Dropped,
    /// It leaves with the other end's acknowledgement and without FIN.
    Amended,
}

/// By the bits of a flow's state: the socket owes nothing, owes something, has still to be given something, is frozen, is of a
/// flow that was given up; and the other one owes something, or has still to be given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Settled,
    Owes,
    Unsent,
    Frozen,
    Condemned,
    OtherOwes,
    OtherUnsent,
}

impl Stage {
    fn bits(self, direction: Direction) -> u64 {
        let (held, other) = (State::held(direction), State::held(direction.reversed()));
        match self {
            Self::Settled => 0,
            Self::Owes => held,
            Self::Unsent => held | State::UNSENT,
            Self::Frozen => State::FROZEN,
            Self::Condemned => State::CONDEMNED | held,
            Self::OtherOwes => other,
            Self::OtherUnsent => other | State::UNSENT,
        }
    }
}

/// Flags and bytes of a socket's segment at a stage, and its fate.
pub(crate) const GUARDED: &[(Stage, u8, usize, Fate)] = &[
    (Stage::Settled, ACK, 0, Fate::Dropped),
    (Stage::Settled, FIN | ACK, 0, Fate::Dropped),
    (Stage::Settled, RST, 0, Fate::Dropped),
    (Stage::Settled, RST | ACK, 0, Fate::Dropped),
    (Stage::Settled, ACK, 10, Fate::Amended),
    (Stage::Owes, ACK, 0, Fate::Dropped),
    (Stage::Owes, FIN | ACK, 0, Fate::Dropped),
    (Stage::Owes, RST | ACK, 0, Fate::Tells),
    (Stage::Owes, RST, 0, Fate::Tells),
    (Stage::Owes, ACK, 1, Fate::Amended),
    (Stage::Owes, ACK | PSH, 1400, Fate::Amended),
    (Stage::Owes, FIN | PSH | ACK, 11, Fate::Amended),
    (Stage::Unsent, ACK, 0, Fate::Dropped),
    (Stage::Unsent, ACK | PSH, 1400, Fate::Amended),
    (Stage::Unsent, FIN | ACK, 0, Fate::Tells),
    (Stage::Unsent, FIN | ACK, 11, Fate::Tells),
    (Stage::Unsent, RST | ACK, 0, Fate::Tells),
    (Stage::Frozen, ACK, 0, Fate::Dropped),
    (Stage::Frozen, ACK | PSH, 100, Fate::Dropped),
    (Stage::Frozen, FIN | ACK, 0, Fate::Tells),
    (Stage::Frozen, FIN | ACK, 11, Fate::Tells),
    (Stage::Frozen, RST | ACK, 0, Fate::Tells),
    (Stage::Frozen, RST, 0, Fate::Tells),
    (Stage::Condemned, ACK, 0, Fate::Leaves),
    (Stage::Condemned, ACK, 100, Fate::Leaves),
    (Stage::Condemned, FIN | ACK, 0, Fate::Tells),
    (Stage::Condemned, FIN | ACK, 9, Fate::Tells),
    (Stage::Condemned, RST | ACK, 0, Fate::Tells),
    (Stage::OtherOwes, ACK, 0, Fate::Dropped),
    (Stage::OtherOwes, RST, 0, Fate::Dropped),
    (Stage::OtherOwes, FIN | ACK, 0, Fate::Dropped),
    (Stage::OtherUnsent, RST, 0, Fate::Dropped),
    (Stage::OtherUnsent, FIN | ACK, 0, Fate::Tells),
];

fn is_guarded(
    bench: &mut Bench,
    flow: HandedOver,
    direction: Direction,
    segment: &Segment,
    fate: Fate,
    what: &str,
) {
    bench.rows += 1;
    let (action, counted, out) = run(bench, &segment.bytes());
    let want = match fate {
        Fate::Amended => {
            let flags = segment.flags & !FIN;
            let acknowledged = flow.translation.end(direction).taken;
            Segment { flags, acknowledgement: acknowledged, ..segment.clone() }
        }
        Fate::Tells => Segment { flags: segment.flags & !FIN | RST, ..segment.clone() },
        Fate::Leaves | Fate::Dropped => segment.clone(),
    };
    let (wanted, verdicts) = match fate {
        Fate::Leaves => (NEXT, vec![]),
        Fate::Dropped => (SHOT, vec![Verdict::Guarded]),
        Fate::Tells | Fate::Amended => (NEXT, vec![Verdict::Amended]),
    };
    assert_eq!((action, counted, hex(&out)), (wanted, verdicts, hex(&want.bytes())), "{what}");
}

#[test]
fn a_socket_says_what_it_owes_and_nothing_else() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            for (stage, flags, length, fate) in GUARDED {
                let what = format!("{stage:?} {flags:#x} {length}");
                let bits = stage.bits(direction);
                let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), bits);
                let socket = flow.by_socket(direction, *flags);
                let segment = socket
                    .clone()
                    // Some of what the end sent last the socket took, and the other end has not acknowledged.
                    .with_numbers(socket.sequence.wrapping_sub(*length as u32), socket.acknowledgement + 300)
                    .with_payload(&vec![0x5a; *length]);
                is_guarded(&mut bench, flow, direction, &segment, *fate, &what);
                let is_condemned = flow.state(&bench).any(State::CONDEMNED);
                assert_eq!(is_condemned, *fate == Fate::Tells || *stage == Stage::Condemned, "{what}");
            }
        }
    }
}

#[test]
fn headers_of_any_shape_are_amended() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::held(direction));
            let data = flow.by_socket(direction, ACK | PSH | FIN).with_payload(b"odd");
            let stamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
            let dressed = if net.is_v4() {
                data.clone().with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                data.clone().with_extensions(&[(60, &[0; 8])])
            };
            let shapes = [
                ("timestamps", data.clone().with_options(&stamps)),
                ("forty bytes of options", data.clone().with_options(&[1; 40])),
                ("options before TCP", dressed),
                ("even bytes", data.clone().with_payload(&[0x5a; 1400])),
                ("an acknowledgement of 0", data.clone().with_numbers(data.sequence, 0)),
                ("the last acknowledgement", data.clone().with_numbers(data.sequence, u32::MAX)),
                (
                    "the right one",
                    data.clone().with_numbers(data.sequence, flow.translation.end(direction).taken),
                ),
            ];
            for (what, segment) in shapes {
                is_guarded(&mut bench, flow, direction, &segment, Fate::Amended, what);
            }
        }
    }
}

#[test]
fn it_tells_what_the_other_end_has_acknowledged_by_then() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::held(direction));
            let data = flow.by_socket(direction, ACK | PSH).with_payload(b"bytes");
            for acknowledged in [0_u32, 1, 70_000] {
                let other = flow.by(direction.reversed(), ACK);
                let news = other
                    .clone()
                    .with_numbers(other.sequence, other.acknowledgement.wrapping_add(acknowledged));
                bench.run(&news.bytes());
                let (_, counted, out) = run(&mut bench, &data.bytes());
                let taken = flow.translation.end(direction).taken;
                let want = data.clone().with_numbers(data.sequence, taken.wrapping_add(acknowledged));
                assert_eq!((counted, hex(&out)), (vec![Verdict::Amended], hex(&want.bytes())));
            }
        }
    }
}

#[test]
fn what_came_by_the_kernel_counts_when_an_end_is_told_that_its_connection_is_broken() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            for (stage, moves) in [(Stage::Unsent, true), (Stage::Condemned, true), (Stage::Frozen, false)] {
                let bits = stage.bits(direction);
                let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), 0);
                // The end has had 70,000 bytes of the other one.
                let segment = flow.by(direction, ACK);
                let news = segment
                    .clone()
                    .with_numbers(segment.sequence, segment.acknowledgement.wrapping_add(70_000));
                bench.run(&news.bytes());
                flow.set(&bench, bits);
                let closing = flow.by_socket(direction, FIN | ACK);
                let (_, counted, out) = run(&mut bench, &closing.bytes());
                let sequence = closing.sequence.wrapping_add(if moves { 70_000 } else { 0 });
                let want = Segment { flags: RST | ACK, ..closing.clone() }
                    .with_numbers(sequence, closing.acknowledgement);
                assert_eq!((counted, hex(&out)), (vec![Verdict::Amended], hex(&want.bytes())), "{stage:?}");
            }
        }
    }
}

#[test]
fn all_else_leaves_uncounted() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::FROZEN);
        let steered = bench.established(net);
        let half = bench.opened(net);
        let socket = flow.by_socket(Direction::ToBackend, ACK);
        let elsewhere = |port: u16| {
            let mut segment = socket.clone();
            segment.destination.set_port(port);
            segment.bytes()
        };
        let turn = |segment: Segment| {
            Segment { source: segment.destination, destination: segment.source, ..segment }.bytes()
        };
        let packet = socket.packet();
        let mut arp = socket.bytes();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let udp = frame::ip(
            socket.source.ip(),
            socket.destination.ip(),
            frame::UDP,
            64,
            &packet[net.headers() - 14..],
        );
        let others = [
            ("another connection", elsewhere(9)),
            ("a flow's that was never user space's", turn(steered.by_client(ACK))),
            ("a handshake's", turn(half.by_client(SYN))),
            ("not IP", arp),
            ("UDP", udp),
            ("the end's own direction", flow.by(Direction::ToBackend, ACK).bytes()),
            ("cut within TCP", socket.bytes()[..net.headers() + 19].to_vec()),
        ];
        for (what, bytes) in others {
            bench.rows += 1;
            let (action, counted, out) = run(&mut bench, &bytes);
            assert_eq!((action, counted, hex(&out)), (NEXT, vec![], hex(&bytes)), "{what}");
        }
        let mut context = [0; CONTEXT];
        context[CAME_BY..CAME_BY + 4].copy_from_slice(&1_u32.to_ne_bytes());
        let (action, counted, out) = run_with(&mut bench, &socket.bytes(), context);
        assert_eq!((action, counted, out), (NEXT, vec![], socket.bytes()), "what another node sends through");
        let (action, counted, _) = run(&mut bench, &socket.bytes());
        assert_eq!((action, counted), (SHOT, vec![Verdict::Guarded]), "and the socket's own is not");
    }
}
