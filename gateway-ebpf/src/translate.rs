//! Telling a segment of a handed-over flow in the terms of the other end: numbers, window, timestamps, SACK blocks.

use gateway_common::{
    Be16, Be32, Direction, Seen, State, Sum, Translation, Verdict, Word as _,
    flow::{NO_TRANSLATION, elapsed, ticks},
    handover::{self, Arrived, Course},
    translation::{End, Stamps},
};

use crate::{
    boundary::{self, Outcome, Steps},
    flow::Found,
    maps::{self, Maps},
    options::{self, MOST_EDGES},
    packet::{self, Packet},
    parse::{Family, Segment, TCP_CHECKSUM, TCP_HEADER, Tcp},
    rewrite::Change,
};

/// The options that nearly every segment has: two bytes of padding and timestamps (RFC 7323 appendix A).
#[repr(C)]
pub(crate) struct Timestamps {
    head: [u16; 2],
    value: [u16; 2],
    echo: [u16; 2],
}

crate::packet::wire!(Timestamps);

/// Their first four bytes: no operation twice, kind 8, length 10.
const HEAD: Be32 = Be32::new(0x0101_080a);
const TIMESTAMPS: u32 = size_of::<Timestamps>() as u32;
const _: () = assert!(TIMESTAMPS == 12);

const NS_PER_MS: u64 = 1_000_000;

impl<A: Family> Found<A> {
    /// What the flow's segments are translated by, if it was handed over.
    #[inline(always)]
    pub(crate) fn translation(&self) -> Option<&'static Translation> {
        maps::translation(self.record.translation())
    }

    /// What a segment acknowledges, in the count of the end that it goes to.
    #[inline(always)]
    pub(crate) fn acknowledged(&self, segment: &Segment<A>) -> u32 {
        let Some(translation) = self.translation() else { return segment.acknowledgement };
        let acknowledged =
            handover::acknowledged(self.state, self.direction, translation, segment.acknowledgement);
        acknowledged.wrapping_add(translation.acknowledgement(self.direction))
    }
}

/// The course of a segment of a flow in transit.
#[inline(always)]
pub(crate) fn course<A: Maps>(segment: &Segment<A>, found: &Found<A>) -> Course {
    let Some(translation) = maps::translation(found.record.translation()) else {
        return Course::Onward { settles: false };
    };
    let arrived = Arrived {
        flags: segment.flags,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        payload: segment.payload,
    };
    let since = found.record.last_seen(Direction::ToBackend);
    let frozen_for = elapsed(since, ticks(packet::now()));
    handover::course(found.state, found.direction, translation, arrived, frozen_for)
}

/// Finds out whether a segment of a handed-over flow may go on, before anything of it is changed. The error says what
/// else becomes of it.
#[inline(always)]
pub(crate) fn admit<A: Family + Steps>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
) -> Result<(), Verdict> {
    if !found.state.any(State::IN_TRANSIT) {
        return Ok(());
    }
    match A::course(segment, Outcome::naming(found, Verdict::Forwarded)) {
        Course::Onward { settles } => {
            if settles {
                found.record.unmark(State::held(found.direction));
            }
            Ok(())
        }
        Course::ToSocket { sequence } => {
            if let Some(sequence) = sequence {
                put_sequence(packet, segment, sequence);
            }
            Err(Verdict::Owed)
        }
        // Not if it has gone on since it was found: a virtual CPU may stand still for longer than a freeze may last.
        Course::Broken if found.record.mark_if(found.state, State::CONDEMNED) => Err(Verdict::Reset),
        Course::Withheld | Course::Broken => Err(Verdict::Withheld),
    }
}

/// A function of its own for the sake of the stack.
#[inline(never)]
fn put_sequence<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, sequence: u32) {
    if let Ok(tcp) = packet.header::<Tcp>(segment.offset) {
        let (old, new) = (Be32::from_halves(tcp.sequence), Be32::new(sequence));
        tcp.sequence = new.halves();
        let segment_sum = Sum::default().add(new).minus(Sum::default().add(old));
        let change = Change { segment: segment_sum, addresses: Sum::default(), rest: Sum::default() };
        packet.fix_checksums::<A>(segment.offset + TCP_CHECKSUM, &change);
    }
}

/// Translates a segment if its flow was handed over. Returns by how much the sum over the segment changed, folded, and in
/// the upper half by how much the sum over an IP header without a checksum of its own did.
#[inline(always)]
pub(crate) fn apply_if<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, found: &Found<A>) -> u64 {
    if found.record.translation() == NO_TRANSLATION { 0 } else { apply(packet, segment, found) }
}

