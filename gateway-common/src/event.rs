//! What the programs tell the agent through the ring buffer `EVENTS`. Each is a hint that may get lost when the ring is
//! full: whatever counts is also in the records, which the agent walks through every second.

/// What happened.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// A handshake was completed: the record is among the established flows.
    Established = 1,
    /// Both ends closed, or one reset the connection.
    Closed = 2,
    /// The backend answered the SYN with a reset.
    Refused = 3,
    /// The backend did not answer the first SYN before the client sent it again.
    Unanswered = 4,
    /// A packet of a traced address.
    Packet = 5,
}

impl EventKind {
    /// From the number in an event.
    pub const fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Established),
            2 => Some(Self::Closed),
            3 => Some(Self::Refused),
            4 => Some(Self::Unanswered),
            5 => Some(Self::Packet),
            _ => None,
        }
    }
}

/// One event.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// Kernel monotonic clock, in ns.
    pub time: u64,
    /// [`EventKind`] as a number.
    pub kind: u32,
    /// 4 or 6.
    pub family: u32,
    /// The record, in `FLOWS` for [`EventKind::Established`] and [`EventKind::Closed`].
    pub record: u32,
    /// Which use of the record.
    pub generation: u32,
    /// The flow's backend, or 0.
    pub backend: u32,
    /// For [`EventKind::Packet`]: the verdict.
    pub verdict: u32,
    /// For [`EventKind::Packet`]: length of the frame in bytes.
    pub length: u32,
    /// For [`EventKind::Packet`]: TCP flags as they came, in the low byte.
    pub flags: u32,
    /// For [`EventKind::Packet`]: sequence number.
    pub sequence: u32,
    /// For [`EventKind::Packet`]: acknowledgement number.
    pub acknowledgement: u32,
    /// For [`EventKind::Packet`]: source address as it came, IPv4 in the first word.
    pub source: [u32; 4],
    /// For [`EventKind::Packet`]: destination address as it came.
    pub destination: [u32; 4],
    /// For [`EventKind::Packet`]: ports as they came, source in the low half, each in network order.
    pub ports: u32,
    /// Interface that the packet came in by.
    pub interface: u32,
}

const _: () = assert!(size_of::<Event>() == 88);
