//! What a DestinationRule allows of HTTP towards a cluster, over all workers: `connectionPool.http` and `retryBudget`.

use std::time::Duration;

use serde::Serialize;

/// See the module. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpLimits {
    /// `http1MaxPendingRequests`: requests that wait for a connection.
    pub pending: Option<u32>,
    /// `http2MaxRequests`: requests at a time, whatever the version.
    pub requests: Option<u32>,
    /// `maxRequestsPerConnection`, over the connection's life.
    pub requests_per_connection: Option<u32>,
    /// `maxConcurrentStreams`: requests at a time on an HTTP/2 connection; more make another one.
    pub concurrent_streams: Option<u32>,
    /// `maxRetries`: further tries at a time. A budget replaces it.
    pub retries: Option<u32>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    /// `idleTimeout`: how long a connection without requests is kept; beats that of `tcp`.
    pub idle_timeout: Option<Duration>,
    /// `http2KeepAlive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pings: Option<Pings>,
}

/// `http2KeepAlive`: an HTTP/2 connection is asked for a sign of life (RFC 9113, 6.7), with requests or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pings {
    /// Between two.
    pub interval: Duration,
    /// Without an answer for so long, the connection is dead.
    pub timeout: Duration,
}

/// `retryBudget`: further tries at a time, as a share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Percent of the requests that are under way.
    pub percent: f64,
    /// As many are always allowed.
    pub at_least: u32,
}

impl HttpLimits {
    /// Whether requests must be counted.
    pub fn counts_requests(&self) -> bool {
        self.requests.is_some() || self.retry_budget.is_some()
    }

    /// Further tries that may be under way while `requests` are.
    pub fn retries_with(&self, requests: u32) -> Option<u32> {
        match self.retry_budget {
            // A share of what fits into 32 bits does too; a percentage beyond 100 is cut to what does.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, as meant"
            )]
            Some(RetryBudget { percent, at_least }) => {
                Some(((percent / 100.0 * f64::from(requests)) as u32).max(at_least))
            }
            None => self.retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_replaces_the_number_of_retries() {
        let budget = |percent| Some(RetryBudget { percent, at_least: 3 });
        for (retries, retry_budget, requests, want) in [
            (None, None, 5, None),
            (Some(7), None, 5, Some(7)),
            (Some(7), budget(20.0), 5, Some(3)),
            (None, budget(20.0), 100, Some(20)),
            (None, budget(0.0), 100, Some(3)),
            (None, budget(-1.0), 100, Some(3)),
            (None, budget(12.5), 30, Some(3)),
            (None, budget(12.5), 39, Some(4)),
        ] {
            let limits = HttpLimits { retries, retry_budget, ..HttpLimits::default() };
            assert_eq!(limits.retries_with(requests), want, "{retries:?} {retry_budget:?} {requests}");
        }
    }
}
