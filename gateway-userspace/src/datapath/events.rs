//! What the programs tell through the ring buffer: starts and ends of flows, backends that refuse or keep silent, and the packets
//! of a traced client. An event may be lost when the ring is full, so each is a hint only: what is told of a flow is read
//! from its record, and ageing tells of every end that went untold.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use gateway_common::{Address, BackendId, Direction, Event, EventKind, Phase, Seen, State};
use serde::{Deserialize, Serialize};

use super::ageing::silence;
use super::flows::{Flows, Kind};
use super::maps::Maps;
use super::tally::{End, Ended, Started};

/// Events read in one go; a ring that is full holds fewer.
const BUDGET: usize = 16_384;

/// Handshakes that are followed after a backend failed them.
const FOLLOWED: usize = 4096;

/// A handshake that is silent for so long has failed (the default of DestinationRule `connectTimeout`).
const GIVEN_UP: Duration = Duration::from_secs(10);

/// The ring buffer.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Takes the events that there are. Only the agent may: each is read once.
    fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < BUDGET
            && let Some(bytes) = self.ring.next()
        {
            events.extend(decode(&bytes));
        }
        events
    }
}

/// Reads an event's bytes; `None` if they are of another layout.
fn decode(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    let (time, rest) = bytes.split_first_chunk()?;
    let mut words = rest.chunks_exact(4).map(|chunk| chunk.try_into().map_or(0, u32::from_ne_bytes));
    let mut next = || words.next().unwrap_or_default();
    Some(Event {
        time: u64::from_ne_bytes(*time),
        kind: next(),
        family: next(),
        record: next(),
        generation: next(),
        backend: next(),
        verdict: next(),
        length: next(),
        flags: next(),
        sequence: next(),
        acknowledgement: next(),
        source: std::array::from_fn(|_| next()),
        destination: std::array::from_fn(|_| next()),
        ports: next(),
        interface: next(),
    })
}

/// How a backend failed a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It answered the SYN by a reset.
    Refused,
    /// It did not answer before the client sent its SYN again.
    Unanswered,
}

/// Failures of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// SYNs that it answered by a reset.
    pub refused: u64,
    /// SYNs that it did not answer before they were sent again.
    pub unanswered: u64,
}

impl Failures {
    fn add(&mut self, failure: Failure) {
        match failure {
            Failure::Refused => self.refused += 1,
            Failure::Unanswered => self.unanswered += 1,
        }
    }
}

/// A handshake's record, and which use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Handshake {
    v6: bool,
    record: u32,
    generation: u32,
}

/// What was heard, as long as somebody still wants it.
#[derive(Debug, Default)]
pub struct Heard {
    /// How new flows went since the last tick, in order, by the backend's number; `None` is well. Of flows that went
    /// well one after another with the same backend there is one.
    outcomes: Vec<(bool, BackendId, Option<Failure>)>,
    /// Handshakes that a backend has failed, and that may still succeed with another one.
    followed: HashSet<Handshake>,
    /// Failures since the agent began.
    failed: BTreeMap<SocketAddr, Failures>,
    /// Flows that have started, if somebody wants to know.
    started: Option<Vec<Started>>,
    /// Whether a client is traced; its packets.
    tracing: bool,
    packets: Vec<Event>,
}

impl Heard {
    /// Reads what the programs told, and returns the flows that have ended. `now` is the monotonic clock in ns.
    pub fn hear(&mut self, maps: &mut Maps, now: u64) -> Vec<Ended> {
        let mut ended = self.follow(maps, now);
        for event in maps.events.take() {
            match EventKind::of(event.kind) {
                Some(EventKind::Closed) => ended.extend(closed(maps, &event, now)),
                Some(EventKind::Refused) => self.note(&event, Failure::Refused),
                Some(EventKind::Unanswered) => self.note(&event, Failure::Unanswered),
                Some(EventKind::Packet) if self.tracing => self.packets.push(event),
                Some(EventKind::Established) => {
                    if let Some(flows) = &mut self.started {
                        flows.extend(started(maps, &event));
                    }
                    let outcome = (event.family == 6, event.backend, None);
                    if self.outcomes.last() != Some(&outcome) {
                        self.outcomes.push(outcome);
                    }
                }
                Some(EventKind::Packet) | None => {}
            }
        }
        ended
    }

    fn note(&mut self, event: &Event, failure: Failure) {
        let v6 = event.family == 6;
        self.outcomes.push((v6, event.backend, Some(failure)));
        if self.followed.len() < FOLLOWED {
            let handshake = Handshake { v6, record: event.record, generation: event.generation };
            self.followed.insert(handshake);
        }
    }

