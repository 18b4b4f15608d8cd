//! `retries` of an `http` rule.

use http::StatusCode;

use crate::api::path::FieldPath;
use crate::api::virtual_service::HttpRetry;

use super::{Findings, check_duration};

/// Envoy's conditions, for HTTP and for gRPC.
const CONDITIONS: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

pub(super) fn check_retries(found: &mut Findings<'_>, field: &FieldPath, retries: &HttpRetry) {
    if retries.attempts < 0 {
        found.error(&field.field("attempts"), "attempts cannot be negative");
    }
    let says_more = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && says_more {
        found.error_with_help(
            field,
            "http retry policy configured when attempts are set to 0 (disabled)",
            "give `attempts` the number of further tries, or leave the rest out",
        );
    }
    check_duration(found, &field.field("perTryTimeout"), retries.per_try_timeout);
    check_duration(found, &field.field("backoff"), retries.backoff);
    let conditions = retries.retry_on.split(',').filter(|_| !retries.retry_on.is_empty());
    for condition in conditions.filter(|condition| !is_condition(condition)) {
        found.error(&field.field("retryOn"), format!("\"{condition}\" is not a valid retryOn policy"));
    }
}

/// A condition's name, or a status that has one.
fn is_condition(word: &str) -> bool {
    let status = word.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok());
    CONDITIONS.contains(&word) || status.is_some_and(|status| status.canonical_reason().is_some())
}
