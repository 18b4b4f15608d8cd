//! A steered flow: one record with both of its directions, found by either side's four-tuple. The record holds the
//! whole rewrite, so that an established flow needs no listener, table or backend any more and goes on whatever
//! becomes of them.

use crate::addr::{Addr4, Addr6, Be16};
use crate::backend::BackendId;
use crate::listener::ListenerId;

/// A TCP four-tuple as a packet carries it.
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

/// A flow; the value of `FLOWS4` and `FLOWS6` (established ones) and of `HALF4` and `HALF6` (handshakes). For IPv4
/// two cache lines: what every packet reads, and what every packet writes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow<A> {
    /// What the client sends with.
    pub client: FlowKey<A>,
    /// What the gateway sends to the backend with.
    pub backend: FlowKey<A>,
    /// Interfaces that packets leave by, by [`Direction`].
    pub oif: [u32; 2],
    /// The backend chosen for the flow.
    pub backend_id: BackendId,
    /// The listener that the flow came by.
    pub listener: ListenerId,
    /// First word of the backend's bitmap in `PORTS`, or [`NO_PORTS`] if the source port is the client's own.
    pub ports: u32,
    /// The listener's idle timeout, in seconds.
    pub idle_timeout: u32,
    /// Further backends that were tried after the first.
    pub attempts: u32,
    /// One more than the flow's element of `TRANSLATIONS`, or [`NO_TRANSLATION`].
    pub translation: u32,
    /// The number behind each end's last byte, in its own count, once its FIN was seen; by [`Direction`].
    pub ends: [u32; 2],
    /// Kernel monotonic clock at the flow's first SYN, in ns.
    pub created: u64,
    /// [`State`], changed by both sides at once.
    pub state: u64,
    /// What came, by [`Direction`].
    pub halves: [Half; 2],
}

/// No bit of `PORTS` belongs to the flow.
pub const NO_PORTS: u32 = u32::MAX;

/// Both ends of the flow count alike: the handshake was theirs.
pub const NO_TRANSLATION: u32 = 0;

/// One direction's counters, and how far its stream has got.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Half {
    /// Packets on the wire: a super-packet counts as its segments.
    pub packets: u64,
    /// The next sequence number of this end, as far as the other end has told by its acknowledgements, in this end's own
    /// count; while the handshake goes on, the one after its initial one. Above its 32 bits, how often the count has gone
    /// round. The evidence that a segment is of this end ([`crate::Numbers`]).
    pub next: u64,
    /// [`ticks`] at the latest packet.
    pub last_seen: u32,
    /// The sequence number of the stream's first byte.
    pub first: u32,
}

impl Half {
    /// Of an end whose next byte has this number, and that has brought so many bytes before.
    #[inline]
    pub const fn resumed(next: u32, carried: u64) -> Self {
        let first = next.wrapping_sub(carried as u32);
        Self { packets: 0, next: first as u64 + carried, last_seen: 0, first }
    }

    /// The next sequence number, as segments have it.
    #[inline(always)]
    pub const fn expected(&self) -> u32 {
        self.next as u32
    }
}

/// A sequence number with its rounds: of those that have it, the one nearest to another.
#[inline(always)]
pub const fn unrolled(number: u32, near: u64) -> u64 {
    near.wrapping_add_signed(number.wrapping_sub(near as u32).cast_signed() as i64)
}

/// A coarse clock of 32 bits, in units of 2^20 ns (about 1 ms); goes round in 52 days.
#[inline]
pub const fn ticks(nanoseconds: u64) -> u32 {
    (nanoseconds >> 20) as u32
}

/// Ticks from one moment to another. A clock behind the earlier one is no time: other CPUs go on while one reads it.
#[inline(always)]
pub const fn elapsed(since: u32, now: u32) -> u32 {
    let ticks = now.wrapping_sub(since).cast_signed();
    if ticks < 0 { 0 } else { ticks.cast_unsigned() }
}

/// Ticks of a second, rounded up.
pub const TICKS_PER_SECOND: u32 = 954;

