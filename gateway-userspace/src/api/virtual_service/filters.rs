//! What is done to a request before it is forwarded: faults.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// `http[].fault`, known but not supported.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// Not supported.
    pub delay: Option<IgnoredAny>,
    /// Not supported.
    pub abort: Option<IgnoredAny>,
}
