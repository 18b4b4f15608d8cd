//! `retries`: what a rule says, and Istio's default where it says nothing.

use crate::api::virtual_service::HttpRetry;
use crate::model::{RetryOn, RetryPolicy};

/// The policy of a rule, or the mesh's where a rule has none; `attempts: 0` is none.
pub(super) fn policy(written: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let default = RetryPolicy::default();
    let Some(written) = written else { return Some(default) };
    let attempts = u32::try_from(written.attempts).ok().filter(|attempts| *attempts > 0)?;
    let (on, statuses) = match written.retry_on.as_str() {
        "" => (default.on, default.statuses),
        conditions => conditions_of(conditions),
    };
    Some(RetryPolicy {
        attempts,
        on,
        statuses,
        per_try_timeout: written.per_try_timeout.map(|timeout| timeout.0),
        backoff: written.backoff.map_or(default.backoff, |backoff| backoff.0),
        rescues: written.retry_on.is_empty(),
        avoid_previous: written.retry_ignore_previous_hosts.unwrap_or(default.avoid_previous),
        remote_localities: written.retry_remote_localities.unwrap_or(default.remote_localities),
    })
}

/// Names and statuses of a `retryOn`.
fn conditions_of(text: &str) -> (RetryOn, Vec<u16>) {
    let words = || text.split(',').map(str::trim);
    let named = words().filter_map(RetryOn::named).fold(RetryOn::default(), RetryOn::with);
    (named, words().filter_map(|word| word.parse().ok()).collect())
}
