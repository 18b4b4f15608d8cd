//! A number that somebody else knows, asked for when it is shown.

use std::fmt;
use std::sync::Arc;

/// See the module. Clones ask the same.
#[derive(Clone)]
pub struct Reading(Arc<dyn Fn() -> u32 + Send + Sync>);

impl Reading {
    /// Of whoever answers.
    pub fn over(ask: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// The number now.
    pub fn read(&self) -> u32 {
        (self.0)()
    }
}

impl Default for Reading {
    /// Always 0.
    fn default() -> Self {
        Self::over(|| 0)
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&self.read()).finish()
    }
}
