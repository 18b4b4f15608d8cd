//! `fault` of an `http` rule.

use crate::api::path::FieldPath;
use crate::api::virtual_service::{Abort, Delay, HttpFaultInjection, Percent};

use super::{Findings, check_duration};

/// gRPC's statuses by number, as Istio's documents name them.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a gRPC status that is given by its name.
pub fn grpc_status(name: &str) -> Option<u8> {
    (0..).zip(GRPC_STATUSES).find(|(_, status)| *status == name).map(|(number, _)| number)
}

pub(super) fn check_fault(found: &mut Findings<'_>, field: &FieldPath, fault: &HttpFaultInjection) {
    if fault.delay.is_none() && fault.abort.is_none() {
        found.error(field, "HTTP fault injection must have an abort and/or a delay");
    }
    if let Some(abort) = &fault.abort {
        check_abort(found, &field.field("abort"), abort);
    }
    if let Some(delay) = &fault.delay {
        check_delay(found, &field.field("delay"), delay);
    }
}

fn check_abort(found: &mut Findings<'_>, field: &FieldPath, abort: &Abort) {
    check_percentage(found, &field.field("percentage"), abort.percentage);
    let errors = [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
    if errors.into_iter().filter(|given| *given).count() > 1 {
        found.error(field, "only one of httpStatus, grpcStatus and http2Error may be given");
    }
    if let Some(status) = abort.http_status.filter(|status| !(200..=599).contains(status)) {
        found.error(&field.field("httpStatus"), format!("HTTP status {status} is not in range 200-599"));
    }
    if abort.http2_error.is_some() {
        found.error(&field.field("http2Error"), "HTTP/2 abort fault injection not supported yet");
    }
    if let Some(name) = abort.grpc_status.as_ref().filter(|name| grpc_status(name).is_none()) {
        let message = format!(
            "gRPC status \"{name}\" is not supported. See https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a \
             list of supported codes, for example 'NOT_FOUND'"
        );
        found.error(&field.field("grpcStatus"), message);
    }
    if !errors.contains(&true) {
        found.warning(field, "an abort without a status never happens").help =
            Some("give it `httpStatus` or `grpcStatus`".to_owned());
    } else if abort.percentage.is_none() {
        warn_of_no_share(found, field, "abort");
    }
}

fn check_delay(found: &mut Findings<'_>, field: &FieldPath, delay: &Delay) {
    check_percentage(found, &field.field("percentage"), delay.percentage);
    if !(0..=100).contains(&delay.percent) {
        found.error(&field.field("percent"), format!("percentage {} is not in range 0..100", delay.percent));
    }
    check_duration(found, &field.field("fixedDelay"), delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        found.error(&field.field("exponentialDelay"), "exponentialDelay not supported yet");
    } else if delay.fixed_delay.is_none() {
        found.warning(field, "a delay without a time never happens").help =
            Some("give it `fixedDelay`".to_owned());
    } else if delay.percentage.is_none() && delay.percent == 0 {
        warn_of_no_share(found, field, "delay");
    }
}

/// Unlike for mirrors, no share is none of the requests.
fn warn_of_no_share(found: &mut Findings<'_>, field: &FieldPath, what: &str) {
    found.warning(field, format!("without `percentage` the {what} never happens, as in Istio")).help =
        Some("for every request: `percentage: {value: 100}`".to_owned());
}

fn check_percentage(found: &mut Findings<'_>, field: &FieldPath, percentage: Option<Percent>) {
    let Some(Percent { value }) = percentage else { return };
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        let message = format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]");
        found.error(field, message);
    }
}
