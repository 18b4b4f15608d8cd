//! Copies of requests.

use serde::Deserialize;

use super::filters::Percent;
use super::route::Destination;

/// `http[].mirrors[]`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMirrorPolicy {
    /// Required.
    pub destination: Option<Destination>,
    /// Of the requests; absent: all.
    pub percentage: Option<Percent>,
}
