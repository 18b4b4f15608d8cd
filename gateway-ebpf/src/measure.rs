//! Programs for measuring alone, in an object of their own (`cargo xtask bench packets`): the pipeline and what it is
//! compared with, each run with another tuple, so that caches and translation buffers see what production sees and not
//! one hot flow. The packet of a test run is written over before each.
#![expect(unsafe_code, reason = "map values are raw pointers")]

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, map, xdp},
    maps::{Array, HashMap, LruHashMap},
    programs::{TcContext, XdpContext},
};
use gateway_common::{Be16, Be32, Seen};

use crate::{
    packet::{self, Packet},
    parse::{Ip4, Tcp},
    pipeline,
    skb::Skb,
    xdp::Xdp,
};

/// Flows that the tables were filled with.
#[map]
static WORKING_SET: Array<u32> = Array::with_max_entries(1, 0);

/// What other load balancers keep flows in, with a compact key and with one that has room for IPv6.
#[map]
static LRU16: LruHashMap<[u32; 4], [u64; 4]> = LruHashMap::with_max_entries(1 << 20, 0);
#[map]
static LRU40: LruHashMap<[u32; 10], [u64; 4]> = LruHashMap::with_max_entries(1 << 20, 0);
#[map]
static HASH16: HashMap<[u32; 4], [u64; 4]> = HashMap::with_max_entries(1 << 20, 0);

/// First client address, 198.18.0.0; flows are numbered by address and port.
const CLIENTS: u32 = 0xc612_0000;

/// Client address and port of a flow: 16,384 ports of each address.
#[inline(always)]
fn client(number: u32) -> (u32, u16) {
    (CLIENTS + (number >> 14), 1024 + (number & 0x3fff) as u16)
}

#[inline(always)]
fn random_flow() -> u32 {
    let flows = WORKING_SET.get(0).copied().unwrap_or(1).max(1);
    packet::random() % flows
}

/// Makes the packet one of a client, with a fresh hop limit and the tuple's destination as the first word of user
/// memory says.
#[inline(always)]
fn write(packet: &mut impl Packet, number: u32) -> bool {
    let (address, port) = client(number);
    let Ok(ip) = packet.header::<Ip4>(0) else { return false };
    ip.source = Be32::new(address).halves();
    ip.destination = Be32::new(0xc613_0001).halves();
    ip.hops = 64;
    let Ok(tcp) = packet.header::<Tcp>(size_of::<Ip4>() as u32) else { return false };
    tcp.source_port = Be16::new(port);
    tcp.destination_port = Be16::new(443);
    true
}

/// A packet of a random flow through the whole pipeline.
#[classifier]
pub(crate) fn flow(context: TcContext) -> i32 {
    let mut packet = Skb::new(&context);
    if !write(&mut packet, random_flow()) {
        return TC_ACT_UNSPEC;
    }
    pipeline::run(&mut packet)
}

/// A packet of a client that nobody has seen: with SYN set, a flood.
#[classifier]
pub(crate) fn stranger(context: TcContext) -> i32 {
    let mut packet = Skb::new(&context);
    if !write(&mut packet, (1 << 26) + (packet::random() >> 6)) {
        return TC_ACT_UNSPEC;
    }
    pipeline::run(&mut packet)
}

/// A SYN of a client that nobody has seen, where the one before may have become its answer.
#[inline(always)]
fn write_syn(packet: &mut impl Packet) -> bool {
    if !write(packet, (1 << 26) + (packet::random() >> 6)) {
        return false;
    }
    let Ok(tcp) = packet.header::<Tcp>(size_of::<Ip4>() as u32) else { return false };
    tcp.flags = Seen::SYN as u8;
    true
}

/// A flood that is answered.
#[classifier]
pub(crate) fn flood(context: TcContext) -> i32 {
    let mut packet = Skb::new(&context);
    if !write_syn(&mut packet) {
        return TC_ACT_UNSPEC;
    }
    pipeline::run(&mut packet)
}

/// The same before the kernel makes a socket buffer.
#[xdp]
pub(crate) fn flood_xdp(context: XdpContext) -> u32 {
    let mut packet = Xdp::new(&context);
    if !write_syn(&mut packet) {
        return xdp_action::XDP_ABORTED;
    }
    pipeline::run_early(&mut packet).cast_unsigned()
}

/// What the writing alone costs.
#[classifier]
pub(crate) fn floor(context: TcContext) -> i32 {
    let mut packet = Skb::new(&context);
    write(&mut packet, random_flow());
    TC_ACT_UNSPEC
}

macro_rules! reference {
    ($hit:ident, $insert:ident, $map:ident, $words:literal) => {
        /// A hit of a random flow, counted.
        #[classifier]
        pub(crate) fn $hit(context: TcContext) -> i32 {
            let number = random_flow();
            write(&mut Skb::new(&context), number);
            let mut key = [0; $words];
            key[0] = number;
            if let Some(value) = $map.get_ptr_mut(&key) {
                // SAFETY: a map value.
                unsafe { (*value)[0] += 1 };
            }
            let _ = context.as_ptr();
            TC_ACT_UNSPEC
        }

        /// A new flow: looked up in vain, then inserted.
        #[classifier]
        pub(crate) fn $insert(context: TcContext) -> i32 {
            let number = (1 << 26) + (packet::random() >> 6);
            write(&mut Skb::new(&context), number);
            let mut key = [0; $words];
            key[0] = number;
            if $map.get_ptr_mut(&key).is_none() {
                let _ = $map.insert(&key, &[1; 4], 0);
            }
            let _ = context.as_ptr();
            TC_ACT_UNSPEC
        }
    };
}

reference!(lru16_hit, lru16_insert, LRU16, 4);
reference!(lru40_hit, lru40_insert, LRU40, 10);
reference!(hash16_hit, hash16_insert, HASH16, 4);
