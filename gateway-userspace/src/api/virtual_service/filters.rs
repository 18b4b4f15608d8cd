//! What is done to a request before it is forwarded: faults and CORS.

use serde::Deserialize;

use super::match_::StringMatch;
use crate::api::duration::DurationText;

/// `http[].fault`, at least one of the two.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpFaultInjection {
    /// Before the request is forwarded.
    pub delay: Option<Delay>,
    /// In place of forwarding.
    pub abort: Option<Abort>,
}

/// `fault.delay`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delay {
    /// Whole percent of the requests, 0–100; deprecated, counts where `percentage` is absent.
    pub percent: i32,
    /// At least 1 ms.
    pub fixed_delay: Option<DurationText>,
    /// Nothing serves it, in Istio neither.
    pub exponential_delay: Option<DurationText>,
    /// Of the requests; absent: none.
    pub percentage: Option<Percent>,
}

/// `fault.abort`, one of the three errors.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Abort {
    /// Status of the answer.
    pub http_status: Option<i32>,
    /// gRPC status by its name, such as `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// Nothing serves it, in Istio neither.
    pub http2_error: Option<String>,
    /// Of the requests; absent: none.
    pub percentage: Option<Percent>,
}

/// A share of requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Percent {
    /// 0, or 0.0001–100.
    pub value: f64,
}

/// `http[].corsPolicy`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Exact origins; deprecated, count where `allowOrigins` is empty.
    pub allow_origin: Vec<String>,
    /// Origins whose requests are allowed.
    pub allow_origins: Vec<StringMatch>,
    /// `access-control-allow-methods` of a preflight.
    pub allow_methods: Vec<String>,
    /// `access-control-allow-headers` of a preflight.
    pub allow_headers: Vec<String>,
    /// `access-control-expose-headers`.
    pub expose_headers: Vec<String>,
    /// `access-control-max-age` of a preflight, in whole seconds.
    pub max_age: Option<DurationText>,
    /// `access-control-allow-credentials`.
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// `corsPolicy.unmatchedPreflights`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    Unspecified,
    /// To the backend.
    Forward,
    /// Answered with 200, without headers of CORS.
    Ignore,
}
