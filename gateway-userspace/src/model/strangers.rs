//! Counts connections that a listener has refused for what they begin with. Clones share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::listener::ListenerKey;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Mutex<HashMap<ListenerKey, u64>>>);

impl Strangers {
    /// One more.
    pub fn count(&self, listener: ListenerKey) {
        *self.lock().entry(listener).or_default() += 1;
    }

    /// How many there were.
    pub fn of(&self, listener: ListenerKey) -> u64 {
        self.lock().get(&listener).copied().unwrap_or_default()
    }

    /// Forgets listeners that are not `known`.
    pub fn retain(&self, known: impl Fn(ListenerKey) -> bool) {
        self.lock().retain(|listener, _| known(*listener));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ListenerKey, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
