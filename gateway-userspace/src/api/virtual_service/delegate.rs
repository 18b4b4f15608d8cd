//! Rules that stand in another VirtualService.

use serde::Deserialize;

/// `http[].delegate`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delegate {
    /// Of the VirtualService.
    pub name: String,
    /// Empty: that of the document with the rule.
    pub namespace: String,
}
