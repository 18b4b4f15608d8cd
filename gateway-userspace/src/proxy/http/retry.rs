//! Whether a try is followed by another. Pure: what was seen, what the policy says, how often it was tried.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::model::{RetryOn, RetryPolicy};
use crate::proxy::error::{Reset, Tries};

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// How a try ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// With the head of a response.
    Response(StatusCode, &'a HeaderMap),
    /// Without one.
    Reset(Reset),
    /// Not within `perTryTimeout`.
    TryTimeout,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Another try.
    Again,
    /// What was seen is the answer.
    Answer(Tries),
}

/// Decides after the `made`th try (the first is 1). `repeatable`: the request can be said again.
pub(super) fn decide(policy: Option<&RetryPolicy>, made: u32, seen: Seen<'_>, repeatable: bool) -> Decision {
    match policy.filter(|policy| names(policy, seen)) {
        Some(policy) if made > policy.attempts => Decision::Answer(Tries::Exhausted),
        Some(_) if repeatable => Decision::Again,
        _ => Decision::Answer(tries_so_far(made)),
    }
}

/// What comes before an answer though tries are left.
pub(super) fn tries_so_far(made: u32) -> Tries {
    if made > 1 { Tries::Several } else { Tries::One }
}

/// Whether the policy has a word for it.
fn names(policy: &RetryPolicy, seen: Seen<'_>) -> bool {
    match seen {
        Seen::Response(status, headers) => names_response(policy, status, headers),
        Seen::Reset(reset) => policy.on.meets(of_reset(reset)),
        Seen::TryTimeout => policy.on.meets(NO_ANSWER),
    }
}

/// That no answer came, whatever the reason.
const NO_ANSWER: RetryOn = RetryOn::RESET.with(RetryOn::SERVER_ERROR).with(RetryOn::GATEWAY_ERROR);

/// The words for a reset. What a limit of ours turned away is not tried again: that would be more of the same.
fn of_reset(reset: Reset) -> RetryOn {
    match reset {
        Reset::ConnectFailure | Reset::ConnectTimeout | Reset::TlsFailure => {
            NO_ANSWER.with(RetryOn::CONNECT_FAILURE).with(RetryOn::RESET_BEFORE_REQUEST)
        }
        Reset::Refused => NO_ANSWER.with(RetryOn::REFUSED_STREAM),
        Reset::Terminated | Reset::Remote | Reset::Protocol => NO_ANSWER,
        Reset::Overflow => RetryOn::default(),
    }
}

