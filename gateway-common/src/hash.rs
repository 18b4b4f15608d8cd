//! Hashes of flows: a keyed one that places a tuple in the index, and one that spreads flows over a backend table.

use crate::addr::Address;
use crate::flow::FlowKey;
use crate::listener::Table;

/// Odd, with bits well spread (the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash under way.
#[derive(Clone, Copy, Debug)]
pub struct Mix(u64);

impl Mix {
    /// Starts with a key.
    #[inline]
    pub const fn new(key: u64) -> Self {
        Self(key ^ FACTOR)
    }

    /// Takes in a word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u32) -> Self {
        let mixed = (self.0 ^ word as u64).wrapping_mul(FACTOR);
        Self(mixed ^ (mixed >> 32))
    }

    /// 64 bits, each of which depends on every word.
    #[inline]
    const fn wide(self) -> u64 {
        self.word(0).word(0).0
    }

    /// 32 bits, each of which depends on every word.
    #[inline]
    pub const fn finish(self) -> u32 {
        (self.wide() >> 16) as u32
    }
}

/// Where a tuple belongs in the index. Keyed, so that nobody outside can choose tuples that crowd one bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Of a tuple, with the key in `Config`.
    #[inline]
    pub fn new<A: Address>(key: u64, tuple: &FlowKey<A>) -> Self {
        Self(mix(key, tuple).wide())
    }

    /// Of any words.
    #[cfg(test)]
    pub(crate) fn of_words(key: u64, words: &[u32]) -> Self {
        Self(words.iter().fold(Mix::new(key), |mix, word| mix.word(*word)).wide())
    }

    /// As a number.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From such a number.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// What tells the tuples of a bucket apart.
    #[inline]
    pub const fn tag(self) -> u32 {
        self.0 as u32
    }

    /// The bucket that a tuple belongs to, of so many.
    #[inline]
    pub const fn home(self, buckets: u32) -> u32 {
        slot((self.0 >> 32) as u32, buckets)
    }

    /// The bucket for what finds no room in its home.
    #[inline]
    pub const fn other(self, buckets: u32) -> u32 {
        slot(self.tag().wrapping_mul(FACTOR as u32), buckets)
    }
}

/// The slot of `MAGLEV` that names a flow's backend. `attempt` is 0 for the first choice, and each further one
/// chooses anew.
#[inline(always)]
pub fn choose<A: Address>(key: u64, table: &Table, tuple: &FlowKey<A>, attempt: u32) -> u32 {
    table.base.wrapping_add(slot(chooser(key, table, tuple, attempt), table.size))
}

/// What chooses that slot.
#[inline(always)]
pub fn chooser<A: Address>(key: u64, table: &Table, tuple: &FlowKey<A>, attempt: u32) -> u32 {
    if table.flags & Table::BY_CLIENT != 0 {
        client(key, tuple.source, attempt)
    } else {
        flow(key, tuple, attempt)
    }
}

/// Slots of a listener's table that are looked at for another backend than the one that a flow has.
pub const LOOKS: u32 = 32;

/// What chooses the slot of each such look, the first of which is 0. Anywhere in the table: its slots are no lots. Where a
/// backend's permutation takes small steps, hundreds of neighbours are its own, and of two backends each has such a stretch
/// in one table of fifty.
#[inline(always)]
pub const fn look(chooser: u32, look: u32) -> u32 {
    // The finaliser of MurmurHash3.
    let mut bits = chooser.wrapping_add(look.wrapping_mul(FACTOR as u32));
    bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
    bits ^ bits >> 16
}

/// What chooses a flow's backend: its four-tuple, and which try this is.
#[inline]
pub fn flow<A: Address>(key: u64, flow: &FlowKey<A>, attempt: u32) -> u32 {
    mix(key ^ attempt as u64, flow).finish()
}

/// What chooses the backend of all flows of a client (DestinationRule `consistentHash.useSourceIp`): the client's
/// address.
#[inline]
pub fn client<A: Address>(key: u64, client: A, attempt: u32) -> u32 {
    client.mix(Mix::new(key ^ attempt as u64)).finish()
}

#[inline]
fn mix<A: Address>(key: u64, flow: &FlowKey<A>) -> Mix {
    let ports = (flow.source_port.wire() as u32) << 16 | flow.destination_port.wire() as u32;
    flow.destination.mix(flow.source.mix(Mix::new(key))).word(ports)
}

/// Where a hash points in a table of `size` slots. A multiplication and a shift: the same spread as a remainder
/// without the division.
#[inline]
pub const fn slot(hash: u32, size: u32) -> u32 {
    ((hash as u64 * size as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr4, Be16};
    use core::net::Ipv4Addr;

    fn tuple(port: u16) -> FlowKey<Addr4> {
        FlowKey {
            source: Addr4::from(Ipv4Addr::new(198, 18, 0, 1)),
            destination: Addr4::from(Ipv4Addr::new(198, 18, 0, 2)),
            source_port: Be16::new(port),
            destination_port: Be16::new(443),
        }
    }

    #[test]
    fn flows_that_differ_in_a_port_spread_evenly() {
        for spread in [
            |port| slot(flow(1, &tuple(port), 0), 16),
            |port| Hash::new(1, &tuple(port)).home(16),
            |port| Hash::new(1, &tuple(port)).other(16),
        ] {
            let mut counts = [0_u32; 16];
            (1..=u16::MAX).for_each(|port| counts[spread(port) as usize] += 1);
            // 4096 each, standard deviation 62: five of them either way.
            assert!(counts.iter().all(|count| (3786..=4406).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn another_try_chooses_anew() {
        let moved = (1..=1000)
            .filter(|port| slot(flow(1, &tuple(*port), 0), 4) != slot(flow(1, &tuple(*port), 1), 4));
        assert!((650..850).contains(&moved.count()), "three quarters go elsewhere");
    }

    #[test]
    fn slots_stay_inside_the_table() {
        for size in [1, 2, 1021, 65_537, u32::MAX] {
            assert_eq!(slot(0, size), 0);
            assert_eq!(slot(u32::MAX, size), size - 1);
        }
    }
}
