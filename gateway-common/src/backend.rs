//! Backends that new flows are steered to.

use crate::addr::{Addr4, Addr6, Be16};

/// Names a backend: its index in `BACKENDS4` or `BACKENDS6`. Given to another only when no flow has it any more.
pub type BackendId = u32;

/// Never a real backend: what an unwritten slot of `MAGLEV` holds.
pub const NO_BACKEND: BackendId = 0;

/// Where new flows to a backend go; the value of `BACKENDS4` and `BACKENDS6`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend<A> {
    /// The backend's address.
    pub address: A,
    /// The gateway's own address that its flows come from.
    pub source: A,
    /// Interface towards the backend; 0 in an element that is not in use.
    pub oif: u32,
    /// First word of the bitmap of source ports in use towards it, or [`NO_PORTS`](crate::flow::NO_PORTS): flows keep
    /// the client's own address and port.
    pub ports: u32,
    /// The backend's port.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Backend<Addr4>>() == 20 && size_of::<Backend<Addr6>>() == 44);
