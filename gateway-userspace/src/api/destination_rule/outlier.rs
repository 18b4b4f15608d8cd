//! Endpoints that fail are left out.

use serde::Deserialize;

use crate::api::duration::DurationText;

/// `outlierDetection`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated, without effect.
    pub consecutive_errors: i32,
    /// Failures to connect are counted by themselves.
    pub split_external_local_origin_errors: bool,
    /// Default 5; only with the one before.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503 and 504; default off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Default 5; 0: off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Default 10 s.
    pub interval: Option<DurationText>,
    /// Default 30 s.
    pub base_ejection_time: Option<DurationText>,
    /// 0 is the default, 10.
    pub max_ejection_percent: i32,
    /// Default 0.
    pub min_health_percent: i32,
    /// Statuses that count as failures, 100–599, in place of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}
