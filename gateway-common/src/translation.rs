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
    /// [`Translation::no_marks`] of the directions that it holds for.
    pub flags: u32,
    /// Zero.
    pub reserved: [u32; 3],
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
    pub shift: i32,
    /// What the timestamp clock of the gateway's socket to this end is ahead of the monotonic clock in ms (modulo 2^32).
    pub clock: u32,
    /// [`Stamps`]: how this end's timestamps become those of the gateway's socket to the other end.
    pub stamps: u64,
}

impl Translation {
    /// The end that a direction leads to has not agreed on congestion notification (RFC 3168), which the other has: packets
    /// must not claim that it has, or marks on the way would be lost.
    #[inline(always)]
    pub const fn no_marks(direction: Direction) -> u32 {
        1 << direction as u32
    }

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
    /// A window, as the other end must read it. One that is not 0 does not become 0: its sender would be asked for ever
    /// whether it has opened.
    #[inline(always)]
    pub const fn window(&self, window: u32) -> u32 {
        if self.shift >= 0 {
            let wide = window << (self.shift as u32 & 15);
            if wide > 0xffff { 0xffff } else { wide }
        } else {
            let narrow = window >> (self.shift.unsigned_abs() & 15);
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

const _: () = assert!(size_of::<End>() == 24 && size_of::<Translation>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn end(taken: u32, owed: u32, shift: i32) -> End {
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
    fn timestamps_go_on_from_the_gateways_clock_and_come_back_as_they_went() {
        let first = Stamps::first(1000, 77, 5000);
        assert_eq!(first.told(1000), 5079);
        assert_eq!(first.told(1010), 5089);
        assert_eq!(first.echoed(5089), 1010);
        assert_eq!(Stamps::UNKNOWN.echoed(5089), 0);
        assert!(Stamps::by(0).is_known() && !Stamps::UNKNOWN.is_known());
    }
}
