//! Istio's MeshConfig, as written: what holds for the whole mesh where no document says otherwise. Of its many fields
//! those that are obeyed.

use serde::Deserialize;

use super::duration::DurationText;

/// `mesh` of the ConfigMap `istio`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Of TCP connections to endpoints, where no DestinationRule says otherwise; absent: 10 s.
    pub connect_timeout: Option<DurationText>,
}
