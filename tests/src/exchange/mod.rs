//! Connections that carry bytes both ways at once, every byte held against what the other end sent.
//!
//! The client begins with four numbers of eight bytes, the highest byte first: seed, bytes up, bytes down, closing. Then
//! both ends send what they make from the seed (the server from its complement), in pieces of all sizes and with rests,
//! and stop sending as `closing` says. Neither end keeps bytes: any of them can be made again from seed and offset, so
//! that the first wrong one is known. `data/exchange` speaks the same in other languages.

pub mod backends;
pub mod calls;
mod openssl;
pub mod ours;
pub mod raw;
pub mod upgraded;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

/// Bytes of a [`Plan`] on the wire.
const HEADER: usize = 32;

/// When an end stops sending, besides having sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Each at once.
    Both = 0,
    /// The server waits for the client's end.
    ClientFirst = 1,
    /// The client waits for the server's end.
    ServerFirst = 2,
    /// The client waits for the server's end, which waits for the client's last byte: for clients that cannot close
    /// one direction alone.
    ServerAfterAll = 3,
    /// The server waits for the client's end, which waits for the server's last byte: for such servers.
    ClientAfterAll = 4,
}

impl Closing {
    /// The three that need both ends to close one direction alone.
    pub const HALVES: [Self; 3] = [Self::Both, Self::ClientFirst, Self::ServerFirst];

    fn from_number(number: u64) -> Option<Self> {
        let all =
            [Self::Both, Self::ClientFirst, Self::ServerFirst, Self::ServerAfterAll, Self::ClientAfterAll];
        all.into_iter().find(|closing| *closing as u64 == number)
    }
}

/// What a connection is to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What the bytes, the sizes of pieces and the rests are made from; no two connections have the same.
    pub seed: u64,
    /// Bytes from the client.
    pub up: u64,
    /// Bytes from the server.
    pub down: u64,
    /// How it ends.
    pub closing: Closing,
}

impl Plan {
    /// Made from a seed alone: from 0 to `most` bytes each way, by their logarithm.
    pub fn of(seed: u64, most: u64, closings: &[Closing]) -> Self {
        let mut random = Rng::with_seed(seed);
        let (up, down) = (size(&mut random, most), size(&mut random, most));
        Self { seed, up, down, closing: closings[random.usize(..closings.len())] }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        for (place, number) in header.chunks_mut(8).zip([self.seed, self.up, self.down, self.closing as u64])
        {
            place.copy_from_slice(&number.to_be_bytes());
        }
        header
    }

    fn read(header: &[u8; HEADER]) -> Option<Self> {
        let [seed, up, down, closing] = [0, 8, 16, 24]
            .map(|at| header[at..at + 8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)));
        Some(Self { seed, up, down, closing: Closing::from_number(closing)? })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, up, down, closing } = self;
        write!(f, "seed {seed}, {up} bytes up, {down} bytes down, closing {closing:?}")
    }
}

/// As many sizes between 1 and 2 as between 1 Mi and 2 Mi.
fn size(random: &mut Rng, most: u64) -> u64 {
    ((random.f64() * ((most + 1) as f64).ln()).exp() as u64 - 1).min(most)
}

/// Eight bytes of what a seed makes (splitmix64), the lowest first.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes the bytes that begin at an offset of what a seed makes.
fn fill(mut to: &mut [u8], seed: u64, mut offset: u64) {
    while !to.is_empty() {
        let skipped = (offset % 8) as usize;
        let count = to.len().min(8 - skipped);
        let (now, rest) = to.split_at_mut(count);
        now.copy_from_slice(&word(seed, offset / 8).to_le_bytes()[skipped..skipped + count]);
        (to, offset) = (rest, offset + count as u64);
    }
}

/// Offset of the first byte that is not what a seed makes, if there is one.
fn first_wrong(bytes: &[u8], seed: u64, offset: u64, scratch: &mut [u8]) -> Option<u64> {
    let want = &mut scratch[..bytes.len()];
    fill(want, seed, offset);
    // Whole slices are compared much faster than bytes one by one.
    if bytes == want {
        return None;
    }
    let wrong = bytes.iter().zip(&*want).position(|(byte, want)| byte != want)?;
    Some(offset + wrong as u64)
}

/// How connections ended at their servers: by seed, and those that did not get as far as telling theirs.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    ended: HashMap<u64, Result<(), String>>,
    nameless: Vec<String>,
}

impl Ledger {
    /// Notes an end. Zero stands for a seed that did not come.
    fn note(&self, seed: u64, end: Result<(), String>) {
        let mut entries = self.0.lock().expect("nobody panics with it");
        match end {
            Err(fault) if seed == 0 => entries.nameless.push(fault),
            end => {
                // A seed that comes twice: one of both is a connection that another's bytes went into.
                let twice = entries.ended.contains_key(&seed);
                entries.ended.insert(seed, if twice { Err("served twice".to_owned()) } else { end });
            }
        }
    }

    /// How a connection ended, once it has.
    pub fn end_of(&self, seed: u64) -> Option<Result<(), String>> {
        self.0.lock().expect("nobody panics with it").ended.get(&seed).cloned()
    }

    /// Faults of connections whose seed never came.
    pub fn nameless(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").nameless.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_can_be_made_from_any_offset_and_wrong_ones_are_found() {
        let mut all = vec![0; 1000];
        fill(&mut all, 7, 0);
        let mut scratch = vec![0; 1000];
        for start in 0..40 {
            for end in [start, start + 1, start + 7, start + 8, 1000] {
                assert_eq!(first_wrong(&all[start..end], 7, start as u64, &mut scratch), None);
            }
        }
        all[533] ^= 1;
        assert_eq!(first_wrong(&all[9..], 7, 9, &mut scratch), Some(533));
        assert_eq!(first_wrong(&all[..8], 8, 0, &mut scratch), Some(0));
        assert!(first_wrong(&all[..8], 7, 8, &mut scratch).is_some(), "shifted bytes are wrong bytes");
    }

    #[test]
    fn a_plan_survives_the_wire_and_sizes_reach_from_none_to_the_most() {
        let plans: Vec<_> = (1..2000).map(|seed| Plan::of(seed, 1 << 26, &Closing::HALVES)).collect();
        for plan in &plans {
            assert_eq!(Plan::read(&plan.header()), Some(*plan));
            assert!(plan.up <= 1 << 26 && plan.down <= 1 << 26);
        }
        for most in [0, 1 << 10, 1 << 20, 1 << 25] {
            assert!(plans.iter().any(|plan| (most / 2..=most).contains(&plan.up)), "none near {most}");
        }
        assert!(Plan::read(&[9; HEADER]).is_none());
    }
}
