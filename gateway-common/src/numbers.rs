//! Sequence numbers as evidence. Whoever guesses a flow's addresses and ports can write a segment with them; only its two
//! ends know how far the numbers have got (RFC 5961). A segment is always sent on, the ends judge for themselves: this is
//! about what the gateway believes of it.

use crate::flow::Seen;

/// How far numbers may be from the latest acknowledged ones: what is in flight, or was a moment ago. Windows scale up to
/// 1 GiB (RFC 7323), but a receiver offers less: Linux, unless it was tuned for long ways, 6 MiB at most, and of late 32
/// (`tcp_rmem`), buffers' overhead included. Two numbers that only happen to be as near come once in 2^12 forged segments.
pub const REACH: u32 = 1 << 25;

/// Sequence and acknowledgement number of a segment, or those that its sender has come to as far as the other end told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// Of the sender's first byte.
    pub sequence: u32,
    /// Of the byte that it waits for.
    pub acknowledgement: u32,
}

impl Numbers {
    /// Whether a segment with ACK may be of the end that has come to `latest`: both of its numbers are near. Either way,
    /// so that what a reordered or a forged acknowledgement moved is put right by the next one.
    #[inline(always)]
    pub const fn fit(self, latest: Self) -> bool {
        is_near(self.sequence, latest.sequence) && is_near(self.acknowledgement, latest.acknowledgement)
    }

    /// Those of a segment's flags, as [`Seen`] bits, that may be believed. A FIN has an ACK with it, and so has the RST of
    /// an end that gives up in the middle of a flight. A RST without ACK is the answer of an end that knows nothing of
    /// the connection, and repeats the number that it was just told (RFC 9293 section 3.10.7.1): it must be that one.
    #[inline(always)]
    pub const fn believed(self, flags: u32, latest: Self) -> u32 {
        let is_end = if flags & Seen::ACK != 0 {
            self.fit(latest)
        } else {
            flags & Seen::RST != 0 && self.sequence == latest.sequence
        };
        if is_end { flags } else { flags & !(Seen::RST | Seen::FIN) }
    }
}

#[inline(always)]
const fn is_near(number: u32, latest: u32) -> bool {
    number.wrapping_sub(latest).wrapping_add(REACH) < 2 * REACH
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIN: u32 = Seen::FIN | Seen::ACK;
    const RST: u32 = Seen::RST | Seen::ACK;
    const BARE: u32 = Seen::RST;
    const FLIGHT: i32 = REACH.cast_signed();

    /// Flags, distance of both numbers from the latest, and whether the segment is believed.
    const ROWS: &[(&str, u32, i32, i32, bool)] = &[
        ("exact", RST, 0, 0, true),
        ("a flight ahead", RST, FLIGHT - 1, 0, true),
        ("beyond a flight", RST, FLIGHT, 0, false),
        ("a flight behind", RST, -FLIGHT, 0, true),
        ("further behind", RST, -FLIGHT - 1, 0, false),
        ("acknowledges a flight", RST, 0, FLIGHT - 1, true),
        ("acknowledges more", RST, 0, FLIGHT, false),
        ("acknowledges what is long past", RST, 0, -FLIGHT - 1, false),
        ("half way round", RST, i32::MIN, 0, false),
        ("acknowledges half way round", RST, 0, i32::MIN, false),
        ("FIN", FIN, 0, 0, true),
        ("FIN behind a flight", FIN, 1 << 20, 1 << 10, true),
        ("FIN out of the blue", FIN, 1 << 26, 0, false),
        ("FIN without ACK", Seen::FIN, 0, 0, false),
        ("FIN and RST", FIN | RST, 0, 0, true),
        ("FIN and RST out of the blue", FIN | RST, 1 << 26, 0, false),
        ("FIN and RST without ACK", Seen::FIN | BARE, 0, 0, true),
        ("bare, exact", BARE, 0, 0, true),
        ("bare, whatever its other field", BARE, 0, 1 << 30, true),
        ("bare, one ahead", BARE, 1, 0, false),
        ("bare, one behind", BARE, -1, 0, false),
    ];

    #[test]
    fn only_near_numbers_are_believed_wherever_they_have_got() {
        for (what, flags, sequence, acknowledgement, is_believed) in ROWS {
            for start in [0, 1, u32::MAX, 1 << 31, 0x1234_5678] {
                let latest = Numbers { sequence: start, acknowledgement: !start };
                let numbers = Numbers {
                    sequence: start.wrapping_add_signed(*sequence),
                    acknowledgement: (!start).wrapping_add_signed(*acknowledgement),
                };
                let want = if *is_believed { *flags } else { flags & Seen::ACK };
                assert_eq!(numbers.believed(*flags, latest), want, "{what} at {start}");
            }
        }
    }

    #[test]
    fn other_flags_need_no_evidence() {
        let (latest, far) = (
            Numbers { sequence: 0, acknowledgement: 0 },
            Numbers { sequence: 1 << 31, acknowledgement: 1 << 31 },
        );
        for flags in [0, Seen::ACK, Seen::SYN, Seen::SYN | Seen::ACK] {
            assert_eq!(far.believed(flags, latest), flags);
        }
    }
}
