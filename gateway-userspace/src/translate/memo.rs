//! What a translation keeps for the next one. Documents never change: one that is the same object says the same, so what was
//! made of it is found again under its address. Addresses are of use because the documents of the last translation are
//! held until the next one is through, and what that does not ask for is forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::api::Sourced;

/// Identifies a document, or whatever else is shared and held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address(usize);

impl Address {
    /// Of a document.
    pub(super) fn of<T>(document: &Sourced<T>) -> Self {
        Self(std::ptr::from_ref(document).addr())
    }
}

/// Whether two lists hold the same objects.
pub(super) fn same<T>(one: &[Arc<T>], other: &[Arc<T>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// Values by key, each as long as every translation asks for it.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    entries: HashMap<K, Slot<V>>,
    round: u64,
    /// Entries that this round has asked for.
    asked: usize,
}

#[derive(Debug)]
struct Slot<V> {
    round: u64,
    value: V,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), round: 0, asked: 0 }
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    /// The value of a key. One of the round before is taken if it still holds, else `make` gets to see it.
    pub(super) fn get(
        &mut self,
        key: K,
        holds: impl FnOnce(&V) -> bool,
        make: impl FnOnce(Option<&V>) -> V,
    ) -> V {
        let round = self.round;
        match self.entries.entry(key) {
            Entry::Occupied(mut slot) if slot.get().round == round => slot.get_mut().value.clone(),
            Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                if !holds(&slot.value) {
                    slot.value = make(Some(&slot.value));
                }
                slot.round = round;
                self.asked += 1;
                slot.value.clone()
            }
            Entry::Vacant(vacant) => {
                self.asked += 1;
                vacant.insert(Slot { round, value: make(None) }).value.clone()
            }
        }
    }

    /// A value as it is kept.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|slot| &slot.value)
    }

    /// All that is kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, slot)| (key, &slot.value))
    }

    /// Puts a value in the place of another, between rounds.
    pub(super) fn replace(&mut self, old: &K, key: K, value: V) {
        if let Some(slot) = self.entries.remove(old) {
            self.entries.insert(key, Slot { value, ..slot });
        }
    }

    /// Forgets what this round did not ask for.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        if self.asked < self.entries.len() {
            self.entries.retain(|_, slot| slot.round == round);
        }
        self.round += 1;
        self.asked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_while_it_holds_and_every_round_asks_for_it() {
        let mut kept = Kept::default();
        let mut ask = |key: &'static str, holds, round_ends| {
            let mut seen = None;
            let mut made = false;
            kept.get(
                key,
                |_: &u32| holds,
                |old: Option<&u32>| {
                    (seen, made) = (old.copied(), true);
                    old.map_or(1, |old| old + 1)
                },
            );
            if round_ends {
                kept.end_round();
            }
            (made, seen)
        };
        assert_eq!(ask("a", true, false), (true, None));
        assert_eq!(ask("a", false, false), (false, None), "what this round made holds in it");
        assert_eq!(ask("b", true, true), (true, None));
        assert_eq!(ask("a", true, true), (false, None));
        assert_eq!(ask("a", false, true), (true, Some(1)));
        assert_eq!(ask("b", true, true), (true, None), "a round passed without a question for it");
    }
}
