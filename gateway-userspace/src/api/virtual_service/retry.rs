//! Further tries.

use serde::Deserialize;

use crate::api::duration::DurationText;

/// `http[].retries`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRetry {
    /// Tries after the first; 0: none.
    pub attempts: i32,
    /// Of each try; absent: the route's timeout.
    pub per_try_timeout: Option<DurationText>,
    /// Conditions and statuses, separated by commas without spaces; empty: Istio's default.
    pub retry_on: String,
    /// Whether to try endpoints of other localities.
    pub retry_remote_localities: Option<bool>,
    /// Whether to leave out endpoints that were tried; absent: yes.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Before the second try; grows to ten times as much. Absent: 25 ms.
    pub backoff: Option<DurationText>,
}
