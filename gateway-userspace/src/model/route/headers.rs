//! Operations on headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::matching::line_text;

/// `Headers.HeaderOperations`; the order of execution is remove, set, add.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeaderOps {
    /// Taken away.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Overwritten.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appended.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `host` or `:authority` in set or add: the Host towards the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl HeaderOps {
    /// Executes the operations (not the authority: that is the request line's matter).
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn pairs<S: Serializer>(pairs: &[(HeaderName, HeaderValue)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name.as_str(), line_text(value))))
}
