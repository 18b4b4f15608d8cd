//! Segments of handed-over flows: told in the other end's terms, kept back while the flow is frozen, given to the gateway's
//! own sockets while these owe something.

use gateway_common::flow::{NO_PORTS, ticks};
use gateway_common::handover::LONGEST_FREEZE;
use gateway_common::translation::{End, Heard, Stamps};
use gateway_common::{Address, Direction, Flow, Half, Phase, Seen, State, Translation, Verdict};
use gateway_userspace::datapath::flows::{Flows, Kind};
use gateway_userspace::datapath::stats;
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{BACKENDS, Bench, CLIENTS, FAMILIES, Net, Opened, REDIRECT, ROOMY, hex, key_of};
use crate::kernel::frame::{ACK, FIN, PSH, RST, SYN, Segment, icmp_error};
use crate::raw::run_summed;
use crate::reset::answer;
use crate::sums::{SUPER_PACKETS, run_super};
use crate::xdp::{self, Gateway, addressed};

/// A handed-over flow, and its ends' numbers by an account of our own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandedOver {
    pub(crate) flow: Opened,
    pub(crate) translation: Translation,
    number: u32,
    element: u32,
}

/// Where the ends stood: taken from the client and owed to it, taken from the backend and owed to it.
pub(crate) type Origins = [u32; 4];

pub(crate) const ORIGINS: Origins = [1_000_000, 5_000_000, 70_000_000, 90_000_000];

/// By how much the clocks of the gateway's sockets are ahead.
const CLOCKS: [u32; 2] = [0x1000_0000, 0x7000_0000];

pub(crate) fn translation(origins: Origins, shifts: [i16; 2]) -> Translation {
    let [client_taken, client_owed, backend_taken, backend_owed] = origins;
    let end = |taken, owed, place: usize| End {
        taken,
        owed,
        shift: shifts[place],
        flags: 0,
        clock: CLOCKS[place],
        stamps: Stamps::UNKNOWN.0,
    };
    let ends = [end(client_taken, client_owed, 0), end(backend_taken, backend_owed, 1)];
    Translation { ends, ..Translation::default() }
}

/// The state of a flow that goes on, and that no socket holds.
fn open() -> u64 {
    let open = Seen::SYN | Seen::ACK;
    State::bits(Direction::ToBackend, open) | State::bits(Direction::ToClient, open)
}

/// Puts a flow of a client's next port into the tables.
pub(crate) fn hand_over(bench: &mut Bench, net: Net, translation: Translation, bits: u64) -> HandedOver {
    let port = bench.port();
    let client = Tuple { source: net.client(port), destination: net.gateway() };
    let source = std::net::SocketAddr::new(net.source.parse().unwrap(), port);
    let backend = Tuple { source, destination: net.backends()[0] };
    let (flow, maps) = (Opened { client, backend }, &bench.loaded.maps);
    let element = maps.translations.take().unwrap();
    maps.translations.write(element, &translation);
    let config = maps.config().unwrap();
    let number = if net.is_v4() {
        put(&maps.v4.flows, &config, flow, (element, &translation, bits))
    } else {
        put(&maps.v6.flows, &config, flow, (element, &translation, bits))
    };
    HandedOver { flow, translation, number, element }
}

fn put<A: Address>(
    flows: &Flows<A>,
    config: &gateway_common::Config,
    flow: Opened,
    (element, translation, bits): (u32, &Translation, u64),
) -> u32 {
    let now = stats::monotonic();
    let half = |end: &End| Half { last_seen: ticks(now), ..Half::resumed(end.taken, 0) };
    let record = Flow::<A> {
        client: key_of(flow.client),
        backend: key_of(flow.backend),
        oif: [BACKENDS, CLIENTS],
        backend_id: 1,
        listener: 1,
        ports: NO_PORTS,
        idle_timeout: 600,
        attempts: 0,
        translation: element,
        ends: [0; 2],
        created: now,
        state: open() | bits,
        halves: translation.ends.each_ref().map(half),
    };
    flows.put(config, &record).unwrap()
}

impl HandedOver {
    fn is_v4(self) -> bool {
        self.flow.client.source.is_ipv4()
    }

    /// An end's next segment: behind all that was taken from it, acknowledging all that it was owed.
    pub(crate) fn by(self, direction: Direction, flags: u8) -> Segment {
        let segment = match direction {
            Direction::ToBackend => self.flow.by_client(flags),
            Direction::ToClient => self.flow.by_backend(flags),
        };
        let end = self.translation.end(direction);
        segment.with_numbers(end.taken, end.owed)
    }

    /// What the gateway's socket to the end that sends in a direction says next: behind what it owes.
    pub(crate) fn by_socket(self, direction: Direction, flags: u8) -> Segment {
        let to = self.by(direction, flags);
        Segment { source: to.destination, destination: to.source, ..to.clone() }
            .with_numbers(to.acknowledgement, to.sequence)
    }

