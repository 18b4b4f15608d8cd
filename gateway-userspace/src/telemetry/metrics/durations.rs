//! How long something took that happens seldom. Clones share it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bounds::Bounds;

/// In seconds: from a change of one document to a mesh that is read anew.
pub(super) const BOUNDS: Bounds =
    Bounds(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Durations(Arc<Mutex<Counts>>);

#[derive(Debug, Clone, Default)]
struct Counts {
    buckets: [u64; BOUNDS.0.len() + 1],
    sum: f64,
}

impl Durations {
    /// It took so long.
    pub fn observe(&self, duration: Duration) {
        // Whoever panics here leaves numbers.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = counts.buckets.get_mut(BOUNDS.bucket(seconds)) {
            *bucket += 1;
        }
        counts.sum += seconds;
    }

    /// How often in each bucket, and all together.
    pub(super) fn read(&self) -> (Vec<u64>, f64) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.buckets.to_vec(), counts.sum)
    }
}
