//! The packet in the kernel's hands: bounds-checked views of its headers, and the helpers that act on it or on the
//! world around it. With `maps` the only place of unsafe code.
#![expect(unsafe_code, reason = "packet memory and kernel helpers are raw pointers")]

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC},
    helpers::generated::{
        bpf_csum_update, bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_l4_csum_replace,
        bpf_redirect_neigh, bpf_skb_pull_data,
    },
    programs::TcContext,
};
use gateway_common::{Sum, Verdict};

/// On to the next program on the interface, and then to the stack. Not `TC_ACT_OK`, which would cut off whatever
/// was attached behind us.
pub(crate) const NEXT: i32 = TC_ACT_UNSPEC;

/// Linux 6.16 (and its stable branches): tells the helper that an IPv6 address changed, so that it leaves the sum
/// over the whole packet alone, which address and checksum together do not change.
const BPF_F_IPV6: u64 = 1 << 7;

/// Layouts of headers that may be laid over packet bytes.
///
/// # Safety
///
/// `repr(C)`, alignment of at most 2, no padding, and every bit pattern a value.
pub(crate) unsafe trait Wire {}

/// One packet at a tc hook.
pub(crate) struct Packet<'a> {
    context: &'a TcContext,
}

impl<'a> Packet<'a> {
    /// Takes the packet.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { context }
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }

    /// Length of the frame in bytes; for a super-packet the sum of its segments' payloads and one header.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: the kernel hands out a valid context and rewrites the access.
        unsafe { (*self.skb()).len }
    }

    /// Packets on the wire that this one stands for.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).gso_segs }.max(1)
    }

    /// Interface that the packet came in by.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).ifindex }
    }

    /// Whether the driver took a VLAN tag out of the frame and keeps it beside.
    #[inline(always)]
    pub(crate) fn has_vlan_tag(&self) -> bool {
        // SAFETY: as in `len`.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    /// The first bytes of the frame as a header. Borrows the packet for as long as the view lives: the helpers
    /// below may move the bytes, and the verifier forgets every pointer at such a call.
    #[inline(always)]
    pub(crate) fn headers<H: Wire>(&mut self) -> Result<&mut H, Verdict> {
        if let Some(view) = self.view::<H>() {
            // SAFETY: `view` checked that the packet is as long; `Wire` says that any bytes are a value.
            return Ok(unsafe { &mut *view });
        }
        // The header lies (partly) in a page fragment, or the frame is too short; the helper knows.
        // SAFETY: a plain helper call on the packet's own context.
        let pulled = unsafe { bpf_skb_pull_data(self.skb(), size_of::<H>() as u32) };
        if pulled != 0 {
            return Err(Verdict::Truncated);
        }
        let view = self.view::<H>().ok_or(Verdict::Truncated)?;
        // SAFETY: as above.
        Ok(unsafe { &mut *view })
    }

    #[inline(always)]
    fn view<H: Wire>(&self) -> Option<*mut H> {
        let start = self.context.data();
        (start + size_of::<H>() <= self.context.data_end()).then_some(start as *mut H)
    }

    /// Updates the TCP checksum at `offset` after ports (`ports`) and addresses (`addresses`) of the packet were
    /// changed by these differences. Two calls, because a packet whose checksum the hardware will fill in holds
    /// only the sum of the pseudo header, which has addresses in it and no ports.
    #[inline(always)]
    pub(crate) fn update_tcp_checksum(&mut self, offset: u32, ports: Sum, addresses: Sum, ipv6: bool) {
        let (ports, addresses) = (u64::from(ports.fold32()), u64::from(addresses.fold32()));
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        // SAFETY: plain helper calls on the packet's own context; the offset was inside the frame when it was
        // parsed, and the helper checks again.
        unsafe {
            bpf_l4_csum_replace(self.skb(), offset, 0, ports, 0);
            if !ipv6 || bpf_l4_csum_replace(self.skb(), offset, 0, addresses, pseudo | BPF_F_IPV6) != 0 {
                bpf_l4_csum_replace(self.skb(), offset, 0, addresses, pseudo);
            }
        }
    }

    /// Tells the kernel that the bytes covered by a device's sum over the whole packet changed by `difference`.
    /// Does nothing for packets without such a sum.
    #[inline(always)]
    pub(crate) fn update_packet_sum(&mut self, difference: Sum) {
        // SAFETY: a plain helper call on the packet's own context.
        unsafe { bpf_csum_update(self.skb(), difference.fold32()) };
    }
}

/// Sends the packet out by an interface, to the neighbour that the routing table names for its destination.
#[inline(always)]
pub(crate) fn redirect(oif: u32) -> i32 {
    // SAFETY: a plain helper call; a null pointer asks for the lookup of the neighbour (Linux 5.10).
    unsafe { bpf_redirect_neigh(oif, ptr::null_mut(), 0, 0) as i32 }
}

/// Monotonic clock in ns, exact.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_ns() }
}

/// The same clock as of the latest tick of the kernel: some ms late, and a third of the cost.
#[inline(always)]
pub(crate) fn now_coarse() -> u64 {
    // SAFETY: a plain helper call (Linux 5.11).
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// A random number.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_get_prandom_u32() }
}

/// Marks header layouts as such.
macro_rules! wire {
    ($($type:ty),+) => {
        $(
            const _: () = assert!(align_of::<$type>() <= 2);
            // SAFETY: `repr(C)` over integers of one and two bytes (or other such structures) in a layout whose
            // size is asserted beside it; the alignment is asserted above.
            #[expect(unsafe_code, reason = "`Wire` is an unsafe trait")]
            unsafe impl crate::packet::Wire for $type {}
        )+
    };
}
pub(crate) use wire;
