//! Rules of the hand-over that can be broken one at a time, to see that the exploration finds each.

use gateway_common::handover::{Course, Departure, LONGEST_FREEZE};
use gateway_common::{Seen, State};

use super::tcp::Segment;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// All that the sockets send leaves.
    GuardOff,
    /// The sockets' resets and bare acknowledgements leave while they owe something.
    EmptyLeaves,
    /// A socket's reset is kept back while it owes something.
    LossUnseen,
    /// What the stack answers for a socket that is closed counts as the agent's death.
    AnswerIsDeath,
    /// A socket's bytes leave with its own acknowledgement.
    OwnAcknowledgement,
    /// A socket's bytes leave with its FIN.
    FinLeaves,
    /// The agent's death while it has bytes is not seen.
    DeathUnseen,
    /// A frozen flow's sockets take data.
    FrozenTakesData,
    /// A frozen flow goes on.
    FrozenGoesOn,
    /// A frozen flow stays so for ever.
    FrozenForEver,
    /// What a socket is to bring may come by the kernel too.
    RepeatedGoesOn,
    /// Acknowledgements of a socket's bytes go to the other end.
    OwedGoesOnward,
    /// They go to the socket with their own sequence number.
    SequenceKept,
    /// They go to the socket with a number that it has gone beyond.
    Unheard,
    /// They go to the other end unclamped, with data.
    ClampMissing,
    /// The end is never seen to have acknowledged all.
    NeverSettles,
    StampsKept,
    EchoKept,
    /// What was read and not sent yet has no place in the sockets' numbers.
    UnsentForgotten,
    /// Nothing is held for what a socket has in flight.
    InFlightForgotten,
    /// Nor marked as unsent.
    UnsentUnmarked,
    /// Out of order segments in a socket are not looked for.
    MemoryUnchecked,
    /// Numbers are read before the flow is frozen.
    ReadBeforeFrozen,
    /// Sockets are withdrawn while they owe something.
    WithdrawnEarly,
    /// A refused hand-over leaves the flow in the index.
    RefusalLeavesFrozen,
    /// A socket that has taken a FIN in counts as one that the kernel gave up.
    HalfClosedIsGivenUp,
    /// The agent sends all that a socket is to send before it looks at anything else.
    SendsInTurn,
}

impl Broken {
    pub(crate) const ALL: &[Self] = &[
        Self::GuardOff,
        Self::EmptyLeaves,
        Self::LossUnseen,
        Self::AnswerIsDeath,
        Self::OwnAcknowledgement,
        Self::FinLeaves,
        Self::DeathUnseen,
        Self::FrozenTakesData,
        Self::FrozenGoesOn,
        Self::FrozenForEver,
        Self::RepeatedGoesOn,
        Self::OwedGoesOnward,
        Self::SequenceKept,
        Self::Unheard,
        Self::ClampMissing,
        Self::NeverSettles,
        Self::StampsKept,
        Self::EchoKept,
        Self::UnsentForgotten,
        Self::InFlightForgotten,
        Self::UnsentUnmarked,
        Self::MemoryUnchecked,
        Self::ReadBeforeFrozen,
        Self::WithdrawnEarly,
        Self::RefusalLeavesFrozen,
        Self::HalfClosedIsGivenUp,
        Self::SendsInTurn,
    ];

    pub(crate) fn course(self, course: Course, state: State, frozen_for: u32) -> Course {
        let is_frozen = state.any(State::FROZEN);
        match (self, course) {
            (Self::FrozenTakesData, Course::Withheld) => Course::ToSocket { sequence: None },
            (Self::FrozenGoesOn, Course::Withheld | Course::ToSocket { sequence: None }) => {
                Course::Onward { settles: false }
            }
            (Self::FrozenForEver, Course::Broken) if is_frozen && frozen_for > LONGEST_FREEZE => {
                Course::Withheld
            }
            (Self::RepeatedGoesOn, Course::Withheld) if !is_frozen => Course::Onward { settles: false },
            (Self::OwedGoesOnward, Course::ToSocket { sequence: Some(_) }) => {
                Course::Onward { settles: false }
            }
            (Self::SequenceKept, Course::ToSocket { .. }) => Course::ToSocket { sequence: None },
            (Self::NeverSettles, Course::Onward { .. }) => Course::Onward { settles: false },
            _ => course,
        }
    }

    pub(crate) fn departure(self, departure: Departure, state: State, segment: &Segment) -> Departure {
        match (self, departure) {
            (Self::GuardOff, _) => Departure::Leaves,
            (Self::EmptyLeaves, Departure::Withheld) if segment.payload.is_empty() => Departure::Leaves,
            (Self::LossUnseen, Departure::Broken) if !state.any(State::FROZEN | State::UNSENT) => {
                Departure::Withheld
            }
            (Self::AnswerIsDeath, Departure::Withheld)
                if segment.is(Seen::RST) && state.any(State::UNSENT) =>
            {
                Departure::Broken
            }
            (Self::DeathUnseen, Departure::Broken) if state.any(State::FROZEN | State::UNSENT) => {
                Departure::Withheld
            }
            _ => departure,
        }
    }
}
