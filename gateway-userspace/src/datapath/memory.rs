//! Arrays of the kernel, mapped into the agent's memory (`BPF_F_MMAPABLE`, Linux 5.5): the programs and the agent change
//! the same words, without a system call.
#![expect(unsafe_code, reason = "memory shared with the kernel's programs, seen as atomic words and records")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_common::{Address, Bucket, Flow, Half, State};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// The words of an array.
pub(super) struct Words {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is the process's, whichever thread looks at it, and all access to it is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("words", &self.words).finish_non_exhaustive()
    }
}

/// The fields that [`pair`] puts into a word.
pub(super) fn halves(word: u64) -> [u32; 2] {
    match word.to_ne_bytes().as_chunks().0 {
        [first, second] => [*first, *second].map(u32::from_ne_bytes),
        _ => [0; 2],
    }
}

impl Words {
    /// Maps an array of `words` words.
    pub(super) fn map(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; it fails if the array is shorter.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                words * WORD,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, words })
    }

    /// Every word.
    pub(super) fn all(&self) -> &[AtomicU64] {
        // SAFETY: mapped for as long as `self` lives, page-aligned, and only ever accessed atomically on this side.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// The words as buckets of an index.
    pub(super) fn buckets(&self) -> &[Bucket<AtomicU64>] {
        let count = self.words / (size_of::<Bucket<AtomicU64>>() / WORD);
        // SAFETY: as in `all`; a bucket is eight words in a row (`repr(C)`, its size is asserted beside it).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.words * WORD) };
    }
}

/// Two fields of a structure that lie in one word.
pub(super) fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; WORD];
    let (low, high) = bytes.split_at_mut(WORD / 2);
    low.copy_from_slice(&first.to_ne_bytes());
    high.copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The records of a flow table.
#[derive(Debug)]
pub(super) struct Records<A> {
    words: Words,
    family: PhantomData<A>,
}

/// Words of the largest record, IPv6's.
const LARGEST: usize = 22;

impl<A: Address> Records<A> {
    /// Words of a record.
    const WORDS: usize = size_of::<Flow<A>>() / WORD;
    /// Which of them is the state.
    const STATE: usize = std::mem::offset_of!(Flow<A>, state) / WORD;

    /// Maps the array of so many records.
    pub(super) fn map(fd: BorrowedFd<'_>, records: u32) -> io::Result<Self> {
        const { assert!(Self::WORDS <= LARGEST && size_of::<Flow<A>>().is_multiple_of(WORD)) };
        Ok(Self { words: Words::map(fd, records as usize * Self::WORDS)?, family: PhantomData })
    }

    /// Number of records.
    pub(super) fn len(&self) -> u32 {
        (self.words.words / Self::WORDS) as u32
    }

    fn record(&self, number: u32) -> &[AtomicU64] {
        let start = number as usize * Self::WORDS;
        self.words.all().get(start..start + Self::WORDS).unwrap_or_default()
    }

    /// The state word of a record; `None` for a number that there is no record of.
    pub(super) fn state_word(&self, number: u32) -> Option<&AtomicU64> {
        self.record(number).get(Self::STATE)
    }

    /// The state of a record.
    pub(super) fn state(&self, number: u32) -> State {
        State(self.state_word(number).map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// Gives a record other interfaces to send by, unless they have changed in the meantime: false then. Both at once:
    /// they share a word.
    pub(super) fn turn(&self, number: u32, from: [u32; 2], to: [u32; 2]) -> bool {
        const { assert!(std::mem::offset_of!(Flow<A>, oif).is_multiple_of(WORD)) };
        let word = |[first, second]: [u32; 2]| pair(first, second);
        let place = self.record(number).get(std::mem::offset_of!(Flow<A>, oif) / WORD);
        place.is_some_and(|place| {
            place.compare_exchange(word(from), word(to), Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// Sets when a record's ends were last heard, and how far their streams have got.
    pub(super) fn resume(&self, number: u32, halves: [Half; 2]) {
        const { assert!(std::mem::offset_of!(Half, last_seen).is_multiple_of(WORD)) };
        const { assert!(std::mem::offset_of!(Half, next).is_multiple_of(WORD)) };
        let start = std::mem::offset_of!(Flow<A>, halves) / WORD;
        let places = self.record(number).iter().skip(start);
        let words =
            halves.iter().flat_map(|half| [None, Some(half.next), Some(pair(half.last_seen, half.first))]);
        for (place, word) in places.zip(words) {
            if let Some(word) = word {
                place.store(word, Ordering::Release);
            }
        }
    }

    /// A copy of a record. Its state is read first: if the state is live and the same afterwards, the copy is of one
    /// flow.
    pub(super) fn copy(&self, number: u32) -> Option<Flow<A>> {
        let record = self.record(number);
        let state = record.get(Self::STATE)?.load(Ordering::Acquire);
        let mut words = [0_u64; LARGEST];
        for (copy, word) in words.iter_mut().zip(record) {
            *copy = word.load(Ordering::Acquire);
        }
        if State(state).generation() != self.state(number).generation() {
            return None;
        }
        // SAFETY: at least as many words as the record has (asserted in `map`), and every bit pattern is a value of
        // it: integers without padding.
        Some(unsafe { std::ptr::read(words.as_ptr().cast()) })
    }

    /// Puts a record in place, as the tests of the programs do.
    pub(super) fn put(&self, number: u32, flow: &Flow<A>) {
        let mut words = [0_u64; LARGEST];
        // SAFETY: the reverse of `copy`.
        unsafe { std::ptr::write(words.as_mut_ptr().cast(), *flow) };
        for (word, value) in self.record(number).iter().zip(words) {
            word.store(value, Ordering::Release);
        }
    }
}