/// The longest idle timeout that ticks can tell, in seconds: half of their round.
pub const LONGEST_IDLE: u32 = 2_000_000;

impl<A: Copy> Flow<A> {
    /// The tuple that packets of a direction arrive with.
    #[inline]
    pub const fn arriving(&self, direction: Direction) -> FlowKey<A> {
        match direction {
            Direction::ToBackend => self.client,
            Direction::ToClient => self.backend.reversed(),
        }
    }

    /// The tuple that packets of a direction leave with.
    #[inline]
    pub const fn leaving(&self, direction: Direction) -> FlowKey<A> {
        match direction {
            Direction::ToBackend => self.backend,
            Direction::ToClient => self.client.reversed(),
        }
    }

    /// Bytes of the stream that one end has brought to the other: those that were acknowledged, and all if it has closed,
    /// as the last acknowledgement may be on its way. What was sent twice counts once.
    #[inline]
    pub const fn carried(&self, direction: Direction) -> u64 {
        let ([client, backend], [client_end, backend_end]) = (&self.halves, self.ends);
        let (half, end) = match direction {
            Direction::ToBackend => (client, client_end),
            Direction::ToClient => (backend, backend_end),
        };
        let state = State(self.state);
        let end = unrolled(end, half.next);
        let behind = match state.phase() {
            _ if !state.seen(direction).any(Seen::FIN) => half.next,
            // The rest may never come.
            Phase::Reset if half.next < end => half.next,
            // A FIN has a number of its own, which was acknowledged too.
            _ => end,
        };
        let carried = behind.wrapping_sub(half.first as u64).cast_signed();
        // An acknowledgement that was sent again from before the first byte.
        if carried < 0 { 0 } else { carried.cast_unsigned() }
    }
}

/// Which way packets go.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client to the backend.
    ToBackend = 0,
    /// From the backend to the client.
    ToClient = 1,
}

impl Direction {
    /// The other one.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::ToBackend => Self::ToClient,
            Self::ToClient => Self::ToBackend,
        }
    }
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

/// The state word of a record: what was seen in both directions, and what the record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State(pub u64);

/// Bits of one direction.
const SEEN_BITS: u32 = 9;
const SEEN_MASK: u64 = (1 << SEEN_BITS) - 1;
const TO_CLIENT_SHIFT: u32 = 12;

impl State {
    /// The record is of a flow that is in the index.
    pub const LIVE: u64 = 1 << 24;
    /// The record was taken out of the index and waits until no packet can be looking at it.
    pub const RETIRED: u64 = 1 << 25;
    /// The flow's backend is gone: each packet is answered by a reset.
    pub const CONDEMNED: u64 = 1 << 26;
    /// The handshake is through, but there was no room among the established flows yet.
    pub const WAITING: u64 = 1 << 27;
    /// The backend refused, and the client's next SYN goes to another one.
    pub const REFUSED: u64 = 1 << 28;
    /// The load of its listener has the flow.
    pub const COUNTED: u64 = 1 << 29;
    /// The agent has told of the flow's end, and need not again.
    pub const TOLD: u64 = 1 << 30;
    /// The agent is taking the connection over from its own sockets: nothing new comes in or goes out.
    pub const FROZEN: u64 = 1 << 31;
    /// The agent still has bytes of the connection that its sockets have not taken: without it they are lost.
    pub const UNSENT: u64 = 1 << 23;
    /// The agent has told of the flow's start, or user space had before it handed the connection over.
    pub const START_TOLD: u64 = 1 << 9;
    /// All that says what was seen.
    pub const SEEN: u64 = SEEN_MASK | SEEN_MASK << TO_CLIENT_SHIFT;
    /// Each use of a record has another number here, from this bit on.
    pub const GENERATION_SHIFT: u32 = 32;

    /// The bits that say that something was seen in a direction.
    #[inline]
    pub const fn bits(direction: Direction, seen: u32) -> u64 {
        match direction {
            Direction::ToBackend => seen as u64,
            Direction::ToClient => (seen as u64) << TO_CLIENT_SHIFT,
        }
    }

