//! The agent: a relay of two sockets until it hands them over, in the steps of `datapath/handoff`, each of which is one
//! call of the kernel or one word of a map. Between any two of them anything may happen.

use gateway_common::translation::End;
use gateway_common::{Seen, State, Translation};

use super::programs::{DIRECTIONS, Record};
use super::rules::Broken;
use super::tcp::Phase;
use super::world::World;

/// What is done next; numbers are sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    Relay,
    /// `Flows::put`: the record, then the index, a direction at a time.
    Put,
    List,
    Drain(usize),
    /// `socket::numbers`.
    Enter(usize),
    ReadIn(usize),
    ReadOut(usize),
    InFlight(usize),
    Clock(usize),
    Agreed(usize),
    Memory(usize),
    Leave(usize),
    Thaw,
    /// `Frozen::activate`.
    Write,
    Expect,
    Activate,
    /// `Settling::begin`.
    Begin(usize),
    /// `Settling::finish`.
    SendRest(usize),
    Sent,
    /// `Settling::is_settled`, and what follows.
    Look(usize),
    Clear(usize),
    Withdraw(usize),
    /// `Settling::broken`.
    Break,
    Done,
    Dead,
}

/// What the agent read of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Read {
    next_in: u32,
    next_out: u32,
    in_flight: u32,
    clock: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Agent {
    pub(crate) step: Step,
    /// What was read from each socket and not sent on.
    pub(crate) buffers: [Vec<u8>; 2],
    /// The stream of a socket has ended, and the other one was told.
    ended: [bool; 2],
    reads: [Read; 2],
    is_refused: bool,
    /// Hand-overs that may still be tried.
    pub(crate) attempts: u32,
    /// Sockets that are settled.
    settled: [bool; 2],
    is_beginning: bool,
    /// Whether the connection's flow was ever let go on.
    pub(crate) has_handed_over: bool,
}

impl Agent {
    pub(crate) fn new(attempts: u32) -> Self {
        Self {
            step: Step::Relay,
            buffers: [Vec::new(), Vec::new()],
            ended: [false; 2],
            reads: [Read::default(); 2],
            is_refused: false,
            attempts,
            settled: [false; 2],
            is_beginning: true,
            has_handed_over: false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Done | Step::Dead)
    }
}

impl World {
    /// Whether the connection may be handed over now.
    pub(crate) fn may_hand_over(&self) -> bool {
        self.agent.step == Step::Relay
            && self.agent.attempts > 0
            && self.sockets.iter().all(super::tcp::Tcp::is_established)
            && self.agent.ended == [false; 2]
    }

    pub(crate) fn begin_hand_over(&mut self) {
        self.agent.attempts -= 1;
        self.agent.is_refused = false;
        self.agent.step =
            if self.broken == Some(Broken::ReadBeforeFrozen) { Step::Drain(0) } else { Step::Put };
    }

    /// The agent's next step.
    pub(crate) fn advance(&mut self) {
        self.agent.step = match self.agent.step {
            Step::Relay => self.relay(),
            Step::Put => self.put(),
            Step::List => self.list(),
            Step::Drain(socket) => self.drain(socket),
            Step::Thaw => self.thaw(),
            Step::Write => self.write(),
            Step::Expect => self.expect(),
            Step::Activate => self.activate(),
            Step::Begin(_) | Step::SendRest(_) | Step::Sent => self.send(),
            Step::Look(_) | Step::Clear(_) | Step::Withdraw(_) => self.settle(),
            Step::Break => self.give_up(),
            Step::Done | Step::Dead => self.agent.step,
            _ => self.read_numbers(),
        };
    }

    fn relay(&mut self) -> Step {
        if self.sockets.iter().any(|socket| !socket.is_open()) {
            self.may_reset = true;
            return self.give_up();
        }
        for from in [0, 1] {
            let to = 1 - from;
            let room = self.limits.room.saturating_sub(self.agent.buffers[from].len());
            let read = self.sockets[from].read(room);
            self.agent.buffers[from].extend(read);
            self.write_to(to);
            let is_over = self.sockets[from].eof
                && self.sockets[from].unread.is_empty()
                && self.agent.buffers[from].is_empty();
            if is_over && !self.agent.ended[from] {
                self.agent.ended[from] = true;
                self.sockets[to].closing = true;
            }
        }
        Step::Relay
    }

