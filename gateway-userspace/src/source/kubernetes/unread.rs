//! What somebody who looked once could not read.

use super::kinds::{CONFIG_MAP, SECRET, Scope, WHOLE};
use crate::model::CredentialSource;

/// Documents that were asked for and not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which, such as `Secret shop/web` or `pods in shop`.
    pub what: String,
    /// In the server's words, if it answered.
    pub why: String,
    /// Whether nothing can be said without them.
    pub is_essential: bool,
    /// What servers may name, if it is that.
    pub credential: Option<CredentialSource>,
}

impl Unread {
    pub(super) fn new(scope: &Scope, why: String) -> Self {
        Self {
            what: scope.words(),
            why,
            is_essential: WHOLE.contains(scope.kind),
            credential: credential(scope),
        }
    }
}

fn credential(scope: &Scope) -> Option<CredentialSource> {
    let full = format!("{}/{}", scope.namespace.as_deref()?, scope.name.as_deref()?);
    if *scope.kind == SECRET {
        return Some(CredentialSource::Secret(full.into()));
    }
    (*scope.kind == CONFIG_MAP).then(|| CredentialSource::ConfigMap(full.into()))
}
