//! Which rule of which document something comes from, for those who ask why.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A rule's place. Shared by all that comes of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// `Kind namespace/name`.
    pub document: Arc<str>,
    /// The list below `spec`: `servers`, `http`, `tls`, `tcp` or `ports`.
    pub list: &'static str,
    /// Index in it.
    pub index: usize,
    /// Index in the rule's `match`, if it has one.
    pub condition: Option<usize>,
    /// File and line; documents that come from no file have none.
    pub place: Option<(Arc<str>, u32)>,
}

impl Origin {
    /// The field, as diagnostics name it.
    pub fn field(&self) -> String {
        let condition = self.condition.map(|at| format!(".match[{at}]")).unwrap_or_default();
        format!("spec.{}[{}]{condition}", self.list, self.index)
    }
}

impl fmt::Display for Origin {
    /// `VirtualService default/web, spec.http[0].match[1] (web.yaml:12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.document, self.field())?;
        match &self.place {
            Some((file, line)) => write!(f, " ({file}:{line})"),
            None => Ok(()),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
