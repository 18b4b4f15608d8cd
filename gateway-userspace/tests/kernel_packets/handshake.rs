//! Handshakes, step by step: what completes one, what only looks like it, and backends that refuse or are silent.

use std::time::{Duration, Instant};

use gateway_common::{Direction, Phase, State, Verdict};
use gateway_userspace::datapath::flows::Kind;
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{Bench, FAMILIES, Net, Opened, ROOMY};
use crate::kernel::frame::{ACK, FIN, PSH, RST, SYN};

use Kind::{Established, Handshakes};
use Verdict::{Established as Completes, Forwarded, HeldBack, Retried};

/// Who sends.
const CLIENT: bool = true;
const BACKEND: bool = false;

/// A segment after the SYN: who sends it, its flags, how far its acknowledgement is from the right one, and the verdict.
pub(crate) type Step = (bool, u8, i32, Verdict);

const SYNACK: Step = (BACKEND, SYN | ACK, 0, Forwarded);
const REFUSAL: Step = (BACKEND, RST | ACK, 0, HeldBack);
const DONE: Step = (CLIENT, ACK, 0, Completes);

/// A client's acknowledgement may be this far ahead of the backend's SYN.
const WINDOW: i32 = 1 << 20;

/// What happens to a flow whose listener has other backends, and where it ends.
pub(crate) const SCRIPTS: &[(&str, &[Step], Kind, Phase)] = &[
    ("a SYN alone", &[], Handshakes, Phase::Opening),
    ("half of it", &[SYNACK], Handshakes, Phase::Opening),
    ("three ways", &[SYNACK, DONE], Established, Phase::Established),
    ("with data at once", &[SYNACK, (CLIENT, ACK | PSH, 0, Completes)], Established, Phase::Established),
    ("with FIN at once", &[SYNACK, (CLIENT, FIN | ACK, 0, Completes)], Established, Phase::Established),
    (
        "goes on",
        &[SYNACK, DONE, (CLIENT, ACK, 0, Forwarded), (BACKEND, ACK, 0, Forwarded)],
        Established,
        Phase::Established,
    ),
    ("any number afterwards", &[SYNACK, DONE, (CLIENT, ACK, 77, Forwarded)], Established, Phase::Established),
    ("SYN-ACK twice", &[SYNACK, SYNACK, DONE], Established, Phase::Established),
    (
        "SYN-ACK afterwards",
        &[SYNACK, DONE, SYNACK, (CLIENT, ACK, 0, Forwarded)],
        Established,
        Phase::Established,
    ),
    ("SYN twice at once", &[(CLIENT, SYN, 0, Forwarded), SYNACK, DONE], Established, Phase::Established),
    ("SYN after the SYN-ACK", &[SYNACK, (CLIENT, SYN, 0, Forwarded), DONE], Established, Phase::Established),
    ("SYN afterwards", &[SYNACK, DONE, (CLIENT, SYN, 0, Forwarded)], Established, Phase::Established),
    ("ACK before the SYN-ACK", &[(CLIENT, ACK, 0, Forwarded)], Handshakes, Phase::Opening),
    ("ACK before and after", &[(CLIENT, ACK, 0, Forwarded), SYNACK, DONE], Established, Phase::Established),
    ("forged: one too low", &[SYNACK, (CLIENT, ACK, -1, Forwarded)], Handshakes, Phase::Established),
    ("forged: far too low", &[SYNACK, (CLIENT, ACK, -1000, Forwarded)], Handshakes, Phase::Established),
    ("forged: half way round", &[SYNACK, (CLIENT, ACK, i32::MIN, Forwarded)], Handshakes, Phase::Established),
    (
        "forged: beyond the window",
        &[SYNACK, (CLIENT, ACK, WINDOW, Forwarded)],
        Handshakes,
        Phase::Established,
    ),
    (
        "forged, and then right",
        &[SYNACK, (CLIENT, ACK, -1, Forwarded), DONE],
        Established,
        Phase::Established,
    ),
    (
        "one ahead: data of a fast open",
        &[SYNACK, (CLIENT, ACK, 1, Completes)],
        Established,
        Phase::Established,
    ),
    ("at the window's end", &[SYNACK, (CLIENT, ACK, WINDOW - 1, Completes)], Established, Phase::Established),
    ("SYN-ACK of the client", &[SYNACK, (CLIENT, SYN | ACK, 0, Forwarded)], Handshakes, Phase::Established),
    ("no ACK", &[SYNACK, (CLIENT, PSH, 0, Forwarded)], Handshakes, Phase::Opening),
    ("FIN without ACK", &[SYNACK, (CLIENT, FIN, 0, Forwarded)], Handshakes, Phase::Opening),
    ("RST of the client", &[(CLIENT, RST, 0, Forwarded)], Handshakes, Phase::Reset),
    ("RST of the client after the SYN-ACK", &[SYNACK, (CLIENT, RST, 0, Forwarded)], Handshakes, Phase::Reset),
    ("RST and ACK of the client", &[SYNACK, (CLIENT, RST | ACK, 0, Forwarded)], Handshakes, Phase::Reset),
    (
        "RST of the backend after the SYN-ACK",
        &[SYNACK, (BACKEND, RST | ACK, 0, Forwarded)],
        Handshakes,
        Phase::Reset,
    ),
    (
        "RST of the backend afterwards",
        &[SYNACK, DONE, (BACKEND, RST, 0, Forwarded)],
        Established,
        Phase::Reset,
    ),
    ("RST of the client afterwards", &[SYNACK, DONE, (CLIENT, RST, 0, Forwarded)], Established, Phase::Reset),
    ("ACK of the backend, no SYN", &[(BACKEND, ACK, 0, Forwarded)], Handshakes, Phase::Opening),
    (
        "ACK of the backend alone completes nothing",
        &[(BACKEND, ACK, 0, Forwarded), (CLIENT, ACK, 0, Forwarded)],
        Handshakes,
        Phase::Opening,
    ),
    (
        "SYN of the backend: both at once",
        &[(BACKEND, SYN, 0, Forwarded), DONE],
        Established,
        Phase::Established,
    ),
    ("refused", &[REFUSAL], Handshakes, Phase::Opening),
    ("refused without ACK", &[(BACKEND, RST, 0, HeldBack)], Handshakes, Phase::Opening),
    ("refused twice", &[REFUSAL, REFUSAL], Handshakes, Phase::Opening),
    ("refused, and tried elsewhere", &[REFUSAL, (CLIENT, SYN, 0, Retried)], Handshakes, Phase::Opening),
    (
        "refused, and served elsewhere",
        &[REFUSAL, (CLIENT, SYN, 0, Retried), SYNACK, DONE],
        Established,
        Phase::Established,
    ),
    (
        "refused by two",
        &[REFUSAL, (CLIENT, SYN, 0, Retried), REFUSAL, (CLIENT, SYN, 0, Retried), SYNACK, DONE],
        Established,
        Phase::Established,
    ),
    (
        "refused, and SYN sent again at once",
        &[REFUSAL, (CLIENT, SYN, 0, Retried), (CLIENT, SYN, 0, Forwarded)],
        Handshakes,
        Phase::Opening,
    ),
    (
        "closed by the client first",
        &[SYNACK, DONE, (CLIENT, FIN | ACK, 0, Forwarded), (BACKEND, FIN | ACK, 0, Forwarded)],
        Established,
        Phase::Closing,
    ),
    (
        "closed by the backend first",
        &[SYNACK, DONE, (BACKEND, FIN | ACK, 0, Forwarded), (CLIENT, FIN | ACK, 0, Forwarded)],
        Established,
        Phase::Closing,
    ),
    (
        "half closed",
        &[SYNACK, DONE, (CLIENT, FIN | ACK, 0, Forwarded), (BACKEND, ACK | PSH, 0, Forwarded)],
        Established,
        Phase::Established,
    ),
    (
        "RST after both FINs",
        &[
            SYNACK,
            DONE,
            (CLIENT, FIN | ACK, 0, Forwarded),
            (BACKEND, FIN | ACK, 0, Forwarded),
            (CLIENT, RST, 0, Forwarded),
        ],
        Established,
        Phase::Reset,
    ),
];

