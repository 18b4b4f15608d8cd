//! The keyed hash that spreads flows over a backend table, and the index it gives. Keyed, so that a client who
//! knows this file cannot aim all its flows at one backend.

use crate::addr::Address;
use crate::flow::FlowKey;

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

    /// The hash: 32 bits, each of which depends on every word.
    #[inline]
    pub const fn finish(self) -> u32 {
        (self.word(0).word(0).0 >> 16) as u32
    }
}

/// The hash of a flow's four-tuple.
#[inline]
pub fn flow<A: Address>(key: u64, flow: &FlowKey<A>) -> u32 {
    let ports = (flow.source_port.wire() as u32) << 16 | flow.destination_port.wire() as u32;
    flow.destination.mix(flow.source.mix(Mix::new(key))).word(ports).finish()
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

    #[test]
    fn flows_that_differ_in_a_port_spread_evenly() {
        let mut counts = [0_u32; 16];
        for port in 1..=u16::MAX {
            let key = FlowKey {
                source: Addr4::from(Ipv4Addr::new(198, 18, 0, 1)),
                destination: Addr4::from(Ipv4Addr::new(198, 18, 0, 2)),
                source_port: Be16::new(port),
                destination_port: Be16::new(443),
            };
            counts[slot(flow(1, &key), 16) as usize] += 1;
        }
        // 4096 each, standard deviation 62: five of them either way.
        assert!(counts.iter().all(|count| (3786..=4406).contains(count)), "{counts:?}");
    }

    #[test]
    fn slots_stay_inside_the_table() {
        for size in [1, 2, 1021, 65_537, u32::MAX] {
            assert_eq!(slot(0, size), 0);
            assert_eq!(slot(u32::MAX, size), size - 1);
        }
    }
}
