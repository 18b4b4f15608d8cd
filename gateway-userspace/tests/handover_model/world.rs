//! Client, backend, the gateway between them and the network, and what must hold whatever happens.

use std::hash::{DefaultHasher, Hash, Hasher};

use gateway_common::flow::ticks;
use gateway_common::handover::is_before;
use gateway_common::{Direction, Seen, State};

use super::agent::{Agent, Step};
use super::programs::{self, DIRECTIONS, Left, Record};
use super::rules::Broken;
use super::tcp::{Phase, Segment, Setup, Tcp};

/// How large things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that each end says.
    pub(crate) says: [usize; 2],
    /// Bytes of a segment.
    pub(crate) segment: u32,
    /// Bytes that the agent keeps of a direction, and that a socket takes in advance.
    pub(crate) room: usize,
    /// What may still go wrong: segments lost, doubled, the agent stalled, killed.
    pub(crate) losses: u32,
    pub(crate) doubles: u32,
    pub(crate) stalls: u32,
    pub(crate) crashes: u32,
    /// Timers that may run out without need.
    pub(crate) timeouts: u32,
}

/// What an end's program says and hears.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct App {
    pub(crate) said: usize,
    pub(crate) heard: Vec<u8>,
}

/// The clock in ms when the connections are made.
pub(crate) const BEGINNING: u32 = 1_000_000;

/// A segment whose flow a program has looked up.
pub(crate) type Hooked = (Segment, Option<u64>);

/// Places where segments are; elements are by the end (or its socket), in any order.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) limits: Limits,
    pub(crate) broken: Option<Broken>,
    /// ms.
    pub(crate) now: u32,
    pub(crate) ends: [Tcp; 2],
    pub(crate) apps: [App; 2],
    pub(crate) sockets: [Tcp; 2],
    pub(crate) agent: Agent,
    pub(crate) record: Option<Record>,
    /// From an end to the gateway.
    pub(crate) inbound: [Vec<Segment>; 2],
    /// Looked up, and nothing done.
    pub(crate) hooked: [Vec<Hooked>; 2],
    /// Past the programs, and not with the socket yet.
    pub(crate) passed: [Vec<Segment>; 2],
    /// From a socket, and not with the guard yet.
    pub(crate) leaving: [Vec<Segment>; 2],
    /// From the gateway to an end.
    pub(crate) outbound: [Vec<Segment>; 2],
    /// A reset may come: the agent died, or was held up for too long.
    pub(crate) may_reset: bool,
    /// What did not hold.
    pub(crate) fault: Option<String>,
}

/// The byte of a direction's stream at a place: no two of a direction are alike.
pub(crate) fn byte(from: usize, place: usize) -> u8 {
    (from << 7 | place & 127) as u8
}

impl World {
    /// Two connections that have just been made: client and its socket, backend and its.
    pub(crate) fn new(limits: Limits, setups: [[Setup; 2]; 2], attempts: u32) -> Self {
        let [client, backend] = setups;
        let nothing = || [Vec::new(), Vec::new()];
        Self {
            limits,
            broken: None,
            now: BEGINNING,
            ends: [Tcp::new(client[0]), Tcp::new(backend[0])],
            apps: Default::default(),
            sockets: [Tcp::new(client[1]), Tcp::new(backend[1])],
            agent: Agent::new(attempts),
            record: None,
            inbound: nothing(),
            hooked: Default::default(),
            passed: nothing(),
            leaving: nothing(),
            outbound: nothing(),
            may_reset: false,
            fault: None,
        }
    }

    pub(crate) fn ticks(&self) -> u32 {
        ticks(u64::from(self.now) * 1_000_000)
    }

    fn found(&self, direction: Direction) -> Option<State> {
        let record = self.record.as_ref()?;
        (record.listed[direction as usize] && record.state.any(State::LIVE)).then_some(record.state)
    }

    /// A program finds the flow of a segment, or none.
    pub(crate) fn look_up(&mut self, end: usize, place: usize) {
        let segment = self.inbound[end].remove(place);
        let found = self.found(DIRECTIONS[end]).map(|state| state.0);
        self.hooked[end].push((segment, found));
    }

