//! Backends that have gone from the documents, and their flows: these go on for the drain time, and then they are
//! condemned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_common::{Address, Direction, State};

use super::farewell::Farewells;
use super::flows::{Flows, Kind};
use super::view::Tuple;

/// Backends that no document names any more, but flows still have.
#[derive(Debug)]
pub struct Departed {
    drain_time: Duration,
    since: BTreeMap<SocketAddr, Instant>,
}

impl Departed {
    /// None yet.
    pub fn new(drain_time: Duration) -> Self {
        Self { drain_time, since: BTreeMap::new() }
    }

    /// Notes who is gone. `old` are backends that new flows no longer go to, `known` the endpoints of all services.
    /// Returns those whose time is over.
    pub fn due(
        &mut self,
        old: impl IntoIterator<Item = SocketAddr>,
        known: &BTreeSet<SocketAddr>,
        now: Instant,
    ) -> BTreeSet<SocketAddr> {
        let gone: BTreeSet<SocketAddr> = old.into_iter().filter(|address| !known.contains(address)).collect();
        self.since.retain(|address, _| gone.contains(address));
        for address in gone {
            self.since.entry(address).or_insert(now);
        }
        let is_due = |since: Instant| now.saturating_duration_since(since) >= self.drain_time;
        self.since.iter().filter(|(_, since)| is_due(**since)).map(|(address, _)| *address).collect()
    }
}

/// Condemns every flow of these backends. Returns the number of those that were not yet.
pub fn condemn<A: Address>(
    flows: &Flows<A>,
    backends: &BTreeSet<SocketAddr>,
    farewells: &mut Farewells,
) -> usize {
    let mut condemned = 0;
    for (kind, number, flow) in flows.all() {
        let state = State(flow.state);
        let backend = Tuple::of(&flow.leaving(Direction::ToBackend)).destination;
        if backends.contains(&backend) && !state.any(State::CONDEMNED) {
            flows.mark(kind, number, State::CONDEMNED);
            if kind == Kind::Established {
                farewells.add(number, state);
                condemned += 1;
            }
        }
    }
    condemned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_backend_is_due_when_it_has_been_gone_for_the_drain_time() {
        let (one, two) = (address("10.0.0.1:80"), address("10.0.0.2:80"));
        let mut departed = Departed::new(Duration::from_secs(30));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(departed.due([one, two], &[two].into(), start).is_empty());
        assert!(departed.due([one, two], &[two].into(), after(29)).is_empty());
        assert_eq!(departed.due([one, two], &[two].into(), after(30)), [one].into());
        // Come back and gone again: the time begins anew.
        assert!(departed.due([one, two], &[one, two].into(), after(31)).is_empty());
        assert!(departed.due([one, two], &[two].into(), after(32)).is_empty());
        assert_eq!(departed.due([one, two], &[two].into(), after(62)), [one].into());
    }
}