    /// Gives a socket of what it is to send as much as it takes.
    fn write_to(&mut self, socket: usize) {
        let room = self.limits.room.saturating_sub(self.sockets[socket].queue.len());
        let buffer = &mut self.agent.buffers[1 - socket];
        let count = buffer.len().min(room);
        if self.sockets[socket].is_open() {
            self.sockets[socket].queue.extend(buffer.drain(..count));
        }
    }

    fn put(&mut self) -> Step {
        let open = Seen::SYN | Seen::ACK;
        let seen = DIRECTIONS.map(|direction| State::bits(direction, open));
        self.record = Some(Record {
            state: State(State::LIVE | State::FROZEN | seen[0] | seen[1]),
            listed: [true, false],
            // What a flow before this one left there.
            translation: Translation {
                ends: [End { taken: 77, owed: 1 << 30, ..End::default() }; 2],
                ..Translation::default()
            },
            expected: [0; 2],
            last_seen: self.ticks(),
        });
        Step::List
    }

    fn list(&mut self) -> Step {
        if let Some(record) = &mut self.record {
            record.listed = [true; 2];
        }
        if self.broken == Some(Broken::ReadBeforeFrozen) { Step::Write } else { Step::Drain(0) }
    }

    fn drain(&mut self, socket: usize) -> Step {
        let read = self.sockets[socket].read(usize::MAX);
        self.agent.buffers[socket].extend(read);
        if self.sockets[socket].eof {
            return Step::Thaw;
        }
        if socket == 0 { Step::Drain(1) } else { Step::Enter(0) }
    }

    fn read_numbers(&mut self) -> Step {
        let now = self.now;
        let (Step::Enter(at)
        | Step::ReadIn(at)
        | Step::ReadOut(at)
        | Step::InFlight(at)
        | Step::Clock(at)
        | Step::Agreed(at)
        | Step::Memory(at)
        | Step::Leave(at)) = self.agent.step
        else {
            return self.agent.step;
        };
        let (socket, read) = (&mut self.sockets[at], &mut self.agent.reads[at]);
        match self.agent.step {
            Step::Enter(_) => {
                socket.repair = true;
                Step::ReadIn(at)
            }
            Step::ReadIn(_) => {
                read.next_in = socket.rcv;
                Step::ReadOut(at)
            }
            Step::ReadOut(_) => {
                read.next_out = socket.written();
                Step::InFlight(at)
            }
            Step::InFlight(_) => {
                read.in_flight = socket.unacknowledged();
                Step::Clock(at)
            }
            Step::Clock(_) => {
                read.clock = socket.timestamp(now).wrapping_sub(now);
                Step::Agreed(at)
            }
            Step::Agreed(_) => {
                self.agent.is_refused |= !socket.is_established();
                Step::Memory(at)
            }
            Step::Memory(_) => {
                let is_empty = socket.unread.is_empty() && socket.out_of_order.is_empty();
                self.agent.is_refused |= !is_empty && self.broken != Some(Broken::MemoryUnchecked);
                Step::Leave(at)
            }
            _ => {
                socket.repair = false;
                self.after_numbers(at)
            }
        }
    }

    fn after_numbers(&self, socket: usize) -> Step {
        if self.agent.is_refused {
            Step::Thaw
        } else if socket == 0 {
            Step::Enter(1)
        } else if self.broken == Some(Broken::ReadBeforeFrozen) && self.record.is_none() {
            Step::Put
        } else {
            Step::Write
        }
    }

    fn thaw(&mut self) -> Step {
        if self.broken != Some(Broken::RefusalLeavesFrozen) {
            self.record = None;
        }
        Step::Relay
    }

    fn write(&mut self) -> Step {
        let agent = &self.agent;
        let [client, backend] = [0, 1].map(|socket: usize| {
            let read = agent.reads[socket];
            let unsent = agent.buffers[1 - socket].len() as u32;
            let counted = if self.broken == Some(Broken::UnsentForgotten) { 0 } else { unsent };
            let [near, far] = [&self.sockets[socket], &self.sockets[1 - socket]];
            End {
                taken: read.next_in,
                owed: read.next_out.wrapping_add(counted),
                shift: near.peer_scale as i16 - far.scale as i16,
                flags: 0,
                clock: read.clock,
                stamps: 0,
            }
        });
        if let Some(record) = &mut self.record {
            record.translation.ends = [client, backend];
        }
        Step::Expect
    }

    fn expect(&mut self) -> Step {
        let ticks = self.ticks();
        if let Some(record) = &mut self.record {
            record.expected = record.translation.ends.map(|end| end.taken);
            record.last_seen = ticks;
        }
        Step::Activate
    }

