//! Rates and percentiles between two readings of the counters.

use std::time::Duration;

use crate::admin::counters::Counters;
use crate::telemetry::metrics::Traffic;

/// All in all, each second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    /// Requests that ended.
    pub(super) requests: f64,
    /// Those answered by 4xx.
    pub(super) client_errors: f64,
    /// Those answered by 5xx.
    pub(super) server_errors: f64,
    /// What was refused before any rule.
    pub(super) refused: f64,
    /// Connections that user space accepted.
    pub(super) accepted: f64,
    /// Flows that the kernel plane took.
    pub(super) flows: f64,
    /// Connections handed over.
    pub(super) handoffs: f64,
    /// Bytes of bodies, and of opaque connections in user space.
    pub(super) user_space_bytes: f64,
    /// Bytes of flows in the kernel plane.
    pub(super) kernel_bytes: f64,
    /// Processors that are busy with the process.
    pub(super) cpu: f64,
}

impl Rates {
    /// Between two readings of one process.
    pub(super) fn between(before: &Counters, now: &Counters, time: Duration) -> Self {
        let rate = |of: fn(&Counters) -> u64| per_second(of(before), of(now), time);
        let services = |of: fn(&Traffic) -> u64| {
            let sum = |counters: &Counters| counters.services.values().map(of).sum::<u64>();
            per_second(sum(before), sum(now), time)
        };
        let seconds = time.as_secs_f64().max(f64::EPSILON);
        Self {
            requests: services(|of| of.requests),
            client_errors: services(|of| of.client_errors),
            server_errors: services(|of| of.errors),
            refused: rate(|of| of.refused),
            accepted: rate(|of| of.listeners.values().map(|of| of.accepted).sum()),
            flows: rate(|of| of.kernel.iter().flat_map(|it| &it.listeners).map(|it| it.traffic.flows).sum()),
            handoffs: rate(|of| of.handoffs),
            user_space_bytes: services(|of| of.received + of.sent) + rate(|of| of.carried_bytes),
            kernel_bytes: rate(kernel_bytes),
            cpu: ((now.usage.cpu_seconds - before.usage.cpu_seconds) / seconds).max(0.0),
        }
    }
}

/// Bytes that the kernel plane has carried.
fn kernel_bytes(of: &Counters) -> u64 {
    let listeners = of.kernel.iter().flat_map(|kernel| &kernel.listeners);
    listeners.map(|it| it.traffic.bytes_to_backend + it.traffic.bytes_to_client).sum()
}

/// What a counter grew by each second; one that began anew has not.
pub(super) fn per_second(before: u64, now: u64, time: Duration) -> f64 {
    now.saturating_sub(before) as f64 / time.as_secs_f64().max(f64::EPSILON)
}

/// The duration in milliseconds that a share of the requests between two readings stayed below, as Prometheus' `histogram_quantile`
/// has it: evenly spread within a bucket, and the last bound beyond all of them. `None` without requests.
pub(super) fn quantile(before: &[u64], now: &[u64], bounds: &[f64], share: f64) -> Option<f64> {
    let earlier = |at: usize| before.get(at).copied().unwrap_or(0);
    let grown: Vec<u64> =
        now.iter().enumerate().map(|(at, count)| count.saturating_sub(earlier(at))).collect();
    let all: u64 = grown.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let mut below = 0;
    for (at, count) in grown.iter().enumerate() {
        let lower = if at == 0 { 0.0 } else { bounds.get(at - 1).copied()? };
        if *count > 0 && (below + count) as f64 >= rank {
            let Some(upper) = bounds.get(at) else { return Some(lower) };
            let within = (rank - below as f64) / *count as f64;
            return Some(lower + (upper - lower) * within);
        }
        below += count;
    }
    bounds.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let bounds = [1.0, 5.0, 10.0];
        for (before, now, share, want) in [
            (&[][..], &[0, 0, 0, 0][..], 0.5, None),
            (&[], &[10, 0, 0, 0], 0.5, Some(0.5)),
            (&[], &[0, 4, 0, 0], 0.5, Some(3.0)),
            (&[], &[50, 0, 50, 0], 0.99, Some(9.9)),
            // Beyond all bounds there is no other.
            (&[], &[0, 0, 0, 7], 0.5, Some(10.0)),
            (&[10, 0, 0, 0], &[10, 2, 0, 0], 1.0, Some(5.0)),
            // Another process has counted less.
            (&[10, 0, 0, 0], &[3, 0, 0, 0], 0.5, None),
        ] {
            let found = quantile(before, now, &bounds, share);
            let is_near = match (found, want) {
                (Some(found), Some(want)) => f64::abs(found - want) < 1e-9,
                (found, want) => found == want,
            };
            assert!(is_near, "{before:?} {now:?} {share}: {found:?}, not {want:?}");
        }
    }

    #[test]
    fn rates_are_of_a_second_and_never_below_nothing() {
        let mut before = Counters { refused: 10, carried_bytes: 1000, ..Counters::default() };
        before.usage.cpu_seconds = 1.0;
        let totals = Traffic { requests: 40, errors: 4, received: 10, sent: 90, ..Traffic::default() };
        let mut now = Counters { refused: 14, carried_bytes: 3000, ..Counters::default() };
        now.usage.cpu_seconds = 2.0;
        now.services.insert("web".to_owned(), totals);
        let rates = Rates::between(&before, &now, Duration::from_secs(2));
        let found = [rates.requests, rates.server_errors, rates.refused, rates.user_space_bytes, rates.cpu];
        assert_eq!(found.map(|rate| format!("{rate:.1}")), ["20.0", "2.0", "2.0", "1050.0", "0.5"]);
        let back = Rates::between(&now, &before, Duration::from_secs(2));
        assert_eq!(back, Rates::default());
    }
}
