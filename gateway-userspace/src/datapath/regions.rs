//! Which parts of `MAGLEV` are in use. Pure: a first-fit allocator over slot numbers.

use std::collections::BTreeMap;

/// A run of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    /// First slot.
    pub base: u32,
    /// Number of slots.
    pub size: u32,
}

/// The regions in use.
#[derive(Debug)]
pub struct Regions {
    slots: u32,
    used: BTreeMap<u32, u32>,
}

impl Regions {
    /// All free.
    pub fn new(slots: u32) -> Self {
        Self { slots, used: BTreeMap::new() }
    }

    /// Takes a region into use that is already written, as an agent does that adopts the maps of another. Regions
    /// that several listeners share are taken once.
    pub fn adopt(&mut self, region: Region) {
        self.used.insert(region.base, region.size);
    }

    /// Takes a free region into use, if there is one large enough.
    pub fn allocate(&mut self, size: u32) -> Option<Region> {
        let mut base = 0_u32;
        for (used, length) in &self.used {
            if used.saturating_sub(base) >= size {
                break;
            }
            base = base.max(used.saturating_add(*length));
        }
        if self.slots.saturating_sub(base) < size {
            return None;
        }
        self.used.insert(base, size);
        Some(Region { base, size })
    }

    /// Gives a region back.
    pub fn free(&mut self, region: Region) {
        self.used.remove(&region.base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_used_again() {
        let mut regions = Regions::new(100);
        let first = regions.allocate(40).unwrap();
        let second = regions.allocate(40).unwrap();
        assert_eq!((first.base, second.base), (0, 40));
        assert_eq!(regions.allocate(40), None);
        assert_eq!(regions.allocate(20), Some(Region { base: 80, size: 20 }));
        regions.free(first);
        assert_eq!(regions.allocate(41), None);
        assert_eq!(regions.allocate(30).map(|region| region.base), Some(0));
        assert_eq!(regions.allocate(10).map(|region| region.base), Some(30));
    }

    #[test]
    fn regions_in_use_never_overlap() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let mut regions = Regions::new(1000);
            let mut live: Vec<Region> = Vec::new();
            for _ in 0..200 {
                if random.bool() && !live.is_empty() {
                    regions.free(live.swap_remove(random.usize(..live.len())));
                } else if let Some(region) = regions.allocate(random.u32(1..200)) {
                    assert!(region.base + region.size <= 1000);
                    let apart = |other: &Region| {
                        region.base >= other.base + other.size || other.base >= region.base + region.size
                    };
                    assert!(live.iter().all(apart), "{region:?} overlaps one of {live:?}");
                    live.push(region);
                }
            }
        }
    }
}
