//! When a flow is over, and taking it out of the table. An established flow that went too early would be a dead
//! connection, so the programs evict none; this walk, a part of the table at a time, is all that removes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::Pod;
use gateway_common::flow::{NO_PORTS, NO_TRANSLATION, TICKS_PER_SECOND, elapsed, ticks};
use gateway_common::{Address, Config, Direction, Flow, Half, ListenerId, Phase, State};

use super::farewell::Farewells;
use super::flows::{Flows, Kind};
use super::maps::{FamilyMaps, Maps};
use super::tally::{Ended, Lasting, Started, Tally};

/// A handshake that waits for room among the established flows: a client that is still there sends something.
const WAITING: Duration = Duration::from_secs(30);
/// A handshake that is not through: longer than a client waits before it sends its SYN again for the last time but one
/// (RFC 6298: 1, 3, 7, 15, 31 s).
const UNANSWERED: Duration = Duration::from_secs(40);
/// Closed by the client first: the client's end keeps the TIME-WAIT, and the backend takes a new SYN on the same
/// ports at once. Long enough for a last ACK that was lost.
const CLOSED_BY_CLIENT: Duration = Duration::from_secs(5);
/// Closed by the backend first: Linux keeps a TIME-WAIT for 60 s there.
const CLOSED_BY_BACKEND: Duration = Duration::from_mins(1);
/// After a RST either end has forgotten everything; what still comes is in flight.
const RESET: Duration = Duration::from_secs(2);
/// The most that a finished flow may keep its record when records run out.
const PRESSED: Duration = Duration::from_secs(2);

/// A handshake in which nothing moves for so long is nobody's any more: clients send their SYN again after a second, and
/// after two more.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// How often flows that last are told of, and how old one is by then: Istio's gateway has the same period.
const TELL: Duration = Duration::from_secs(5);
/// The clock of the records is that coarse, and a walk takes its time.
const SLACK: Duration = Duration::from_secs(2);

/// Records looked at by one step: some ms.
const BUDGET: u32 = 131_072;

/// How long a flow may be silent.
pub fn patience(state: State, idle_timeout: Duration, pressed: bool) -> Duration {
    let patience = match state.phase() {
        // No record of an established flow is in this phase; one that says so has lost a packet's mark.
        Phase::Opening | Phase::Established => return idle_timeout,
        Phase::Closing if state.client_closed_first() => CLOSED_BY_CLIENT,
        Phase::Closing => CLOSED_BY_BACKEND,
        Phase::Reset => RESET,
    };
    if pressed { patience.min(PRESSED) } else { patience }
}

/// A walk through the established flows of a family that goes on from step to step.
#[derive(Debug, Default)]
pub struct Sweep {
    next: u32,
    /// Records found retired by the walk before, or by this one: freed when the next one comes by.
    retired: HashSet<u32>,
    /// Flows met since the walk began.
    counting: Tally,
    /// Flows met by the last walk that came to its end.
    counted: Option<Tally>,
    /// Flows that both ends must be told of before they go.
    farewells: Farewells,
    /// Flows found over by this walk.
    ending: Tally,
    /// Flows found over by the walks before: beside `counted`, so that the sum of both never counts a flow twice.
    ended: Tally,
    /// Flows that last, if somebody wants to know.
    lasting: Option<LastingFlows>,
    /// Flows whose start was not told, likewise.
    started: Option<Vec<Started>>,
}

/// Flows that go on and have moved since they were told of last, found by a walk every few seconds.
#[derive(Debug, Default)]
struct LastingFlows {
    found: Vec<Lasting>,
    /// Monotonic clock, in ns, when the walk began that tells, and when the one before it did.
    walks: [u64; 2],
    /// Whether this walk tells.
    tells: bool,
}

impl LastingFlows {
    /// A walk begins.
    fn begin(&mut self, now: u64) {
        let [last, _] = self.walks;
        self.tells = Duration::from_nanos(now.saturating_sub(last)) >= TELL;
        if self.tells {
            self.walks = [now, last];
        }
    }

    fn look<A: Address>(&mut self, flow: &Flow<A>, now: u64) {
        let [_, before] = self.walks;
        let age = Duration::from_nanos(now.saturating_sub(flow.created));
        if !self.tells || age < TELL {
            return;
        }
        let since = Duration::from_nanos(now.saturating_sub(before)) + SLACK;
        if silence(flow, now) <= since || age <= since + TELL {
            self.found.push(Lasting::new(flow));
        }
    }
}

