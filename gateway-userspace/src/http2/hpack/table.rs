//! The table of a decoder: what was said and may be referred to (RFC 7541, 2.3.2 and 4).

use std::collections::VecDeque;

use super::field::{Field, Malformed, Name};
use super::statics::{self, STATIC};
use super::{OVERHEAD, TABLE};

/// Entries that room is made for at a time: doubling would leave half of it empty on a connection that is idle.
const STEP: usize = 8;

/// Entries, the newest in front.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    /// Bytes of the entries, at most `limit`.
    used: u32,
    /// What the peer says, [`TABLE`] at most.
    limit: u32,
}

/// A field as it is handed out, so that a reference to it is a count and no reading.
#[derive(Debug)]
pub(super) struct Entry {
    /// Of name and value as they were written, and [`OVERHEAD`].
    pub(super) size: u32,
    pub(super) said: Result<Field, Flaw>,
}

/// What stands for a field that is malformed. Its value is not needed: another field may refer to its name only, or is malformed too.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) name: Name,
    pub(super) why: Malformed,
}

impl Entry {
    pub(super) fn said(&self) -> Result<Field, Malformed> {
        match &self.said {
            Ok(field) => Ok(field.clone()),
            Err(flaw) => Err(flaw.why),
        }
    }

    pub(super) fn name(&self) -> Name {
        match &self.said {
            Ok(field) => field.name(),
            Err(flaw) => flaw.name.clone(),
        }
    }
}

impl Table {
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), used: 0, limit: TABLE as u32 }
    }

    /// The entry of an index: the static ones come first, from 1 (RFC 7541, 2.3.3).
    pub(super) fn entry(&self, index: usize) -> Option<&Entry> {
        match index.checked_sub(STATIC + 1) {
            None => statics::entry(index),
            Some(index) => self.entries.get(index),
        }
    }

    /// Sets the limit, [`TABLE`] at most.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.evict(limit);
        self.entries.shrink_to(self.entries.len().next_multiple_of(STEP));
    }

    /// Makes room for an entry of so many bytes. One that is larger than all of the table leaves it empty, and is not kept (RFC 7541, 4.4).
    pub(super) fn make_room(&mut self, size: usize) -> bool {
        let room = (self.limit as usize).checked_sub(size);
        self.evict(room.unwrap_or(0) as u32);
        room.is_some()
    }

    /// Adds an entry for which there is room.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(STEP);
        }
        self.used += entry.size;
        debug_assert!(self.used <= self.limit, "no room was made");
        self.entries.push_front(entry);
    }

    /// Whether an entry of so many bytes can be kept.
    pub(super) fn admits(&self, size: usize) -> bool {
        size <= self.limit as usize
    }

    fn evict(&mut self, most: u32) {
        while self.used > most
            && let Some(entry) = self.entries.pop_back()
        {
            self.used -= entry.size;
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}

// What a name and a value take must fit an entry's size.
const _: () = assert!(TABLE + OVERHEAD < u32::MAX as usize);
