//! Words of memory that kernel programs and the agent change at the same time. The programs reach them through a
//! map's value, the agent through the same pages mapped into its own memory; what is done with them is written once,
//! for both.

/// A 64-bit word that others change too. Every operation is atomic and ordered (sequentially consistent).
pub trait Word {
    /// What it holds.
    fn load(&self) -> u64;
    /// Puts `new` in place of `old`; false, and no change, if it holds something else.
    fn replace(&self, old: u64, new: u64) -> bool;
    /// Sets bits and returns what it held before.
    fn set(&self, bits: u64) -> u64;
    /// Clears bits and returns what it held before.
    fn clear(&self, bits: u64) -> u64;
    /// Adds, wrapping around, and returns what it held before.
    fn add(&self, number: u64) -> u64;
}

#[cfg(any(feature = "user", test))]
mod user {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::Word;

    impl Word for AtomicU64 {
        fn load(&self) -> u64 {
            self.load(SeqCst)
        }

        fn replace(&self, old: u64, new: u64) -> bool {
            self.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        }

        fn set(&self, bits: u64) -> u64 {
            self.fetch_or(bits, SeqCst)
        }

        fn clear(&self, bits: u64) -> u64 {
            self.fetch_and(!bits, SeqCst)
        }

        fn add(&self, number: u64) -> u64 {
            self.fetch_add(number, SeqCst)
        }
    }
}
