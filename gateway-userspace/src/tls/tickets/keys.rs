//! The keys of an agent, for all its workers, chains and generations: a new one every six hours, and the one before for as
//! long again. Read without a lock.
//!
//! Whoever learns a key reads the sessions that it sealed, of TLS 1.2 also what was recorded of them: forward secrecy begins when
//! a key is gone. So that is after twelve hours at the latest, as rustls's own tickets have it; RFC 8446 (4.6.1) would let them
//! live for a week.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_gettime};

use super::key::{HandedKey, Key, Name};

/// Seconds for which a key seals new tickets.
const SEALS: i64 = 6 * 60 * 60;
/// Seconds for which it opens them, since it was made: each ticket is taken for six hours at least.
pub(super) const OPENS: u32 = 12 * 60 * 60;
/// Seconds by which a key may be younger than nothing: a thread may have read the clock before another one made it.
const SKEW: i64 = 60;
/// How often keys that open nothing any more are looked for: nobody may ask for one for days.
const CLEARING: Duration = Duration::from_mins(10);
/// Keys that are taken from another process; it has two, or three over a change.
const MOST_HANDED: usize = 4;

/// Keys of session tickets; none until one is asked for.
#[derive(Debug, Default)]
pub struct TicketKeys {
    /// The youngest first.
    ring: ArcSwap<Vec<Dated>>,
}

#[derive(Debug, Clone)]
struct Dated {
    key: Arc<Key>,
    /// By `now`.
    made: i64,
}

/// Seconds since the machine started, sleep included. The time of day may be set back, and keys would live on.
pub(super) fn now() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

impl Dated {
    fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.made)
    }

    fn seals(&self, now: i64) -> bool {
        (-SKEW..SEALS).contains(&self.age(now))
    }

    /// One of the future has been brought from another machine, with all of the process: its age is not known.
    fn opens(&self, now: i64) -> bool {
        (-SKEW..i64::from(OPENS)).contains(&self.age(now))
    }
}

impl TicketKeys {
    /// The key for new tickets, made if there is none that is young enough. `None` without random bytes.
    pub(super) fn sealing(&self, now: i64) -> Option<Arc<Key>> {
        if let Some(youngest) = self.youngest(now) {
            return Some(youngest);
        }
        let next = [Dated { key: Arc::new(Key::random()?), made: now }];
        self.ring.rcu(|ring| match ring.first() {
            // Another thread was faster.
            Some(youngest) if youngest.seals(now) => ring.to_vec(),
            _ => [&next, &*opening(ring, now)].concat(),
        });
        self.youngest(now)
    }

    fn youngest(&self, now: i64) -> Option<Arc<Key>> {
        self.ring.load().first().filter(|it| it.seals(now)).map(|it| it.key.clone())
    }

    /// The key by whose name a ticket goes.
    pub(super) fn opening(&self, name: &Name, now: i64) -> Option<Arc<Key>> {
        let ring = self.ring.load();
        let found = ring.iter().find(|it| it.key.name() == name && it.opens(now));
        found.map(|it| it.key.clone())
    }

    /// Has keys go when their time is over, also while nobody asks for one. Does not end.
    pub async fn clear(&self) {
        loop {
            tokio::time::sleep(CLEARING).await;
            self.clear_at(now());
        }
    }

    pub(super) fn clear_at(&self, now: i64) {
        self.ring.rcu(|ring| opening(ring, now));
    }

    /// Copies for the process that takes this one's place.
    pub fn hand_over(&self) -> Vec<HandedKey> {
        self.hand_over_at(now())
    }

    pub(super) fn hand_over_at(&self, now: i64) -> Vec<HandedKey> {
        let ring = self.ring.load();
        let fit = ring.iter().filter(|it| it.opens(now));
        fit.map(|it| it.key.hand(u32::try_from(it.age(now)).unwrap_or_default())).collect()
    }

    /// Goes on with the keys of the process whose place this one takes. Those whose time is over are passed over.
    pub fn inherit(&self, keys: Vec<HandedKey>) {
        self.inherit_at(keys, now());
    }

    pub(super) fn inherit_at(&self, keys: Vec<HandedKey>, now: i64) {
        let dated = keys.into_iter().take(MOST_HANDED).filter_map(|handed| {
            let made = now - i64::from(handed.age);
            Some(Dated { key: Arc::new(Key::handed(handed)?), made })
        });
        let mut ring = opening(&dated.collect::<Vec<_>>(), now);
        ring.sort_by_key(|it| std::cmp::Reverse(it.made));
        self.ring.store(Arc::new(ring));
    }
}

/// Those that still open tickets.
fn opening(ring: &[Dated], now: i64) -> Vec<Dated> {
    ring.iter().filter(|it| it.opens(now)).cloned().collect()
}
