//! The node's own sockets, as far as the kernel lends them to programs.
#![expect(unsafe_code, reason = "kernel helpers take and give raw pointers")]

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie},
};
use gateway_common::FlowKey;

use crate::{
    maps::{Maps, Scratch},
    packet::Packet,
    parse::{ETHERNET, Family},
};

/// What [`cookie`] returns where the kernel makes none.
pub(crate) const NO_COOKIE: u64 = 0;

/// No TCP header is as long.
const HEADER_BOUND: u32 = 64;

/// The cookie that the listener of a SYN would answer it with: the sequence number in the low half, and in the high half
/// the maximum segment size that it stands for, never 0. `tcp` is the SYN's TCP header.
///
/// None if nobody listens there, or a socket has the tuple already: then the SYN is that socket's. Making one tells the
/// listener (all that share its port) to look for cookies among the ACKs of the next minutes.
#[inline(always)]
pub(crate) fn cookie<A: Family>(packet: &mut impl Packet, key: &FlowKey<A>, tcp: &mut Scratch) -> u64 {
    let context = packet.context();
    let Ok(ip) = packet.header::<A::Ip>(0) else { return NO_COOKIE };
    let ip = ptr::from_mut(ip).cast::<u8>().wrapping_add(ETHERNET as usize);
    let ip_length = size_of::<A::Ip>() as u32 - ETHERNET;
    let tuple = ptr::from_ref(key).cast_mut().cast();
    // The verifier must see that there is at least one byte, and not too many, as in `skb`.
    let tcp_length = tcp.forget(tcp.length - 1) % HEADER_BOUND + 1;
    // SAFETY: `FlowKey` is laid out as the family's member of `struct bpf_sock_tuple` (asserted below). `ip` are bytes
    // of the packet that `header` has checked, and none of these helpers moves them. The socket is asked for its state
    // alone and given back on the one way out.
    unsafe {
        let socket =
            bpf_skc_lookup_tcp(context, tuple, size_of::<FlowKey<A>>() as u32, BPF_F_CURRENT_NETNS as u64, 0);
        if socket.is_null() {
            return NO_COOKIE;
        }
        let cookie = if (*socket).state == BPF_TCP_LISTEN {
            bpf_tcp_gen_syncookie(socket.cast(), ip.cast(), ip_length, tcp.bytes().cast(), tcp_length)
        } else {
            -1
        };
        bpf_sk_release(socket.cast());
        if cookie < 0 { NO_COOKIE } else { cookie.cast_unsigned() }
    }
}

/// Whether the node has a socket, of whatever process, that a packet with this tuple belongs to: one with a peer, in any
/// state of its life, TIME-WAIT among them.
#[inline(always)]
pub(crate) fn has_peer<A: Maps>(packet: &mut impl Packet, key: &FlowKey<A>) -> bool {
    let tuple = ptr::from_ref(key).cast_mut().cast();
    // SAFETY: as in `cookie`.
    unsafe {
        let socket = bpf_skc_lookup_tcp(
            packet.context(),
            tuple,
            size_of::<FlowKey<A>>() as u32,
            BPF_F_CURRENT_NETNS as u64,
            0,
        );
        if socket.is_null() {
            return false;
        }
        let has_peer = (*socket).state != BPF_TCP_LISTEN;
        bpf_sk_release(socket.cast());
        has_peer
    }
}

const _: () = {
    use aya_ebpf::bindings::{
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
    };
    use core::mem::offset_of;
    use gateway_common::{Addr4, Addr6};

    assert!(size_of::<FlowKey<Addr4>>() == size_of::<Tuple4>());
    assert!(size_of::<FlowKey<Addr6>>() == size_of::<Tuple6>());
    assert!(offset_of!(FlowKey<Addr4>, destination) == offset_of!(Tuple4, daddr));
    assert!(offset_of!(FlowKey<Addr6>, destination) == offset_of!(Tuple6, daddr));
    assert!(offset_of!(FlowKey<Addr4>, source_port) == offset_of!(Tuple4, sport));
    assert!(offset_of!(FlowKey<Addr6>, source_port) == offset_of!(Tuple6, sport));
};
