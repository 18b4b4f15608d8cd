//! A steered flow: two entries, one a direction, each from the four-tuple a packet arrives with to the four-tuple
//! it leaves with. The entry holds the whole rewrite, so that an established flow needs no listener, table or
//! backend any more and goes on whatever becomes of them.

use crate::addr::{Addr4, Addr6, Be16};
use crate::backend::BackendId;

/// A TCP four-tuple as a packet carries it; the key of `FLOWS4` and `FLOWS6`. Three and nine words: what the
/// kernel's hash of keys takes in whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
}

impl<A: Copy> FlowKey<A> {
    /// The tuple of the answer to a packet with this one.
    #[inline]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// One direction of a flow; the value of `FLOWS4` and `FLOWS6`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow<A> {
    /// Kernel monotonic clock at the flow's SYN, in ns: the same in both entries, so it tells a flow from a later
    /// one with the same tuple.
    pub created: u64,
    /// Kernel monotonic clock at this direction's latest packet, in ns.
    pub last_seen: u64,
    /// Packets on the wire in this direction: a super-packet counts as its segments.
    pub packets: u64,
    /// Bytes of frames in this direction, without the headers that segmentation adds.
    pub bytes: u64,
    /// The tuple that packets leave with.
    pub rewritten: FlowKey<A>,
    /// Interface that they leave by.
    pub oif: u32,
    /// The backend chosen for the flow.
    pub backend: BackendId,
    /// The listener's idle timeout, in seconds.
    pub idle_timeout: u32,
    /// [`Seen`] bits of this direction.
    pub seen: u32,
    /// [`Direction`] as a number.
    pub direction: u32,
}

impl<A: Copy> Flow<A> {
    /// Key of the entry for the other direction.
    #[inline]
    pub const fn other(&self) -> FlowKey<A> {
        self.rewritten.reversed()
    }

    /// Which way this entry's packets go; `None` for a number that no program of ours writes.
    pub const fn direction(&self) -> Option<Direction> {
        match self.direction {
            0 => Some(Direction::ToBackend),
            1 => Some(Direction::ToClient),
            _ => None,
        }
    }

    /// What was seen in this direction.
    #[inline]
    pub const fn seen(&self) -> Seen {
        Seen(self.seen)
    }
}

/// Which way an entry's packets go.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client to the backend.
    ToBackend = 0,
    /// From the backend to the client.
    ToClient = 1,
}

/// What was seen in one direction of a flow: TCP's flag bits, plus who closed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen(pub u32);

impl Seen {
    /// A FIN.
    pub const FIN: u32 = 0x01;
    /// A SYN.
    pub const SYN: u32 = 0x02;
    /// A RST.
    pub const RST: u32 = 0x04;
    /// An ACK.
    pub const ACK: u32 = 0x10;
    /// A FIN before the other direction's: this end keeps the tuple in TIME-WAIT (RFC 9293 section 3.6.1).
    pub const FIN_FIRST: u32 = 0x100;
    /// Those that are flag bits of TCP.
    pub const TCP: u32 = Self::FIN | Self::SYN | Self::RST | Self::ACK;

    /// Whether any of the bits was seen.
    #[inline]
    pub const fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// State of a flow, from what was seen in its two directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The handshake is not through.
    Opening,
    /// Through, and not closed by both ends.
    Established,
    /// Both ends sent their FIN.
    Closing,
    /// One end sent a RST.
    Reset,
}

impl State {
    /// The state that two directions make together.
    #[inline]
    pub const fn of(to_backend: Seen, to_client: Seen) -> Self {
        let either = Seen(to_backend.0 | to_client.0);
        if either.any(Seen::RST) {
            Self::Reset
        } else if to_backend.any(Seen::FIN) && to_client.any(Seen::FIN) {
            Self::Closing
        } else if to_backend.any(Seen::ACK) && to_client.any(Seen::SYN) {
            Self::Established
        } else {
            Self::Opening
        }
    }

    /// Whether a SYN may start another flow on the same tuple.
    #[inline]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closing | Self::Reset)
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Reset => "reset",
        }
    }
}

const _: () = assert!(size_of::<FlowKey<Addr4>>() == 12 && size_of::<FlowKey<Addr6>>() == 36);
// 32 bytes of counters, the tuple, five words: no padding.
const _: () = assert!(size_of::<Flow<Addr4>>() == 64 && size_of::<Flow<Addr6>>() == 88);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_both_directions() {
        let (syn, ack, fin, rst) = (Seen::SYN, Seen::ACK, Seen::FIN, Seen::RST);
        for (to_backend, to_client, want) in [
            (syn, 0, State::Opening),
            (syn, syn | ack, State::Opening),
            (syn | ack, 0, State::Opening),
            (syn | ack, syn | ack, State::Established),
            (syn | ack | fin, syn | ack, State::Established),
            (syn | ack, syn | ack | fin, State::Established),
            (syn | ack | fin, syn | ack | fin, State::Closing),
            (syn, ack | rst, State::Reset),
            (syn | ack | fin | rst, syn | ack | fin, State::Reset),
        ] {
            assert_eq!(State::of(Seen(to_backend), Seen(to_client)), want, "{to_backend:#x} {to_client:#x}");
        }
    }
}