    /// A segment as the other end must find it, options and windows aside.
    fn told(self, direction: Direction, segment: &Segment) -> Segment {
        let (mine, others) = (self.translation.end(direction), self.translation.end(direction.reversed()));
        let sequence = segment.sequence.wrapping_sub(mine.taken).wrapping_add(others.owed);
        let acknowledgement = if segment.flags & ACK == 0 {
            segment.acknowledgement
        } else {
            segment.acknowledgement.wrapping_sub(mine.owed).wrapping_add(others.taken)
        };
        self.flow.rewritten(segment).with_numbers(sequence, acknowledgement)
    }

    pub(crate) fn state(self, bench: &Bench) -> State {
        let maps = &bench.loaded.maps;
        if self.is_v4() {
            maps.v4.flows.state(Kind::Established, self.number)
        } else {
            maps.v6.flows.state(Kind::Established, self.number)
        }
    }

    fn written(self, bench: &Bench) -> Translation {
        bench.loaded.maps.translations.read(self.element).unwrap()
    }

    /// The same flow with other bits of the state.
    pub(crate) fn set(self, bench: &Bench, bits: u64) {
        let (before, maps) = (self.state(bench), &bench.loaded.maps);
        let generation = u64::from(before.generation()) << State::GENERATION_SHIFT;
        let after = State(generation | State::LIVE | open() | bits);
        let changed = if self.is_v4() {
            maps.v4.flows.change(self.number, before, after)
        } else {
            maps.v6.flows.change(self.number, before, after)
        };
        changed.unwrap();
    }

    /// Says what the ends have acknowledged, at a time.
    fn expect(self, bench: &Bench, expected: [u32; 2], now: u64) {
        let maps = &bench.loaded.maps;
        let halves = expected.map(|next| Half { last_seen: ticks(now), ..Half::resumed(next, 0) });
        if self.is_v4() {
            maps.v4.flows.resume(self.number, halves);
        } else {
            maps.v6.flows.resume(self.number, halves);
        }
    }
}

pub(crate) const BOTH: [Direction; 2] = [Direction::ToBackend, Direction::ToClient];

/// Numbers from which everything counts, and a segment's own, behind the first that was not taken and the last owed.
pub(crate) const NUMBERS: &[(&str, Origins, [u32; 2])] = &[
    ("as they are", ORIGINS, [0, 0]),
    ("further", ORIGINS, [5000, 70_000]),
    ("a retransmission", ORIGINS, [u32::MAX - 999, 0]),
    ("all at 0", [0; 4], [0, 0]),
    ("a byte before 0", [0; 4], [u32::MAX, u32::MAX]),
    ("all at the end", [u32::MAX; 4], [0, 0]),
    ("over the end", [u32::MAX; 4], [1, 1]),
    ("client over the end", [u32::MAX, 5, 6, 7], [100, 100]),
    ("owed to the client over the end", [5, u32::MAX - 3, 6, 7], [100, 3]),
    ("backend over the end", [5, 6, u32::MAX - 50, 7], [50, 51]),
    ("owed to the backend over the end", [5, 6, 7, u32::MAX], [1, 0]),
    ("half way round", [1 << 31, 0, 1, (1 << 31) - 1], [0, 1]),
    ("halves that carry", [0xffff, 0x1_0000, 0xffff_0000, 0x0000_ffff], [1, 0xffff]),
];

#[test]
fn a_segment_is_told_in_the_other_ends_numbers() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for (what, origins, [sequence, acknowledgement]) in NUMBERS {
            let flow = hand_over(&mut bench, net, translation(*origins, [0; 2]), 0);
            for direction in BOTH {
                for (flags, payload) in [(ACK, 0), (ACK | PSH, 11), (ACK | FIN, 0), (RST | ACK, 0), (RST, 0)]
                {
                    let first = flow.by(direction, flags);
                    let segment = first
                        .clone()
                        .with_numbers(
                            first.sequence.wrapping_add(*sequence),
                            first.acknowledgement.wrapping_add(*acknowledgement),
                        )
                        .with_payload(&vec![0x5a; payload]);
                    let want = flow.told(direction, &segment);
                    bench.becomes(what, &segment, Verdict::Forwarded, &want);
                    let (action, out) = run_summed(&mut bench, &segment.bytes()).unwrap();
                    assert_eq!(
                        (action, out),
                        (REDIRECT, want.bytes()),
                        "{what}: a sum that the device found"
                    );
                }
            }
        }
    }
}

/// By how much an end's windows are shifted, a window, and what the other end is told.
pub(crate) const WINDOWS: &[(i16, u16, u16)] = &[
    (0, 0, 0),
    (0, 1, 1),
    (0, 0xffff, 0xffff),
    (1, 0x7fff, 0xfffe),
    (1, 0x8000, 0xffff),
    (3, 100, 800),
    (14, 1, 16_384),
    (14, 3, 49_152),
    (14, 4, 0xffff),
    (7, 0, 0),
    (-1, 3, 1),
    (-1, 1, 1),
    (-7, 128, 1),
    (-7, 127, 1),
    (-14, 0xffff, 3),
    (-14, 1, 1),
    (-14, 0, 0),
];

