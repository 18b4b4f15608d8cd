//! Which failures of a try lead to another one, how many there are, and how far apart.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// `HTTPRetry`. The default is what holds for every route that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Tries after the first. Never 0: such a route has no policy.
    pub attempts: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Statuses that are, besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// Of each try, from its connection or the request's end on, until the response's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Upper bound of the pause before the second try; it doubles with every further one, up to ten times as much.
    pub backoff: Duration,
    /// `retryIgnorePreviousHosts`: endpoints that were tried come last.
    pub avoid_previous: bool,
    /// No document says what is tried again. Then a request that may be repeated by its method (RFC 9110, 9.2.2) and has no
    /// body is, at another endpoint, if the one that was asked breaks off or falls silent; and any request, if it could not be
    /// reached in good time.
    #[serde(skip)]
    pub rescues: bool,
    /// `retryRemoteLocalities`: after two tries in vain, other priorities of places than theirs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remote_localities: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let on = RetryOn::CONNECT_FAILURE
            .with(RetryOn::REFUSED_STREAM)
            .with(RetryOn::UNAVAILABLE)
            .with(RetryOn::CANCELLED);
        let (statuses, per_try_timeout) = (Vec::new(), None);
        let backoff = Duration::from_millis(25);
        let (avoid_previous, rescues, remote_localities) = (true, true, false);
        Self {
            attempts: 2,
            on,
            statuses,
            per_try_timeout,
            backoff,
            avoid_previous,
            rescues,
            remote_localities,
        }
    }
}

impl RetryPolicy {
    /// The pause before a try, the second being `retry` 1; `share` of what it may be at most is below 1.
    pub fn pause(&self, retry: u32, share: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << retry.saturating_sub(1).min(4));
        doubled.min(self.backoff.saturating_mul(10)).mul_f64(share.clamp(0.0, 1.0))
    }

    /// Whether a try whose request has been sent may be followed by another. `streams`: the backend can refuse single
    /// streams, as HTTP/2 does; `grpc`: its answers have gRPC's statuses.
    pub fn repeats_what_was_sent(&self, streams: bool, grpc: bool) -> bool {
        let mut never = RetryOn::CONNECT_FAILURE;
        if !streams {
            never = never.with(RetryOn::REFUSED_STREAM);
        }
        if !grpc {
            never = never.with(RetryOn::GRPC);
        }
        !self.statuses.is_empty() || !self.on.without(never).is_empty()
    }
}

/// A set of conditions, by Envoy's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn(u16);

const NAMES: [(&str, RetryOn); 14] = [
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("unavailable", RetryOn::UNAVAILABLE),
    ("cancelled", RetryOn::CANCELLED),
    ("deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
    ("internal", RetryOn::INTERNAL),
    ("resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("envoy-ratelimited", RetryOn::RATE_LIMITED),
    // Statuses have a list of their own, and headers can be named by nobody: these two say nothing more.
    ("retriable-status-codes", RetryOn(0)),
];

impl RetryOn {
    /// No connection.
    pub const CONNECT_FAILURE: Self = Self(1);
    /// The backend has not looked at the stream (HTTP/2 `REFUSED_STREAM`).
    pub const REFUSED_STREAM: Self = Self(1 << 1);
    /// gRPC status 14.
    pub const UNAVAILABLE: Self = Self(1 << 2);
    /// gRPC status 1.
    pub const CANCELLED: Self = Self(1 << 3);
    /// gRPC status 4.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 4);
    /// gRPC status 13.
    pub const INTERNAL: Self = Self(1 << 5);
    /// gRPC status 8.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 6);
    /// A status of 5xx, or no answer.
    pub const SERVER_ERROR: Self = Self(1 << 7);
    /// 502, 503, 504, or no answer.
    pub const GATEWAY_ERROR: Self = Self(1 << 8);
    /// No answer.
    pub const RESET: Self = Self(1 << 9);
    /// No answer, and nothing of the request was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 10);
    /// 409.
    pub const RETRIABLE_4XX: Self = Self(1 << 11);
    /// An answer with `x-envoy-ratelimited`.
    pub const RATE_LIMITED: Self = Self(1 << 12);
    /// All that ask for gRPC's statuses.
    pub const GRPC: Self = Self(0b111_1100);

    /// The condition of a name; `None` if nobody knows it.
    pub fn named(name: &str) -> Option<Self> {
        if name == "retriable-headers" {
            return Some(Self(0));
        }
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set alone.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether they have something in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = NAMES.iter().filter(|(_, condition)| self.meets(*condition)).map(|(name, _)| *name);
        serializer.collect_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_times_the_first() {
        let policy = RetryPolicy::default();
        let most: Vec<u128> =
            [1, 2, 3, 4, 5, 6, 40].map(|retry| policy.pause(retry, 1.0).as_millis()).to_vec();
        assert_eq!(most, [25, 50, 100, 200, 250, 250, 250]);
        assert_eq!(policy.pause(2, 0.5), Duration::from_millis(25));
        assert_eq!(policy.pause(3, 0.0), Duration::ZERO);
    }

    #[test]
    fn bodies_are_held_only_where_they_may_be_sent_again() {
        let of = |names: &str| RetryPolicy {
            on: names.split(',').filter_map(RetryOn::named).fold(RetryOn::default(), RetryOn::with),
            ..RetryPolicy::default()
        };
        let default = "connect-failure,refused-stream,unavailable,cancelled";
        for (names, streams, grpc, want) in [
            (default, false, false, false),
            (default, true, false, true),
            (default, false, true, true),
            ("connect-failure", true, true, false),
            ("connect-failure,refused-stream", false, true, false),
            ("internal,resource-exhausted,deadline-exceeded", true, false, false),
            ("5xx", false, false, true),
            ("reset-before-request", false, false, true),
        ] {
            assert_eq!(of(names).repeats_what_was_sent(streams, grpc), want, "{names} {streams} {grpc}");
        }
        let statuses = RetryPolicy { statuses: vec![503], ..of("connect-failure") };
        assert!(statuses.repeats_what_was_sent(false, false));
        assert_eq!(of(default), RetryPolicy::default());
    }
}