impl Sweep {
    /// From now on flows that last are noted.
    pub fn note_lasting(&mut self) {
        self.lasting = Some(LastingFlows::default());
    }

    /// Flows that last and have moved, as far as the walk has come.
    pub fn take_lasting(&mut self) -> Vec<Lasting> {
        self.lasting.as_mut().map(|lasting| std::mem::take(&mut lasting.found)).unwrap_or_default()
    }

    /// From now on flows that go on are noted once, unless their start was told when it came.
    pub fn note_starts(&mut self) {
        self.started = Some(Vec::new());
    }

    /// Those that were noted since the last call.
    pub fn take_started(&mut self) -> Vec<Started> {
        self.started.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Flows in the table, as of the last full walk.
    pub fn live(&self) -> usize {
        self.counted.as_ref().unwrap_or(&self.counting).flows()
    }

    /// Traffic of the flows that there are, as of the last full walk.
    pub fn current(&self) -> &Tally {
        self.counted.as_ref().unwrap_or(&self.counting)
    }

    /// Traffic of the flows that were over by then, since the agent began.
    pub fn ended(&self) -> &Tally {
        &self.ended
    }

    /// Forgets what [`Tally::retain`] does not keep of the flows that are over.
    pub fn forget(&mut self, backend: impl Fn(SocketAddr) -> bool, listener: impl Fn(ListenerId) -> bool) {
        self.ended.retain(&backend, &listener);
        self.ending.retain(backend, listener);
    }

    /// Looks at the next part of the table and takes out the flows that are over; returns those that nobody has told
    /// of yet. `now` is the monotonic clock in ns, as in the records.
    pub fn step<A: Address + Pod>(
        &mut self,
        family: &FamilyMaps<A>,
        maps: &Maps,
        config: &Config,
        now: u64,
    ) -> Vec<Ended> {
        let flows = &family.flows;
        let capacity = flows.capacity(Kind::Established);
        let end = self.next.saturating_add(BUDGET).min(capacity);
        let pressed = flows.free() < u64::from(capacity / 4);
        if self.next == 0
            && let Some(lasting) = &mut self.lasting
        {
            lasting.begin(now);
        }
        // Nothing in use: nothing to look at.
        let mut ended = Vec::new();
        if flows.free() < u64::from(capacity) {
            for number in self.next..end {
                ended.extend(self.look(flows, maps, config, number, now, pressed));
            }
        }
        self.next = end;
        if end == capacity {
            self.next = 0;
            self.counted = Some(std::mem::take(&mut self.counting));
            self.ended.absorb(std::mem::take(&mut self.ending));
            tend(flows, maps, config, now);
        }
        ended
    }

    fn look<A: Address>(
        &mut self,
        flows: &Flows<A>,
        maps: &Maps,
        config: &Config,
        number: u32,
        now: u64,
        pressed: bool,
    ) -> Option<Ended> {
        let state = flows.state(Kind::Established, number);
        if state.any(State::RETIRED) {
            return self.free_if_old(flows, maps, config, number, now);
        }
        if !state.any(State::LIVE) {
            return None;
        }
        let flow = flows.live(Kind::Established, number)?;
        let state = State(flow.state);
        if state.any(State::CONDEMNED) {
            // By an agent before this one, perhaps.
            self.farewells.add(number, state);
        } else if is_over(&flow, now, pressed) {
            // When records run out, those who come go before those who were silent.
            if !state.phase().is_over() && !pressed {
                self.counting.add(&flow);
                flows.mark(Kind::Established, number, State::CONDEMNED | State::TOLD);
                self.farewells.add(number, state);
                return news(&flow, now);
            }
            if flows.retire(config, number, &flow) {
                self.retired.insert(number);
                self.ending.add(&flow);
                return news(&flow, now);
            }
        }
        self.counting.add(&flow);
        if let Some(lasting) = &mut self.lasting {
            lasting.look(&flow, now);
        }
        if let Some(started) = &mut self.started
            && !state.any(State::START_TOLD | State::TOLD | State::CONDEMNED)
            && !state.phase().is_over()
        {
            flows.mark(Kind::Established, number, State::START_TOLD);
            started.push(Started::new(&flow));
        }
        None
    }

    /// Flows that are condemned.
    pub fn farewells(&mut self) -> &mut Farewells {
        &mut self.farewells
    }

    /// A record that the walk before already found retired has been out of the index for as long as a walk takes.
    fn free_if_old<A: Address>(
        &mut self,
        flows: &Flows<A>,
        maps: &Maps,
        config: &Config,
        number: u32,
        now: u64,
    ) -> Option<Ended> {
        if self.retired.insert(number) {
            // Retired by a program; what it was of has been replaced.
            let was_flow = |flow: &Flow<A>| {
                State(flow.state).any(State::COUNTED)
                    || flow.translation != NO_TRANSLATION && flow.ports != NO_PORTS
            };
            let flow = flows.record(number).filter(was_flow)?;
            self.ending.add(&flow);
            return news(&flow, now);
        }
        self.retired.remove(&number);
        let released = flows.release(config, &maps.ports, number)?;
        maps.translations.give_back(released.translation);
        if let Some(load) = released.listener.and_then(|listener| maps.listener_flows(listener)) {
            let _ = load.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        }
        None
    }
}

/// A flow that is over, unless its end was told when it came.
pub(super) fn news<A: Address>(flow: &Flow<A>, now: u64) -> Option<Ended> {
    (!State(flow.state).any(State::TOLD)).then(|| Ended::new(flow, now))
}

/// The programs overwrite old handshakes when new ones come. Where few come, those that are over are given up here: each
/// holds a port, and its backend's number.
fn tend<A: Address>(flows: &Flows<A>, maps: &Maps, config: &Config, now: u64) {
    for number in 0..flows.capacity(Kind::Handshakes) {
        let state = flows.state(Kind::Handshakes, number);
        if !state.any(State::LIVE) {
            if state.any(State::RETIRED) {
                flows.unmark(Kind::Handshakes, number, State::RETIRED);
            }
            continue;
        }
        let Some(flow) = flows.live(Kind::Handshakes, number) else { continue };
        if silence(&flow, now) >= handshake_patience(&flow) {
            flows.give_up(config, &maps.ports, number, &flow);
        } else if state.any(State::WAITING) && silence(&flow, now) >= WAITING {
            flows.unmark(Kind::Handshakes, number, State::WAITING);
        }
    }
}

/// Whether a handshake is one that will not become a flow.
pub fn is_given_up<A>(handshake: &Flow<A>, now: u64) -> bool {
    let state = State(handshake.state);
    !state.any(State::WAITING) && (state.phase().is_over() || silence(handshake, now) >= GIVEN_UP)
}

/// Ticks since a packet.
pub fn since(last_seen: u32, now: u64) -> u32 {
    elapsed(last_seen, ticks(now))
}

/// How long a record among the handshakes may be silent.
fn handshake_patience<A>(flow: &Flow<A>) -> Duration {
    let idle_timeout = Duration::from_secs(flow.idle_timeout.into());
    match State(flow.state).phase() {
        Phase::Opening => UNANSWERED,
        // Through, but there was no room for it among the established flows; so are those that close.
        Phase::Established | Phase::Closing | Phase::Reset => {
            patience(State(flow.state), idle_timeout, false)
        }
    }
}

/// Silence in both directions.
pub fn silence<A>(flow: &Flow<A>, now: u64) -> Duration {
    let since = |direction: Direction| {
        flow.halves.get(direction as usize).map_or(0, |half| since(half.last_seen, now))
    };
    // A direction that nothing came in has no time of its own, unless its connection was another's before.
    let has_time = |half: &Half| half.packets > 0 || flow.translation != NO_TRANSLATION;
    let latest = [Direction::ToBackend, Direction::ToClient]
        .into_iter()
        .filter(|direction| flow.halves.get(*direction as usize).is_some_and(has_time))
        .map(since)
        .min()
        .unwrap_or_else(|| ticks(now).wrapping_sub(ticks(flow.created)));
    Duration::from_millis(u64::from(latest) * 1000 / u64::from(TICKS_PER_SECOND))
}

fn is_over<A: Copy>(flow: &Flow<A>, now: u64, pressed: bool) -> bool {
    let idle_timeout = Duration::from_secs(flow.idle_timeout.into());
    silence(flow, now) >= patience(State(flow.state), idle_timeout, pressed)
}

#[cfg(test)]
mod tests {
    use gateway_common::{Addr4, Be16, FlowKey, Seen};