fn take(bench: &mut Bench, what: &str, flow: &mut Opened, (client, flags, ahead, verdict): Step) {
    let segment = if client { flow.by_client(flags) } else { flow.by_backend(flags) };
    let right = segment.acknowledgement;
    let sequence = segment.sequence;
    let segment = segment.with_numbers(sequence, right.wrapping_add_signed(ahead));
    let before = flow.peek(bench);
    let outcome = bench.run(&segment.bytes());
    assert_eq!(outcome.verdict, verdict, "{what}");
    if verdict == HeldBack {
        assert_eq!(outcome.packet, segment.bytes(), "{what}");
        assert!(flow.peek(bench).state.any(State::REFUSED), "{what}");
        return;
    }
    if verdict == Retried {
        let want = bench.next_choice(flow.client, before.backend, before.attempts);
        let after = flow.peek(bench);
        assert_eq!((Some(after.backend), after.attempts), (want, before.attempts + 1), "{what}");
        assert!(
            bench.peek(flow.backend.reversed()).is_none(),
            "{what}: the old backend's answers find nothing"
        );
        flow.backend = after.leaving;
        assert!(bench.peek(flow.backend.reversed()).is_some(), "{what}: the new backend's do");
    }
    assert_eq!(outcome.packet, flow.rewritten(&segment).bytes(), "{what}");
    let (after, at) = (flow.peek(bench), usize::from(!client));
    assert_eq!(after.packets[at], before.packets[at] + 1, "{what}");
    assert_eq!(after.packets[1 - at], before.packets[1 - at], "{what}");
}

