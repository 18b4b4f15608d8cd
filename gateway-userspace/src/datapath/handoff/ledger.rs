//! What workers hand over with a connection and the plane needs at its end: whatever counts for as long as it lasts, and
//! what nobody could tell from its record.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::view::Tuple;
use super::tally::{Tallied, Tally};
use crate::model::{Admission, ClusterName, ListenerKey};

/// See the module. Shared by all workers and the plane.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) tally: Tally,
    entries: Mutex<HashMap<Tuple, Entry>>,
}

/// What belongs to a connection that the kernel carries.
#[derive(Debug, Default)]
pub struct Entry {
    /// The server name that its client asked for.
    pub server_name: Option<Box<str>>,
    /// The cluster that its backend was chosen from.
    pub cluster: Option<ClusterName>,
    /// Bytes that user space carried to the backend before.
    pub to_backend: u64,
    /// Bytes that user space carried to the client before.
    pub to_client: u64,
    /// Its place among the listener's connections.
    pub listener_admission: Option<Admission<ListenerKey>>,
    /// Its place among the cluster's connections.
    pub cluster_admission: Option<Admission<ClusterName>>,
}

impl Ledger {
    /// Enters a connection by its client's end, before it is handed over: it may be over a moment later.
    pub fn enter(&self, client_side: Tuple, entry: Entry) {
        self.lock().insert(client_side, entry);
    }

    /// Takes a connection out: it is over, or was not handed over after all.
    pub fn take(&self, client_side: Tuple) -> Option<Entry> {
        self.lock().remove(&client_side)
    }

    /// How many connections were handed over.
    pub fn tallied(&self) -> Tallied {
        self.tally.read()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Tuple, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