    /// And does with it what it does.
    pub(crate) fn act(&mut self, end: usize, place: usize) {
        let (segment, found) = self.hooked[end].remove(place);
        let now = [self.now, self.ticks()];
        let (Some(state), Some(record)) = (found, self.record.as_mut()) else {
            self.passed[end].push(segment);
            return;
        };
        match programs::arrive(record, State(state), DIRECTIONS[end], segment, now, self.broken) {
            Left::ToStack(segment) => self.passed[end].push(segment),
            Left::Onward(segment) => self.outbound[1 - end].push(segment),
            Left::Back(segment) => self.outbound[end].push(segment),
            Left::Nowhere => {}
        }
        self.may_reset |= self.record.as_ref().is_some_and(|record| {
            let is_late = now[1].wrapping_sub(record.last_seen) > gateway_common::handover::LONGEST_FREEZE;
            is_late && record.state.any(State::FROZEN)
        });
    }

    /// The gateway's socket takes a segment in.
    pub(crate) fn accept(&mut self, end: usize, place: usize) {
        let segment = self.passed[end].remove(place);
        if let Some(reset) = self.sockets[end].receive(&segment) {
            self.leaving[end].push(reset);
        }
    }

    /// The guard sees a segment of a socket.
    pub(crate) fn depart(&mut self, end: usize, place: usize) {
        let segment = self.leaving[end].remove(place);
        let is_found = self.found(DIRECTIONS[end]).is_some();
        let left = match self.record.as_mut().filter(|_| is_found) {
            Some(record) => programs::depart(record, DIRECTIONS[end], segment, self.broken),
            None => Some(segment),
        };
        self.outbound[end].extend(left);
    }

    /// An end takes a segment in.
    pub(crate) fn arrive(&mut self, end: usize, place: usize) {
        let segment = self.outbound[end].remove(place);
        self.judge(end, &segment);
        if let Some(answer) = self.ends[end].receive(&segment) {
            self.inbound[end].push(answer);
        }
        let heard = self.ends[end].read(usize::MAX);
        self.apps[end].heard.extend(heard);
    }

    /// Whether an end may be told what a segment tells it.
    fn judge(&mut self, end: usize, segment: &Segment) {
        if self.ends[end].phase != Phase::Open {
            return;
        }
        if segment.is(Seen::RST) {
            if !self.may_reset && segment.seq == self.ends[end].rcv {
                self.fail(format!("{end} is reset, and nothing had happened"));
            }
            return;
        }
        self.judge_bytes(end, segment);
        let is_given_up = self.record.as_ref().is_some_and(|record| record.state.any(State::CONDEMNED));
        if is_given_up && self.may_reset {
            // The last word of a flow that never went on is with numbers that nobody ever set.
            return;
        }
        self.judge_acknowledgement(end, segment);
        if let Some([_, echo]) = segment.stamps
            && echo != 0
            && is_before(self.ends[end].timestamp(self.now), echo)
        {
            self.fail(format!("{end} hears an echo of the future"));
        }
    }

    fn judge_bytes(&mut self, end: usize, segment: &Segment) {
        let first = segment.seq.wrapping_sub(self.ends[end].first_in) as usize;
        for (place, heard) in segment.payload.iter().enumerate() {
            let place = first.wrapping_add(place);
            if place >= self.apps[1 - end].said || *heard != byte(1 - end, place) {
                self.fail(format!("{end} hears {heard:#x} in place {place}"));
            }
        }
        let is_cut = segment.end().wrapping_sub(self.ends[end].first_in).wrapping_sub(1) as usize
            != self.limits.says[1 - end];
        if segment.is(Seen::FIN) && is_cut && !self.may_reset {
            self.fail(format!("{end} hears an end before the end"));
        }
    }

