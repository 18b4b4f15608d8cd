//! What workers hand over with a connection and the plane needs at its end: whatever counts for as long as it lasts, and
//! what nobody could tell from its record.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::view::Tuple;
use super::tally::{Tallied, Tally};
use crate::model::{Admission, ClusterName, ListenerKey, connections};
use crate::net::proxy_header::Told;

/// See the module. Shared by all workers and the plane.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) tally: Tally,
    entries: Mutex<HashMap<Identity, Entry>>,
}

/// What tells a connection from a later one of the same client's port, whose end may come before the first one's is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Client's and gateway's end.
    pub client_side: Tuple,
    /// Monotonic clock when the client connected, in ns, as in the flow's record.
    pub created: u64,
}

/// What belongs to a connection that the kernel carries.
#[derive(Debug, Default)]
pub struct Entry {
    /// The server name that its client asked for.
    pub server_name: Option<Box<str>>,
    /// The cluster that its backend was chosen from.
    pub cluster: Option<ClusterName>,
    /// Both ends of the client's connection, where a proxy has told them.
    pub told: Option<Told>,
    /// Bytes of it that metrics have already, from the client and to it; `None`: not even that it began.
    pub metered: Option<[u64; 2]>,
    /// Its place among the listener's connections.
    pub listener_admission: Option<Admission<ListenerKey>>,
    /// Its place among the cluster's connections.
    pub cluster_admission: Option<Admission<ClusterName>>,
}

/// What metrics ask of a connection that was handed over; nothing is known of others.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The cluster that its backend was chosen from.
    pub cluster: Option<ClusterName>,
    /// As in [`Entry`].
    pub metered: Option<[u64; 2]>,
}

/// A connection as the admin interface shows it: what its record in the kernel does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub listener: SocketAddr,
    /// Monotonic clock when it did, in ns, as in the flow's record.
    pub created: u64,
    /// The server name that it asked for.
    pub sni: Option<Box<str>>,
    /// The cluster that its backend was chosen from, `outbound|<port>|<subset>|<fqdn>`.
    pub cluster: Option<String>,
}

impl Ledger {
    /// Enters a connection before it is handed over: it may be over a moment later.
    pub fn enter(&self, identity: Identity, mut entry: Entry) {
        entry.server_name = entry.server_name.map(connections::bounded);
        self.lock().insert(identity, entry);
    }

    /// Takes a connection out: it is over, or was not handed over after all.
    pub fn take(&self, identity: Identity) -> Option<Entry> {
        self.lock().remove(&identity)
    }

    /// What metrics ask of a connection that may be in.
    pub fn standing(&self, identity: Identity) -> Standing {
        self.lock().get(&identity).map(Entry::standing).unwrap_or_default()
    }

    /// How many connections were handed over.
    pub fn tallied(&self) -> Tallied {
        self.tally.read()
    }

    /// All that are in, the oldest first.
    pub fn view(&self) -> Vec<EntryView> {
        let entries = self.lock();
        let mut view: Vec<_> = entries.iter().map(|(identity, entry)| entry.view(*identity)).collect();
        drop(entries);
        view.sort_unstable_by_key(|entry| (entry.created, entry.client));
        view
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What metrics ask of it.
    pub fn standing(&self) -> Standing {
        Standing { cluster: self.cluster.clone(), metered: self.metered }
    }

    fn view(&self, Identity { client_side, created }: Identity) -> EntryView {
        EntryView {
            client: client_side.source,
            listener: client_side.destination,
            created,
            sni: self.server_name.clone(),
            cluster: self.cluster.as_ref().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(port: u16, created: u64) -> Identity {
        let at = |port| SocketAddr::from(([198, 18, 0, 1], port));
        Identity { client_side: Tuple { source: at(port), destination: at(443) }, created }
    }

    fn named(name: &str) -> Entry {
        Entry { server_name: Some(name.into()), ..Entry::default() }
    }

    #[test]
    fn one_that_has_ended_does_not_take_the_entry_of_the_next_on_its_port() {
        let ledger = Ledger::default();
        ledger.enter(identity(1, 10), named("first.test"));
        ledger.enter(identity(1, 20), named("second.test"));
        assert_eq!(ledger.take(identity(1, 10)).unwrap().server_name.as_deref(), Some("first.test"));
        assert_eq!(ledger.take(identity(1, 20)).unwrap().server_name.as_deref(), Some("second.test"));
        assert!(ledger.view().is_empty());
    }

    #[test]
    fn connections_are_seen_in_the_order_in_which_they_came() {
        let ledger = Ledger::default();
        for (port, created) in [(3, 30), (1, 20), (2, 10)] {
            ledger.enter(identity(port, created), named("a.test"));
        }
        let seen: Vec<_> = ledger.view().iter().map(|entry| (entry.client.port(), entry.created)).collect();
        assert_eq!(seen, [(2, 10), (1, 20), (3, 30)]);
        assert_eq!(ledger.view()[0].sni.as_deref(), Some("a.test"));
    }
}