#[test]
fn a_window_is_told_in_the_scale_that_the_other_end_knows() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for (shift, window, told) in WINDOWS {
            for (direction, shifts) in BOTH.into_iter().zip([[*shift, 0], [0, *shift]]) {
                let flow = hand_over(&mut bench, net, translation(ORIGINS, shifts), 0);
                let segment = Segment { window: *window, ..flow.by(direction, ACK | PSH) };
                let want = Segment { window: *told, ..flow.told(direction, &segment) };
                bench.becomes(&format!("{window} by {shift}"), &segment, Verdict::Forwarded, &want);
                let syn = Segment { window: *window, ..flow.by(direction, SYN | ACK) };
                let want = flow.told(direction, &syn);
                bench.becomes("a SYN's has no scale", &syn, Verdict::Forwarded, &want);
                let back = flow.by(direction.reversed(), ACK);
                let want = flow.told(direction.reversed(), &back);
                bench.becomes("the other end's is not", &back, Verdict::Forwarded, &want);
            }
        }
    }
}

/// Service class and marks of an end's packet, and what they become where the other end knows none.
pub(crate) const MARKS: &[(u8, u8)] =
    &[(0, 0), (1, 0), (2, 0), (3, 0), (0xb8, 0xb8), (0xbb, 0xb8), (0xff, 0xfc)];

#[test]
fn nothing_claims_to_know_marks_of_congestion_towards_an_end_that_does_not() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for (direction, other) in BOTH.into_iter().zip([1, 0]) {
            let mut unequal = translation(ORIGINS, [0; 2]);
            unequal.ends[1 - other].flags = End::NO_MARKS;
            let flow = hand_over(&mut bench, net, unequal, 0);
            for (service, told) in MARKS {
                for payload in [0, 11] {
                    let segment = flow.by(direction, ACK | PSH).with_payload(&vec![0x5a; payload]);
                    let segment = Segment { service: *service, ..segment };
                    let want = Segment { service: *told, ..flow.told(direction, &segment) };
                    let what = format!("{service:#x}");
                    bench.becomes(&what, &segment, Verdict::Forwarded, &want);
                    let (action, out) = run_summed(&mut bench, &segment.bytes()).unwrap();
                    assert_eq!((action, hex(&out)), (REDIRECT, hex(&want.bytes())), "{what}");
                    let back = flow.by(direction.reversed(), ACK);
                    let back = Segment { service: *service, ..back };
                    let want = flow.told(direction.reversed(), &back);
                    bench.becomes("the other end's stay", &back, Verdict::Forwarded, &want);
                }
            }
        }
    }
}

