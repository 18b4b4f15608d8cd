//! Maglev tables (Eisenbud et al., NSDI 2016, section 3.4) with weights: which backend a slot belongs to. Pure, and
//! keyed on the backends' addresses alone, so that every node builds the same table from the same backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Table sizes, primes. A small one is quicker to write; the largest follows weights to better than a thousandth.
const SIZES: [u32; 4] = [1021, 4093, 16_381, 65_537];

/// Slots a backend should have on average: the more, the less a change moves that it need not.
const SLOTS_PER_BACKEND: usize = 1000;

/// Backends and their weights, of one address family. Ordered, so that equal sets give equal tables.
pub type Weights = BTreeMap<SocketAddr, u64>;

/// The size of a table for so many backends; 65537 from 17 on.
pub fn size(backends: usize) -> u32 {
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    SIZES.into_iter().find(|size| *size as usize >= wanted).unwrap_or(SIZES[3])
}

/// Builds a table: for each slot the index of its backend in `weights`. `None` without a backend of positive
/// weight. `size` must be a prime above 1.
pub fn build(weights: &Weights, size: u32) -> Option<Vec<usize>> {
    let heaviest = weights.values().copied().max().filter(|weight| *weight > 0)?;
    let mut candidates: Vec<Candidate> = weights
        .iter()
        .enumerate()
        .map(|(index, (address, weight))| Candidate::new(index, *address, *weight, size))
        .collect();
    candidates.retain(|candidate| candidate.weight > 0);
    let mut table = vec![None; size as usize];
    let mut free = table.len();
    // A turn for everyone in each round, in proportion to the weights: whoever has collected the heaviest weight
    // once more may choose a slot.
    for round in 1_u64.. {
        for candidate in &mut candidates {
            if round * candidate.weight < candidate.due {
                continue;
            }
            candidate.due += heaviest;
            candidate.claim(&mut table, size);
            free -= 1;
            if free == 0 {
                return table.into_iter().collect();
            }
        }
    }
    None
}

/// A backend on its walk through its own permutation of the slots.
struct Candidate {
    index: usize,
    weight: u64,
    /// Weight to have collected before the next turn.
    due: u64,
    next: u32,
    skip: u32,
}

impl Candidate {
    fn new(index: usize, address: SocketAddr, weight: u64, size: u32) -> Self {
        let hash = hash(address);
        let next = remainder(hash, size);
        let skip = remainder(hash.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15), size - 1) + 1;
        Self { index, weight, due: 0, next, skip }
    }

    /// Takes the next free slot of the permutation. There is one: the caller counts.
    fn claim(&mut self, table: &mut [Option<usize>], size: u32) {
        loop {
            let slot = self.next;
            self.next = (slot + self.skip) % size;
            if let Some(entry @ None) = table.get_mut(slot as usize) {
                *entry = Some(self.index);
                return;
            }
        }
    }
}

fn remainder(hash: u64, divisor: u32) -> u32 {
    (hash % u64::from(divisor)) as u32
}

