//! Ones' complement sums (RFC 1071) and their incremental update (RFC 1624), over words in network order: the sum
//! does not care about byte order as long as all words have the same.

use crate::addr::{Be16, Be32};

/// A ones' complement sum, not yet folded. Holds thousands of words without overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds a word.
    #[inline]
    #[must_use]
    pub const fn add(self, word: Be32) -> Self {
        Self(self.0 + word.wire() as u64)
    }

    /// Adds a 16-bit word.
    #[inline]
    #[must_use]
    pub const fn add16(self, word: Be16) -> Self {
        Self(self.0 + word.wire() as u64)
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Takes another sum away: adds its complement.
    #[inline]
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 + !other.fold32() as u64)
    }

    /// What [`Sum::fold32`] made.
    #[inline]
    pub const fn folded(sum: u32) -> Self {
        Self(sum as u64)
    }

    /// Folded to 32 bits, as the kernel's checksum helpers take a difference.
    #[inline]
    pub const fn fold32(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    /// Folded to 16 bits.
    #[inline]
    pub const fn fold16(self) -> u16 {
        let wide = self.fold32();
        let once = (wide & 0xffff) + (wide >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// The checksum field of a header whose words were summed up.
    #[inline]
    pub const fn checksum(self) -> Be16 {
        Be16::from_wire(!self.fold16())
    }

    /// A checksum field after words were changed, where `self` is the sum of new words minus old ones (RFC 1624
    /// equation 3).
    #[inline]
    pub const fn update(self, field: Be16) -> Be16 {
        Be16::from_wire(!Self(self.0 + (!field.wire()) as u64).fold16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 section 3.
    #[test]
    fn rfc_1071_example() {
        let sum = Sum::default().add(Be32::new(0x0001_f203)).add(Be32::new(0xf4f5_f6f7));
        assert_eq!(sum.checksum(), Be16::new(!0xddf2));
    }

    #[test]
    fn an_update_equals_summing_again() {
        let mut seed = 7_u32;
        for _ in 0..10_000 {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Be32::new(seed)
            };
            let (kept, old, new) = (next(), next(), next());
            let field = Sum::default().add(kept).add(old).checksum();
            let difference = Sum::default().add(new).minus(Sum::default().add(old));
            assert_eq!(difference.update(field), Sum::default().add(kept).add(new).checksum());
        }
    }
}
