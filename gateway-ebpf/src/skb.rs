//! A packet at a tc hook: a socket buffer, perhaps a super-packet of many segments, perhaps with a checksum that the
//! hardware has still to fill in. The kernel's helpers know; the bytes alone do not tell.
#![expect(unsafe_code, reason = "the context and kernel helpers are raw pointers")]

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{
        bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_tail,
        bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use gateway_common::{Be16, Sum, Verdict};

use crate::{
    flow::Found,
    maps::{Maps, SCRATCH_BYTES, Scratch},
    packet::{self, Packet, Way},
    parse::Word,
    rewrite::Change,
};

/// Linux 6.16 (and its stable branches): tells the helper that an IPv6 address changed, so that it leaves the sum
/// over the whole packet alone, which address and checksum together do not change.
const BPF_F_IPV6: u64 = 1 << 7;

/// One packet at a tc hook.
pub(crate) struct Skb<'a> {
    context: &'a TcContext,
}

impl<'a> Skb<'a> {
    /// Takes the packet.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { context }
    }

    /// Whether the packet came in by an interface, and so is of no socket of this node.
    #[inline(always)]
    pub(crate) fn is_forwarded(&self) -> bool {
        // SAFETY: the kernel hands out a valid context and rewrites the access.
        unsafe { (*self.skb()).ingress_ifindex != 0 }
    }

    /// Replaces bits of the packet's mark, which rules of routing are held against.
    #[inline(always)]
    pub(crate) fn mark(&mut self, mark: u32, mask: u32) {
        let skb = self.skb();
        // SAFETY: the kernel hands out a valid context and rewrites the accesses.
        unsafe { (*skb).mark = (*skb).mark & !mask | mark }
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the kernel hands out a valid context and rewrites the access.
        unsafe { (*self.skb()).len }
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).gso_segs }.max(1)
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.skb().cast()
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context has the field.
        unsafe { packet::pointer::<{ offset_of!(__sk_buff, data) }, _>(self.skb()) }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context has the field.
        unsafe { packet::pointer::<{ offset_of!(__sk_buff, data_end) }, _>(self.skb()) }
    }

    #[inline(always)]
    fn pull(&mut self, length: u32) -> bool {
        // SAFETY: a plain helper call on the packet's own context.
        unsafe { bpf_skb_pull_data(self.skb(), length) == 0 }
    }

    #[inline(always)]
    fn load(&mut self, offset: u32, to: &mut Scratch, last: u32) -> bool {
        // The verifier must see that there is at least one byte, and not too many; the compiler may know it already
        // by ways that the verifier does not follow.
        let length = to.forget(last) % SCRATCH_BYTES + 1;
        // SAFETY: as many bytes as there is room for; the helper checks that the packet has them.
        unsafe { bpf_skb_load_bytes(self.skb().cast(), offset, to.bytes().cast(), length) == 0 }
    }

    #[inline(always)]
    fn store(&mut self, offset: u32, from: &mut Scratch, last: u32) -> bool {
        let length = from.forget(last) % SCRATCH_BYTES + 1;
        // SAFETY: as in `load`.
        unsafe { bpf_skb_store_bytes(self.skb(), offset, from.bytes().cast(), length, 0) == 0 }
    }

    /// Two calls for the checksum, because a packet whose checksum the hardware will fill in holds only the sum of the
    /// pseudo header, which has addresses in it and no ports.
    #[inline(always)]
    fn fix_checksums<A: Maps>(&mut self, offset: u32, change: &Change) {
        let (segment, addresses) = (u64::from(change.segment.fold32()), u64::from(change.addresses.fold32()));
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        let ipv6 = A::FAMILY == 6;
        // SAFETY: plain helper calls on the packet's own context; the offset was inside the frame when it was
        // parsed, and the helper checks again.
        unsafe {
            bpf_l4_csum_replace(self.skb(), offset, 0, segment, 0);
            if !ipv6 || bpf_l4_csum_replace(self.skb(), offset, 0, addresses, pseudo | BPF_F_IPV6) != 0 {
                bpf_l4_csum_replace(self.skb(), offset, 0, addresses, pseudo);
            }
            if ipv6 {
                bpf_csum_update(self.skb(), change.rest.fold32());
            }
        }
    }

    #[inline(always)]
    fn cut(&mut self, length: u32) -> bool {
        // SAFETY: a plain helper call on the packet's own context.
        unsafe { bpf_skb_change_tail(self.skb(), length, 0) == 0 }
    }

    /// Where the hardware will fill the checksum in, the field must hold the sum over the pseudo header. Nothing says
    /// so, but the helper leaves such a field alone.
    #[inline(always)]
    fn seal(&mut self, offset: u32, pseudo: Sum, segment: Sum) -> bool {
        // SAFETY: a plain helper call on the packet's own context. The field is 0 before.
        unsafe { bpf_l4_csum_replace(self.skb(), offset, 0, 1, 0) };
        let Ok(field) = self.header::<Word>(offset) else { return false };
        let by_hardware = field.get() == Be16::default();
        let sum = Be16::from_wire(pseudo.fold16());
        field.set(if by_hardware { sum } else { pseudo.plus(segment).checksum() });
        true
    }

    /// The neighbour is looked up when the packet is sent.
    #[inline(always)]
    fn way<A: Maps>(&mut self, found: &Found<A>) -> Result<Way, Verdict> {
        Ok(Way { oif: found.oif(), ethernet: [0; 6] })
    }

    #[inline(always)]
    fn send(&mut self, way: &Way) -> i32 {
        if way.is_back() {
            // SAFETY: a plain helper call.
            return unsafe { bpf_redirect(self.interface(), 0) as i32 };
        }
        // SAFETY: a plain helper call; a null pointer asks for the lookup of the neighbour (Linux 5.10).
        unsafe { bpf_redirect_neigh(way.oif, ptr::null_mut(), 0, 0) as i32 }
    }

    /// On to the next program on the interface, and then to the stack. Not `TC_ACT_OK`, which would cut off whatever
    /// was attached behind us.
    #[inline(always)]
    fn pass(&self) -> i32 {
        TC_ACT_UNSPEC
    }

    #[inline(always)]
    fn drop(&self) -> i32 {
        TC_ACT_SHOT as i32
    }
}
