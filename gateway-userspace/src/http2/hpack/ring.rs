//! The table of an encoder: what the peer's decoder has, to be found by what is to be said (RFC 7541, 2.3.2 and 4). Entries are copies in
//! one run of octets; a look goes over their tags, as there are few of them.

use std::collections::VecDeque;

use super::statics::STATIC;
use super::{OVERHEAD, TABLE};

/// Entries, and octets of them, that room is made for at a time.
const STEP: usize = 8;
const OCTETS: usize = 256;

/// Entries, the newest at the end.
#[derive(Debug)]
pub(super) struct Ring {
    slots: VecDeque<Slot>,
    /// Names and values of all slots, in their order.
    octets: VecDeque<u8>,
    limit: u32,
}

/// An entry.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tags: Tags,
    name: u16,
    value: u16,
}

/// By which a name and a value are looked for: what is alike has the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) name: u32,
    pub(super) value: u32,
}

/// What the table has of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it, under this index.
    Field(usize),
    /// An entry of its name.
    Name(usize),
    /// Nothing.
    Nothing,
}

impl Tags {
    pub(super) fn of(name: &[u8], value: &[u8]) -> Self {
        Self { name: tag(name), value: tag(value) }
    }

    /// Of the field.
    pub(super) fn field(self) -> u32 {
        mixed(u64::from(self.name) << 32 | u64::from(self.value))
    }
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self { slots: VecDeque::new(), octets: VecDeque::new(), limit: TABLE as u32 }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Sets the limit, [`TABLE`] at most.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.evict(limit as usize);
        self.slots.shrink_to(self.slots.len().next_multiple_of(STEP));
        self.octets.shrink_to(self.octets.len().next_multiple_of(OCTETS));
    }

    /// Looks for a field, or else for its name; the newest entry is the one that is found.
    pub(super) fn find(&self, tags: Tags, name: &[u8], value: &[u8]) -> Found {
        let (mut at, mut found) = (self.octets.len(), Found::Nothing);
        for (nth, slot) in self.slots.iter().rev().enumerate() {
            at -= slot.length();
            if slot.tags.name != tags.name || found != Found::Nothing && slot.tags.value != tags.value {
                continue;
            }
            if usize::from(slot.name) != name.len() || !self.has(at, name) {
                continue;
            }
            let index = STATIC + 1 + nth;
            if slot.tags.value == tags.value
                && usize::from(slot.value) == value.len()
                && self.has(at + name.len(), value)
            {
                return Found::Field(index);
            }
            if found == Found::Nothing {
                found = Found::Name(index);
            }
        }
        found
    }

    /// Whether an entry can be kept.
    pub(super) fn admits(&self, name: &[u8], value: &[u8]) -> bool {
        name.len() + value.len() + OVERHEAD <= self.limit as usize
    }

    /// Adds an entry that can be kept; the oldest ones make room for it.
    pub(super) fn push(&mut self, tags: Tags, name: &[u8], value: &[u8]) {
        let slot = Slot { tags, name: name.len() as u16, value: value.len() as u16 };
        self.evict(self.limit as usize - slot.length() - OVERHEAD);
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(STEP);
        }
        let short = (self.octets.len() + slot.length()).saturating_sub(self.octets.capacity());
        if short > 0 {
            let room = self.octets.capacity() + short.next_multiple_of(OCTETS) - self.octets.len();
            self.octets.reserve_exact(room);
        }
        self.slots.push_back(slot);
        self.octets.extend(name);
        self.octets.extend(value);
    }

    /// Bytes of the entries (RFC 7541, 4.1).
    pub(super) fn used(&self) -> usize {
        self.octets.len() + self.slots.len() * OVERHEAD
    }

    fn evict(&mut self, most: usize) {
        while self.used() > most
            && let Some(slot) = self.slots.pop_front()
        {
            self.octets.drain(..slot.length());
        }
    }

    /// Whether a text stands at some place of the octets, which may go round their end.
    fn has(&self, at: usize, text: &[u8]) -> bool {
        let (front, back) = self.octets.as_slices();
        if let Some(at) = at.checked_sub(front.len()) {
            return back[at..].starts_with(text);
        }
        let (first, second) = text.split_at(text.len().min(front.len() - at));
        front[at..].starts_with(first) && back.starts_with(second)
    }

    /// Bytes that it takes of the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.octets.capacity()
    }
}

impl Slot {
    fn length(self) -> usize {
        usize::from(self.name) + usize::from(self.value)
    }
}

/// Of a text's length, and its first and last eight octets: what differs in headers mostly differs there. Who makes texts that are tagged alike
/// gets them compared.
fn tag(text: &[u8]) -> u32 {
    let (first, last) = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (text.iter().fold(0, |all, octet| all << 8 | u64::from(*octet)), 0),
    };
    mixed(first ^ last.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (text.len() as u64) << 56)
}

fn mixed(word: u64) -> u32 {
    let mixed = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(ring: &Ring, name: &str, value: &str) -> Found {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        ring.find(Tags::of(name, value), name, value)
    }

    fn push(ring: &mut Ring, name: &str, value: &str) {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        ring.push(Tags::of(name, value), name, value);
    }

    #[test]
    fn fields_are_found_by_all_of_them_or_by_their_name() {
        let mut ring = Ring::new();
        push(&mut ring, "server", "a");
        push(&mut ring, "x-long-name", "value-1-value");
        push(&mut ring, "x-long-name", "value-2-value");
        assert_eq!(find(&ring, "server", "a"), Found::Field(64));
        assert_eq!(find(&ring, "server", "b"), Found::Name(64));
        assert_eq!(find(&ring, "x-long-name", "value-1-value"), Found::Field(63));
        assert_eq!(find(&ring, "x-long-name", "value-3-value"), Found::Name(62));
        assert_eq!(find(&ring, "x-long-nama", "value-3-value"), Found::Nothing);
        assert_eq!(find(&ring, "serve", "ra"), Found::Nothing);
    }

    /// As a list of texts does, whatever is pushed, and wherever the octets go round their end.
    #[test]
    fn it_evicts_and_finds_as_a_plain_list() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut ring = Ring::new();
        let mut list: VecDeque<(String, String)> = VecDeque::new();
        let mut text = |most: usize| "abcdefgh".repeat(20)[..random.usize(..most)].to_owned();
        for round in 0..20_000 {
            let (name, value) = (text(9), text(if round % 50 == 0 { 150 } else { 30 }));
            let at = list.iter().position(|(n, v)| *n == name && *v == value);
            let named = list.iter().position(|(n, _)| *n == name);
            let want = match (at, named) {
                (Some(at), _) => Found::Field(62 + at),
                (None, Some(at)) => Found::Name(62 + at),
                (None, None) => Found::Nothing,
            };
            assert_eq!(find(&ring, &name, &value), want);
            if round % 1_000 == 999 {
                ring.set_limit([4096, 700, 0, 90, 256][round / 1_000 % 5]);
            } else if round % 2 == 0 && ring.admits(name.as_bytes(), value.as_bytes()) {
                push(&mut ring, &name, &value);
                list.push_front((name, value));
            }
            let size = |list: &VecDeque<(String, String)>| -> usize {
                list.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
            };
            while size(&list) > ring.limit() as usize {
                list.pop_back();
            }
            assert_eq!((ring.used(), ring.slots.len()), (size(&list), list.len()));
            assert!(ring.heap() <= 4096, "{}", ring.heap());
        }
    }
}