/// A part of the options.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Bytes that stay as they are.
    Bytes(&'static [u8]),
    /// Timestamps: of the sender, and the echo.
    Stamps,
    /// Edges of so many blocks, which begin so far behind what the segment acknowledges.
    Sack(&'static [u32]),
}

use Part::{Bytes, Sack};

const NOP: Part = Bytes(&[1]);
const TS: Part = Part::Stamps;
const UNKNOWN: Part = Bytes(&[0xfd, 4, 0xde, 0xad]);

/// Options, in any order and at any place.
pub(crate) const LAYOUTS: &[(&str, &[Part])] = &[
    ("none", &[]),
    ("as nearly always", &[NOP, NOP, TS]),
    ("timestamps first", &[TS, NOP, NOP]),
    ("between", &[NOP, TS, NOP]),
    ("before the end", &[TS, Bytes(&[0, 0])]),
    ("at an odd place, with another", &[NOP, TS, UNKNOWN, NOP]),
    ("behind another", &[UNKNOWN, NOP, NOP, TS]),
    ("behind one of odd length", &[Bytes(&[0xfd, 3, 7]), TS, NOP, NOP, NOP]),
    ("another behind", &[NOP, NOP, TS, UNKNOWN]),
    ("much padding before", &[Bytes(&[1; 30]), TS]),
    ("one block", &[NOP, NOP, Sack(&[1000])]),
    ("two", &[NOP, NOP, Sack(&[1000, 90_000])]),
    ("three", &[NOP, NOP, Sack(&[1000, 90_000, 5])]),
    ("four", &[NOP, NOP, Sack(&[1000, 90_000, 5, 1 << 30])]),
    ("one that was acknowledged already", &[NOP, NOP, Sack(&[u32::MAX - 5000, 1000])]),
    ("one at an odd place", &[NOP, Sack(&[1000]), NOP]),
    ("one first", &[Sack(&[1000]), Bytes(&[0, 0])]),
    ("timestamps, then a block", &[NOP, NOP, TS, NOP, NOP, Sack(&[1000])]),
    ("timestamps, then three", &[NOP, NOP, TS, NOP, NOP, Sack(&[1000, 2000, u32::MAX])]),
    ("a block, then timestamps", &[NOP, NOP, Sack(&[1000]), NOP, NOP, TS]),
    ("three, then timestamps", &[Sack(&[1000, 2000, 3000]), TS, Bytes(&[0, 0, 0, 0])]),
    ("a block, another, timestamps", &[Sack(&[1000]), UNKNOWN, TS, NOP, NOP, NOP, NOP]),
    ("unknown ones", &[UNKNOWN, Bytes(&[0xfd, 2, 1, 1])]),
    ("what would be timestamps within another", &[Bytes(&[0xfd, 12, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])]),
    ("what would be timestamps behind the end", &[Bytes(&[0, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])]),
    ("timestamps of another length", &[Bytes(&[8, 6, 1, 2, 3, 4, 1, 1])]),
    ("nearly as nearly always", &[Bytes(&[1, 0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])]),
    ("a segment size", &[Bytes(&[2, 4, 5, 0xb4])]),
    ("no block in the option", &[NOP, NOP, Bytes(&[5, 2])]),
    ("half a block", &[Bytes(&[5, 3, 9]), NOP]),
    ("a length of 0", &[Bytes(&[0xfd, 0]), NOP, NOP, TS, NOP, NOP]),
    ("a length of 1", &[Bytes(&[0xfd, 1]), NOP, NOP, TS, NOP, NOP]),
    ("longer than the header", &[NOP, NOP, Bytes(&[0xfd, 200]), TS, NOP, NOP]),
    ("blocks longer than the header", &[TS, NOP, Bytes(&[5, 18]), Bytes(&[1, 2, 3, 4, 5, 6, 7])]),
    ("a kind without a length", &[TS, NOP, Bytes(&[0xfd])]),
    ("the first without a length", &[Bytes(&[1, 1, 1, 8])]),
];

/// Whether a walk through options comes to their end.
fn is_sound(options: &[u8]) -> bool {
    match options {
        [] | [0, ..] => true,
        [1, rest @ ..] => is_sound(rest),
        [_, length, ..] if *length >= 2 => options.get(usize::from(*length)..).is_some_and(is_sound),
        _ => false,
    }
}

fn options(parts: &[Part], stamps: [u32; 2], acknowledgement: u32) -> Vec<u8> {
    let mut options = Vec::new();
    for part in parts {
        match part {
            Bytes(bytes) => options.extend_from_slice(bytes),
            Part::Stamps => {
                options.extend([8, 10]);
                options.extend(stamps.iter().flat_map(|stamp| stamp.to_be_bytes()));
            }
            Sack(blocks) => {
                options.extend([5, 2 + 8 * blocks.len() as u8]);
                for block in *blocks {
                    let edge = acknowledgement.wrapping_add(*block);
                    options.extend(edge.to_be_bytes());
                    options.extend(edge.wrapping_add(1448).to_be_bytes());
                }
            }
        }
    }
    options
}

/// A flow both of whose ends' clocks are known, by how much they are told.
fn with_known_clocks(bench: &mut Bench, net: Net, deltas: [u32; 2]) -> HandedOver {
    let mut translation = translation(ORIGINS, [0; 2]);
    for (end, delta) in translation.ends.iter_mut().zip(deltas) {
        end.stamps = Stamps::by(delta).0;
    }
    hand_over(bench, net, translation, 0)
}

#[test]
fn options_are_told_wherever_they_are_and_whatever_is_beside_them() {
    let mut bench = Bench::serving(ROOMY);
    let deltas = [0x0102_0304, 0xf000_0001];
    for net in FAMILIES {
        let flow = with_known_clocks(&mut bench, net, deltas);
        for (what, parts) in LAYOUTS {
            for (direction, [mine, others]) in BOTH.into_iter().zip([deltas, [deltas[1], deltas[0]]]) {
                for (stamp, echo) in [(7, 9), (u32::MAX, 0), (0xffff, 0x1_0000)] {
                    let bare = flow.by(direction, ACK | PSH).with_payload(b"odd");
                    let before = options(parts, [stamp, echo], bare.acknowledgement);
                    let segment = bare.with_options(&before);
                    let want = flow.told(direction, &segment);
                    let stamps = [stamp.wrapping_add(mine), echo.wrapping_sub(others)];
                    let after = options(parts, stamps, want.acknowledgement);
                    let want = want.with_options(if is_sound(&before) { &after } else { &before });
                    assert_eq!(before.len() % 4, 0, "{what}");
                    bench.becomes(what, &segment, Verdict::Forwarded, &want);
                }
            }
        }
    }
}

/// What the other end is told of a timestamp: right behind the clock of the gateway's socket to it.
fn stamp_of(packet: &[u8], net: Net) -> [u32; 2] {
    let at = |place: usize| {
        let start = net.headers() + 20 + place;
        u32::from_be_bytes(packet[start..start + 4].try_into().unwrap())
    };
    [at(4), at(8)]
}

fn milliseconds() -> u32 {
    (stats::monotonic() / 1_000_000) as u32
}

#[test]
fn an_ends_first_timestamp_goes_on_from_the_gateways_clock() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            for stamp in [0, 1, 77_000, u32::MAX] {
                let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), 0);
                let clock = flow.translation.end(direction.reversed()).clock;
                let with = |stamp: u32, echo: u32| {
                    let options = options(&[NOP, NOP, TS], [stamp, echo], 0);
                    flow.by(direction, ACK).with_options(&options).bytes()
                };
                let before = clock.wrapping_add(milliseconds());
                let [told, echo] = stamp_of(&bench.run(&with(stamp, 5)).packet, net);
                let after = clock.wrapping_add(milliseconds());
                assert!(told.wrapping_sub(before) >= 1 && after.wrapping_add(2).wrapping_sub(told) < 1000);
                assert_eq!(echo, 0, "the other end has told no timestamp");
                let delta = told.wrapping_sub(stamp);
                let [mine, others] = BOTH.map(|end| Stamps(flow.written(&bench).end(end).stamps));
                let (mine, others) =
                    if direction == Direction::ToBackend { (mine, others) } else { (others, mine) };
                assert_eq!((mine, others), (Stamps::by(delta), Stamps::UNKNOWN));
                let [later, _] = stamp_of(&bench.run(&with(stamp.wrapping_add(40), 5)).packet, net);
                assert_eq!(later, told.wrapping_add(40), "what was decided stays so");
                let back = options(&[TS, NOP, NOP], [3, told], 0);
                let back = flow.by(direction.reversed(), ACK).with_options(&back);
                let back = bench.run(&back.bytes()).packet;
                let echo = &back[net.headers() + 26..net.headers() + 30];
                assert_eq!(echo, stamp.to_be_bytes(), "it comes back as it went");
            }
        }
    }
}

