//! Steered listeners: which address and port, and which table of backends.

use crate::addr::{Addr4, Addr6, Be16};

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
    /// Seconds of silence in both directions after which an established flow is over.
    pub idle_timeout: u32,
}

const _: () = assert!(size_of::<ListenerKey<Addr4>>() == 8 && size_of::<ListenerKey<Addr6>>() == 20);
const _: () = assert!(size_of::<Table>() == 16);