    /// What became of the handshakes that a backend failed.
    fn follow(&mut self, maps: &Maps, now: u64) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.followed.retain(|handshake| {
            let fate = if handshake.v6 {
                fate(&maps.v6.flows, *handshake, now)
            } else {
                fate(&maps.v4.flows, *handshake, now)
            };
            match fate {
                Fate::Open => return true,
                Fate::Failed(flow) => ended.push(*flow),
                Fate::Gone => {}
            }
            false
        });
        ended
    }

    /// How new flows went since the last call, with the addresses that the numbers stand for.
    pub fn outcomes(
        &mut self,
        address: impl Fn(bool, BackendId) -> Option<SocketAddr>,
    ) -> Vec<(SocketAddr, Option<Failure>)> {
        let outcomes = std::mem::take(&mut self.outcomes).into_iter();
        let outcomes: Vec<_> =
            outcomes.filter_map(|(v6, backend, outcome)| Some((address(v6, backend)?, outcome))).collect();
        for (backend, failure) in &outcomes {
            if let Some(failure) = failure {
                self.failed.entry(*backend).or_default().add(*failure);
            }
        }
        outcomes
    }

    /// Failures of each backend since the agent began.
    pub fn failed(&self) -> &BTreeMap<SocketAddr, Failures> {
        &self.failed
    }

    /// Forgets the failures of backends that are gone.
    pub fn forget(&mut self, stays: impl Fn(SocketAddr) -> bool) {
        self.failed.retain(|backend, _| stays(*backend));
    }

    /// From now on flows that start are noted.
    pub fn note_starts(&mut self) {
        self.started = Some(Vec::new());
    }

    /// Flows that have started since the last call, and were not told of.
    pub fn take_started(&mut self) -> Vec<Started> {
        self.started.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Keeps packets from now on, or no more.
    pub fn trace(&mut self, tracing: bool) {
        self.tracing = tracing;
        self.packets.clear();
    }

    /// The traced client's packets since the last call.
    pub fn packets(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.packets)
    }
}

/// The flow that an event says has started, if its record is still its own.
fn started(maps: &Maps, event: &Event) -> Option<Started> {
    if event.family == 6 { begun(&maps.v6.flows, event) } else { begun(&maps.v4.flows, event) }
}

fn begun<A: Address>(flows: &Flows<A>, event: &Event) -> Option<Started> {
    let flow = flows.record(event.record)?;
    let state = State(flow.state);
    if state.generation() != event.generation || state.any(State::START_TOLD | State::TOLD) {
        return None;
    }
    flows.mark(Kind::Established, event.record, State::START_TOLD);
    Some(Started::new(&flow))
}

/// The flow that an event says has ended, if its record says so too.
fn closed(maps: &Maps, event: &Event, now: u64) -> Option<Ended> {
    if event.family == 6 { over(&maps.v6.flows, event, now) } else { over(&maps.v4.flows, event, now) }
}

fn over<A: Address>(flows: &Flows<A>, event: &Event, now: u64) -> Option<Ended> {
    let flow = flows.record(event.record)?;
    let state = State(flow.state);
    if state.generation() != event.generation || !state.phase().is_over() || state.any(State::TOLD) {
        return None;
    }
    flows.mark(Kind::Established, event.record, State::TOLD);
    Some(Ended::new(&flow, now))
}

enum Fate {
    /// It may still succeed.
    Open,
    /// It did not.
    Failed(Box<Ended>),
    /// It succeeded, or another one has its record.
    Gone,
}

fn fate<A: Address>(flows: &Flows<A>, handshake: Handshake, now: u64) -> Fate {
    let Some(flow) = flows.live(Kind::Handshakes, handshake.record) else { return Fate::Gone };
    let state = State(flow.state);
    let end = match state.phase() {
        _ if state.any(State::REFUSED) || state.seen(Direction::ToClient).any(Seen::RST) => End::Refused,
        Phase::Reset => End::ResetByClient,
        _ => End::Unanswered,
    };
    if state.generation() != handshake.generation || state.any(State::TOLD) {
        Fate::Gone
    } else if state.phase() == Phase::Reset || silence(&flow, now) >= GIVEN_UP {
        flows.mark(Kind::Handshakes, handshake.record, State::TOLD);
        Fate::Failed(Box::new(Ended::by(end, &flow, now)))
    } else if state.seen(Direction::ToClient).any(Seen::SYN) {
        Fate::Gone
    } else {
        Fate::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let bytes: Vec<u8> =
            1_u64.to_ne_bytes().into_iter().chain((2..22_u32).flat_map(u32::to_ne_bytes)).collect();
        let event = decode(&bytes).unwrap();
        assert_eq!((event.time, event.kind, event.family, event.record), (1, 2, 3, 4));
        assert_eq!((event.source, event.destination), ([12, 13, 14, 15], [16, 17, 18, 19]));
        assert_eq!((event.ports, event.interface), (20, 21));
        assert_eq!(decode(&bytes[1..]), None);
    }
}