/// While frozen: flags, bytes, and what becomes of the segment.
pub(crate) const FROZEN: &[(u8, usize, Verdict)] = &[
    (ACK, 0, Verdict::Owed),
    (ACK | PSH, 0, Verdict::Owed),
    (0, 0, Verdict::Owed),
    (ACK, 1, Verdict::Withheld),
    (ACK | PSH, 1400, Verdict::Withheld),
    (PSH, 7, Verdict::Withheld),
    (FIN | ACK, 0, Verdict::Withheld),
    (FIN | ACK, 9, Verdict::Withheld),
    (FIN, 0, Verdict::Withheld),
    (RST, 0, Verdict::Withheld),
    (RST | ACK, 0, Verdict::Withheld),
    (SYN, 0, Verdict::Withheld),
    (SYN | ACK, 0, Verdict::Withheld),
];

#[test]
fn a_frozen_flow_lets_bare_acknowledgements_in_and_nothing_else() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for held in [0, State::held(Direction::ToBackend), State::held(Direction::ToClient)] {
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::FROZEN | held);
            let state = flow.state(&bench);
            for (flags, length, verdict) in FROZEN {
                for direction in BOTH {
                    let options = options(&[NOP, NOP, TS], [7, 9], 0);
                    let segment = flow.by(direction, *flags).with_options(&options);
                    let bytes = segment.with_payload(&vec![0x5a; *length]).bytes();
                    bench.turns(&format!("{flags:#x}, {length} bytes"), &bytes, *verdict, &bytes);
                }
            }
            assert_eq!(flow.state(&bench), state);
            assert_eq!(flow.flow.peek(&bench).packets, [0; 2]);
        }
    }
}

#[test]
fn a_flow_that_is_frozen_for_too_long_is_given_up() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            for (flags, length) in [(ACK, 0), (ACK | PSH, 10), (FIN | ACK, 0)] {
                let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::FROZEN);
                let expected = flow.translation.ends.map(|end| end.taken);
                let ago = |ticks: u32| stats::monotonic() - (u64::from(ticks) << 20);
                let segment = flow.by(direction, flags).with_payload(&vec![0x5a; length]);
                // Not yet: there is half of the time left.
                flow.expect(&bench, expected, ago(LONGEST_FREEZE / 2));
                assert!(bench.run(&segment.bytes()).verdict != Verdict::Reset);
                assert!(!flow.state(&bench).any(State::CONDEMNED));
                flow.expect(&bench, expected, ago(LONGEST_FREEZE + 2));
                let want = answer(&segment, (RST, segment.acknowledgement, 0));
                bench.turns("too long", &segment.bytes(), Verdict::Reset, &want);
                assert!(flow.state(&bench).any(State::CONDEMNED));
                let other = flow.by(direction.reversed(), ACK);
                let want = answer(&other, (RST, other.acknowledgement, 0));
                bench.turns("the other end", &other.bytes(), Verdict::Reset, &want);
            }
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::FROZEN);
            flow.expect(&bench, [0; 2], stats::monotonic() - (u64::from(LONGEST_FREEZE + 2) << 20));
            let reset = flow.by(direction, RST);
            bench.passes("a reset", &reset.bytes(), Verdict::Unanswered);
            assert!(flow.state(&bench).any(State::CONDEMNED));
        }
    }
}

