//! How many connections were handed over, how long it took, and why others were not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Times that are kept: the latest ones.
const KEPT: usize = 4096;

/// Counted by all workers.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    handed_over: u64,
    refused: BTreeMap<&'static str, u64>,
    microseconds: Vec<u32>,
}

/// A reading, for people and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tallied {
    /// Connections that were handed over, or tried to be.
    pub attempted: u64,
    /// Those that the kernel carries, or carried.
    pub handed_over: u64,
    /// Attempts that left the connection in user space, by reason.
    pub refused: BTreeMap<String, u64>,
    /// How long it took, over the latest thousands.
    pub microseconds: Percentiles,
}

/// Of a duration in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u32,
    /// The 99th.
    pub p99: u32,
}

impl Tally {
    pub(super) fn succeeded(&self, took: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = counts.handed_over as usize % KEPT;
        counts.handed_over += 1;
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match counts.microseconds.get_mut(place) {
            Some(oldest) => *oldest = took,
            None => counts.microseconds.push(took),
        }
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.refused.entry(refusal.label()).or_default() += 1;
    }

    /// What was counted so far.
    pub fn read(&self) -> Tallied {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = counts.microseconds.clone();
        times.sort_unstable();
        let at = |percent: usize| {
            let place = times.len().saturating_sub(1) * percent / 100;
            times.get(place).copied().unwrap_or(0)
        };
        Tallied {
            attempted: counts.handed_over + counts.refused.values().sum::<u64>(),
            handed_over: counts.handed_over,
            refused: counts.refused.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect(),
            microseconds: Percentiles { p50: at(50), p99: at(99) },
        }
    }
}