    /// What was seen in a direction.
    #[inline]
    pub const fn seen(self, direction: Direction) -> Seen {
        match direction {
            Direction::ToBackend => Seen((self.0 & SEEN_MASK) as u32),
            Direction::ToClient => Seen((self.0 >> TO_CLIENT_SHIFT & SEEN_MASK) as u32),
        }
    }

    /// Whether any of the bits is set.
    #[inline]
    pub const fn any(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Which use of the record.
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION_SHIFT) as u32
    }

    /// The state word of the next use of a record.
    #[inline]
    #[must_use]
    pub const fn next(self, bits: u64) -> Self {
        Self((self.generation().wrapping_add(1) as u64) << Self::GENERATION_SHIFT | bits)
    }

    /// The gateway's own socket at the end that sends in this direction still has bytes which that end has not
    /// acknowledged.
    #[inline]
    pub const fn held(direction: Direction) -> u64 {
        1 << (21 + direction as u32)
    }

    /// The connection has been taken over, or is about to be, and its sockets may still live.
    pub const IN_TRANSIT: u64 =
        Self::FROZEN | Self::held(Direction::ToBackend) | Self::held(Direction::ToClient);

    /// Where the connection stands.
    #[inline]
    pub const fn phase(self) -> Phase {
        let (to_backend, to_client) = (self.seen(Direction::ToBackend), self.seen(Direction::ToClient));
        let either = Seen(to_backend.0 | to_client.0);
        if either.any(Seen::RST) {
            Phase::Reset
        } else if to_backend.any(Seen::FIN) && to_client.any(Seen::FIN) {
            Phase::Closing
        } else if to_backend.any(Seen::ACK) && to_client.any(Seen::SYN) {
            Phase::Established
        } else {
            Phase::Opening
        }
    }

    /// Whether the client closed first, and so keeps the TIME-WAIT. Not if both did at once.
    #[inline]
    pub const fn client_closed_first(self) -> bool {
        self.seen(Direction::ToBackend).any(Seen::FIN_FIRST)
            && !self.seen(Direction::ToClient).any(Seen::FIN_FIRST)
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The handshake is not through.
    Opening,
    /// Through, and not closed by both ends.
    Established,
    /// Both ends sent their FIN.
    Closing,
    /// One end sent a RST.
    Reset,
}