#[test]
fn every_script_ends_as_it_should() {
    let mut bench = Bench::serving(ROOMY);
    for (what, steps, kind, phase) in SCRIPTS {
        for net in FAMILIES {
            let port = bench.port();
            let mut flow = bench.open(net, port);
            for step in *steps {
                take(&mut bench, what, &mut flow, *step);
            }
            let end = flow.peek(&bench);
            assert_eq!((end.kind, end.state.phase()), (*kind, *phase), "{what}");
            assert_eq!(end.direction, Direction::ToBackend);
        }
    }
}

#[test]
fn a_backend_that_nobody_can_replace_may_refuse() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        bench.serve(net, &net.backends()[..1]);
        let flow = bench.opened(net);
        flow.passes_on(&mut bench, "RST", &flow.by_backend(RST | ACK));
        assert_eq!(flow.phase(&bench), Phase::Reset);
        bench.serve(net, &net.backends());
    }
}

#[test]
fn no_client_of_one_bad_backend_misses_the_good_one() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for _ in 0..500 {
            let mut flow = bench.opened(net);
            take(&mut bench, "refused", &mut flow, REFUSAL);
            take(&mut bench, "sent again", &mut flow, (CLIENT, SYN, 0, Retried));
        }
    }
}

/// As they are in part of a Maglev table where the steps of two permutations go together.
#[test]
fn no_client_misses_it_where_the_slots_of_each_are_neighbours() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        bench.sort_table(net);
        for _ in 0..500 {
            let mut flow = bench.opened(net);
            take(&mut bench, "refused", &mut flow, REFUSAL);
            take(&mut bench, "sent again", &mut flow, (CLIENT, SYN, 0, Retried));
        }
    }
}

#[test]
fn after_four_others_the_client_is_told() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let port = bench.port();
        let mut flow = bench.open(net, port);
        for _ in 0..4 {
            take(&mut bench, "refused", &mut flow, REFUSAL);
            take(&mut bench, "tried elsewhere", &mut flow, (CLIENT, SYN, 0, Retried));
        }
        flow.passes_on(&mut bench, "the fifth refusal", &flow.by_backend(RST | ACK));
    }
}

#[test]
fn a_silent_backend_is_given_up_at_the_next_syn_and_not_at_a_doubled_one() {
    let mut bench = Bench::serving(ROOMY);
    let mut flows: Vec<(Net, Opened)> = Vec::new();
    for net in FAMILIES {
        let port = bench.port();
        let flow = bench.open(net, port);
        flow.passes_on(&mut bench, "doubled", &net.syn(port));
        flows.push((net, flow));
    }
    // A client's own patience: its SYN comes again after a second.
    let sent = Instant::now();
    while sent.elapsed() < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    for (_, flow) in &mut flows {
        take(&mut bench, "a second later", flow, (CLIENT, SYN, 0, Retried));
        take(&mut bench, "doubled", flow, (CLIENT, SYN, 0, Forwarded));
        take(&mut bench, "answered", flow, SYNACK);
        take(&mut bench, "completed", flow, DONE);
    }
}

