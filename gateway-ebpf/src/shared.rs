//! A word of a map that other CPUs and the agent change at the same time.
#![expect(unsafe_code, reason = "atomic operations on raw pointers, which have no safe name for this target")]

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd};
use core::ptr;

use gateway_common::Word;

/// A word that other CPUs and the agent change at the same time.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<u64>);

// SAFETY: every access is atomic.
unsafe impl Sync for Shared {}

const ORDERED: AtomicOrdering = AtomicOrdering::SeqCst;

impl Word for Shared {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: valid and aligned; a load of eight bytes is one instruction.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    fn replace(&self, old: u64, new: u64) -> bool {
        // SAFETY: valid and aligned (Linux 5.12 for this and the next three).
        unsafe { atomic_cxchg::<u64, ORDERED, ORDERED>(self.0.get(), old, new).0 == old }
    }

    #[inline(always)]
    fn set(&self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_or::<u64, u64, ORDERED>(self.0.get(), bits) }
    }

    #[inline(always)]
    fn clear(&self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_and::<u64, u64, ORDERED>(self.0.get(), !bits) }
    }

    #[inline(always)]
    fn add(&self, number: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_xadd::<u64, u64, ORDERED>(self.0.get(), number) }
    }
}