impl Phase {
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
const _: () = assert!(size_of::<Half>() == 24);
// Two tuples, eight words and 64 bytes of counters: no padding.
const _: () = assert!(size_of::<Flow<Addr4>>() == 24 + 40 + 64 && size_of::<Flow<Addr6>>() == 72 + 40 + 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_follows_both_directions() {
        let (syn, ack, fin, rst) = (Seen::SYN, Seen::ACK, Seen::FIN, Seen::RST);
        for (to_backend, to_client, want) in [
            (syn, 0, Phase::Opening),
            (syn, syn | ack, Phase::Opening),
            (syn | ack, 0, Phase::Opening),
            (syn | ack, syn | ack, Phase::Established),
            (syn | ack | fin, syn | ack, Phase::Established),
            (syn | ack, syn | ack | fin, Phase::Established),
            (syn | ack | fin, syn | ack | fin, Phase::Closing),
            (syn, ack | rst, Phase::Reset),
            (syn | ack | fin | rst, syn | ack | fin, Phase::Reset),
        ] {
            let bits =
                State::bits(Direction::ToBackend, to_backend) | State::bits(Direction::ToClient, to_client);
            let state = State(bits | State::LIVE | 7 << State::GENERATION_SHIFT);
            assert_eq!(state.phase(), want, "{to_backend:#x} {to_client:#x}");
            assert_eq!(state.seen(Direction::ToBackend), Seen(to_backend));
            assert_eq!(state.seen(Direction::ToClient), Seen(to_client));
            assert_eq!(state.generation(), 7);
        }
    }

    fn flow(state: u64, halves: [Half; 2], ends: [u32; 2]) -> Flow<Addr4> {
        let address = Addr4::from(core::net::Ipv4Addr::LOCALHOST);
        let port = Be16::new(1);
        let key =
            FlowKey { source: address, destination: address, source_port: port, destination_port: port };
        Flow {
            client: key,
            backend: key,
            oif: [1; 2],
            backend_id: 1,
            listener: 1,
            ports: NO_PORTS,
            idle_timeout: 1,
            attempts: 0,
            translation: NO_TRANSLATION,
            ends,
            created: 0,
            state,
            halves,
        }
    }

    #[test]
    fn bytes_of_a_stream_are_counted_from_its_first_to_its_last_wherever_its_numbers_begin() {
        let (open, fin, rst) = (Seen::SYN | Seen::ACK, Seen::FIN, Seen::RST);
        for first in [0, 1, 5000, u32::MAX, 1 << 31] {
            let at = |ahead: u64| Half { next: u64::from(first) + ahead, first, ..Half::default() };
            for (what, seen, others, acknowledged, sent, want) in [
                ("nothing", open, open, 0, 0, 0),
                ("some", open, open, 700, 0, 700),
                ("many rounds", open, open, 5 << 40, 0, 5 << 40),
                ("closed, not acknowledged yet", open | fin, open, 700, 1000, 1000),
                ("closed, half of it lost", open | fin, open | rst, 700, 1000, 700),
                ("closed and acknowledged", open | fin, open | fin, 1001, 1000, 1000),
                ("reset after that", open | fin, open | fin | rst, 1001, 1000, 1000),
                ("closed after many rounds", open | fin, open, 5 << 40, (5 << 40) + 1000, (5 << 40) + 1000),
            ] {
                let end = (u64::from(first) + sent) as u32;
                for direction in [Direction::ToBackend, Direction::ToClient] {
                    let state = State::bits(direction, seen) | State::bits(direction.reversed(), others);
                    let flow = flow(state, [at(acknowledged); 2], [end; 2]);
                    assert_eq!(flow.carried(direction), want, "{what} from {first}");
                }
            }
            let behind = Half { next: u64::from(first).wrapping_sub(3), first, ..Half::default() };
            assert_eq!(flow(0, [behind; 2], [0; 2]).carried(Direction::ToBackend), 0);
        }
    }

    #[test]
    fn a_stream_is_resumed_at_any_number_with_what_it_has_brought_before() {
        for next in [0, 1, u32::MAX, 1 << 31] {
            for carried in [0, 1, 700, u64::from(u32::MAX), 5 << 40] {
                let half = Half::resumed(next, carried);
                assert_eq!(half.expected(), next);
                let flow = flow(State::bits(Direction::ToBackend, Seen::ACK), [half; 2], [0; 2]);
                assert_eq!(flow.carried(Direction::ToBackend), carried, "at {next}");
            }
        }
    }

    #[test]
    fn a_number_is_unrolled_forwards_and_backwards() {
        for near in [0_u64, 5, u64::from(u32::MAX), 1 << 32, (7 << 32) + 3] {
            for step in [0_i64, 1, 1 << 25, -1, -(1 << 25)] {
                let want = near.wrapping_add_signed(step);
                assert_eq!(unrolled(want as u32, near), want, "{near} {step}");
            }
        }
    }

    #[test]
    fn a_clock_that_was_read_before_tells_of_no_time() {
        for (now, since, want) in [(7, 5, 2), (5, 5, 0), (4, 5, 0), (1, u32::MAX, 2), (u32::MAX, 1, 0)] {
            assert_eq!(elapsed(since, now), want, "{now} {since}");
        }
    }

    #[test]
    fn the_idle_timeout_fits_the_clock() {
        assert!(u64::from(LONGEST_IDLE) * u64::from(TICKS_PER_SECOND) < 1 << 31);
        assert!(u64::from(ticks(1_000_000_000)) < TICKS_PER_SECOND.into());
    }
}
