//! How long a request may take: the route's timeout, what a gRPC client gives (`grpc-timeout`), and each try's. All of them
//! count from the end of the request, so that a slow upload costs nothing. The first two also pass while there is no backend
//! to send a body to: nobody reads it then, and whether it has ended cannot be known. A try's begins with its connection.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use crate::model::Forward;
use crate::upstream::{Departure, Ended};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// Digits that `grpc-timeout` may have.
const MAX_DIGITS: usize = 8;

/// The bounds of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// To the end of the response, over all tries.
    pub(super) whole: Option<Duration>,
    /// From a try's connection to its response head; shorter than `whole`.
    pub(super) of_try: Option<Duration>,
}

impl Times {
    /// Of a request on a route. A gRPC client's own time counts as far as it is within the route's.
    pub(super) fn of(action: &Forward, headers: &HeaderMap, is_grpc: bool) -> Self {
        let own = headers.get(GRPC_TIMEOUT).filter(|_| is_grpc);
        let own = own.and_then(|value| grpc_timeout(value.as_bytes()));
        let whole = match (action.timeout, own) {
            (Some(route), Some(own)) => Some(route.min(own)),
            (route, own) => route.or(own),
        };
        let of_try = action.retries.as_ref().and_then(|policy| policy.per_try_timeout);
        Self { whole, of_try: of_try.filter(|of_try| whole.is_none_or(|whole| *of_try < whole)) }
    }

    /// Tells the backend how long it has.
    pub(super) fn tell(self, headers: &mut HeaderMap, is_grpc: bool) {
        let Some(expected) = self.of_try.or(self.whole) else { return };
        let milliseconds = expected.as_millis();
        if let Ok(value) = HeaderValue::from_str(&milliseconds.to_string()) {
            headers.insert(EXPECTED, value);
        }
        if is_grpc && let Ok(value) = HeaderValue::from_str(&grpc_text(expected)) {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }
}

/// Passes when `time` is over, counted from the end of the request, or since it has been waiting for a connection.
pub(super) async fn of_request(time: Duration, mut ended: Ended) {
    loop {
        let since = ended.ours_since().await;
        tokio::select! {
            () = passed(since, time) => return,
            () = ended.changed() => {}
        }
    }
}

/// Likewise of a try, which begins when it leaves, be it behind the request's end: how long connecting may take is the
/// cluster's to say.
pub(super) async fn of_try(time: Option<Duration>, departure: &Departure, mut ended: Ended) {
    let Some(time) = time else { return std::future::pending().await };
    let start = departure.at().await;
    passed(ended.at().await.max(start), time).await;
}

async fn passed(from: Instant, time: Duration) {
    match from.checked_add(time) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A time of gRPC's: up to eight digits and a unit. `None` for anything else, and for 0, which is no time.
fn grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    // Envoy counts whole milliseconds, and at least one.
    Some(time.max(Duration::from_millis(1))).filter(|_| number > 0)
}

/// A time as gRPC writes it, in milliseconds where they fit.
fn grpc_text(time: Duration) -> String {
    match time.as_millis() {
        milliseconds @ 0..100_000_000 => format!("{milliseconds}m"),
        _ => format!("{}S", time.as_secs().min(99_999_999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RetryPolicy;

    fn route(timeout: Option<u64>, of_try: Option<u64>) -> Forward {
        let milliseconds = |time: Option<u64>| time.map(Duration::from_millis);
        let retries = RetryPolicy { per_try_timeout: milliseconds(of_try), ..RetryPolicy::default() };
        Forward { timeout: milliseconds(timeout), retries: Some(retries), ..Forward::to(vec![]) }
    }

    #[test]
    fn a_grpc_clients_time_counts_within_the_routes() {
        for (timeout, of_try, sent, is_grpc, whole, try_) in [
            (None, None, None, false, None, None),
            (Some(200), None, None, true, Some(200), None),
            (Some(200), None, Some("3000m"), true, Some(200), None),
            (Some(5000), None, Some("300m"), true, Some(300), None),
            (None, None, Some("300m"), true, Some(300), None),
            (None, None, Some("2S"), true, Some(2000), None),
            (None, None, Some("1M"), true, Some(60_000), None),
            (None, None, Some("1u"), true, Some(1), None),
            (None, None, Some("300m"), false, None, None),
            (None, None, Some("123456789m"), true, None, None),
            (None, None, Some("-1m"), true, None, None),
            (None, None, Some("m"), true, None, None),
            (None, None, Some("0m"), true, None, None),
            (None, Some(100), None, false, None, Some(100)),
            (Some(300), Some(100), None, false, Some(300), Some(100)),
            (Some(100), Some(100), None, false, Some(100), None),
            (Some(500), Some(200), Some("150m"), true, Some(150), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(sent));
            }
            let found = Times::of(&route(timeout, of_try), &headers, is_grpc);
            let milliseconds = |time: Option<u64>| time.map(Duration::from_millis);
            let want = Times { whole: milliseconds(whole), of_try: milliseconds(try_) };
            assert_eq!(found, want, "{timeout:?} {of_try:?} {sent:?} {is_grpc}");
        }
    }

    #[test]
    fn the_backend_is_told_how_long_it_has() {
        for (whole, of_try, is_grpc, expected, grpc) in [
            (Some(200), None, false, Some("200"), None),
            (Some(200), Some(50), true, Some("50"), Some("50m")),
            (Some(200_000_000), None, true, Some("200000000"), Some("200000S")),
            (None, None, true, None, None),
        ] {
            let milliseconds = |time: Option<u64>| time.map(Duration::from_millis);
            let mut headers = HeaderMap::new();
            Times { whole: milliseconds(whole), of_try: milliseconds(of_try) }.tell(&mut headers, is_grpc);
            let get = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap());
            assert_eq!((get(EXPECTED), get(GRPC_TIMEOUT)), (expected, grpc), "{whole:?} {of_try:?}");
        }
    }
}
