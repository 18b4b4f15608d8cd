//! What the meaning of documents depends on besides them.

use crate::api::MeshConfig;
use crate::model::{GatewayIdentity, Resolved};

/// Inputs of the translation that no document of the user's is. The same objects in the same surroundings give the same
/// snapshot.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Which gateway this is.
    pub identity: GatewayIdentity,
    /// What holds for the whole mesh.
    pub mesh: MeshConfig,
    /// Addresses of names outside the cluster, as far as they are known.
    pub resolved: Resolved,
}

impl Surroundings {
    /// Those of a gateway in a mesh that says nothing, before any name is resolved.
    pub fn of(identity: GatewayIdentity) -> Self {
        Self { identity, ..Self::default() }
    }
}
