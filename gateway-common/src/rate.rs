//! Counting events in each second, in one word that any CPU may change: the second above, the count below.

use crate::word::Word;

/// Counts an event and says whether it is within the limit of its second. `second` may go round.
#[inline(always)]
pub fn admit<W: Word>(word: &W, second: u32, limit: u32) -> bool {
    let seen = word.load();
    if (seen >> 32) as u32 != second {
        // Whoever is quickest opens the second; the others count in it.
        if word.replace(seen, (second as u64) << 32 | 1) {
            return true;
        }
        return (word.add(1) as u32) < limit;
    }
    (seen as u32) < limit && (word.add(1) as u32) < limit
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn admits_the_limit_in_each_second() {
        let word = AtomicU64::new(0);
        for second in [1, 2, 3, u32::MAX, 0] {
            let admitted = (0..100).filter(|_| admit(&word, second, 10)).count();
            assert_eq!(admitted, 10, "second {second}");
        }
    }
}
