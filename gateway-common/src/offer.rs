//! What the gateway does not offer a backend in its own SYN: options that the client did not offer either. Of a connection
//! to be handed over both halves must speak alike, and Linux has no socket option for these. The agent marks the
//! connection's source port before it connects; the guard takes the options out of the SYN, and the socket does without
//! them as with any peer that lacks them.

use crate::word::Word;

/// No timestamps (RFC 7323 section 3), as Windows has it.
pub const NO_TIMESTAMPS: u8 = 1;
/// No selective acknowledgements (RFC 2018).
pub const NO_SACK: u8 = 2;
/// No window scale (RFC 7323 section 2).
pub const NO_SCALE: u8 = 4;

/// Ports that share a word of `OFFERS`, a byte each.
const PORTS_PER_WORD: u32 = 8;
/// Elements of `OFFERS`.
pub const WORDS: u32 = (1 << 16) / PORTS_PER_WORD;

/// The word of a port.
#[inline(always)]
pub const fn index(port: u16) -> u32 {
    port as u32 / PORTS_PER_WORD
}

#[inline(always)]
const fn shift(port: u16) -> u32 {
    port as u32 % PORTS_PER_WORD * 8
}

/// What a SYN from a port does not offer.
#[inline(always)]
pub fn without(word: &impl Word, port: u16) -> u8 {
    (word.load() >> shift(port)) as u8
}

/// Marks a port.
pub fn mark(word: &impl Word, port: u16, without: u8) {
    word.set(u64::from(without) << shift(port));
}

/// Takes all marks from a port.
pub fn unmark(word: &impl Word, port: u16) {
    word.clear(0xff << shift(port));
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn each_port_has_marks_of_its_own() {
        let word = AtomicU64::new(0);
        mark(&word, 8, NO_SACK);
        mark(&word, 15, NO_TIMESTAMPS | NO_SCALE);
        assert_eq!((index(7), index(8), index(15), index(u16::MAX)), (0, 1, 1, WORDS - 1));
        assert_eq!((without(&word, 8), without(&word, 9), without(&word, 15)), (NO_SACK, 0, 5));
        unmark(&word, 15);
        assert_eq!((without(&word, 8), without(&word, 15)), (NO_SACK, 0));
    }
}
