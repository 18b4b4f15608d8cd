//! What is allowed of HTTP at a time; 0 is no limit, as in Istio.

use crate::api::destination_rule::{Http2KeepAlive, HttpSettings, RetryBudget as Written};
use crate::model::{HttpLimits, Pings, RetryBudget};

/// Envoy's, where a budget says nothing.
const PERCENT: f64 = 20.0;
const AT_LEAST: u32 = 3;

pub(super) fn http(written: Option<&HttpSettings>, budget: Option<&Written>) -> HttpLimits {
    let count = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0);
    let of = |field: fn(&HttpSettings) -> i32| written.map(field).and_then(count);
    HttpLimits {
        pending: of(|http| http.http1_max_pending_requests),
        requests: of(|http| http.http2_max_requests),
        requests_per_connection: of(|http| http.max_requests_per_connection),
        concurrent_streams: of(|http| http.max_concurrent_streams),
        retries: of(|http| http.max_retries),
        retry_budget: budget.map(|budget| RetryBudget {
            percent: budget.percent.unwrap_or(PERCENT),
            at_least: Some(budget.min_retry_concurrency).filter(|count| *count > 0).unwrap_or(AT_LEAST),
        }),
        idle_timeout: written.and_then(|http| http.idle_timeout).map(|timeout| timeout.0),
        pings: written.and_then(|http| http.http2_keep_alive.as_ref()).and_then(pings),
    }
}

fn pings(written: &Http2KeepAlive) -> Option<Pings> {
    Some(Pings { interval: written.interval?.0, timeout: written.timeout?.0 })
}
