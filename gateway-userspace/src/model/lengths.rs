//! How long the connections to each cluster mostly are: learned from those that are over, to tell from the first byte of a
//! new one whether it is worth handing over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cluster::ClusterName;

/// Bytes, both ways together, from which on a connection is a long one.
pub const LONG: u64 = 256 * 1024;

/// Connections before anything is concluded from them.
const ENOUGH: u32 = 16;
/// What one more connection counts, once there are enough.
const SHARE: f32 = 1.0 / 64.0;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lengths(Arc<Mutex<HashMap<ClusterName, Seen>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    connections: u32,
    /// The part of them that was long.
    long: f32,
}

impl Lengths {
    /// A connection is over that has carried so many bytes.
    pub fn record(&self, cluster: &ClusterName, bytes: u64) {
        let mut all = self.lock();
        let seen = match all.get_mut(cluster) {
            Some(seen) => seen,
            None => all.entry(cluster.clone()).or_default(),
        };
        seen.connections = seen.connections.saturating_add(1);
        let share = (1.0 / seen.connections as f32).max(SHARE);
        let was_long = if bytes >= LONG { 1.0 } else { 0.0 };
        seen.long += (was_long - seen.long) * share;
    }

    /// Whether most connections to a cluster have been long ones lately.
    pub fn are_mostly_long(&self, cluster: &ClusterName) -> bool {
        self.lock().get(cluster).is_some_and(|seen| seen.connections >= ENOUGH && seen.long > 0.5)
    }

    /// Forgets clusters that nobody knows any more.
    pub fn retain(&self, keep: impl Fn(&ClusterName) -> bool) {
        self.lock().retain(|cluster, _| keep(cluster));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterName, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_what_most_of_its_connections_were_lately() {
        let (lengths, cluster) =
            (Lengths::default(), ClusterName { host: "a.example".into(), port: 443, subset: None });
        let end = |times: u32, bytes: u64| (0..times).for_each(|_| lengths.record(&cluster, bytes));
        end(ENOUGH - 1, LONG);
        assert!(!lengths.are_mostly_long(&cluster), "too few to tell");
        end(1, LONG);
        assert!(lengths.are_mostly_long(&cluster));
        end(200, LONG - 1);
        assert!(!lengths.are_mostly_long(&cluster), "they have become short");
        end(200, u64::MAX);
        assert!(lengths.are_mostly_long(&cluster));
        lengths.retain(|_| false);
        assert!(!lengths.are_mostly_long(&cluster));
    }
}