/// What becomes of a segment to whose end a socket owes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// It is the socket's, with the number of what it waits for.
    Given,
    /// It goes on; its acknowledgement is at least the last one that the other end may know.
    Goes,
    /// It goes on, and the socket owes nothing more.
    Settles,
}

/// Flags, bytes, how far behind what is taken the segment begins, what it acknowledges of what is owed, and what becomes of it.
pub(crate) const OWED: &[(u8, usize, u32, i32, Owed)] = &[
    (ACK, 0, 0, -1, Owed::Given),
    (ACK, 0, 5000, -1, Owed::Given),
    (ACK, 0, 1 << 20, -100_000, Owed::Given),
    (ACK | PSH, 0, 0, -1, Owed::Given),
    (ACK, 1, 0, -1, Owed::Goes),
    (ACK | PSH, 1400, 5000, -100_000, Owed::Goes),
    (FIN | ACK, 0, 0, -1, Owed::Goes),
    (FIN | ACK, 7, 0, -1, Owed::Goes),
    (RST | ACK, 0, 0, -1, Owed::Goes),
    (RST, 0, 0, -1, Owed::Goes),
    (RST, 0, 0, 0, Owed::Goes),
    (ACK, 0, 0, 0, Owed::Settles),
    (ACK, 0, 5000, 1, Owed::Settles),
    (ACK | PSH, 9, 0, 0, Owed::Settles),
    (ACK, 1400, 0, 100_000, Owed::Settles),
    (FIN | ACK, 0, 0, 0, Owed::Settles),
    (RST | ACK, 0, 0, 0, Owed::Settles),
];

#[test]
fn acknowledgements_of_what_a_socket_sent_are_the_sockets() {
    let mut bench = Bench::serving(ROOMY);
    let near_the_end = [u32::MAX - 100, 500, 7, u32::MAX];
    for net in FAMILIES {
        for origins in [ORIGINS, near_the_end] {
            for direction in BOTH {
                for row in OWED {
                    owes(&mut bench, net, origins, direction, *row);
                }
            }
        }
    }
}

fn owes(
    bench: &mut Bench,
    net: Net,
    origins: Origins,
    direction: Direction,
    row: (u8, usize, u32, i32, Owed),
) {
    let what = format!("{row:?}");
    let (flags, length, ahead, acknowledged, owed) = row;
    let held = State::held(direction);
    let flow = hand_over(bench, net, translation(origins, [0; 2]), held);
    let end = *flow.translation.end(direction);
    let segment = flow
        .by(direction, flags)
        .with_numbers(end.taken.wrapping_add(ahead), end.owed.wrapping_add_signed(acknowledged))
        .with_payload(&vec![0x5a; length]);
    if owed == Owed::Given {
        let want = segment.clone().with_numbers(end.taken, segment.acknowledgement);
        bench.comes_out(&what, &segment.bytes(), Verdict::Owed, &want.bytes());
        assert_eq!(flow.flow.peek(bench).packets, [0; 2], "{what}");
    } else {
        let clamped = if acknowledged < 0 && flags & ACK != 0 { end.owed } else { segment.acknowledgement };
        let told = flow.told(direction, &segment.clone().with_numbers(segment.sequence, clamped));
        bench.comes_out(&what, &segment.bytes(), Verdict::Forwarded, &told.bytes());
    }
    assert_eq!(flow.state(bench).any(held), owed != Owed::Settles, "{what}");
}

#[test]
fn what_is_owed_to_one_end_does_not_matter_to_the_other() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            let held = State::held(direction.reversed());
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), held);
            for acknowledged in [-1, 0, 1] {
                let first = flow.by(direction, ACK);
                let acknowledgement = first.acknowledgement.wrapping_add_signed(acknowledged);
                let segment = first.clone().with_numbers(first.sequence, acknowledgement);
                bench.becomes("ACK", &segment, Verdict::Forwarded, &flow.told(direction, &segment));
            }
            assert!(flow.state(&bench).any(held));
        }
    }
}

/// Bytes of a segment, how far behind what is taken it begins, and whether it is kept back while the other socket is to bring
/// what was taken.
pub(crate) const REPEATED: &[(usize, i32, bool)] = &[
    (1, -1, true),
    (100, -1, true),
    (100, -100, true),
    (1400, -100_000, true),
    (1, 0, false),
    (100, 1, false),
    (0, -1, false),
];

