//! The index of flows: from a packet's four-tuple to the record of its flow. A set-associative table in a plain
//! array: two buckets of one cache line each may hold a tuple, nothing moves once it is placed, and nothing is
//! evicted. A hit mostly reads one line here and one of the record, where the kernel's hash tables follow pointers.
//!
//! An entry is a word: the upper half is a tag of the tuple, the lower half a [`Reference`]. No two entries of a pair of
//! buckets have the same tag, so that a match is the only one; the record then says whether it is the packet's.

use core::hint::black_box;

use crate::flow::Direction;
use crate::hash::Hash;
use crate::word::Word;

/// Entries of a bucket.
pub const SLOTS: usize = 7;

/// How full the index may get, in percent. Full to that, five tuples of a thousand find no room.
const LOAD: u64 = 66;

/// Buckets for so many entries.
pub const fn buckets(entries: u32) -> u32 {
    (entries as u64 * 100).div_ceil(LOAD * SLOTS as u64) as u32
}

/// One cache line.
#[repr(C)]
#[derive(Debug)]
pub struct Bucket<W> {
    /// Entries that belong here and had to go to their other bucket. While it is 0 a miss here is a miss.
    overflow: W,
    slots: [W; SLOTS],
}

/// Which record, and which of its directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference(u32);

impl Reference {
    /// To a direction of a record; `record` is below 2^30.
    #[inline]
    pub const fn new(record: u32, direction: Direction) -> Self {
        Self((record + 1) << 1 | direction as u32)
    }

    /// As a number, never 0.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From such a number.
    #[inline(always)]
    pub const fn of_bits(bits: u32) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// Index of the record.
    #[inline]
    pub const fn record(self) -> u32 {
        (self.0 >> 1).wrapping_sub(1)
    }

    /// The direction whose packets arrive with the tuple.
    #[inline]
    pub const fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::ToBackend } else { Direction::ToClient }
    }
}

/// Why an entry was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The tuple (or, once in 10^9 cases, one with the same tag) is there.
    Taken,
    /// Both buckets are full.
    Full,
}

impl<W: Word> Bucket<W> {
    /// Looks at every slot, without an early way out: each would be another path for the kernel's verifier to follow
    /// through all that comes after.
    #[inline(always)]
    fn find(&self, tag: u32) -> u32 {
        let mut found = 0;
        for slot in &self.slots {
            let entry = slot.load();
            if (entry >> 32) as u32 == tag {
                found |= entry as u32;
            }
        }
        found
    }

    /// Whether there is another entry with the tag of this one.
    #[inline(always)]
    fn has_rival(&self, mine: u64) -> bool {
        let mut rivals = 0;
        for slot in &self.slots {
            let entry = slot.load();
            if entry >> 32 == mine >> 32 {
                rivals |= (entry ^ mine) as u32;
            }
        }
        rivals != 0
    }

    #[inline(always)]
    fn place(&self, entry: u64) -> bool {
        for slot in &self.slots {
            if slot.load() == 0 && slot.replace(0, entry) {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn remove(&self, entry: u64) -> bool {
        for slot in &self.slots {
            if slot.load() == entry && slot.replace(entry, 0) {
                return true;
            }
        }
        false
    }

    /// The entries, for whoever walks through the whole index.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        self.slots.iter().map(|slot| slot.load() as u32).filter(|low| *low != 0).map(Reference)
    }
}

/// The two buckets of a tuple.
#[derive(Debug)]
pub struct Pair<'a, W> {
    hash: Hash,
    home: &'a Bucket<W>,
    other: &'a Bucket<W>,
}

impl<'a, W: Word> Pair<'a, W> {
    /// `home` and `other` are the buckets that [`Hash::home`] and [`Hash::other`] name.
    #[inline(always)]
    pub const fn new(hash: Hash, home: &'a Bucket<W>, other: &'a Bucket<W>) -> Self {
        Self { hash, home, other }
    }

    /// The entry of the tuple, if there is one. The record must be held against the tuple.
    #[inline(always)]
    pub fn find(&self) -> Option<Reference> {
        let tag = self.hash.tag();
        let mut found = self.home.find(tag);
        if found == 0 && self.home.overflow.load() != 0 {
            found = self.other.find(tag);
        }
        Reference::of_bits(black_box(found))
    }

