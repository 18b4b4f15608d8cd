//! The opaque connections that user space carries at the moment, for people to see. A connection costs one entry of
//! bounded size; what changes while bytes pass are atomics, and no lock is taken but at its beginning and its end.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::tier::{Below, Tier};

/// Bytes of a server name that are kept: DNS has no longer ones (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

/// All of them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<Open>>,
    /// Bytes of those that are over, both ways.
    ended: u64,
}

/// Whose bytes go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub listener: SocketAddr,
    /// The gateway's end towards the backend.
    pub source: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The server name that a TLS client asked for.
    pub sni: Option<Box<str>>,
}

#[derive(Debug)]
struct Open {
    route: Route,
    began: Instant,
    to_backend: AtomicU64,
    to_client: AtomicU64,
    /// Milliseconds from `began` to the last bytes.
    last: AtomicU64,
    tier: AtomicU8,
    below: AtomicU8,
}

/// One connection, listed until dropped.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    open: Arc<Open>,
    all: Connections,
}

/// A connection as it stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// No other connection of this agent has it.
    pub number: u64,
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub listener: SocketAddr,
    /// The gateway's end towards the backend.
    pub source: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The server name that a TLS client asked for.
    pub sni: Option<Box<str>>,
    /// How it is carried.
    pub tier: Tier,
    /// Why no better.
    pub below: Option<Below>,
    /// Time since it had a backend.
    pub age_milliseconds: u64,
    /// Time since its last bytes, either way.
    pub idle_milliseconds: u64,
    /// Bytes of the stream.
    pub bytes_to_backend: u64,
    /// Bytes of the stream.
    pub bytes_to_client: u64,
}

impl Connections {
    /// Lists one more.
    pub fn open(&self, mut route: Route, tier: Tier, below: Option<Below>, now: Instant) -> Connection {
        route.sni = route.sni.map(bounded);
        let open = Arc::new(Open {
            route,
            began: now,
            to_backend: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            last: AtomicU64::new(0),
            tier: AtomicU8::new(tier.code()),
            below: AtomicU8::new(Below::code(below)),
        });
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.open.insert(number, open.clone());
        drop(table);
        Connection { number, open, all: self.clone() }
    }

    /// All of them, the oldest first.
    pub fn view(&self, now: Instant) -> Vec<ConnectionView> {
        // Copied out, so that no worker waits for more than that.
        let mut open: Vec<_> =
            self.lock().open.iter().map(|(number, open)| (*number, open.clone())).collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open.into_iter().map(|(number, open)| open.view(number, now)).collect()
    }

    /// How many are carried in which way.
    pub fn by_tier(&self) -> BTreeMap<Tier, u64> {
        let mut tiers = BTreeMap::new();
        for open in self.lock().open.values() {
            *tiers.entry(open.tier()).or_default() += 1;
        }
        tiers
    }

    /// Bytes that user space has carried up to now, both ways, of connections that are over too.
    pub fn carried(&self) -> u64 {
        let table = self.lock();
        table.open.values().fold(table.ended, |sum, open| sum.saturating_add(open.bytes()))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds it can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Bytes have passed: so many up to now, to the backend and to the client.
    pub fn carried(&self, to_backend: u64, to_client: u64, now: Instant) {
        self.open.to_backend.store(to_backend, Ordering::Relaxed);
        self.open.to_client.store(to_client, Ordering::Relaxed);
        self.open.last.store(milliseconds(now - self.open.began), Ordering::Relaxed);
    }

    /// It is carried otherwise than before, or for another reason.
    pub fn settle(&self, tier: Tier, below: Option<Below>) {
        self.open.tier.store(tier.code(), Ordering::Relaxed);
        self.open.below.store(Below::code(below), Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut table = self.all.lock();
        table.open.remove(&self.number);
        table.ended = table.ended.saturating_add(self.open.bytes());
    }
}

impl Open {
    fn bytes(&self) -> u64 {
        self.to_backend.load(Ordering::Relaxed).saturating_add(self.to_client.load(Ordering::Relaxed))
    }

    fn tier(&self) -> Tier {
        Tier::from_code(self.tier.load(Ordering::Relaxed)).unwrap_or(Tier::Copy)
    }

    fn view(&self, number: u64, now: Instant) -> ConnectionView {
        let Route { client, listener, source, backend, ref sni } = self.route;
        let age = milliseconds(now.saturating_duration_since(self.began));
        ConnectionView {
            number,
            client,
            listener,
            source,
            backend,
            sni: sni.clone(),
            tier: self.tier(),
            below: Below::from_code(self.below.load(Ordering::Relaxed)),
            age_milliseconds: age,
            idle_milliseconds: age.saturating_sub(self.last.load(Ordering::Relaxed)),
            bytes_to_backend: self.to_backend.load(Ordering::Relaxed),
            bytes_to_client: self.to_client.load(Ordering::Relaxed),
        }
    }
}

/// As much of a server name as is kept.
pub fn bounded(name: Box<str>) -> Box<str> {
    name.get(..LONGEST_NAME).map(Box::from).unwrap_or(name)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16, sni: Option<&str>) -> Route {
        let at = |port| SocketAddr::from(([198, 18, 0, 1], port));
        Route { client: at(port), listener: at(443), source: at(2), backend: at(3), sni: sni.map(Box::from) }
    }

    #[test]
    fn a_connection_is_seen_as_it_is_and_until_its_end() {
        let (all, began) = (Connections::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        let first = all.open(route(1, Some("a.example")), Tier::Copy, Some(Below::FewBytes), began);
        let second = all.open(route(2, None), Tier::Copy, Some(Below::TerminatesTls), after(1));
        first.carried(10, 20, after(3));
        first.settle(Tier::Splice, None);
        let seen = all.view(after(5));
        assert_eq!(seen.iter().map(|seen| seen.client.port()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            (seen[0].tier, seen[0].below, seen[0].sni.as_deref()),
            (Tier::Splice, None, Some("a.example"))
        );
        assert_eq!((seen[0].age_milliseconds, seen[0].idle_milliseconds), (5000, 2000));
        assert_eq!((seen[0].bytes_to_backend, seen[0].bytes_to_client), (10, 20));
        assert_eq!((seen[1].age_milliseconds, seen[1].idle_milliseconds), (4000, 4000));
        assert_eq!((seen[1].tier, seen[1].below), (Tier::Copy, Some(Below::TerminatesTls)));
        drop(first);
        assert_eq!(all.clone().view(after(5)), seen[1..]);
        assert_eq!(all.carried(), 30, "of one that is over");
        second.carried(1, 2, after(5));
        assert_eq!(all.carried(), 33);
        drop(second);
        assert_eq!((all.view(after(5)), all.carried()), (vec![], 33));
    }

    #[test]
    fn no_name_costs_more_than_a_name_may() {
        let all = Connections::default();
        let _open = all.open(route(1, Some(&"x".repeat(60_000))), Tier::Copy, None, Instant::now());
        assert_eq!(all.view(Instant::now())[0].sni.as_ref().map(|name| name.len()), Some(LONGEST_NAME));
    }
}