#[test]
fn what_a_socket_is_to_bring_comes_by_no_other_way() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            for (length, ahead, is_kept) in REPEATED {
                let bits = State::held(direction.reversed());
                let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), bits);
                let first = flow.by(direction, ACK | PSH);
                let sequence = first.sequence.wrapping_add_signed(*ahead);
                let segment = first
                    .clone()
                    .with_numbers(sequence, first.acknowledgement)
                    .with_payload(&vec![0x5a; *length]);
                let (what, told) = (format!("{length} bytes from {ahead}"), flow.told(direction, &segment));
                if *is_kept {
                    bench.passes(&what, &segment.bytes(), Verdict::Withheld);
                } else {
                    bench.becomes(&what, &segment, Verdict::Forwarded, &told);
                }
                flow.set(&bench, 0);
                bench.becomes("once it is there", &segment, Verdict::Forwarded, &told);
            }
        }
    }
}

/// A SYN by an end, and the answer to it when these numbers are expected from both.
fn challenge(flow: HandedOver, direction: Direction, expected: [u32; 2]) -> (Segment, Vec<u8>) {
    let syn = Segment { flags: SYN, ..flow.by(direction, SYN) }.with_numbers(77, 0);
    let (mine, others) = (flow.translation.end(direction), flow.translation.end(direction.reversed()));
    let [next, other] = [direction, direction.reversed()].map(|end| expected[end as usize]);
    let had = other.wrapping_sub(others.taken).wrapping_add(mine.owed).wrapping_sub(1);
    let answer = answer(&syn, (ACK, had, next));
    (syn, answer)
}

#[test]
fn a_syn_within_a_handed_over_flow_is_answered_by_what_was_acknowledged() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for origins in [ORIGINS, [u32::MAX, 0, 5, u32::MAX]] {
            for direction in BOTH {
                let flow = hand_over(&mut bench, net, translation(origins, [0; 2]), 0);
                let taken = flow.translation.ends.map(|end| end.taken);
                for ahead in [[0, 0], [1, 0], [0, 1], [70_000, 900_000]] {
                    let expected = [0, 1].map(|end| taken[end].wrapping_add(ahead[end]));
                    flow.expect(&bench, expected, stats::monotonic());
                    let before = flow.flow.peek(&bench);
                    let (syn, answer) = challenge(flow, direction, expected);
                    for syn in [syn.clone(), syn.clone().with_options(&[2, 4, 5, 180]), syn.with_hops(2)] {
                        bench.comes_out("SYN", &syn.bytes(), Verdict::Challenged, &answer);
                    }
                    assert_eq!(flow.flow.peek(&bench), before, "nothing of it is the flow's");
                }
            }
        }
    }
}

#[test]
fn a_client_that_begins_anew_ends_the_flow_by_the_answer_to_its_syn() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), 0);
        let taken = flow.translation.ends.map(|end| end.taken);
        let (syn, answer) = challenge(flow, Direction::ToBackend, taken);
        bench.comes_out("SYN", &syn.bytes(), Verdict::Challenged, &answer);
        // RFC 9293 section 3.10.7.3: by the number that was acknowledged.
        let reset = flow.by(Direction::ToBackend, RST).with_numbers(taken[0], 0);
        bench.becomes("RST", &reset, Verdict::Forwarded, &flow.told(Direction::ToBackend, &reset));
        assert_eq!(flow.flow.phase(&bench), Phase::Reset);
        // The listener of this bench is steered; where none is, the SYN is user space's.
        assert_eq!(bench.run(&syn.bytes()).verdict, Verdict::Replaced);
    }
}

#[test]
fn a_syn_is_withheld_while_its_flow_is_frozen() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::FROZEN);
        for direction in BOTH {
            let (syn, _) = challenge(flow, direction, [0; 2]);
            bench.passes("SYN", &syn.bytes(), Verdict::Withheld);
        }
    }
}

#[test]
fn a_super_packet_is_told_as_one_segment() {
    let mut bench = Bench::serving(ROOMY);
    let deltas = [5, 6];
    for net in FAMILIES {
        let flow = with_known_clocks(&mut bench, net, deltas);
        for (segments, size) in SUPER_PACKETS {
            for (direction, [mine, others]) in BOTH.into_iter().zip([deltas, [deltas[1], deltas[0]]]) {
                let parts: &[Part] = &[NOP, NOP, TS, NOP, NOP, Sack(&[1000])];
                let bare =
                    flow.by(direction, ACK | PSH).with_payload(&vec![0x5a; (segments * size) as usize]);
                let segment = bare.clone().with_options(&options(parts, [7, 9], bare.acknowledgement));
                let (verdict, out, left) = run_super(&mut bench, &segment.bytes(), *segments, *size);
                let told = flow.told(direction, &segment);
                let after = options(parts, [7 + mine, 9 - others], told.acknowledgement);
                assert_eq!((verdict, left), (Verdict::Forwarded, *segments));
                assert_eq!(hex(&out), hex(&told.with_options(&after).bytes()));
            }
        }
        let sent: u64 = SUPER_PACKETS.iter().map(|(segments, _)| u64::from(*segments)).sum();
        assert_eq!(flow.flow.peek(&bench).packets, [sent; 2]);
    }
}

