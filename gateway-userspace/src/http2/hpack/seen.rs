//! What was said before, more or less, in 32 octets: one bit for each text, shared with others.

/// Bits that may be set before all are forgotten: until then at most one in four texts that are new is taken for a known one.
const MOST: u8 = 64;

/// Texts that were seen lately, by their tags.
#[derive(Debug)]
pub(super) struct Seen {
    bits: [u64; 4],
    count: u8,
}

impl Seen {
    pub(super) const fn new() -> Self {
        Self { bits: [0; 4], count: 0 }
    }

    /// Notes a text; whether it, or one that shares its bit, was noted before.
    pub(super) fn note(&mut self, tag: u32) -> bool {
        let (word, bit) = ((tag >> 6 & 3) as usize, 1 << (tag & 63));
        if self.bits[word] & bit != 0 {
            return true;
        }
        if self.count == MOST {
            *self = Self::new();
        }
        self.bits[word] |= bit;
        self.count += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_known_and_what_is_new_is_mostly_not() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut seen, mut mistaken) = (Seen::new(), 0);
        for _ in 0..10_000 {
            let tag = random.u32(..);
            mistaken += u32::from(seen.note(tag));
            assert!(seen.note(tag));
        }
        assert!((500..2_500).contains(&mistaken), "{mistaken}");
    }
}
