//! The packet in the kernel's hands, at whichever hook it came: bounds-checked views of its headers, and what the
//! steps ask of a hook. `skb` has it for tc, `xdp` for XDP. With `maps` the only places of unsafe code.
#![expect(unsafe_code, reason = "packet memory and kernel helpers are raw pointers")]

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use gateway_common::{Sum, Verdict};

use crate::{
    flow::Found,
    maps::{self, Maps, SCRATCH_BYTES, Scratch},
    rewrite::Change,
};

/// Layouts of headers that may be laid over packet bytes.
///
/// # Safety
///
/// `repr(C)`, alignment of at most 2, no padding, and every bit pattern a value.
pub(crate) unsafe trait Wire {}

/// The furthest that a header may begin: Ethernet, the longest IPv4 header or IPv6 with some extension headers, and
/// the same again within an ICMP error. A power of two less one, so that the verifier sees the bound.
pub(crate) const FURTHEST: u32 = 0xff;

/// One packet at a hook.
pub(crate) trait Packet {
    /// Length of the frame in bytes; for a super-packet the sum of its segments' payloads and one header.
    fn len(&self) -> u32;
    /// Packets on the wire that this one stands for.
    fn segments(&self) -> u32;
    /// Interface that the packet came in by.
    fn interface(&self) -> u32;
    /// Whether the driver took a VLAN tag out of the frame and keeps it beside.
    fn has_vlan_tag(&self) -> bool;
    /// What kernel helpers take the packet by.
    fn context(&self) -> *mut c_void;
    /// Address of the first byte that can be read.
    fn start(&self) -> usize;
    /// Address behind the last byte that can be read.
    fn end(&self) -> usize;
    /// Makes so many bytes readable, if the packet has them. Moves the bytes.
    fn pull(&mut self, length: u32) -> bool;
    /// Copies `last + 1` bytes out of the packet.
    fn load(&mut self, offset: u32, to: &mut Scratch, last: u32) -> bool;
    /// Puts `last + 1` bytes back into the packet. The checksum is the caller's to see to.
    fn store(&mut self, offset: u32, from: &mut Scratch, last: u32) -> bool;
    /// Updates the TCP checksum at `offset` after ports and addresses of the packet were changed, and lets the kernel
    /// know what else a device's sum over the whole packet must follow.
    fn fix_checksums<A: Maps>(&mut self, offset: u32, change: &Change);
    /// Makes the frame so long, and no longer. Moves the bytes.
    fn cut(&mut self, length: u32) -> bool;
    /// Writes the TCP checksum at `offset`, given the sums over pseudo header and segment.
    fn seal(&mut self, offset: u32, pseudo: Sum, segment: Sum) -> bool;
    /// How a flow's packet would leave; an error if this hook cannot send it there.
    fn way<A: Maps>(&mut self, found: &Found<A>) -> Result<Way, Verdict>;
    /// Sends it.
    fn send(&mut self, way: &Way) -> i32;
    /// Leaves it to whatever comes next, and at last to the stack.
    fn pass(&self) -> i32;
    /// Ends it.
    fn drop(&self) -> i32;

    /// Copies bytes, at least one and at most [`SCRATCH_BYTES`].
    #[inline(always)]
    fn copy(&mut self, offset: u32, length: u32) -> Option<&'static mut Scratch> {
        let scratch = maps::scratch()?;
        if length == 0 || length > SCRATCH_BYTES {
            return None;
        }
        scratch.length = length;
        self.load(offset, scratch, length - 1).then_some(scratch)
    }

    /// Puts back what [`Packet::copy`] took.
    #[inline(always)]
    fn put_back(&mut self, offset: u32, scratch: &mut Scratch) -> bool {
        let last = scratch.length - 1;
        self.store(offset, scratch, last)
    }

    /// A header at an offset from the frame's first byte, at most [`FURTHEST`]. Borrows the packet for as long as the view lives: helpers
    /// may move the bytes, and the verifier forgets every pointer at such a call.
    #[inline(always)]
    fn header<H: Wire>(&mut self, offset: u32) -> Result<&mut H, Verdict> {
        let offset = offset & FURTHEST;
        if let Some(view) = view::<H>(self, offset) {
            // SAFETY: `view` checked that the packet is as long; `Wire` says that any bytes are a value.
            return Ok(unsafe { &mut *view });
        }
        // The header lies (partly) in a page fragment, or the frame is too short; the helper knows.
        if !self.pull(offset + size_of::<H>() as u32) {
            return Err(Verdict::Truncated);
        }
        let view = view::<H>(self, offset).ok_or(Verdict::Truncated)?;
        // SAFETY: as above.
        Ok(unsafe { &mut *view })
    }
}

/// Reads a pointer out of a context, where it is declared as 32 bits and the verifier makes it 64. By hand, because the
/// compiler would widen it again by an instruction that makes it a number in the verifier's eyes.
///
/// # Safety
///
/// The context must have a pointer to packet bytes at this offset.
#[inline(always)]
pub(crate) unsafe fn pointer<const OFFSET: usize, C>(context: *mut C) -> usize {
    let pointer: usize;
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "{pointer} = *(u32 *)({context} + {offset})",
            pointer = out(reg) pointer,
            context = in(reg) context,
            offset = const OFFSET,
            options(nostack, readonly, preserves_flags),
        );
    }
    pointer
}

#[inline(always)]
fn view<H: Wire>(packet: &(impl Packet + ?Sized), offset: u32) -> Option<*mut H> {
    let start = packet.start() + offset as usize;
    (start + size_of::<H>() <= packet.end()).then_some(start as *mut H)
}

/// How a packet leaves.
pub(crate) struct Way {
    /// By which interface.
    pub(crate) oif: u32,
    /// XDP: the Ethernet addresses to leave with, destination first.
    pub(crate) ethernet: [u16; 6],
}

impl Way {
    /// Out by the interface that it came in by, with the Ethernet addresses that it has.
    pub(crate) const BACK: Self = Self { oif: 0, ethernet: [0; 6] };

    /// Whether it is that.
    #[inline(always)]
    pub(crate) const fn is_back(&self) -> bool {
        self.oif == 0
    }
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