#[test]
fn a_young_handshake_is_given_up_for_no_other() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
        let flows = bench.fill(net, 64);
        for _ in 0..3 {
            let port = bench.port();
            bench.passes("another", &net.syn(port).bytes(), Verdict::HandshakesFull);
        }
        for flow in &flows {
            assert!(bench.peek(flow.client).is_some() && bench.peek(flow.backend.reversed()).is_some());
        }
        flows[5].passes_on(&mut bench, "RST", &flows[5].by_client(RST));
        // Some laps, as a full index refuses some tuples.
        let verdicts: Vec<Verdict> = (0..8 * 64)
            .map(|_| {
                let port = bench.port();
                bench.run(&net.syn(port).bytes()).verdict
            })
            .collect();
        let steered = verdicts.iter().filter(|verdict| **verdict == Verdict::Steered).count();
        assert_eq!(steered, 1, "in place of the one that is over");
        assert!(bench.peek(flows[5].client).is_none());
    }
}

#[test]
fn an_old_handshake_is_given_up_with_its_port() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        bench.configure(|config| config.handshake_ticks = 0);
        let flows = bench.fill(net, 64);
        for round in 0..10 {
            bench.fill(net, 64);
            assert_eq!(bench.ports_in_use() as usize, bench.entries().len() / 2, "round {round}");
        }
        assert!(flows.iter().all(|flow| bench.peek(flow.client).is_none()));
    }
}

/// Seconds without a packet after which the agent gives a handshake's record and port back, by the steps after the SYN.
const OVER: &[(&str, &[Step], u64)] = &[
    ("a SYN alone", &[], 40),
    ("half of it", &[SYNACK], 40),
    ("refused", &[REFUSAL], 40),
    ("RST of the client", &[(CLIENT, RST, 0, Forwarded)], 2),
];

#[test]
fn a_handshake_that_is_over_is_given_up_where_no_other_comes() {
    for (what, steps, seconds) in OVER {
        for net in FAMILIES {
            let mut bench = Bench::serving(64);
            let mut flow = bench.opened(net);
            for step in *steps {
                take(&mut bench, what, &mut flow, *step);
            }
            assert_eq!(bench.age(seconds - 1), (1, 1), "{what}: handshakes and ports in use before its time");
            assert_eq!(bench.age(seconds + 1), (0, 0), "{what}: and after it");
            assert!(
                bench.peek(flow.client).is_none() && bench.peek(flow.backend.reversed()).is_none(),
                "{what}"
            );
            bench.fill(net, 64);
        }
    }
}

/// A handshake that is through, and found no free record: the last one goes between its SYN and its ACK.
fn waiting_for_room(bench: &mut Bench, net: Net) -> Opened {
    let waiting = bench.opened(net);
    waiting.passes_on(bench, "SYN-ACK", &waiting.by_backend(SYN | ACK));
    bench.exhaust(net);
    waiting.passes_on(bench, "ACK", &waiting.by_client(ACK));
    waiting
}

#[test]
fn a_handshake_that_waits_for_room_stays_as_long_as_a_flow() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        let waiting = waiting_for_room(&mut bench, net);
        bench.age(599);
        assert!(waiting.peek(&bench).kind == Handshakes);
        bench.age(601);
        assert!(bench.peek(waiting.client).is_none());
    }
}

#[test]
fn a_completed_handshake_waits_where_it_is_until_there_is_room() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        let waiting = waiting_for_room(&mut bench, net);
        let record = waiting.peek(&bench);
        assert!(record.kind == Handshakes && record.state.any(State::WAITING), "{record:?}");
        let port = bench.port();
        bench.passes("another", &net.syn(port).bytes(), Verdict::TableFull);
        waiting.passes_on(&mut bench, "data", &waiting.by_client(ACK | PSH).with_payload(b"data"));
        waiting.passes_on(&mut bench, "data", &waiting.by_backend(ACK | PSH).with_payload(b"data"));
        let tuple = Tuple { source: waiting.client.source, destination: waiting.client.destination };
        assert_eq!(bench.peek(tuple).unwrap().packets, [3, 2]);
    }
}