/// Translates what lies between the ports and the checksum, and the options. A function of its own for the sake of the
/// stack.
#[inline(never)]
fn apply<A: Family>(packet: &mut impl Packet, segment: &Segment<A>, found: &Found<A>) -> u64 {
    let Some(translation) = found.translation() else { return 0 };
    let header = header(packet, segment, found, translation);
    let options = if segment.header == TCP_HEADER {
        Sum::default()
    } else {
        options(packet, segment, found.direction, translation)
    };
    let rest = if translation.end(found.direction).flags & End::NO_MARKS == 0 {
        Sum::default()
    } else {
        packet.header::<A::Ip>(0).map_or(Sum::default(), A::forbid_marks)
    };
    u64::from(header.plus(options).fold32()) | u64::from(rest.fold32()) << 32
}

#[inline(always)]
fn header<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    found: &Found<A>,
    translation: &Translation,
) -> Sum {
    let Ok(tcp) = packet.header::<Tcp>(segment.offset) else { return Sum::default() };
    let before = tcp.changing();
    let sequence = segment.sequence.wrapping_add(translation.sequence(found.direction));
    tcp.sequence = Be32::new(sequence).halves();
    if segment.flags & Seen::ACK != 0 {
        tcp.acknowledgement = Be32::new(found.acknowledged(segment)).halves();
    }
    // In a SYN the window is not scaled.
    if segment.flags & Seen::SYN == 0 {
        let window = translation.end(found.direction).window(tcp.window.get().into());
        tcp.window = Be16::new(window as u16);
    }
    tcp.changing().minus(before)
}

#[inline(always)]
fn options<A: Family>(
    packet: &mut impl Packet,
    segment: &Segment<A>,
    direction: Direction,
    translation: &'static Translation,
) -> Sum {
    let place = segment.offset + TCP_HEADER;
    if segment.header == TCP_HEADER + TIMESTAMPS
        && let Ok(view) = packet.header::<Timestamps>(place)
        && Be32::from_halves(view.head) == HEAD
    {
        let before = Sum::default().add(Be32::from_halves(view.value)).add(Be32::from_halves(view.echo));
        let (value, echo) = (Be32::from_halves(view.value).get(), Be32::from_halves(view.echo).get());
        let (told, echoed) = stamps(direction, translation, value);
        view.value = Be32::new(told.told(value)).halves();
        view.echo = Be32::new(echoed.echoed(echo)).halves();
        return Sum::default()
            .add(Be32::from_halves(view.value))
            .add(Be32::from_halves(view.echo))
            .minus(before);
    }
    walk(packet, place, segment.header - TCP_HEADER, direction, translation)
}

/// Any other options, wherever they lie.
#[inline(always)]
fn walk(
    packet: &mut impl Packet,
    place: u32,
    length: u32,
    direction: Direction,
    translation: &'static Translation,
) -> Sum {
    let Some(options) = packet.copy(place, length) else { return Sum::default() };
    let places = boundary::places(options);
    if places.stamps | places.edges == 0 {
        return Sum::default();
    }
    let before = boundary::options_sum(options);
    if places.stamps != 0 {
        let (value, echo) =
            (options::number(options, places.stamps), options::number(options, places.stamps + 4));
        let (told, echoed) = stamps(direction, translation, value);
        boundary::add_to_number(options, places.stamps, told.told(value).wrapping_sub(value));
        boundary::add_to_number(options, places.stamps + 4, echoed.echoed(echo).wrapping_sub(echo));
    }
    let addend = translation.acknowledgement(direction);
    for edge in 0..MOST_EDGES {
        if edge < places.count {
            boundary::add_to_number(options, places.edges + 4 * edge, addend);
        }
    }
    let after = boundary::options_sum(options);
    if packet.put_back(place, options) { after.minus(before) } else { Sum::default() }
}

/// How this direction's timestamps are told, and how what it echoes was told. The first segment decides for its end.
#[inline(always)]
fn stamps(direction: Direction, translation: &'static Translation, value: u32) -> (Stamps, Stamps) {
    let (mine, others) =
        (maps::stamps(translation, direction), maps::stamps(translation, direction.reversed()));
    let mut told = Stamps(mine.load());
    if !told.is_known() {
        let clock = translation.end(direction.reversed()).clock;
        let first = Stamps::first(value, clock, (packet::now() / NS_PER_MS) as u32);
        // Of two that come at once one decides.
        told = if mine.replace(Stamps::UNKNOWN.0, first.0) { first } else { Stamps(mine.load()) };
    }
    (told, Stamps(others.load()))
}
