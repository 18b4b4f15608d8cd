//! What the agent tells the programs once, at start.

/// The one element of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Key of the flow hash, random, kept as long as the maps are.
    pub hash_key: u64,
    /// Inode of the network namespace that the interface numbers in the maps belong to.
    pub namespace: u64,
    /// First source port of steered flows towards backends. The range lies outside `ip_local_port_range`, so that
    /// no socket of the node gets one of its ports by itself.
    pub first_port: u32,
    /// Number of ports in the range; 0 until the agent has written this element.
    pub port_count: u32,
    /// The agent's: the next backend id to give out.
    pub next_backend: u32,
    /// Zero.
    pub reserved: u32,
}

/// How many source ports are tried for a new flow before it is left to user space. At a table filled to nine
/// tenths, 32 random tries miss in 3 % of the cases.
pub const PORT_PROBES: u32 = 32;

const _: () = assert!(size_of::<Config>() == 32);
