//! What the programs do with a segment, effect by effect in the order of `gateway-ebpf/src/{pipeline,translate,guard}.rs`;
//! every decision is the one of `gateway-common` that they compile.

use gateway_common::flow::elapsed;
use gateway_common::handover::{self, Arrived, Course, Departure};
use gateway_common::translation::Stamps;
use gateway_common::{Direction, Numbers, Seen, State, Translation};

use super::rules::Broken;
use super::tcp::Segment;

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::ToBackend, Direction::ToClient];

/// A flow's record and its translation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) state: State,
    /// Directions that the index has.
    pub(crate) listed: [bool; 2],
    pub(crate) translation: Translation,
    pub(crate) expected: [u32; 2],
    /// In ticks.
    pub(crate) last_seen: u32,
}

/// Where the programs leave a segment.
#[derive(Clone, Debug)]
pub(crate) enum Left {
    /// To the gateway's stack.
    ToStack(Segment),
    /// Out to the other end.
    Onward(Segment),
    /// Back to its sender.
    Back(Segment),
    Nowhere,
}

/// A segment that comes in by a direction; `state` is as it was when its flow was looked up.
pub(crate) fn arrive(
    record: &mut Record,
    state: State,
    direction: Direction,
    mut segment: Segment,
    now: [u32; 2],
    broken: Option<Broken>,
) -> Left {
    let [now_ms, now_ticks] = now;
    if state.any(State::CONDEMNED) {
        return segment.refused().map_or(Left::Nowhere, Left::Back);
    }
    if state.any(State::IN_TRANSIT) {
        let arrived = Arrived {
            flags: segment.flags,
            sequence: segment.seq,
            acknowledgement: segment.ack,
            payload: segment.payload.len() as u32,
        };
        let frozen_for = elapsed(record.last_seen, now_ticks);
        let course = handover::course(state, direction, &record.translation, arrived, frozen_for);
        let course = broken.map_or(course, |broken| broken.course(course, state));
        match course {
            Course::Onward { settles } => {
                if settles {
                    record.state.0 &= !State::held(direction);
                }
            }
            Course::ToSocket { sequence } => {
                segment.seq = sequence.unwrap_or(segment.seq);
                return Left::ToStack(segment);
            }
            Course::Broken if record.state != state && broken != Some(Broken::LateVerdict) => {
                return Left::Nowhere;
            }
            Course::Withheld => return Left::Nowhere,
            Course::Broken => {
                record.state.0 |= State::CONDEMNED;
                return segment.refused().map_or(Left::Nowhere, Left::Back);
            }
        }
    }
    let told = translate(record, state, direction, &segment, now_ms, broken);
    keep(record, state, direction, &segment);
    record.last_seen = if direction == Direction::ToBackend { now_ticks } else { record.last_seen };
    Left::Onward(told)
}

fn acknowledged(record: &Record, state: State, direction: Direction, ack: u32) -> u32 {
    let ack = handover::acknowledged(state, direction, &record.translation, ack);
    ack.wrapping_add(record.translation.acknowledgement(direction))
}

fn translate(
    record: &mut Record,
    state: State,
    direction: Direction,
    segment: &Segment,
    now_ms: u32,
    broken: Option<Broken>,
) -> Segment {
    let translation = record.translation;
    let ack =
        if segment.is(Seen::ACK) { acknowledged(record, state, direction, segment.ack) } else { segment.ack };
    Segment {
        seq: segment.seq.wrapping_add(translation.sequence(direction)),
        ack,
        window: translation.end(direction).window(segment.window),
        stamps: segment.stamps.map(|stamps| stamp(record, direction, stamps, now_ms, broken)),
        ..segment.clone()
    }
}

fn stamp(
    record: &mut Record,
    direction: Direction,
    [value, echo]: [u32; 2],
    now_ms: u32,
    broken: Option<Broken>,
) -> [u32; 2] {
    let clock = record.translation.end(direction.reversed()).clock;
    let [mine, others] = [direction, direction.reversed()].map(|end| end as usize);
    if !Stamps(record.translation.ends[mine].stamps).is_known() {
        let first = Stamps::first(value, clock, now_ms);
        record.translation.ends[mine].stamps = first.0;
    }
    let told = Stamps(record.translation.ends[mine].stamps).told(value);
    let echoed = Stamps(record.translation.ends[others].stamps).echoed(echo);
    match broken {
        Some(Broken::StampsKept) => [value, echoed],
        Some(Broken::EchoKept) => [told, echo],
        _ => [told, echoed],
    }
}

/// `believe` of `gateway-ebpf/src/flow.rs`.
fn keep(record: &mut Record, state: State, direction: Direction, segment: &Segment) {
    let ack = acknowledged(record, state, direction, segment.ack);
    let [mine, others] = [direction, direction.reversed()].map(|end| end as usize);
    let latest = Numbers { sequence: record.expected[mine], acknowledgement: record.expected[others] };
    let numbers = Numbers { sequence: segment.seq, acknowledgement: ack };
    if segment.is(Seen::ACK) && numbers.fit(latest) {
        record.expected[others] = ack;
    }
    record.state.0 |= State::bits(direction, numbers.believed(segment.flags, latest));
}

/// A segment of the gateway's own socket to the end that sends in `direction`.
pub(crate) fn depart(
    record: &mut Record,
    direction: Direction,
    mut segment: Segment,
    broken: Option<Broken>,
) -> Option<Segment> {
    let heard = handover::heard(record.state, direction, &record.translation, segment.flags, segment.ack);
    if let Some(heard) = heard.filter(|_| broken != Some(Broken::Unheard)) {
        record.translation.heard[direction as usize] = heard.0;
    }
    let departure = handover::departure(record.state, direction, segment.flags, segment.payload.len() as u32);
    match broken.map_or(departure, |broken| broken.departure(departure, record.state, &segment)) {
        Departure::Leaves => Some(segment),
        Departure::Withheld => None,
        Departure::Broken => {
            record.state.0 |= State::CONDEMNED;
            let other = record.expected[direction.reversed() as usize];
            segment.seq =
                handover::farewell(record.state, direction, &record.translation, segment.seq, other);
            segment.flags = segment.flags & !Seen::FIN | Seen::RST;
            Some(segment)
        }
        Departure::Amended => {
            if broken != Some(Broken::OwnAcknowledgement) {
                segment.ack = record.expected[direction as usize];
            }
            if broken != Some(Broken::FinLeaves) {
                segment.flags &= !Seen::FIN;
            }
            Some(segment)
        }
    }
}
