//! What becomes of a segment while its connection is taken over from the gateway's own sockets, and for as long as they
//! hold bytes that nobody has acknowledged. Pure: what the programs do on a packet, and what a model of the whole can be
//! tested with.
//!
//! Three times in a connection's life: *frozen*, for some ten µs in which the agent reads its sockets' numbers and nothing
//! may change them; *in transit*, while a socket still sends what it has, and learns what of that has come; after that
//! no socket is left, and every segment is translated and sent on.

use crate::flow::{Direction, Seen, State, TICKS_PER_SECOND};
use crate::translation::{Heard, Translation};

/// So long may a connection be frozen, in ticks. An agent that takes longer is dead, or as good as that.
pub const LONGEST_FREEZE: u32 = 3 * TICKS_PER_SECOND;

/// What of a segment matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// [`Seen`] bits.
    pub flags: u32,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Bytes of the stream in it.
    pub payload: u32,
}

impl Arrived {
    /// Whether it is an acknowledgement and nothing else.
    #[inline(always)]
    const fn is_pure(self) -> bool {
        self.payload == 0 && self.flags & (Seen::SYN | Seen::FIN | Seen::RST) == 0
    }

    /// Whether it has bytes that were taken before.
    #[inline(always)]
    const fn repeats(self, taken: u32) -> bool {
        self.payload != 0 && is_before(self.sequence, taken)
    }
}

/// Where a segment of an end goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// On to the other end, translated.
    Onward {
        /// Whether it acknowledges the last of what the gateway's socket sends to its end.
        settles: bool,
    },
    /// To the gateway's socket.
    ToSocket {
        /// With this sequence number, if with another.
        sequence: Option<u32>,
    },
    /// Nowhere: its sender sends it again.
    Withheld,
    /// The agent died over it: the connection is no more.
    Broken,
}

/// The course of a segment that comes by a direction of a handed-over flow. `frozen_for` is in ticks.
#[inline(always)]
pub const fn course(
    state: State,
    direction: Direction,
    translation: &Translation,
    segment: Arrived,
    frozen_for: u32,
) -> Course {
    if state.any(State::FROZEN) {
        return if frozen_for > LONGEST_FREEZE {
            Course::Broken
        } else if segment.is_pure() {
            Course::ToSocket { sequence: None }
        } else {
            // The socket must not take what its numbers, read a moment ago, do not speak of.
            Course::Withheld
        };
    }
    if state.any(State::held(direction.reversed())) && segment.repeats(translation.end(direction).taken) {
        // Their acknowledgement was kept back when the flow was frozen, and the socket to the other end is about to bring
        // them. If they came by another way, that end would acknowledge what the socket has not sent yet, and the socket
        // would take such an acknowledgement for nobody's, and all that follow.
        return Course::Withheld;
    }
    if !state.any(State::held(direction)) || segment.flags & Seen::ACK == 0 {
        return Course::Onward { settles: false };
    }
    let end = translation.end(direction);
    if !is_before(segment.acknowledgement, end.owed) {
        Course::Onward { settles: true }
    } else if segment.is_pure() {
        // It is the socket's to know. What the end has sent since did not come by the socket, to which this segment's own
        // number would be beyond its window.
        Course::ToSocket { sequence: Some(translation.heard(direction).number(end.taken)) }
    } else {
        Course::Onward { settles: false }
    }
}

/// What a segment acknowledges of what the other end sent, still in the count of its own end: of what the gateway's socket
/// sent the other end knows nothing.
#[inline(always)]
pub const fn acknowledged(
    state: State,
    direction: Direction,
    translation: &Translation,
    acknowledgement: u32,
) -> u32 {
    let owed = translation.end(direction).owed;
    if state.any(State::held(direction)) && is_before(acknowledgement, owed) { owed } else { acknowledgement }
}

/// What the acknowledgement of a segment that the gateway's own socket sends tells anew of what it has taken from the end that
/// sends in `direction`.
#[inline(always)]
pub const fn heard(
    state: State,
    direction: Direction,
    translation: &Translation,
    flags: u32,
    acknowledgement: u32,
) -> Option<Heard> {
    let taken = translation.end(direction).taken;
    let known = translation.heard(direction).number(taken);
    // Before the flow goes on its translation is not written; a reset may be of a stack that has no such socket.
    let tells = state.any(State::held(direction)) && flags & (Seen::ACK | Seen::RST) == Seen::ACK;
    if tells && is_before(known, acknowledgement) { Some(Heard::of(taken, acknowledgement)) } else { None }
}

/// What becomes of a segment of the gateway's own socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// As it is.
    Leaves,
    /// Bytes that the socket still owes: with the acknowledgement of the other end instead of the socket's, and without
    /// FIN, which is the other end's to send.
    Amended,
    /// Nothing that the end must see.
    Withheld,
    /// The socket closes a connection that bytes are missing from, mostly by the death of the agent, which had them. Its
    /// end learns of it, but not as of the other end's last byte.
    Broken,
}

