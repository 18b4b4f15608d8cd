//! What is in the files that documents name: an input of the translation, which opens no file itself. Some hold private
//! keys, so that contents never show.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a file has no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// There is none, or nobody has looked for it.
    #[error("not found")]
    NotFound,
    /// It is there, but cannot be read: the system's words.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// Contents by path, as documents write it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Result<Arc<[u8]>, FileProblem>>);

impl Files {
    /// What a file holds.
    pub fn get(&self, path: &str) -> Result<&Arc<[u8]>, FileProblem> {
        match self.0.get(path) {
            Some(Ok(content)) => Ok(content),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(FileProblem::NotFound),
        }
    }
}

impl FromIterator<(String, Result<Arc<[u8]>, FileProblem>)> for Files {
    fn from_iter<I: IntoIterator<Item = (String, Result<Arc<[u8]>, FileProblem>)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