fn names_response(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    if headers.contains_key(RATE_LIMITED) {
        return policy.on.meets(RetryOn::RATE_LIMITED);
    }
    let mut words = RetryOn::default();
    if status.is_server_error() {
        words = words.with(RetryOn::SERVER_ERROR);
    }
    if matches!(status.as_u16(), 502..=504) {
        words = words.with(RetryOn::GATEWAY_ERROR);
    }
    if status == StatusCode::CONFLICT {
        words = words.with(RetryOn::RETRIABLE_4XX);
    }
    // A gRPC answer that is over with its head has its status there.
    words = words.with(match headers.get(GRPC_STATUS).map(http::HeaderValue::as_bytes) {
        Some(b"1") => RetryOn::CANCELLED,
        Some(b"4") => RetryOn::DEADLINE_EXCEEDED,
        Some(b"8") => RetryOn::RESOURCE_EXHAUSTED,
        Some(b"13") => RetryOn::INTERNAL,
        Some(b"14") => RetryOn::UNAVAILABLE,
        _ => RetryOn::default(),
    });
    policy.on.meets(words) || policy.statuses.contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy of two further tries.
    fn policy(on: &str, statuses: &[u16]) -> RetryPolicy {
        let on = on.split(',').filter_map(RetryOn::named).fold(RetryOn::default(), RetryOn::with);
        RetryPolicy { on, statuses: statuses.to_vec(), ..RetryPolicy::default() }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled";

    #[test]
    fn every_word_names_what_envoy_means_by_it() {
        use Reset::{
            ConnectFailure, ConnectTimeout, Overflow, Protocol, Refused, Remote, Terminated, TlsFailure,
        };
        let none = &[][..];
        for (on, reset, statuses) in [
            (DEFAULT, &[ConnectFailure, ConnectTimeout, TlsFailure, Refused][..], none),
            (
                "5xx",
                &[ConnectFailure, ConnectTimeout, TlsFailure, Refused, Remote, Terminated, Protocol],
                &[500, 502, 503, 504, 511],
            ),
            (
                "gateway-error",
                &[ConnectFailure, ConnectTimeout, TlsFailure, Refused, Remote, Terminated, Protocol],
                &[502, 503, 504],
            ),
            (
                "reset",
                &[ConnectFailure, ConnectTimeout, TlsFailure, Refused, Remote, Terminated, Protocol],
                none,
            ),
            ("reset-before-request", &[ConnectFailure, ConnectTimeout, TlsFailure], none),
            ("connect-failure", &[ConnectFailure, ConnectTimeout, TlsFailure], none),
            ("refused-stream", &[Refused], none),
            ("retriable-4xx", &[], &[409]),
            ("retriable-headers,retriable-status-codes", &[], none),
        ] {
            let policy = policy(on, &[]);
            for seen in
                [ConnectFailure, ConnectTimeout, TlsFailure, Refused, Remote, Terminated, Protocol, Overflow]
            {
                assert_eq!(names(&policy, Seen::Reset(seen)), reset.contains(&seen), "{on} {seen:?}");
            }
            for status in [200, 404, 409, 429, 500, 502, 503, 504, 511] {
                let code = StatusCode::from_u16(status).unwrap();
                let named = names(&policy, Seen::Response(code, &HeaderMap::new()));
                assert_eq!(named, statuses.contains(&status), "{on} {status}");
            }
            let timeout = names(&policy, Seen::TryTimeout);
            assert_eq!(timeout, ["5xx", "gateway-error", "reset"].contains(&on), "{on}");
        }
    }

    #[test]
    fn statuses_of_grpc_and_listed_ones_are_named_too() {
        let ok = StatusCode::OK;
        for (on, statuses, status, pairs, want) in [
            (DEFAULT, &[][..], ok, &[("grpc-status", "14")][..], true),
            (DEFAULT, &[], ok, &[("grpc-status", "1")], true),
            (DEFAULT, &[], ok, &[("grpc-status", "13")], false),
            ("internal", &[], ok, &[("grpc-status", "13")], true),
            ("deadline-exceeded", &[], ok, &[("grpc-status", "4")], true),
            ("resource-exhausted", &[], ok, &[("grpc-status", "8")], true),
            (DEFAULT, &[], ok, &[("grpc-status", "0")], false),
            ("retriable-status-codes", &[503, 418], StatusCode::IM_A_TEAPOT, &[], true),
            ("retriable-status-codes", &[503], StatusCode::BAD_GATEWAY, &[], false),
            ("5xx", &[], StatusCode::SERVICE_UNAVAILABLE, &[("x-envoy-ratelimited", "true")], false),
            (
                "envoy-ratelimited",
                &[],
                StatusCode::TOO_MANY_REQUESTS,
                &[("x-envoy-ratelimited", "true")],
                true,
            ),
        ] {
            let seen = headers(pairs);
            assert_eq!(
                names(&policy(on, statuses), Seen::Response(status, &seen)),
                want,
                "{on} {status} {pairs:?}"
            );
        }
    }

    #[test]
    fn tries_end_when_they_are_used_up_or_the_request_cannot_be_said_again() {
        let policy = policy("5xx", &[]);
        let (refused, gone) = (Seen::Reset(Reset::Terminated), Seen::Reset(Reset::Overflow));
        for (policy, made, seen, repeatable, want) in [
            (Some(&policy), 1, refused, true, Decision::Again),
            (Some(&policy), 2, refused, true, Decision::Again),
            (Some(&policy), 3, refused, true, Decision::Answer(Tries::Exhausted)),
            (Some(&policy), 1, refused, false, Decision::Answer(Tries::One)),
            (Some(&policy), 2, refused, false, Decision::Answer(Tries::Several)),
            (Some(&policy), 2, gone, true, Decision::Answer(Tries::Several)),
            (None, 1, refused, true, Decision::Answer(Tries::One)),
        ] {
            assert_eq!(decide(policy, made, seen, repeatable), want, "{made} {seen:?} {repeatable}");
        }
    }
}
