//! Steered listeners: which address and port, and which table of backends.

use crate::addr::{Addr4, Addr6, Be16};

/// Names a listener, for its counters.
pub type ListenerId = u32;

/// A local address and port whose new flows are steered; the key of `LISTENERS4` and `LISTENERS6`. Always one
/// address, never a wildcard: packets that the node merely forwards to other addresses stay untouched.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ListenerKey<A> {
    /// Address of the gateway.
    pub address: A,
    /// Port.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
}

impl<A> ListenerKey<A> {
    /// The listener on a port of an address.
    #[inline]
    pub const fn new(address: A, port: Be16) -> Self {
        Self { address, port, reserved: 0 }
    }
}

/// A listener's backend table: a region of `MAGLEV`. The value of `LISTENERS4` and `LISTENERS6`, replaced whole:
/// a packet sees one table or the next, never a mixture.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Index of the region's first slot.
    pub base: u32,
    /// Number of slots, a prime; never 0.
    pub size: u32,
    /// Generation of the snapshot that the listener was last written for (its low 32 bits).
    pub generation: u32,
    /// Seconds of silence in both directions after which an established flow is over; at most
    /// [`LONGEST_IDLE`](crate::flow::LONGEST_IDLE).
    pub idle_timeout: u32,
    /// Index in `LIMITS`.
    pub listener: ListenerId,
    /// [`Table::BY_CLIENT`] or 0.
    pub flags: u32,
    /// Flows at a time; 0 for no limit.
    pub max_flows: u32,
    /// New flows in each second; 0 for no limit.
    pub max_rate: u32,
}

impl Table {
    /// All flows of a client go to the same backend (DestinationRule `consistentHash.useSourceIp`).
    pub const BY_CLIENT: u32 = 1;
}

/// What the limits of a listener are held against; the value of `LIMITS`, changed by both sides at once.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Flows that there are.
    pub flows: u64,
    /// New flows in the current second, see [`crate::rate`].
    pub rate: u64,
}

const _: () = assert!(size_of::<ListenerKey<Addr4>>() == 8 && size_of::<ListenerKey<Addr6>>() == 20);
const _: () = assert!(size_of::<Table>() == 32);
const _: () = assert!(size_of::<Load>() == 16);
