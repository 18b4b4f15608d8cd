//! Rules of the hand-over that can be broken one at a time, to see that the exploration finds each. Not here are those that
//! only save time: a socket takes data while it is frozen, and the guard keeps its acknowledgement back; a flow whose agent
//! died over it is given up when its sockets' FIN or reset leaves, if not before; an acknowledgement that is not clamped is an
//! old one.

use gateway_common::handover::{Course, Departure};
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
    /// A frozen flow goes on.
    FrozenGoesOn,
    /// What a socket is to bring may come by the kernel too.
    RepeatedGoesOn,
    /// A program that saw the flow frozen gives it up whatever has become of it since.
    LateVerdict,
    /// Acknowledgements of a socket's bytes go to the other end.
    OwedGoesOnward,
    /// They go to the socket with their own sequence number.
    SequenceKept,
    /// They go to the socket with a number that it has gone beyond.
    Unheard,
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
        Self::FrozenGoesOn,
        Self::LateVerdict,
        Self::RepeatedGoesOn,
        Self::OwedGoesOnward,
        Self::SequenceKept,
        Self::Unheard,
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
    ];

    /// A seed that shows it, when rules and model were last changed; else another one does.
    pub(crate) fn known_seed(self) -> u64 {
        match self {
            Self::LossUnseen => 2099,
            Self::Unheard => 2832,
            Self::UnsentUnmarked => 8462,
            Self::AnswerIsDeath => 9224,
            Self::LateVerdict => 1958,
            Self::RepeatedGoesOn => 1647,
            _ => 0,
        }
    }

    pub(crate) fn course(self, course: Course, state: State) -> Course {
        let is_frozen = state.any(State::FROZEN);
        match (self, course) {
            (Self::FrozenGoesOn, Course::Withheld | Course::ToSocket { sequence: None }) => {
                Course::Onward { settles: false }
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
            (Self::LossUnseen, Departure::Broken)
                if !state.any(State::FROZEN | State::UNSENT | State::CONDEMNED) =>
            {
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
