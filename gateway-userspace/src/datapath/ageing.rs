//! When a flow is over, and taking it out of the table. An entry that went too early would be a dead connection, so
//! the programs evict nothing; this sweep, a part of the table at a time, is all that removes.

use std::time::Duration;

use aya::Pod;
use gateway_common::flow::State;
use gateway_common::{Address, Direction, Flow, FlowKey, Seen};

use super::maps::{FamilyMaps, MapsError};
use super::sys::Cursor;

/// A handshake that does not get on: Linux clients send their SYN at 0, 1, 3, 7 and 15 s.
const OPENING: Duration = Duration::from_secs(30);
/// Closed by the client first: the client's end keeps the TIME-WAIT, and the backend takes a new SYN on the same
/// ports at once. Long enough for a last ACK that was lost.
const CLOSED_BY_CLIENT: Duration = Duration::from_secs(5);
/// Closed by the backend first: Linux keeps a TIME-WAIT for 60 s there.
const CLOSED_BY_BACKEND: Duration = Duration::from_mins(1);
/// After a RST either end has forgotten everything; what still comes is in flight.
const RESET: Duration = Duration::from_secs(2);

/// Entries read by one call of the kernel.
const BATCH: usize = 4096;
/// Entries looked at by one step: about 20 ms.
const BUDGET: usize = 131_072;

/// How long a flow may be silent.
pub fn patience(state: State, client_closed_first: bool, idle_timeout: Duration) -> Duration {
    match state {
        State::Opening => OPENING,
        State::Established => idle_timeout,
        State::Closing if client_closed_first => CLOSED_BY_CLIENT,
        State::Closing => CLOSED_BY_BACKEND,
        State::Reset => RESET,
    }
}

/// A walk through one flow table that goes on from step to step.
#[derive(Debug, Default)]
pub struct Sweep {
    cursor: Cursor,
    /// Flows met since the walk began.
    counting: usize,
    /// Flows met by the last walk that came to its end.
    counted: Option<usize>,
    /// Flows removed, ever.
    removed: u64,
}

impl Sweep {
    /// Flows in the table, as of the last full walk.
    pub fn live(&self) -> usize {
        self.counted.unwrap_or(self.counting)
    }

    /// Flows removed so far.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Looks at the next part of the table and removes the flows that are over. `now` is the monotonic clock in ns,
    /// as in the entries.
    pub fn step<A: Address + Pod>(&mut self, maps: &mut FamilyMaps<A>, now: u64) -> Result<(), MapsError> {
        let mut looked = 0;
        while looked < BUDGET {
            let batch = maps.flow_batch(&mut self.cursor, BATCH)?;
            looked += batch.len();
            for (key, flow) in batch {
                let removed = is_suspect(&flow, now) && remove_if_over(maps, &key, now)?;
                if flow.direction() == Some(Direction::ToBackend) && !removed {
                    self.counting += 1;
                }
                self.removed += u64::from(removed);
            }
            if self.cursor.is_start() {
                self.counted = Some(std::mem::take(&mut self.counting));
                break;
            }
        }
        Ok(())
    }
}

/// Whether an entry alone gives reason to look at its flow as a whole. Most do not, and cost no call.
fn is_suspect<A: Copy>(flow: &Flow<A>, now: u64) -> bool {
    flow.seen().any(Seen::FIN | Seen::RST) || silence(flow, now) >= OPENING
}

fn silence<A>(flow: &Flow<A>, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(flow.last_seen))
}

/// Removes both entries of a flow if it is over. Reads them again first: the tuple may belong to a new flow since
/// the batch was read. Returns whether the flow is gone.
fn remove_if_over<A: Address + Pod>(
    maps: &mut FamilyMaps<A>,
    key: &FlowKey<A>,
    now: u64,
) -> Result<bool, MapsError> {
    let Some(flow) = maps.flow(key)? else { return Ok(false) };
    let other_key = flow.other();
    let other = maps.flow(&other_key)?.filter(|other| other.created == flow.created);
    if !is_over(&flow, other.as_ref(), now) {
        return Ok(false);
    }
    maps.remove_flow(key)?;
    if other.is_some() {
        maps.remove_flow(&other_key)?;
    }
    Ok(true)
}

fn is_over<A: Copy>(flow: &Flow<A>, other: Option<&Flow<A>>, now: u64) -> bool {
    let seen_there = other.map_or(Seen::default(), Flow::seen);
    let (to_backend, to_client) = match flow.direction() {
        Some(Direction::ToClient) => (seen_there, flow.seen()),
        _ => (flow.seen(), seen_there),
    };
    let state = State::of(to_backend, to_client);
    let client_first = to_backend.any(Seen::FIN_FIRST) && !to_client.any(Seen::FIN_FIRST);
    let idle_timeout = Duration::from_secs(flow.idle_timeout.into());
    let silence = other.map_or(silence(flow, now), |other| silence(flow, now).min(silence(other, now)));
    silence >= patience(state, client_first, idle_timeout)
}

#[cfg(test)]
mod tests {
    use gateway_common::{Addr4, Be16};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn flow(direction: Direction, seen: u32, last_seen: u64) -> Flow<Addr4> {
        let address = Addr4::from(std::net::Ipv4Addr::LOCALHOST);
        let rewritten = FlowKey {
            source: address,
            destination: address,
            source_port: Be16::new(1),
            destination_port: Be16::new(2),
        };
        Flow {
            created: 1,
            last_seen: last_seen * SECOND,
            packets: 1,
            bytes: 1,
            rewritten,
            oif: 1,
            backend: 1,
            idle_timeout: 600,
            seen,
            direction: direction as u32,
        }
    }

    #[test]
    fn a_flow_is_over_after_the_silence_its_state_allows() {
        let (syn, ack, fin, rst, first) = (Seen::SYN, Seen::ACK, Seen::FIN, Seen::RST, Seen::FIN_FIRST);
        let open = syn | ack;
        for (to_backend, to_client, patience) in [
            (syn, 0, 30),
            (syn, open, 30),
            (open, open, 600),
            (open | fin | first, open, 600),
            (open | fin | first, open | fin, 5),
            (open | fin, open | fin | first, 60),
            // Both at once, as far as the entries tell: the longer one.
            (open | fin | first, open | fin | first, 60),
            (open, open | rst, 2),
        ] {
            let forward = flow(Direction::ToBackend, to_backend, 100);
            let back = flow(Direction::ToClient, to_client, 90);
            for (one, two) in [(&forward, &back), (&back, &forward)] {
                assert!(
                    !is_over(one, Some(two), (100 + patience) * SECOND - 1),
                    "{to_backend:#x} {to_client:#x}"
                );
                assert!(is_over(one, Some(two), (100 + patience) * SECOND), "{to_backend:#x} {to_client:#x}");
            }
        }
    }

    #[test]
    fn a_lone_entry_does_not_stay() {
        let lone = flow(Direction::ToClient, 0, 100);
        assert!(is_suspect(&lone, 130 * SECOND) && is_over(&lone, None, 130 * SECOND));
        assert!(!is_suspect(&lone, 129 * SECOND));
    }

    #[test]
    fn a_clock_behind_the_packets_is_no_silence() {
        let flow = flow(Direction::ToBackend, Seen::SYN, 100);
        assert!(!is_over(&flow, None, 99 * SECOND));
    }
}
