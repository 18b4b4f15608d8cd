//! `fault` of an `http` rule.

use crate::api::path::FieldPath;
use crate::api::virtual_service::{Abort, Delay, HttpFaultInjection, Percent};

use super::{Findings, check_duration};

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
}

fn check_delay(found: &mut Findings<'_>, field: &FieldPath, delay: &Delay) {
    check_percentage(found, &field.field("percentage"), delay.percentage);
    if !(0..=100).contains(&delay.percent) {
        found.error(&field.field("percent"), format!("percentage {} is not in range 0..100", delay.percent));
    }
    check_duration(found, &field.field("fixedDelay"), delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        found.error(&field.field("exponentialDelay"), "exponentialDelay not supported yet");
    }
}

fn check_percentage(found: &mut Findings<'_>, field: &FieldPath, percentage: Option<Percent>) {
    let Some(Percent { value }) = percentage else { return };
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        let message = format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]");
        found.error(field, message);
    }
}