    /// Makes an entry. Of several made for one tuple at the same time at most one stays; perhaps none.
    #[inline(always)]
    pub fn insert(&self, reference: Reference) -> Result<(), Refused> {
        if self.find().is_some() {
            return Err(Refused::Taken);
        }
        let entry = self.entry(reference);
        if !self.home.place(entry) {
            self.home.overflow.add(1);
            if !self.other.place(entry) {
                self.home.overflow.add(u64::MAX);
                return Err(Refused::Full);
            }
        }
        // Whoever sees another's entry now takes its own back: of two that were placed at once each may, and at
        // least the later one does, so never do both stay.
        if self.has_rival(entry) {
            self.remove(reference);
            return Err(Refused::Taken);
        }
        Ok(())
    }

    /// Removes an entry; false if it was not there.
    #[inline(always)]
    pub fn remove(&self, reference: Reference) -> bool {
        let entry = self.entry(reference);
        if self.home.remove(entry) {
            return true;
        }
        let removed = self.other.remove(entry);
        if removed {
            self.home.overflow.add(u64::MAX);
        }
        removed
    }

    #[inline(always)]
    fn has_rival(&self, mine: u64) -> bool {
        self.home.has_rival(mine) || (self.home.overflow.load() != 0 && self.other.has_rival(mine))
    }

    #[inline(always)]
    const fn entry(&self, reference: Reference) -> u64 {
        (self.hash.tag() as u64) << 32 | reference.0 as u64
    }
}

const _: () = assert!(size_of::<Bucket<u64>>() == 64);

#[cfg(test)]
mod tests {
    extern crate std;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::vec::Vec;

    use super::*;

    fn index(entries: u32) -> Vec<Bucket<AtomicU64>> {
        let bucket = || Bucket { overflow: AtomicU64::new(0), slots: Default::default() };
        (0..buckets(entries)).map(|_| bucket()).collect()
    }

    fn pair(index: &[Bucket<AtomicU64>], number: u64) -> Pair<'_, AtomicU64> {
        let hash = Hash::of_words(7, &[number as u32, (number >> 32) as u32]);
        let count = index.len() as u32;
        Pair::new(hash, &index[hash.home(count) as usize], &index[hash.other(count) as usize])
    }

    #[test]
    fn holds_what_it_was_made_for() {
        const ENTRIES: u32 = 100_000;
        let index = index(ENTRIES);
        let refused = (0..ENTRIES)
            .filter(|number| {
                pair(&index, (*number).into()).insert(Reference::new(*number, Direction::ToClient)).is_err()
            })
            .count();
        assert!(refused < 1000, "{refused} of {ENTRIES} refused");
        for number in 0..ENTRIES {
            if let Some(found) = pair(&index, number.into()).find() {
                assert_eq!((found.record(), found.direction()), (number, Direction::ToClient));
            }
        }
        for number in 0..ENTRIES {
            pair(&index, number.into()).remove(Reference::new(number, Direction::ToClient));
        }
        assert!(index.iter().all(
            |bucket| bucket.overflow.load(Ordering::SeqCst) == 0 && bucket.references().next().is_none()
        ));
    }

    #[test]
    fn a_tuple_is_entered_once_whoever_tries_at_once() {
        const TUPLES: u64 = 2000;
        let index = index(1 << 14);
        let made: Vec<AtomicU32> = (0..TUPLES).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (index, made) = (&index, &made);
                scope.spawn(move || {
                    for number in 0..TUPLES {
                        let reference = Reference::new(thread, Direction::ToBackend);
                        if pair(index, number).insert(reference).is_ok() {
                            made[number as usize].fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(made.iter().all(|made| made.load(Ordering::SeqCst) <= 1));
        let entered = made.iter().filter(|made| made.load(Ordering::SeqCst) == 1).count();
        assert!(entered as u64 > TUPLES * 9 / 10, "only {entered} of {TUPLES} were entered by anybody");
    }

    #[test]
    fn references_come_back_as_they_went_in() {
        for direction in [Direction::ToBackend, Direction::ToClient] {
            for record in [0, 1, (1 << 30) - 1] {
                let reference = Reference::new(record, direction);
                assert_eq!((reference.record(), reference.direction()), (record, direction));
            }
        }
    }
}