/// What becomes of a segment that the gateway's own socket sends to the end of a handed-over flow that sends in `direction`.
#[inline(always)]
pub const fn departure(state: State, direction: Direction, flags: u32, payload: u32) -> Departure {
    let (resets, is_fin) = (flags & Seen::RST != 0, flags & Seen::FIN != 0);
    // The agent closes no socket before it has done with it. A reset may be the stack's answer to a late segment for a socket
    // that is closed already, so that it only tells of one that still owes something: what that owes is gone with it.
    let alive = State::FROZEN | if resets { State::held(direction) } else { State::UNSENT };
    if (resets || is_fin) && state.any(alive) || is_fin && state.any(State::CONDEMNED) {
        Departure::Broken
    } else if state.any(State::CONDEMNED) {
        Departure::Leaves
    } else if state.any(State::FROZEN) || payload == 0 || resets {
        Departure::Withheld
    } else {
        Departure::Amended
    }
}

/// The sequence number of the reset by which the end that sends in `direction` learns that its connection is broken; only
/// with the very number that it expects does it take it at once, and anything older not at all (RFC 5961 section 3.2). The
/// socket knows nothing of what has come by the kernel since it wrote `own`, the record does: `other` is the next number of
/// the other end.
#[inline(always)]
pub const fn farewell(
    state: State,
    direction: Direction,
    translation: &Translation,
    own: u32,
    other: u32,
) -> u32 {
    // The translation of a frozen flow is not written yet.
    let has_moved = !state.any(State::FROZEN) && other != translation.end(direction.reversed()).taken;
    if has_moved { other.wrapping_add(translation.sequence(direction.reversed())) } else { own }
}

