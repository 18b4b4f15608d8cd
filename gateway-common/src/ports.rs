//! Source ports towards backends. Each backend address has a bitmap of the ports in use, so a port is claimed by
//! setting its bit: two flows can never hold the same one, whatever CPUs they are opened on.

use crate::word::Word;

/// Ports of one word of a bitmap.
pub const PORTS_PER_WORD: u32 = 64;

/// Words that are tried for a new flow before it is left to user space. With 99 of 100 ports in use a random word is
/// full in half of the cases, sixteen of them once in 60,000.
pub const PROBES: u32 = 16;

/// Index of the lowest bit of a word that is not 0: the number of zeros below it. Counted by adding up ever larger
/// groups of bits (Hacker's Delight, section 5-1), as the kernel's programs have no instruction for it, and each
/// comparison would be another path for the verifier.
#[inline(always)]
const fn lowest(word: u64) -> u32 {
    let below = (word & word.wrapping_neg()).wrapping_sub(1);
    let pairs = below - (below >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let eights = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (eights.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

/// Claims a port in a word of a bitmap and returns its bit, 0 to 63. Which of the free ones is left to `random`, as
/// a port that can be guessed helps those who forge packets (RFC 6056).
#[inline(always)]
pub fn claim<W: Word>(word: &W, random: u32) -> Option<u32> {
    let turn = random % PORTS_PER_WORD;
    let free = (!word.load()).rotate_right(turn);
    if free == 0 {
        return None;
    }
    let bit = (lowest(free) + turn) % PORTS_PER_WORD;
    let mask = 1 << bit;
    // Another CPU may have been quicker; the caller tries another word then.
    if word.set(mask) & mask == 0 { Some(bit) } else { None }
}

/// Gives a port back.
#[inline(always)]
pub fn release<W: Word>(word: &W, bit: u32) {
    word.clear(1 << (bit % PORTS_PER_WORD));
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;

    use super::*;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as u32
        }
    }

    fn claim_anywhere(words: &[AtomicU64], random: &mut Random) -> Option<(usize, u32)> {
        (0..PROBES).find_map(|_| {
            let word = random.next() as usize % words.len();
            claim(&words[word], random.next()).map(|bit| (word, bit))
        })
    }

    /// Four threads, 2.5 million claims each; whoever holds a port has entered itself as its owner, and must still
    /// be entered when it gives the port back.
    #[test]
    fn ten_million_claims_without_a_collision() {
        const WORDS: usize = 440;
        const HELD: usize = 1000;
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let owners: Vec<AtomicU64> = (0..WORDS * 64).map(|_| AtomicU64::new(0)).collect();
        let claims: u64 = std::thread::scope(|scope| {
            let (words, owners) = (&words, &owners);
            let run = |thread: u64| {
                move || {
                    let mut random = Random(thread);
                    let mut held: Vec<(usize, u32)> = Vec::new();
                    for _ in 0..2_500_000 {
                        if held.len() == HELD {
                            let (word, bit) = held.swap_remove(random.next() as usize % HELD);
                            let owner = owners[word * 64 + bit as usize].swap(0, Ordering::SeqCst);
                            assert_eq!(owner, thread, "a port held twice");
                            release(&words[word], bit);
                        }
                        let (word, bit) = claim_anywhere(words, &mut random).expect("ports are free");
                        let owner = owners[word * 64 + bit as usize].swap(thread, Ordering::SeqCst);
                        assert_eq!(owner, 0, "a port held twice");
                        held.push((word, bit));
                    }
                    held.len() as u64
                }
            };
            let threads: Vec<_> = (1..=4).map(|thread| scope.spawn(run(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let set: u32 = words.iter().map(|word| word.load(Ordering::SeqCst).count_ones()).sum();
        assert_eq!(u64::from(set), claims, "ports that were given back are free");
    }

    #[test]
    fn nearly_every_port_can_be_had_and_then_none() {
        let words: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
        let mut random = Random(1);
        let had = (0..6400).filter(|_| claim_anywhere(&words, &mut random).is_some()).count();
        assert!(had > 6300, "{had} of 6400");
        for word in &words {
            word.store(u64::MAX, Ordering::SeqCst);
        }
        assert_eq!(claim_anywhere(&words, &mut random), None);
    }

    #[test]
    fn the_lowest_bit() {
        for bit in 0..64 {
            assert_eq!(lowest(1 << bit), bit);
            assert_eq!(lowest(1 << bit | 1 << 63), bit);
        }
    }
}