    fn judge_acknowledgement(&mut self, end: usize, segment: &Segment) {
        let tcp = &self.ends[end];
        if is_before(tcp.nxt, segment.ack) {
            self.fail(format!("{end} is told that it said what it never did"));
        } else if is_before(tcp.una, segment.ack) {
            let [from, to] = [tcp.una, segment.ack].map(|number| number.wrapping_sub(tcp.first_out) as usize);
            let lost = (from..to.min(self.apps[end].said)).find(|place| !self.is_kept(end, *place));
            // A crash takes bytes with it that were acknowledged: its resets say so.
            if let Some(place) = lost.filter(|_| !self.may_reset) {
                self.fail(format!("{end} hears that byte {place} has come, and nobody has it"));
            }
        }
    }

    /// Whether a byte that an end said is with the other end, or with what still sends it there.
    fn is_kept(&self, end: usize, place: usize) -> bool {
        let byte = byte(end, place);
        let is_handed_over = self.record.as_ref().is_some_and(|record| !record.state.any(State::FROZEN));
        let unread: &[u8] = if is_handed_over { &[] } else { &self.sockets[end].unread };
        place < self.apps[1 - end].heard.len()
            || self.ends[1 - end].out_of_order.values().any(|kept| *kept == byte)
            || self.sockets[1 - end].queue.contains(&byte)
            || self.agent.buffers[end].contains(&byte)
            || unread.contains(&byte)
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// An end sends what it has to say.
    pub(crate) fn speak(&mut self, end: usize, timer: bool) {
        let (most, now) = (self.limits.segment, self.now);
        let tcp = &mut self.ends[end];
        let segment = if timer { tcp.time_out(most, now) } else { tcp.transmit(most, now) };
        self.inbound[end].extend(segment);
    }

    /// A socket does.
    pub(crate) fn socket_speaks(&mut self, end: usize, timer: bool) {
        let (most, now) = (self.limits.segment, self.now);
        let tcp = &mut self.sockets[end];
        let segment = if timer { tcp.time_out(most, now) } else { tcp.transmit(most, now) };
        self.leaving[end].extend(segment);
    }

    /// An end's program says one byte more, or that this was all.
    pub(crate) fn say(&mut self, end: usize) {
        let said = self.apps[end].said;
        if said < self.limits.says[end] {
            self.ends[end].queue.push(byte(end, said));
            self.apps[end].said += 1;
        } else {
            self.ends[end].closing = true;
        }
    }

    pub(crate) fn has_more_to_say(&self, end: usize) -> bool {
        self.ends[end].is_open() && !self.ends[end].closing
    }

    pub(crate) fn kill(&mut self) {
        self.may_reset = true;
        self.crash();
    }

    /// What tells two worlds apart. Times do not: they are no part of a decision but that of [`Limits::stalls`].
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.ends, &self.apps, &self.sockets, &self.agent, self.may_reset).hash(&mut hasher);
        (&self.inbound, &self.hooked, &self.passed, &self.leaving, &self.outbound).hash(&mut hasher);
        let Limits { losses, doubles, stalls, crashes, timeouts, .. } = self.limits;
        (losses, doubles, stalls, crashes, timeouts, self.now).hash(&mut hasher);
        if let Some(Record { state, listed, translation, expected, last_seen }) = &self.record {
            (state.0, listed, expected, last_seen).hash(&mut hasher);
            translation.heard.hash(&mut hasher);
            for end in translation.ends {
                (end.taken, end.owed, end.stamps).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Whether both ends have heard and said all.
    pub(crate) fn is_complete(&self) -> bool {
        [0, 1].into_iter().all(|end| {
            let tcp = &self.ends[end];
            tcp.eof && tcp.fin_acked && self.apps[end].heard.len() == self.limits.says[1 - end]
        })
    }

    /// Whether an end knows that its connection is over.
    pub(crate) fn is_over(&self, end: usize) -> bool {
        let tcp = &self.ends[end];
        !tcp.is_open() || tcp.eof && tcp.fin_acked
    }

    pub(crate) fn is_relaying(&self) -> bool {
        self.agent.step == Step::Relay
    }
}
