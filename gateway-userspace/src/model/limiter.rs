//! Counts what is bounded across workers: connections of a listener, new ones in a second, connections to a cluster.
//! Time comes from outside; nothing is counted where nothing is bounded.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::listener::Limits;

/// A handle: clones share it.
#[derive(Debug)]
pub struct Limiter<K> {
    counts: Arc<Mutex<HashMap<K, Count>>>,
}

#[derive(Debug, Default)]
struct Count {
    active: u32,
    /// Connections in the second that began at the instant.
    recent: Option<(Instant, u32)>,
    refused: u64,
}

/// One connection that counts until dropped.
#[derive(Debug)]
pub struct Admission<K: Eq + Hash> {
    key: K,
    counts: Arc<Mutex<HashMap<K, Count>>>,
}

impl<K> Clone for Limiter<K> {
    fn clone(&self) -> Self {
        Self { counts: self.counts.clone() }
    }
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self { counts: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> Limiter<K> {
    /// Lets one more connection in, or counts the refusal and returns `None`.
    pub fn admit(&self, key: &K, limits: Limits, now: Instant) -> Option<Admission<K>> {
        let mut counts = lock(&self.counts);
        let count = counts.entry(key.clone()).or_default();
        if !count.admit(limits, now) {
            count.refused += 1;
            return None;
        }
        drop(counts);
        Some(Admission { key: key.clone(), counts: self.counts.clone() })
    }

    /// How many there are.
    pub fn active(&self, key: &K) -> u32 {
        lock(&self.counts).get(key).map_or(0, |count| count.active)
    }

    /// Connections refused so far.
    pub fn refused(&self, key: &K) -> u64 {
        lock(&self.counts).get(key).map_or(0, |count| count.refused)
    }

    /// Whom refusals were counted for, in order, and how many.
    pub fn all_refused(&self) -> BTreeMap<K, u64>
    where
        K: Ord,
    {
        let counts = lock(&self.counts);
        let refused = counts.iter().filter(|(_, count)| count.refused > 0);
        refused.map(|(key, count)| (key.clone(), count.refused)).collect()
    }

    /// Forgets what is neither in use nor `known`.
    pub fn retain(&self, known: impl Fn(&K) -> bool) {
        lock(&self.counts).retain(|key, count| count.active > 0 || known(key));
    }
}

impl<K: Eq + Hash> Drop for Admission<K> {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.counts).get_mut(&self.key) {
            count.active = count.active.saturating_sub(1);
        }
    }
}

impl Count {
    fn admit(&mut self, limits: Limits, now: Instant) -> bool {
        if limits.connections.is_some_and(|most| self.active >= most) {
            return false;
        }
        if let Some(most) = limits.new_per_second {
            let (since, recent) = self
                .recent
                .filter(|(since, _)| now.saturating_duration_since(*since) < Duration::from_secs(1))
                .unwrap_or((now, 0));
            if recent >= most {
                return false;
            }
            self.recent = Some((since, recent + 1));
        }
        self.active += 1;
        true
    }
}

fn lock<K>(counts: &Mutex<HashMap<K, Count>>) -> MutexGuard<'_, HashMap<K, Count>> {
    // Every change leaves the map whole, so that a panic elsewhere has broken nothing.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_until_they_end() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let limits = Limits { connections: Some(2), new_per_second: None };
        let (first, _second) = (limiter.admit(&80, limits, now), limiter.admit(&80, limits, now));
        assert!(first.is_some() && limiter.admit(&80, limits, now).is_none());
        assert!(limiter.admit(&81, limits, now).is_some(), "another listener");
        drop(first);
        let third = limiter.admit(&80, limits, now);
        assert!(third.is_some() && limiter.admit(&80, limits, now).is_none());
        assert_eq!((limiter.refused(&80), limiter.refused(&81)), (2, 0));
        limiter.retain(|_| false);
        drop(third);
        assert!(limiter.admit(&80, limits, now).is_some(), "those still open were not forgotten");
    }

    #[test]
    fn new_connections_are_counted_by_the_second() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let limits = Limits { connections: None, new_per_second: Some(2) };
        let admitted =
            |milliseconds| limiter.admit(&80, limits, start + Duration::from_millis(milliseconds)).is_some();
        let got = [0, 100, 200, 999, 1000, 1500, 1600, 2000].map(admitted);
        assert_eq!(got, [true, true, false, false, true, true, false, true]);
        assert_eq!(limiter.refused(&80), 3);
    }
}