/// FNV-1a over address and port, finished so that each bit of the result depends on all of them (the finaliser of
/// splitmix64).
fn hash(address: SocketAddr) -> u64 {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in octets.into_iter().chain(address.port().to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use gateway_common::hash::{LOOKS, look, slot};

    use super::*;

    fn backends(weights: impl IntoIterator<Item = u64>) -> Weights {
        weights
            .into_iter()
            .enumerate()
            .map(|(index, weight)| {
                let ip = std::net::Ipv4Addr::from_bits(0x0a00_0001 + index as u32);
                (SocketAddr::new(ip.into(), 8080), weight)
            })
            .collect()
    }

    fn owners(weights: &Weights, size: u32) -> Vec<SocketAddr> {
        let addresses: Vec<SocketAddr> = weights.keys().copied().collect();
        build(weights, size).unwrap().into_iter().map(|index| addresses[index]).collect()
    }

    #[test]
    fn sizes_are_primes() {
        for size in SIZES {
            assert!(
                (2..size).take_while(|divisor| divisor * divisor <= size).all(|divisor| size % divisor != 0)
            );
        }
        assert_eq!(
            (size(1), size(2), size(4), size(16), size(17), size(5000)),
            (1021, 4093, 4093, 16_381, 65_537, 65_537)
        );
    }

    /// Two ports with which two in five of the slots have 31 neighbours ahead of the same owner.
    #[test]
    fn another_backend_is_found_wherever_a_flow_begins_to_look() {
        let addresses = ["[2001:db8::1]:45260", "[2001:db8::2]:46000"];
        let weights: Weights = addresses.into_iter().map(|address| (address.parse().unwrap(), 1)).collect();
        let size = size(2);
        let table = build(&weights, size).unwrap();
        let longest = table.chunk_by(|one, next| one == next).map(<[usize]>::len).max().unwrap();
        assert!(longest > 5 * LOOKS as usize, "{longest}: no table of the kind that is meant");
        for chooser in (0..100_000_u32).map(|number| number.wrapping_mul(0x9e37_79b9)) {
            let owners = (0..LOOKS).map(|number| table[slot(look(chooser, number), size) as usize]);
            let mut found = [false; 2];
            owners.for_each(|owner| found[owner] = true);
            assert_eq!(found, [true; 2], "{chooser}");
        }
    }

    #[test]
    fn shares_follow_weights_within_one_percent() {
        for weights in
            [vec![1, 1], vec![1, 99], vec![90, 10], vec![5; 40], (1..=30).collect(), vec![1_000_000, 1]]
        {
            let set = backends(weights.clone());
            let size = size(set.len());
            let table = build(&set, size).unwrap();
            let total: u64 = weights.iter().sum();
            for (index, weight) in weights.iter().enumerate() {
                let slots = table.iter().filter(|owner| **owner == index).count();
                let (share, want) = (slots as f64 / f64::from(size), *weight as f64 / total as f64);
                assert!((share - want).abs() < 0.01, "{weights:?}[{index}]: {share} instead of {want}");
                assert!(slots > 0, "{weights:?}[{index}] gets nothing");
            }
        }
    }

    #[test]
    fn no_backend_with_weight_no_table() {
        assert!(build(&backends([]), 1021).is_none());
        assert!(build(&backends([0, 0]), 1021).is_none());
        assert!(build(&backends([0, 3]), 1021).unwrap().iter().all(|owner| *owner == 1));
    }

    #[test]
    fn losing_one_backend_hardly_moves_the_flows_of_the_others() {
        for count in [2, 3, 5, 10, 30, 100] {
            let all = backends(vec![1; count]);
            let mut fewer = all.clone();
            let gone = *all.keys().nth(count / 2).unwrap();
            fewer.remove(&gone);
            let size = size(count);
            let (before, after) = (owners(&all, size), owners(&fewer, size));
            let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
            let share = moved as f64 / f64::from(size);
            let allowed = 1.0 / count as f64 + 0.01;
            assert!(share <= allowed, "{count} backends: {share} moved, {allowed} allowed");
        }
    }

    /// The table's promise to those who keep their backend: of a hundred, losing one moves hardly any of the others'
    /// flows.
    #[test]
    fn of_the_other_backends_flows_at_most_two_in_a_hundred_move() {
        let all = backends(vec![1; 100]);
        let size = size(100);
        let before = owners(&all, size);
        for gone in all.keys() {
            let mut fewer = all.clone();
            fewer.remove(gone);
            let others = before.iter().zip(owners(&fewer, size)).filter(|(old, _)| *old != gone);
            let (stay, moved): (Vec<_>, Vec<_>) = others.partition(|(old, new)| *old == new);
            let share = moved.len() as f64 / (stay.len() + moved.len()) as f64;
            assert!(share <= 0.02, "{share} moved without {gone}");
        }
    }

    #[test]
    fn the_order_of_the_backends_does_not_matter() {
        let forwards = backends([3, 1, 4, 1, 5]);
        let backwards: Weights = forwards.clone().into_iter().rev().collect();
        assert_eq!(build(&forwards, 4093), build(&backwards, 4093));
    }
}
