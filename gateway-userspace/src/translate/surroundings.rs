//! What the meaning of documents depends on besides them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::api::{MeshConfig, Objects, Sourced};
use crate::model::{CredentialSource, Files, GatewayIdentity, Resolved};
use crate::telemetry::access::Encoding;

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
    /// What is in the files that documents name.
    pub files: Files,
    /// Secrets and ConfigMaps that could not be read, and why: it is not known whether they are there.
    pub unread: BTreeMap<CredentialSource, String>,
    /// What the process was told of access logs.
    pub logs: LogSettings,
}

/// The process' word over MeshConfig's `accessLogFile` and `accessLogEncoding`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Where lines go.
    pub file: Option<Arc<Path>>,
    /// Of lines.
    pub encoding: Option<Encoding>,
}

impl Surroundings {
    /// Those of a gateway in a mesh that says nothing, before any name is resolved.
    pub fn of(identity: GatewayIdentity) -> Self {
        Self { identity, ..Self::default() }
    }

    /// Takes the mesh's settings from the ConfigMap of the root namespace, the oldest if there are several; without one, a
    /// mesh says nothing.
    pub fn learn(&mut self, objects: &Objects) {
        let found = self.mesh_document(objects);
        self.mesh = found.map(|found| found.spec.clone()).unwrap_or_default();
    }

    /// The document that says what the mesh's settings are.
    pub(super) fn mesh_document<'a>(&self, objects: &'a Objects) -> Option<&'a Sourced<MeshConfig>> {
        let is_meant = |found: &&Sourced<MeshConfig>| **found.namespace() == self.identity.root_namespace;
        objects.mesh_configs.iter().map(AsRef::as_ref).find(is_meant)
    }
}