/// Whether a sequence number comes before another (RFC 9293 section 3.4).
#[inline(always)]
pub const fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translation::End;

    const DATA: u32 = Seen::ACK;
    const FIN: u32 = Seen::FIN | Seen::ACK;
    const RST: u32 = Seen::RST | Seen::ACK;

    fn translation() -> Translation {
        let end = |taken, owed| End { taken, owed, ..End::default() };
        Translation { ends: [end(1000, 5000), end(70_000, 90_000)], ..Translation::default() }
    }

    fn course_of(state: u64, flags: u32, acknowledgement: u32, payload: u32, frozen_for: u32) -> Course {
        let segment = Arrived { flags, sequence: 1000, acknowledgement, payload };
        course(State(state | State::LIVE), Direction::ToBackend, &translation(), segment, frozen_for)
    }

    const fn onward(settles: bool) -> Course {
        Course::Onward { settles }
    }

    #[test]
    fn a_frozen_flow_takes_in_nothing_that_has_a_place_in_the_stream() {
        let frozen = |flags, payload| course_of(State::FROZEN, flags, 4000, payload, 0);
        assert_eq!(frozen(DATA, 0), Course::ToSocket { sequence: None });
        for (flags, payload) in [(DATA, 1), (FIN, 0), (RST, 0), (Seen::SYN, 0), (FIN, 9)] {
            assert_eq!(frozen(flags, payload), Course::Withheld, "{flags:#x} {payload}");
        }
        assert_eq!(
            course_of(State::FROZEN, DATA, 4000, 0, LONGEST_FREEZE),
            Course::ToSocket { sequence: None }
        );
        assert_eq!(course_of(State::FROZEN, DATA, 4000, 0, LONGEST_FREEZE + 1), Course::Broken);
    }

    #[test]
    fn acknowledgements_of_a_sockets_bytes_are_the_sockets() {
        let held = State::held(Direction::ToBackend);
        let to_socket = Course::ToSocket { sequence: Some(1000) };
        for (flags, acknowledgement, payload, want) in [
            (DATA, 4999, 0, to_socket),
            (DATA, 4999, 10, onward(false)),
            (FIN, 4999, 0, onward(false)),
            (RST, 4999, 0, onward(false)),
            (DATA, 5000, 0, onward(true)),
            (DATA, 5001, 10, onward(true)),
            // Without ACK the field means nothing.
            (Seen::RST, 0, 0, onward(false)),
        ] {
            assert_eq!(
                course_of(held, flags, acknowledgement, payload, 0),
                want,
                "{flags:#x} {acknowledgement}"
            );
        }
        for state in [0, State::held(Direction::ToClient)] {
            assert_eq!(course_of(state, DATA, 4999, 0, 0), onward(false), "nothing is owed to this end");
        }
        for (state, acknowledgement, want) in
            [(held, 4999, 5000), (held, 5000, 5000), (held, 5001, 5001), (0, 4999, 4999)]
        {
            let seen = acknowledged(State(state), Direction::ToBackend, &translation(), acknowledgement);
            assert_eq!(seen, want, "the backend has sent nothing before {want}");
        }
    }

    #[test]
    fn a_socket_that_took_more_is_given_acknowledgements_that_it_believes() {
        let held = State::held(Direction::ToBackend);
        let heard_of = |state: u64, translation: &Translation, flags, acknowledgement| {
            heard(State(state), Direction::ToBackend, translation, flags, acknowledgement)
        };
        let mut late = translation();
        for (state, flags, acknowledgement, want) in [
            (held, DATA, 1000, None),
            (held, DATA, 999, None),
            (held, DATA, 1001, Some(Heard::of(1000, 1001))),
            (held, FIN, 1001, Some(Heard::of(1000, 1001))),
            (held, RST, 1001, None),
            (held, Seen::RST, 1001, None),
            (State::FROZEN, DATA, 1001, None),
            (0, DATA, 1001, None),
        ] {
            assert_eq!(heard_of(state, &late, flags, acknowledgement), want, "{flags:#x} {acknowledgement}");
        }
        late.heard = [Heard::of(1000, 1500).0, Heard::of(70_000, 3).0];
        assert_eq!(heard_of(held, &late, DATA, 1400), None, "an older segment");
        assert_eq!(heard_of(held, &late, DATA, 1501), Some(Heard::of(1000, 1501)));
        let segment = Arrived { flags: DATA, sequence: 2000, acknowledgement: 4999, payload: 0 };
        let course = course(State(held), Direction::ToBackend, &late, segment, 0);
        assert_eq!(course, Course::ToSocket { sequence: Some(1500) });
    }

    #[test]
    fn what_a_socket_is_to_bring_comes_by_no_other_way() {
        let (near, far) = (State::held(Direction::ToBackend), State::held(Direction::ToClient));
        let course_of = |state: u64, sequence, payload| {
            let segment = Arrived { flags: DATA, sequence, acknowledgement: 5000, payload };
            course(State(state | State::LIVE), Direction::ToBackend, &translation(), segment, 0)
        };
        for (state, sequence, payload, want) in [
            (far, 999, 1, Course::Withheld),
            // Its sender sends the rest again when the first part has been acknowledged.
            (far, 999, 100, Course::Withheld),
            (near | far, 999, 1, Course::Withheld),
            (far, 1000, 1, onward(false)),
            // A probe: it is answered.
            (far, 999, 0, onward(false)),
            // The other end has all that was taken; the acknowledgement was lost.
            (near, 999, 1, onward(true)),
            (0, 999, 1, onward(false)),
        ] {
            assert_eq!(course_of(state, sequence, payload), want, "{state:#x} {sequence} {payload}");
        }
    }

    #[test]
    fn a_socket_only_sends_what_it_owes() {
        let (held, other) = (State::held(Direction::ToClient), State::held(Direction::ToBackend));
        let both = State::UNSENT | held;
        for (state, flags, payload, want) in [
            (State::FROZEN, DATA, 0, Departure::Withheld),
            (State::FROZEN, DATA, 100, Departure::Withheld),
            (State::FROZEN, FIN, 0, Departure::Broken),
            (State::FROZEN, RST, 0, Departure::Broken),
            (held, DATA, 0, Departure::Withheld),
            (held, DATA, 100, Departure::Amended),
            (held, FIN, 100, Departure::Amended),
            (held, FIN, 0, Departure::Withheld),
            (held, RST, 0, Departure::Broken),
            (held, RST, 10, Departure::Broken),
            (other, DATA, 10, Departure::Amended),
            (other, RST, 0, Departure::Withheld),
            (other | State::UNSENT, RST, 0, Departure::Withheld),
            (other | State::UNSENT, FIN, 0, Departure::Broken),
            (both, DATA, 100, Departure::Amended),
            (both, FIN, 0, Departure::Broken),
            (both, FIN, 100, Departure::Broken),
            (both, RST, 0, Departure::Broken),
            (0, DATA, 0, Departure::Withheld),
            (State::CONDEMNED, RST, 0, Departure::Leaves),
            (State::CONDEMNED, FIN, 0, Departure::Broken),
            (State::CONDEMNED | State::FROZEN, FIN, 0, Departure::Broken),
            (State::CONDEMNED | both, FIN, 100, Departure::Broken),
            (State::CONDEMNED | both, DATA, 100, Departure::Leaves),
            (State::CONDEMNED | held, DATA, 10, Departure::Leaves),
        ] {
            let departure = departure(State(state), Direction::ToClient, flags, payload);
            assert_eq!(departure, want, "{state:#x} {flags:#x} {payload}");
        }
    }

    #[test]
    fn a_broken_connections_end_is_told_by_the_number_that_it_expects() {
        let own = 4990;
        for (state, other, want) in [
            // The socket's is the last that the end has had.
            (State::UNSENT, 70_000, own),
            // The other end's bytes have come behind it by the kernel.
            (State::UNSENT, 70_010, 5010),
            (State::UNSENT | State::CONDEMNED, 70_010, 5010),
            // Whatever the translation says, it is another flow's.
            (State::FROZEN, 70_010, own),
            (State::FROZEN | State::CONDEMNED, 0, own),
        ] {
            let number = farewell(State(state), Direction::ToBackend, &translation(), own, other);
            assert_eq!(number, want, "{state:#x} {other}");
        }
    }

    #[test]
    fn numbers_go_round() {
        assert!(is_before(u32::MAX, 0) && is_before(0, 1) && !is_before(1, 1) && !is_before(0, u32::MAX));
    }
}
