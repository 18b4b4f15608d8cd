//! How the segments of one connection become segments of another. A connection that user space had accepted, and the one
//! that it had made to the backend, count their bytes and their time each in its own way; once both are handed over to
//! the kernel, each segment is told in the other's terms (delayed binding, TCP splicing).

use crate::flow::Direction;

/// What a handed-over flow's record has besides other flows'; an element of `TRANSLATIONS`. One cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Translation {
    /// Of the end that sends in each [`Direction`].
    pub ends: [End; 2],
    /// [`Heard`]: what the gateway's socket to each end was heard to have taken, by the direction that the end sends in.
    pub heard: [u64; 2],
}

/// One end of a handed-over flow, and the gateway's socket that it talked to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// The first sequence number of this end that the gateway's socket did not take.
    pub taken: u32,
    /// The sequence number behind the last byte that the gateway's socket sends to this end.
    pub owed: u32,
    /// By how much windows that this end tells are shifted for the other: left if positive.
    pub shift: i16,
    /// [`End::NO_MARKS`] or 0.
    pub flags: u16,
    /// What the timestamp clock of the gateway's socket to this end is ahead of the monotonic clock in ms (modulo 2^32).
    pub clock: u32,
    /// [`Stamps`]: how this end's timestamps become those of the gateway's socket to the other end.
    pub stamps: u64,
}

impl Translation {
    /// What is added to the sequence numbers of a direction.
    #[inline(always)]
    pub const fn sequence(&self, direction: Direction) -> u32 {
        self.end(direction.reversed()).owed.wrapping_sub(self.end(direction).taken)
    }

    /// What is added to the acknowledgements of a direction, and to the edges of its SACK blocks.
    #[inline(always)]
    pub const fn acknowledgement(&self, direction: Direction) -> u32 {
        self.sequence(direction.reversed()).wrapping_neg()
    }

    /// What the gateway's socket to the end that sends in a direction was heard to have taken.
    #[inline(always)]
    pub const fn heard(&self, direction: Direction) -> Heard {
        let [client, backend] = self.heard;
        match direction {
            Direction::ToBackend => Heard(client),
            Direction::ToClient => Heard(backend),
        }
    }

    /// The end that sends in a direction.
    #[inline(always)]
    pub const fn end(&self, direction: Direction) -> &End {
        let [client, backend] = &self.ends;
        match direction {
            Direction::ToBackend => client,
            Direction::ToClient => backend,
        }
    }
}

impl End {
    /// The other end has not agreed on congestion notification (RFC 3168), which this one has: this one's packets must not
    /// claim that it has, or marks on the way would be lost.
    pub const NO_MARKS: u16 = 1;

    /// A window, as the other end must read it. One that is not 0 does not become 0: its sender would be asked for ever
    /// whether it has opened.
    #[inline(always)]
    pub const fn window(&self, window: u32) -> u32 {
        if self.shift >= 0 {
            let wide = window << (self.shift as u32 & 15);
            if wide > 0xffff { 0xffff } else { wide }
        } else {
            let narrow = window >> (self.shift.unsigned_abs() as u32 & 15);
            if narrow == 0 && window != 0 { 1 } else { narrow }
        }
    }
}

/// What is added to an end's timestamps: fixed by its first segment after the hand-over, which the other end must find
/// a little later than all that the gateway's socket has sent (PAWS, RFC 7323 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamps(pub u64);

/// How much later, in ms.
const AHEAD: u32 = 2;

impl Stamps {
    /// No segment yet.
    pub const UNKNOWN: Self = Self(0);
    const KNOWN: u64 = 1 << 32;

    /// So much is added.
    #[inline(always)]
    pub const fn by(delta: u32) -> Self {
        Self(Self::KNOWN | delta as u64)
    }

    /// For an end whose first segment has this timestamp now; `clock` is that of the gateway's socket to the other end.
    #[inline(always)]
    pub const fn first(stamp: u32, clock: u32, now_ms: u32) -> Self {
        Self::by(clock.wrapping_add(now_ms).wrapping_add(AHEAD).wrapping_sub(stamp))
    }