#[test]
fn at_xdp_a_flow_is_told_alike_once_no_socket_is_in_the_way() {
    let mut gateway = Gateway::new();
    let deltas = [0x0102_0304, 0xf000_0001];
    for net in FAMILIES {
        let flow = with_known_clocks(&mut gateway.bench, net, deltas);
        let places = BOTH.into_iter().zip([(deltas, xdp::REDIRECT, 1), ([deltas[1], deltas[0]], xdp::TX, 0)]);
        for (direction, ([mine, others], action, place)) in places {
            for (what, parts) in LAYOUTS {
                let bare = flow.by(direction, ACK | PSH).with_payload(b"odd");
                let before = options(parts, [70, 90], bare.acknowledgement);
                let segment = bare.with_options(&before);
                let told = flow.told(direction, &segment);
                let after = options(
                    parts,
                    [70_u32.wrapping_add(mine), 90_u32.wrapping_sub(others)],
                    told.acknowledgement,
                );
                let told = told.with_options(if is_sound(&before) { &after } else { &before });
                let want = addressed(told.bytes(), place);
                gateway.does(what, &segment.bytes(), action, Verdict::Forwarded, &want);
            }
        }
        for direction in BOTH {
            gateway.leaves("SYN", &challenge(flow, direction, [0; 2]).0.bytes());
        }
        for bits in [State::FROZEN, State::held(Direction::ToBackend), State::held(Direction::ToClient)] {
            flow.set(&gateway.bench, bits);
            for direction in BOTH {
                for (flags, payload) in [(ACK, 0), (ACK | PSH, 10), (FIN | ACK, 0), (RST, 0)] {
                    let segment = flow.by(direction, flags).with_payload(&vec![0x5a; payload]);
                    gateway.leaves("in transit", &segment.bytes());
                }
            }
        }
    }
}

#[test]
fn icmp_errors_name_the_number_that_the_segment_was_sent_with() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let header = net.headers() - 14;
        for (origins, sequence) in [(ORIGINS, 0), (ORIGINS, 5000), ([u32::MAX, 3, u32::MAX - 9, 0], 1)] {
            for direction in BOTH {
                let flow = hand_over(&mut bench, net, translation(origins, [0; 2]), 0);
                let first = flow.by(direction, ACK | PSH);
                let sent = first
                    .clone()
                    .with_numbers(first.sequence.wrapping_add(sequence), first.acknowledgement)
                    .with_payload(b"carried");
                // As it was told, but for what an error is not about.
                let about = flow
                    .flow
                    .rewritten(&sent)
                    .with_numbers(flow.told(direction, &sent).sequence, sent.acknowledgement);
                let original = Segment { hops: sent.hops - 1, ..sent };
                let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
                for length in (header + 8..=header + 16).chain([header + 18, header + 20, header + 27]) {
                    let embed = |segment: &Segment| segment.packet()[..length].to_vec();
                    let comes =
                        icmp_error((net.router(), about.source.ip()), 61, kind, [0, 0, 5, 0], &embed(&about));
                    let ends = (original.destination.ip(), original.source.ip());
                    let leaves = icmp_error(ends, 60, kind, [0, 0, 5, 0], &embed(&original));
                    bench.comes_out(&format!("{length} bytes"), &comes, Verdict::IcmpError, &leaves);
                }
            }
        }
    }
}

#[test]
fn a_socket_that_took_more_is_given_acknowledgements_that_it_believes() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for direction in BOTH {
            let flow = hand_over(&mut bench, net, translation(ORIGINS, [0; 2]), State::held(direction));
            let end = *flow.translation.end(direction);
            let given = |bench: &mut Bench, number: u32| {
                let segment =
                    flow.by(direction, ACK).with_numbers(end.taken.wrapping_add(5000), end.owed - 1);
                let want = segment.clone().with_numbers(number, segment.acknowledgement);
                bench.comes_out("ACK", &segment.bytes(), Verdict::Owed, &want.bytes());
            };
            given(&mut bench, end.taken);
            for (said, heard) in [(-1, 0), (0, 0), (700, 700), (500, 700), (1400, 1400)] {
                let socket = flow.by_socket(direction, ACK);
                let says = socket.clone().with_numbers(socket.sequence, end.taken.wrapping_add_signed(said));
                crate::guard::run(&mut bench, &says.bytes());
                given(&mut bench, end.taken + heard);
            }
        }
    }
    assert_eq!(Heard::default().number(5), 5);
}
