//! The last quarter of an hour, kept by the agent and not by the page: whoever opens the page in an incident wants to see how it began.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::process;
use super::super::view::View;
use crate::model::Subscription;
use crate::telemetry::metrics::Registry;

/// Between two samples.
const STEP: Duration = Duration::from_secs(5);
/// Samples that are kept.
const MOST: usize = 180;

/// Counters at one moment; rates are differences.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    /// Milliseconds since 1970.
    at: u64,
    requests: u64,
    errors: u64,
    /// Of both planes, both ways.
    bytes: u64,
    /// Connections that were given to the kernel.
    handoffs: u64,
    /// Flows in the kernel and opaque connections in user space.
    flows: u64,
    /// Bytes.
    memory: u64,
    /// Seconds.
    cpu: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    step_milliseconds: u64,
    samples: Vec<Sample>,
}

impl History {
    /// All samples, the oldest first.
    pub(super) fn view(&self) -> Kept {
        let step_milliseconds = u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX);
        Kept { step_milliseconds, samples: self.lock().iter().copied().collect() }
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples.len() >= MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        // Nothing that holds it can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    /// Of now; `flows` are the kernel's.
    pub(super) fn of(view: &View, flows: u64) -> Self {
        let total = view.metrics.as_ref().map(Registry::total).unwrap_or_default();
        let opaque: u64 = view.counts.connections.by_tier().values().sum();
        Self {
            at: milliseconds(SystemTime::now()),
            requests: total.requests,
            errors: total.errors,
            bytes: total.bytes(),
            handoffs: view.handed_over.tallied().handed_over,
            flows: flows + opaque,
            memory: process::resident().unwrap_or(0),
            cpu: process::cpu_seconds().unwrap_or(0.0),
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Takes samples as long as it is polled.
pub async fn keep(view: Subscription<View>) {
    loop {
        let now: Arc<View> = view.current();
        let kernel = now.kernel_plane.status().await;
        let flows = kernel.map_or(0, |kernel| kernel.flows.total() as u64);
        now.dashboard.history.add(Sample::of(&now, flows));
        now.dashboard.flows.forget_old();
        drop(now);
        tokio::time::sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_samples_go_first() {
        let history = History::default();
        for at in 0..(MOST as u64 + 5) {
            history.add(Sample { at, ..Sample::default() });
        }
        let Kept { samples, .. } = history.view();
        assert_eq!((samples.len(), samples[0].at, samples[MOST - 1].at), (MOST, 5, MOST as u64 + 4));
    }
}