    use super::super::view;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn flow(to_backend: u32, to_client: u32, last: [u64; 2]) -> Flow<Addr4> {
        let address = Addr4::from(std::net::Ipv4Addr::LOCALHOST);
        let tuple = FlowKey {
            source: address,
            destination: address,
            source_port: Be16::new(1),
            destination_port: Be16::new(2),
        };
        let half = |last| Half { packets: 1, last_seen: ticks(last * SECOND), ..Half::default() };
        Flow {
            client: tuple,
            backend: tuple,
            oif: [1, 1],
            backend_id: 1,
            listener: 1,
            ports: NO_PORTS,
            idle_timeout: 600,
            attempts: 0,
            translation: NO_TRANSLATION,
            ends: [0; 2],
            created: SECOND,
            state: State::bits(Direction::ToBackend, to_backend)
                | State::bits(Direction::ToClient, to_client),
            halves: last.map(half),
        }
    }

    #[test]
    fn a_flow_is_over_after_the_silence_its_state_allows() {
        let (syn, ack, fin, rst, first) = (Seen::SYN, Seen::ACK, Seen::FIN, Seen::RST, Seen::FIN_FIRST);
        let open = syn | ack;
        for (to_backend, to_client, patience, pressed) in [
            (open, open, 600, 600),
            (open | fin | first, open, 600, 600),
            (open | fin | first, open | fin, 5, 2),
            (open | fin, open | fin | first, 60, 2),
            // Both at once, as far as the marks tell: the longer one.
            (open | fin | first, open | fin | first, 60, 2),
            (open, open | rst, 2, 2),
        ] {
            for last in [[100, 90], [90, 100]] {
                let flow = flow(to_backend, to_client, last);
                for (pressed, patience) in [(false, patience), (true, pressed)] {
                    assert!(
                        !is_over(&flow, (99 + patience) * SECOND, pressed),
                        "{to_backend:#x} {to_client:#x}"
                    );
                    assert!(
                        is_over(&flow, (101 + patience) * SECOND, pressed),
                        "{to_backend:#x} {to_client:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_connection_that_was_handed_over_is_silent_since_then() {
        let mut flow = flow(0, 0, [100, 100]);
        flow.halves.iter_mut().for_each(|half| half.packets = 0);
        let silence = |flow: &Flow<Addr4>| silence(flow, 103 * SECOND).as_secs_f64().round();
        assert!((silence(&flow) - 102.0).abs() < 0.01, "as long as it has been there");
        flow.translation = 1;
        assert!((silence(&flow) - 3.0).abs() < 0.01, "{}", silence(&flow));
    }

    #[test]
    fn a_clock_behind_the_packets_is_no_silence() {
        let flow = flow(0, 0, [100, 100]);
        assert_eq!(silence(&flow, 99 * SECOND), Duration::ZERO);
        for entry in view::directions(&flow, Kind::Established) {
            assert_eq!(entry.idle_seconds(99 * SECOND), 0);
            assert_eq!(entry.idle_seconds(103 * SECOND), 2);
        }
    }

    #[test]
    fn a_handshake_is_given_up_when_nothing_moves_in_it() {
        let (syn, rst) = (Seen::SYN, Seen::RST);
        for (to_client, mark, seconds, want) in [
            (0, 0, 3, false),
            (0, 0, 5, true),
            (syn, 0, 3, false),
            (rst, 0, 0, true),
            // The client has acknowledged: it is waited for.
            (syn, State::WAITING, 20, false),
        ] {
            let mut handshake = flow(syn, to_client, [100, 100]);
            handshake.state |= mark;
            assert_eq!(is_given_up(&handshake, (100 + seconds) * SECOND), want, "{to_client:#x} {seconds}");
        }
    }

    #[test]
    fn the_clock_of_the_records_may_go_round() {
        let round = 1 << 52;
        let mut flow = flow(0, 0, [0, 0]);
        for half in &mut flow.halves {
            half.last_seen = ticks(round - SECOND);
        }
        let silence = silence(&flow, round + SECOND);
        assert!((1990..2010).contains(&silence.as_millis()), "{silence:?}");
    }
}
