//! The translations of handed-over flows: which are in use, and writing one. Both ends of a flow may be looked at by a
//! program as soon as its record names a translation, so that one is written before.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use gateway_common::flow::NO_TRANSLATION;
use gateway_common::translation::End;
use gateway_common::{Address, Translation};

use super::flows::Flows;
use super::memory::{Words, halves, pair};

/// Words of a translation.
const WORDS: usize = size_of::<Translation>() / size_of::<u64>();
/// Of one of its ends.
const WORDS_OF_END: usize = size_of::<End>() / size_of::<u64>();

/// The array, and what of it is free.
#[derive(Debug)]
pub struct Translations {
    words: Words,
    free: Mutex<Free>,
}

/// Those given back are taken first; the others have never been in use.
#[derive(Debug, Default)]
struct Free {
    given_back: Vec<u32>,
    /// The numbers from here on are free.
    unused: u32,
    /// Numbers that flows of an agent before this one have.
    adopted: HashSet<u32>,
}

impl Translations {
    /// All free.
    pub(super) fn over(words: Words) -> Self {
        Self { words, free: Mutex::default() }
    }

    /// How many there are.
    pub fn capacity(&self) -> u32 {
        (self.words.all().len() / WORDS) as u32
    }

    /// Bytes of the kernel's memory for all of them.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.all())
    }

    /// How many are in use.
    pub fn in_use(&self) -> u32 {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = free.adopted.iter().filter(|number| **number >= free.unused).count();
        (free.unused as usize - free.given_back.len() + ahead) as u32
    }

    /// Whether at least a quarter is free. Those of an agent before this one count as free until they are met.
    pub fn are_plenty(&self) -> bool {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (self.capacity() - free.unused) as usize + free.given_back.len();
        left >= self.capacity() as usize / 4
    }

    /// Leaves those alone that flows have already, in use or not freed yet.
    pub fn adopt<A: Address>(&self, flows: &Flows<A>) {
        let flows = flows.all().map(|(_, _, flow)| flow).chain(flows.retired());
        let numbers = flows.map(|flow| flow.translation).filter(|number| *number != NO_TRANSLATION);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.adopted.extend(numbers.map(|number| number - 1));
    }

    /// Takes one into use: a record's [`translation`](gateway_common::Flow::translation) field. `None` if all are.
    pub fn take(&self) -> Option<u32> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = free.given_back.pop() {
            return Some(number + 1);
        }
        while free.unused < self.capacity() {
            let number = free.unused;
            free.unused += 1;
            if !free.adopted.remove(&number) {
                return Some(number + 1);
            }
        }
        None
    }

    /// Gives one back, when no packet can be looking at the record that had it.
    pub fn give_back(&self, translation: u32) {
        let Some(number) = translation.checked_sub(1) else { return };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if !free.adopted.remove(&number) {
            free.given_back.push(number);
        }
    }

    /// One that is in use, for a flow that has one.
    pub fn read(&self, number: u32) -> Option<Translation> {
        let start = (number as usize).checked_sub(1)? * WORDS;
        let words = self.words.all().get(start..start + WORDS)?;
        let end = |place: usize| {
            let word = |place: usize| words.get(place).map_or(0, |word| word.load(Ordering::Acquire));
            let ([taken, owed], [shift, clock]) = (halves(word(place)), halves(word(place + 1)));
            let [shift, flags] = split(shift);
            End { taken, owed, shift: shift.cast_signed(), flags, clock, stamps: word(place + 2) }
        };
        Some(Translation { ends: [end(0), end(WORDS_OF_END)], ..Translation::default() })
    }

    /// Writes one that no packet is looking at.
    pub fn write(&self, number: u32, translation: &Translation) {
        let Some(start) = (number as usize).checked_sub(1).map(|index| index * WORDS) else { return };
        let [client, backend] = translation.ends;
        let values = [client, backend].into_iter().flat_map(|end| {
            let shift = join(end.shift.cast_unsigned(), end.flags);
            [pair(end.taken, end.owed), pair(shift, end.clock), end.stamps]
        });
        let values = values.chain(translation.heard);
        for (word, value) in self.words.all().iter().skip(start).zip(values) {
            word.store(value, Ordering::Release);
        }
    }
}

/// Two fields of half a word.
fn join(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The fields that [`join`] joined.
fn split(half: u32) -> [u16; 2] {
    let [a, b, c, d] = half.to_ne_bytes();
    [[a, b], [c, d]].map(u16::from_ne_bytes)
}
