//! `fault` and `corsPolicy` of a rule.

use http::{HeaderValue, StatusCode};

use crate::api::validate::grpc_status;
use crate::api::virtual_service::{
    Abort, CorsPolicy, Delay, HttpFaultInjection, HttpRoute, Percent, UnmatchedPreflights,
};
use crate::model::{AbortStatus, Cors, Fault, Filters, Fraction, StringMatch};

use super::matching;

/// What comes before a rule's action. A fault of no requests is none.
pub(super) fn filters(rule: &HttpRoute) -> Filters {
    Filters {
        fault: rule.fault.as_deref().and_then(fault).map(Box::new),
        cors: rule.cors_policy.as_deref().map(cors).map(Box::new),
    }
}

fn fault(written: &HttpFaultInjection) -> Option<Fault> {
    let delay = written.delay.as_ref().and_then(|delay| {
        let duration = delay.fixed_delay?.0;
        Some((duration, delayed(delay))).filter(|(_, share)| !share.is_none())
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let share = abort.percentage.map(|share| Fraction::of_percent(share.value))?;
        Some((status(abort)?, share)).filter(|(_, share)| !share.is_none())
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// `percent` is the deprecated form of `percentage`; without both no request is delayed.
fn delayed(delay: &Delay) -> Fraction {
    let percent = delay.percentage.map_or(f64::from(delay.percent), |Percent { value }| value);
    Fraction::of_percent(percent)
}

fn status(abort: &Abort) -> Option<AbortStatus> {
    let by_http = || StatusCode::from_u16(u16::try_from(abort.http_status?).ok()?).ok();
    let by_grpc = || grpc_status(abort.grpc_status.as_ref()?);
    by_http().map(AbortStatus::Http).or_else(|| by_grpc().map(AbortStatus::Grpc))
}

fn cors(written: &CorsPolicy) -> Cors {
    let origins = if written.allow_origins.is_empty() {
        written.allow_origin.iter().map(|origin| StringMatch::Exact(origin.as_str().into())).collect()
    } else {
        written.allow_origins.iter().filter_map(matching::string_match).collect()
    };
    Cors {
        allow_origins: origins,
        allow_methods: list(&written.allow_methods),
        allow_headers: list(&written.allow_headers),
        expose_headers: list(&written.expose_headers),
        max_age: written.max_age.map(|age| HeaderValue::from(age.0.as_secs())),
        allow_credentials: written.allow_credentials.unwrap_or(false),
        forward_unmatched: written.unmatched_preflights != UnmatchedPreflights::Ignore,
    }
}

/// Joined as Istio joins them.
fn list(words: &[String]) -> Option<HeaderValue> {
    let joined = Some(words.join(",")).filter(|joined| !joined.is_empty())?;
    HeaderValue::from_str(&joined).ok()
}
