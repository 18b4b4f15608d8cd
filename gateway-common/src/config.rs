//! What the agent tells the programs, and what both keep count of.

/// The one element of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Key of the index's hash, random, kept as long as the maps are.
    pub index_key: u64,
    /// Key of the hash that chooses backends: the same on every node, so that a flow meets the same backend
    /// whichever node it lands on.
    pub balance_key: u64,
    /// Inode of the network namespace that the interface numbers in the maps belong to.
    pub namespace: u64,
    /// First source port of steered flows towards backends. The range lies outside `ip_local_port_range`, so that
    /// no socket of the node gets one of its ports by itself.
    pub first_port: u32,
    /// Number of ports in the range, a multiple of 64; 0 until the agent has written this element.
    pub port_count: u32,
    /// Elements of `INDEX4` and `INDEX6`.
    pub buckets: u32,
    /// Elements of `HALFIDX4` and `HALFIDX6`.
    pub half_buckets: u32,
    /// Elements of `FLOWS4` and `FLOWS6`.
    pub flows: u32,
    /// Elements of `HALF4` and `HALF6`.
    pub half_flows: u32,
    /// A handshake this young is not given up for another one, in ticks (see [`crate::flow::ticks`]).
    pub handshake_ticks: u32,
    /// New flows of one source address in each second; 0 for no limit.
    pub source_rate: u32,
    /// [`Config::DENY4`] and the like.
    pub flags: u32,
    /// IPv4 address whose flows' packets are told of in `EVENTS`, in network order; 0 for none.
    pub trace4: u32,
    /// IPv6 address likewise, all zero for none.
    pub trace6: [u32; 4],
    /// What an answer to a socket of ours under a client's address is marked with, so that the routing table delivers it
    /// here: this among the bits of `mark_mask`. 0 while there are no such sockets.
    pub mark: u32,
    /// The bits of a packet's mark that `mark` replaces.
    pub mark_mask: u32,
}

impl Config {
    /// There are prefixes in `DENY4`.
    pub const DENY4: u32 = 1;
    /// There are prefixes in `DENY6`.
    pub const DENY6: u32 = 2;
}

/// Two cells of `SOURCES` count each source address; an address is over its limit if both are.
pub const SOURCE_CELLS: u32 = 1 << 16;

/// The element of `LIMITS` that no listener has: of the traced client's packets, `flows` are those left out, and `rate`
/// counts those of a second.
pub const TRACE: u32 = 0;

/// The free records of a family; an element of `POOLS`, changed by both sides at once. `FREE4` and `FREE6` are rings
/// of record numbers: programs take at `head`, the agent alone puts back at `tail`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pool {
    /// Records taken so far.
    pub head: u64,
    /// Records put in so far; `tail - head` are free.
    pub tail: u64,
    /// Handshakes begun so far: the next takes this element of `HALF4` or `HALF6`, modulo its length.
    pub half: u64,
    /// Events of this family that found no room in `EVENTS`.
    pub lost: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// An interface that the programs send packets out by; the value of `LINKS`, by number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// [`Link::XDP`] or 0.
    pub flags: u32,
}

impl Link {
    /// XDP programs may redirect packets to it.
    pub const XDP: u32 = 1;
}

const _: () = assert!(size_of::<Config>() == 88);
const _: () = assert!(size_of::<Pool>() == 64);