    /// Whether the first segment has come.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 & Self::KNOWN != 0
    }

    /// A timestamp of this end, as the other end is told.
    #[inline(always)]
    pub const fn told(self, stamp: u32) -> u32 {
        stamp.wrapping_add(self.0 as u32)
    }

    /// What the other end echoes, as this end knows it: 0, which is no echo to anybody, before this end has told any.
    #[inline(always)]
    pub const fn echoed(self, echo: u32) -> u32 {
        if self.is_known() { echo.wrapping_sub(self.0 as u32) } else { 0 }
    }
}

/// The first sequence number of an end that the gateway's socket has not taken by now: it may take a segment that had
/// passed the programs before its flow was frozen, and came to it after its numbers were read. Nobody acknowledges that one,
/// but from then on the socket believes no segment with a lower number. Behind it [`End::taken`], so that a word that a flow
/// before this one left is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard(pub u64);

impl Heard {
    /// A socket that waits for `number`, by its own word, of an end whose bytes before `taken` were taken.
    #[inline(always)]
    pub const fn of(taken: u32, number: u32) -> Self {
        Self((number as u64) << 32 | taken as u64)
    }

    /// The number that the socket waits for.
    #[inline(always)]
    pub const fn number(self, taken: u32) -> u32 {
        if self.0 as u32 == taken { (self.0 >> 32) as u32 } else { taken }
    }
}

const _: () = assert!(size_of::<End>() == 24 && size_of::<Translation>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn end(taken: u32, owed: u32, shift: i16) -> End {
        End { taken, owed, shift, ..End::default() }
    }

    #[test]
    fn each_end_goes_on_where_the_gateways_sockets_stopped() {
        for origin in [0, 1, u32::MAX, 1 << 31, 0x1234_5678] {
            let translation = Translation {
                ends: [
                    end(origin, origin.wrapping_add(700), 0),
                    end(origin.wrapping_add(5000), origin.wrapping_add(90_000), 0),
                ],
                ..Translation::default()
            };
            // The client's next byte comes behind what the gateway's socket sends to the backend.
            let (up, down) = (Direction::ToBackend, Direction::ToClient);
            assert_eq!(origin.wrapping_add(translation.sequence(up)), origin.wrapping_add(90_000));
            // The backend's next behind what it sends to the client.
            assert_eq!(
                origin.wrapping_add(5000).wrapping_add(translation.sequence(down)),
                origin.wrapping_add(700)
            );
            for direction in [up, down] {
                // An acknowledgement of all that was sent to an end is one of all that was taken from the other.
                let (near, far) = (translation.end(direction), translation.end(direction.reversed()));
                assert_eq!(near.owed.wrapping_add(translation.acknowledgement(direction)), far.taken);
            }
        }
    }

    #[test]
    fn a_window_neither_overflows_nor_closes() {
        for (shift, window, want) in [
            (0, 0, 0),
            (0, 65_535, 65_535),
            (3, 100, 800),
            (3, 65_535, 65_535),
            (14, 4, 65_535),
            (-3, 800, 100),
            (-7, 100, 1),
            (-14, 65_535, 3),
            (-3, 0, 0),
        ] {
            assert_eq!(end(0, 0, shift).window(window), want, "{window} by {shift}");
        }
    }

    #[test]
    fn what_was_heard_of_another_flows_socket_is_nothing() {
        assert_eq!(Heard::default().number(77), 77);
        assert_eq!(Heard::of(77, 90).number(77), 90);
        assert_eq!(Heard::of(78, 90).number(77), 77);
        assert_eq!(Heard::of(u32::MAX, 3).number(u32::MAX), 3);
        let translation =
            Translation { heard: [Heard::of(1, 2).0, Heard::of(3, 4).0], ..Translation::default() };
        assert_eq!(translation.heard(Direction::ToBackend), Heard::of(1, 2));
        assert_eq!(translation.heard(Direction::ToClient), Heard::of(3, 4));
    }

    #[test]
    fn timestamps_go_on_from_the_gateways_clock_and_come_back_as_they_went() {
        let first = Stamps::first(1000, 77, 5000);
        assert_eq!(first.told(1000), 5079);
        assert_eq!(first.told(1010), 5089);
        assert_eq!(first.echoed(5089), 1010);
        assert_eq!(Stamps::UNKNOWN.echoed(5089), 0);
        assert!(Stamps::by(0).is_known() && !Stamps::UNKNOWN.is_known());
    }
}
