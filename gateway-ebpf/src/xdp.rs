//! A packet at an XDP hook: the bytes as they came off the wire, before the kernel makes a socket buffer of them. What
//! tc finds by the way (the neighbour, a checksum that hardware fills in, super-packets) is not there.
#![expect(unsafe_code, reason = "the context and kernel helpers are raw pointers")]

use core::ffi::c_void;
use core::mem::{offset_of, zeroed};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Route, xdp_action, xdp_md},
    helpers::generated::{
        bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    programs::XdpContext,
};
use gateway_common::{Link, Sum, Verdict};

use crate::{
    flow::Found,
    maps::{self, Maps, SCRATCH_BYTES, Scratch},
    packet::{self, Packet, Way},
    parse::{ETHERNET, Ethernet, TCP, Word},
    rewrite::Change,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// One packet at an XDP hook.
pub(crate) struct Xdp<'a> {
    context: &'a XdpContext,
}

impl<'a> Xdp<'a> {
    /// Takes the packet.
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }

    #[inline(always)]
    fn md(&self) -> *mut xdp_md {
        self.context.ctx
    }
}

impl Packet for Xdp<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        (self.end() - self.start()) as u32
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        1
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the kernel hands out a valid context and rewrites the access.
        unsafe { (*self.md()).ingress_ifindex }
    }

    /// A tag that the device took out is not to be seen here. Interfaces with VLANs on top must have that switched off.
    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        false
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.md().cast()
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context has the field.
        unsafe { packet::pointer::<{ offset_of!(xdp_md, data) }, _>(self.md()) }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context has the field.
        unsafe { packet::pointer::<{ offset_of!(xdp_md, data_end) }, _>(self.md()) }
    }

    /// All of it can be read already.
    #[inline(always)]
    fn pull(&mut self, _length: u32) -> bool {
        false
    }

    #[inline(always)]
    fn load(&mut self, offset: u32, to: &mut Scratch, last: u32) -> bool {
        // As in `skb`.
        let length = to.forget(last) % SCRATCH_BYTES + 1;
        // SAFETY: as many bytes as there is room for; the helper (Linux 5.18) checks that the packet has them.
        unsafe { bpf_xdp_load_bytes(self.md(), offset, to.bytes().cast(), length) == 0 }
    }

    #[inline(always)]
    fn store(&mut self, offset: u32, from: &mut Scratch, last: u32) -> bool {
        let length = from.forget(last) % SCRATCH_BYTES + 1;
        // SAFETY: as in `load`.
        unsafe { bpf_xdp_store_bytes(self.md(), offset, from.bytes().cast(), length) == 0 }
    }

    #[inline(always)]
    fn fix_checksums<A: Maps>(&mut self, offset: u32, change: &Change) {
        // The header was read there a moment ago.
        if let Ok(field) = self.header::<Word>(offset) {
            field.set(change.segment.plus(change.addresses).update(field.get()));
        }
    }

    #[inline(always)]
    fn cut(&mut self, length: u32) -> bool {
        let delta = length.wrapping_sub(self.len()).cast_signed();
        // SAFETY: a plain helper call on the packet's own context.
        unsafe { bpf_xdp_adjust_tail(self.md(), delta) == 0 }
    }

    #[inline(always)]
    fn seal(&mut self, offset: u32, pseudo: Sum, segment: Sum) -> bool {
        let Ok(field) = self.header::<Word>(offset) else { return false };
        field.set(pseudo.plus(segment).checksum());
        true
    }

    /// As the node itself would send the packet, if it knows the neighbour and XDP can reach the interface.
    #[inline(always)]
    fn way<A: Maps>(&mut self, found: &Found<A>) -> Result<Way, Verdict> {
        let key = found.leaving();
        // SAFETY: all zero is a value of this structure of numbers.
        let mut route: Route = unsafe { zeroed() };
        route.family = if A::FAMILY == 6 { AF_INET6 } else { AF_INET };
        route.l4_protocol = TCP;
        route.sport = key.source_port.wire();
        route.dport = key.destination_port.wire();
        route.ifindex = self.interface();
        route.__bindgen_anon_1.tot_len = (self.len() - ETHERNET) as u16;
        route.__bindgen_anon_3.ipv6_src = key.source.words();
        route.__bindgen_anon_4.ipv6_dst = key.destination.words();
        // SAFETY: a plain helper call on the packet's own context, with the structure and its size.
        let answer =
            unsafe { bpf_fib_lookup(self.md().cast(), &raw mut route, size_of::<Route>() as i32, 0) };
        if answer != BPF_FIB_LKUP_RET_SUCCESS.into() {
            return Err(Verdict::NoNeighbour);
        }
        let oif = route.ifindex;
        if oif != self.interface() && !maps::link(oif).is_some_and(|link| link.flags & Link::XDP != 0) {
            return Err(Verdict::NoNeighbour);
        }
        let word = |bytes: [u8; 6], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let (to, from) = (route.dmac, route.smac);
        let ethernet = [word(to, 0), word(to, 2), word(to, 4), word(from, 0), word(from, 2), word(from, 4)];
        Ok(Way { oif, ethernet })
    }

    #[inline(always)]
    fn send(&mut self, way: &Way) -> i32 {
        if way.is_back() {
            return xdp_action::XDP_TX as i32;
        }
        let interface = self.interface();
        match self.header::<Ethernet>(0) {
            Ok(ethernet) => ethernet.set(way.ethernet),
            Err(_) => return self.drop(),
        }
        if way.oif == interface {
            return xdp_action::XDP_TX as i32;
        }
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(way.oif, 0) as i32 }
    }

    #[inline(always)]
    fn pass(&self) -> i32 {
        xdp_action::XDP_PASS as i32
    }

    #[inline(always)]
    fn drop(&self) -> i32 {
        xdp_action::XDP_DROP as i32
    }
}