    fn activate(&mut self) -> Step {
        let mut bits = 0;
        for (socket, direction) in DIRECTIONS.into_iter().enumerate() {
            let unsent = !self.agent.buffers[1 - socket].is_empty();
            let in_flight = self.agent.reads[socket].in_flight > 0;
            if unsent || in_flight && self.broken != Some(Broken::InFlightForgotten) {
                bits |= State::held(direction);
            }
            if unsent && self.broken != Some(Broken::UnsentUnmarked) {
                bits |= State::UNSENT;
            }
        }
        let Some(record) = &mut self.record else { return Step::Relay };
        if record.state.any(State::CONDEMNED) {
            return Step::Break;
        }
        record.state = State(record.state.0 & !State::FROZEN | bits);
        self.agent.has_handed_over = true;
        Step::Begin(0)
    }

    /// Both ends are reset.
    fn give_up(&mut self) -> Step {
        self.alter(State::CONDEMNED, State::FROZEN);
        for socket in [0, 1].into_iter().filter(|socket| !self.agent.settled[*socket]) {
            if self.sockets[socket].is_open() {
                let reset = self.sockets[socket].reset();
                self.leaving[socket].push(reset);
            }
            self.sockets[socket].phase = Phase::Gone;
        }
        self.agent.buffers = [Vec::new(), Vec::new()];
        Step::Done
    }

    fn alter(&mut self, set: u64, clear: u64) {
        if let Some(record) = &mut self.record {
            record.state = State(record.state.0 & !clear | set);
        }
    }

    fn send(&mut self) -> Step {
        match self.agent.step {
            Step::Begin(socket) => {
                self.write_to(socket);
                if self.agent.buffers[1 - socket].is_empty() {
                    Step::Look(socket)
                } else {
                    self.next_after(socket)
                }
            }
            Step::SendRest(socket) => {
                self.write_to(socket);
                match (self.agent.buffers[1 - socket].is_empty(), self.sockets[socket].is_open()) {
                    (true, _) if socket == 0 => Step::SendRest(1),
                    (true, _) => Step::Sent,
                    (false, true) => Step::SendRest(socket),
                    (false, false) => self.give_up(),
                }
            }
            Step::Sent => {
                self.alter(0, State::UNSENT);
                Step::Look(0)
            }
            step => step,
        }
    }

    /// After a socket was looked at.
    fn next_after(&mut self, socket: usize) -> Step {
        if !self.agent.is_beginning {
            return if self.agent.settled == [true; 2] { Step::Done } else { Step::Look(1 - socket) };
        }
        if socket == 0 {
            return Step::Begin(1);
        }
        self.agent.is_beginning = false;
        if self.agent.buffers.iter().all(Vec::is_empty) { Step::Sent } else { Step::SendRest(0) }
    }

    fn settle(&mut self) -> Step {
        match self.agent.step {
            Step::Look(socket) => self.look(socket),
            Step::Clear(socket) => {
                self.alter(0, State::held(DIRECTIONS[socket]));
                Step::Withdraw(socket)
            }
            Step::Withdraw(socket) => {
                self.sockets[socket].repair = true;
                self.sockets[socket].close();
                self.agent.settled[socket] = true;
                self.next_after(socket)
            }
            step => step,
        }
    }

    fn look(&mut self, at: usize) -> Step {
        let socket = &self.sockets[at];
        if self.agent.settled[at] {
            return self.next_after(at);
        }
        let Some(record) = &self.record else { return Step::Withdraw(at) };
        let is_over =
            record.state.any(State::CONDEMNED) || record.state.phase() == gateway_common::Phase::Reset;
        if is_over
            || !record.state.any(State::held(DIRECTIONS[at]))
            || self.broken == Some(Broken::WithdrawnEarly)
        {
            return Step::Withdraw(at);
        }
        if socket.unacknowledged() == 0 {
            return Step::Clear(at);
        }
        let is_hasty = self.broken == Some(Broken::HalfClosedIsGivenUp);
        if !socket.is_open() || is_hasty && !socket.is_established() {
            self.alter(State::CONDEMNED, 0);
            return Step::Withdraw(at);
        }
        self.next_after(at)
    }

    /// The agent dies: its sockets are closed as the kernel does, its bytes are gone.
    pub(crate) fn crash(&mut self) {
        self.agent.buffers = [Vec::new(), Vec::new()];
        for socket in [0, 1] {
            if let Some(reset) = self.sockets[socket].close() {
                self.leaving[socket].push(reset);
            }
        }
        self.agent.step = Step::Dead;
    }
}
