//! Ways through the model: at random by seed, and every one of a small configuration. After each the network becomes
//! kind, timers run out, a dead agent's successor cleans up, and both ends must come to their end.

use std::collections::HashSet;
use std::ops::Range;

use gateway_common::handover::LONGEST_FREEZE;
use gateway_common::{Seen, State};

use super::agent::Step;
use super::programs::DIRECTIONS;
use super::rules::Broken;
use super::tcp::{Phase, Segment, Setup};
use super::world::{BEGINNING, Limits, World};

/// What went wrong, and how.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

/// Something that may happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Say(usize),
    Speak(usize),
    SocketSpeaks(usize),
    EndTimer(usize),
    SocketTimer(usize),
    /// Looked up only.
    LookUp(usize, usize),
    Act(usize, usize),
    Accept(usize, usize),
    Depart(usize, usize),
    Arrive(usize, usize),
    LoseInbound(usize, usize),
    LoseOutbound(usize, usize),
    Double(usize, usize),
    DoubleOut(usize, usize),
    HandOver,
    Advance,
    Tick,
    Stall,
    Kill,
}

impl World {
    /// All that may happen next.
    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for end in [0, 1] {
            self.actions_of(end, &mut actions);
        }
        if self.may_hand_over() {
            actions.push(Action::HandOver);
        }
        if !self.agent.is_idle() {
            actions.push(Action::Advance);
        }
        if self.limits.crashes > 0 && self.agent.step != Step::Dead {
            actions.push(Action::Kill);
        }
        if self.limits.stalls > 0 {
            actions.extend([Action::Stall, Action::Tick]);
        }
        actions
    }

    fn actions_of(&self, end: usize, actions: &mut Vec<Action>) {
        actions.extend(self.has_more_to_say(end).then_some(Action::Say(end)));
        let speaks = |tcp: &super::tcp::Tcp| tcp.clone().transmit(self.limits.segment, 0).is_some();
        actions.extend(speaks(&self.ends[end]).then_some(Action::Speak(end)));
        actions.extend(speaks(&self.sockets[end]).then_some(Action::SocketSpeaks(end)));
        if self.limits.timeouts > 0 {
            let waits = |tcp: &super::tcp::Tcp| tcp.clone().time_out(self.limits.segment, 0).is_some();
            actions.extend(waits(&self.ends[end]).then_some(Action::EndTimer(end)));
            actions.extend(waits(&self.sockets[end]).then_some(Action::SocketTimer(end)));
        }
        let places = |count: usize| 0..count;
        actions.extend(places(self.inbound[end].len()).map(|place| Action::LookUp(end, place)));
        actions.extend(places(self.hooked[end].len()).map(|place| Action::Act(end, place)));
        actions.extend(places(self.passed[end].len()).map(|place| Action::Accept(end, place)));
        actions.extend(places(self.leaving[end].len()).map(|place| Action::Depart(end, place)));
        actions.extend(places(self.outbound[end].len()).map(|place| Action::Arrive(end, place)));
        if self.limits.losses > 0 {
            actions.extend(places(self.inbound[end].len()).map(|place| Action::LoseInbound(end, place)));
            actions.extend(places(self.outbound[end].len()).map(|place| Action::LoseOutbound(end, place)));
        }
        if self.limits.doubles > 0 {
            actions.extend(places(self.inbound[end].len()).map(|place| Action::Double(end, place)));
            actions.extend(places(self.outbound[end].len()).map(|place| Action::DoubleOut(end, place)));
        }
    }

    /// An action, for people.
    fn describe(&self, action: Action) -> String {
        let list = |list: &[Segment], place: usize| format!("{action:?} {:x?}", list[place]);
        match action {
            Action::LookUp(end, place) => list(&self.inbound[end], place),
            Action::Accept(end, place) => list(&self.passed[end], place),
            Action::Depart(end, place) => list(&self.leaving[end], place),
            Action::Arrive(end, place) => list(&self.outbound[end], place),
            Action::Advance => format!("{:?}", self.agent.step),
            _ => format!("{action:?}"),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Say(end) => self.say(end),
            Action::Speak(end) => self.speak(end, false),
            Action::SocketSpeaks(end) => self.socket_speaks(end, false),
            Action::EndTimer(end) => {
                self.limits.timeouts -= 1;
                self.speak(end, true);
            }
            Action::SocketTimer(end) => {
                self.limits.timeouts -= 1;
                self.socket_speaks(end, true);
            }
            Action::LookUp(end, place) => self.look_up(end, place),
            Action::Act(end, place) => self.act(end, place),
            Action::Accept(end, place) => self.accept(end, place),
            Action::Depart(end, place) => self.depart(end, place),
            Action::Arrive(end, place) => self.arrive(end, place),
            Action::LoseInbound(end, place) => {
                self.limits.losses -= 1;
                self.inbound[end].remove(place);
            }
            Action::LoseOutbound(end, place) => {
                self.limits.losses -= 1;
                self.outbound[end].remove(place);
            }
            Action::Double(end, place) => {
                self.limits.doubles -= 1;
                let again = self.inbound[end][place].clone();
                self.inbound[end].push(again);
            }
            Action::DoubleOut(end, place) => {
                self.limits.doubles -= 1;
                let again = self.outbound[end][place].clone();
                self.outbound[end].push(again);
            }
            Action::HandOver => self.begin_hand_over(),
            Action::Advance => self.advance(),
            Action::Tick => self.now = self.now.wrapping_add(1),
            Action::Stall => {
                self.limits.stalls -= 1;
                self.now = self.now.wrapping_add(LONGEST_FREEZE + LONGEST_FREEZE / 4);
            }
            Action::Kill => {
                self.limits.crashes -= 1;
                self.kill();
            }
        }
    }

    /// From here on nothing is lost and everything comes in order. Says what does not come to its end.
    pub(crate) fn be_kind(mut self, trace: &mut Vec<String>) -> Option<String> {
        for round in 0..ROUNDS {
            let before = trace.len();
            self.kind_round(trace);
            if self.fault.is_some() {
                return self.fault;
            }
            if self.is_settled() {
                break;
            }
            if trace.len() == before {
                self.let_time_pass(round, trace);
            }
        }
        self.verdict()
    }

    fn kind_round(&mut self, trace: &mut Vec<String>) {
        let actions = |world: &Self| {
            let first = |end: usize| {
                let any = |list: &[Segment], action: Action| (!list.is_empty()).then_some(action);
                [
                    world.has_more_to_say(end).then_some(Action::Say(end)),
                    any(&world.inbound[end], Action::LookUp(end, 0)),
                    (!world.hooked[end].is_empty()).then_some(Action::Act(end, 0)),
                    any(&world.passed[end], Action::Accept(end, 0)),
                    any(&world.leaving[end], Action::Depart(end, 0)),
                    any(&world.outbound[end], Action::Arrive(end, 0)),
                ]
            };
            let speaks = world
                .actions()
                .into_iter()
                .filter(|action| matches!(action, Action::Speak(_) | Action::SocketSpeaks(_)));
            [0, 1].into_iter().flat_map(first).flatten().chain(speaks).collect::<Vec<_>>()
        };
        let mut steps = 0;
        loop {
            let due = actions(self);
            let Some(action) = due.first().filter(|_| steps < STEPS && self.fault.is_none()) else { break };
            trace.push(format!("kind {}", self.describe(*action)));
            self.perform(*action);
            steps += 1;
        }
        if !self.agent.is_idle() {
            let before = self.clone();
            self.advance();
            let only_looks = [before.agent.step, self.agent.step]
                .iter()
                .all(|step| matches!(step, Step::Look(_) | Step::SendRest(_)));
            if !only_looks && self.digest() != before.digest() {
                trace.push(format!("kind {:?}", before.agent.step));
            }
        }
    }

    /// Nothing moves any more: timers run out, and a flow that is condemned is swept.
    fn let_time_pass(&mut self, round: usize, trace: &mut Vec<String>) {
        trace.push("time passes".to_owned());
        self.now = self.now.wrapping_add(300);
        for end in [0, 1] {
            self.speak(end, true);
            self.socket_speaks(end, true);
            if round > ROUNDS / 2 && (self.agent.step == Step::Dead || self.sockets[end].unacknowledged() > 0)
            {
                self.sockets[end].phase = Phase::Gone;
            }
        }
        self.sweep(trace);
    }

    /// What an agent does with flows that are condemned: both ends are told, and then they are no more.
    fn sweep(&mut self, trace: &mut Vec<String>) {
        let Some(record) = self.record.clone().filter(|record| record.state.any(State::CONDEMNED)) else {
            return;
        };
        trace.push("farewell".to_owned());
        for direction in DIRECTIONS {
            let sequence =
                record.expected[direction as usize].wrapping_add(record.translation.sequence(direction));
            let ack = record.expected[direction.reversed() as usize];
            let probe =
                Segment { seq: sequence.wrapping_sub(1), ack, flags: Seen::ACK, ..Segment::default() };
            let reset = Segment { seq: sequence, ack, flags: Seen::RST | Seen::ACK, ..Segment::default() };
            self.outbound[direction.reversed() as usize].extend([probe, reset]);
        }
    }

    /// Whether nothing can change any more that matters.
    fn is_settled(&self) -> bool {
        let is_quiet = [&self.inbound, &self.passed, &self.leaving, &self.outbound]
            .into_iter()
            .all(|places| places.iter().all(Vec::is_empty));
        is_quiet && (self.agent.is_idle() || self.is_relaying()) && self.is_over(0) && self.is_over(1)
    }

    /// A relay that ends by a reset says so once, and that may be lost: TCP has keepalives for it.
    fn is_excused(&self) -> bool {
        self.agent.is_idle() && self.record.is_none()
    }

    fn verdict(&self) -> Option<String> {
        let is_frozen = self
            .record
            .as_ref()
            .is_some_and(|record| record.state.any(State::FROZEN) && !record.state.any(State::CONDEMNED));
        let is_given_up = self.record.as_ref().is_some_and(|record| record.state.any(State::CONDEMNED));
        if !self.may_reset && is_given_up {
            Some("a flow is given up, and nothing had happened".to_owned())
        } else if !self.may_reset && !self.is_complete() {
            Some(format!("not all was heard: {:?}", self.apps))
        } else if let Some(end) = [0, 1].into_iter().find(|end| !self.is_over(*end) && !self.is_excused()) {
            Some(format!("{end} hangs"))
        } else if !self.agent.is_idle() && !self.is_relaying() {
            Some("a socket is never withdrawn".to_owned())
        } else if is_frozen {
            Some("frozen for ever".to_owned())
        } else if self.agent.step != Step::Dead && self.sockets.iter().any(|tcp| tcp.is_open() && tcp.repair)
        {
            Some("a socket stays in repair mode".to_owned())
        } else {
            None
        }
    }
}

/// Rounds of timers in which everything must have come to its end.
const ROUNDS: usize = 120;
/// Steps of a round: no two stacks answer each other for ever.
const STEPS: usize = 400;

/// Whether a seed shows that a rule is broken.
pub(crate) fn shows(seed: u64, broken: Broken) -> bool {
    let (_, world, _) = wander(seed, Some(broken));
    ends_badly(&world, &mut Vec::new()).is_some()
}

/// Explores by seeds.
pub(crate) fn random(seeds: Range<u64>, broken: Option<Broken>) -> Option<Found> {
    seeds.into_iter().find_map(|seed| one(seed, broken))
}

fn one(seed: u64, broken: Option<Broken>) -> Option<Found> {
    let (start, world, actions) = wander(seed, broken);
    ends_badly(&world, &mut Vec::new())?;
    Some(shortest(seed, &start, actions))
}

/// A start, where it led to, and how.
fn wander(seed: u64, broken: Option<Broken>) -> (World, World, Vec<Action>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let start = a_world(&mut rng, broken);
    let mut world = start.clone();
    let temper = Temper::new(&mut rng);
    let mut actions = Vec::new();
    for _ in 0..rng.usize(20..400) {
        let Some(action) = temper.choose(&world, &mut rng) else { break };
        actions.push(action);
        world.perform(action);
        if world.fault.is_some() {
            break;
        }
    }
    (start, world, actions)
}

fn ends_badly(world: &World, trace: &mut Vec<String>) -> Option<String> {
    world.fault.clone().or_else(|| world.clone().be_kind(trace))
}

/// Leaves out what the fault does not need.
fn shortest(seed: u64, start: &World, mut actions: Vec<Action>) -> Found {
    let mut length = actions.len() + 1;
    while actions.len() < length {
        length = actions.len();
        for place in (0..length).rev() {
            let mut fewer = actions.clone();
            fewer.remove(place);
            if replay(start, &fewer, &mut Vec::new()).is_some() {
                actions = fewer;
            }
        }
    }
    let mut trace = vec![format!("{:?}", start.limits)];
    let what = replay(start, &actions, &mut trace).unwrap_or_default();
    Found { seed, what, trace }
}

fn replay(start: &World, actions: &[Action], trace: &mut Vec<String>) -> Option<String> {
    let mut world = start.clone();
    for action in actions {
        if world.actions().contains(action) {
            trace.push(world.describe(*action));
            world.perform(*action);
        }
        if world.fault.is_some() {
            break;
        }
    }
    ends_badly(&world, trace)
}

/// What is rare in a run: each has other kinds of races.
struct Temper {
    act: usize,
    accept: usize,
    depart: usize,
    arrive: usize,
    advance: usize,
    hand_over: usize,
    kill: usize,
}

impl Temper {
    fn new(rng: &mut fastrand::Rng) -> Self {
        let mut one_in = || [1, 1, 4, 16][rng.usize(..4)];
        let [act, accept, depart, arrive, advance] = std::array::from_fn(|_| one_in());
        Self { act, accept, depart, arrive, advance, hand_over: one_in(), kill: 5 * one_in() }
    }

    fn one_in(&self, action: Action, world: &World) -> usize {
        match action {
            // A relay's death is of less interest.
            Action::Kill if world.is_relaying() => 4 * self.kill,
            Action::Kill => self.kill,
            Action::Stall => 80,
            Action::EndTimer(_) | Action::SocketTimer(_) => 10,
            Action::LoseInbound(..)
            | Action::LoseOutbound(..)
            | Action::Double(..)
            | Action::DoubleOut(..) => 8,
            Action::HandOver => self.hand_over,
            Action::Act(..) => self.act,
            Action::Accept(..) => self.accept,
            Action::Depart(..) => self.depart,
            Action::Arrive(..) => self.arrive,
            Action::Advance => self.advance,
            _ => 1,
        }
    }

    fn choose(&self, world: &World, rng: &mut fastrand::Rng) -> Option<Action> {
        let actions = world.actions();
        while !actions.is_empty() {
            let action = actions[rng.usize(..actions.len())];
            if rng.usize(..self.one_in(action, world)) == 0 {
                return Some(action);
            }
        }
        None
    }
}

fn a_world(rng: &mut fastrand::Rng, broken: Option<Broken>) -> World {
    let says = match rng.u32(..4) {
        0 => [rng.usize(1..30), 0],
        1 => [rng.usize(1..4), rng.usize(1..30)],
        _ => [rng.usize(0..30), rng.usize(0..30)],
    };
    let may = |rng: &mut fastrand::Rng, most: u32| if rng.bool() { 0 } else { rng.u32(..=most) };
    let limits = Limits {
        says,
        segment: rng.u32(1..5),
        room: rng.usize(4..12),
        losses: may(rng, 4),
        doubles: may(rng, 4),
        stalls: u32::from(rng.u32(..8) == 0),
        crashes: u32::from(rng.bool()),
        timeouts: may(rng, 4),
    };
    let stamped = rng.bool();
    let mut connection = || {
        let numbers = [number(rng), number(rng)];
        let scales = [rng.u32(..3), rng.u32(..3)];
        let mut clock = || stamped.then(|| rng.u32(..));
        let clocks = [clock(), clock()];
        let mut setup = |at: usize| Setup {
            first_out: numbers[at],
            first_in: numbers[1 - at],
            buffer: rng.u32(8..24),
            congestion_window: rng.u32(4..12),
            scales: [scales[at], scales[1 - at]],
            clock: clocks[at],
            recent: clocks[1 - at].unwrap_or(0).wrapping_add(BEGINNING),
        };
        [setup(0), setup(1)]
    };
    let setups = [connection(), connection()];
    let mut world = World::new(limits, setups, rng.u32(1..4));
    world.broken = broken;
    world
}

/// A first sequence number, often one that goes round soon.
fn number(rng: &mut fastrand::Rng) -> u32 {
    match rng.u32(..3) {
        0 => 0_u32.wrapping_sub(rng.u32(..20)),
        1 => (1 << 31) - rng.u32(..20),
        _ => rng.u32(..),
    }
}

/// Explores every order of a small configuration. Returns how many states there are.
pub(crate) fn every(broken: Option<Broken>) -> (usize, Option<Found>) {
    let limits = Limits {
        says: [2, 1],
        segment: 2,
        room: 8,
        losses: 1,
        doubles: 0,
        stalls: 0,
        crashes: 1,
        timeouts: 0,
    };
    let setup = |first_out, first_in| Setup {
        first_out,
        first_in,
        buffer: 16,
        congestion_window: 8,
        scales: [0, 0],
        clock: None,
        recent: 0,
    };
    let setups = [[setup(100, 9000), setup(9000, 100)], [setup(u32::MAX, 500), setup(500, u32::MAX)]];
    let mut world = World::new(limits, setups, 1);
    world.broken = broken;
    let mut visited = HashSet::from([world.digest()]);
    let mut reached = vec![(world, Vec::new())];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for (world, way) in reached {
            if let Err(found) = spread(&world, &way, &mut visited, &mut next) {
                return (visited.len(), Some(found));
            }
        }
        reached = next;
    }
    (visited.len(), None)
}

/// How many things may happen one after the other.
const DEPTH: usize = 9;

/// All that is one action further.
fn spread(
    world: &World,
    way: &[Action],
    visited: &mut HashSet<u64>,
    next: &mut Vec<(World, Vec<Action>)>,
) -> Result<(), Found> {
    for action in world.actions() {
        let mut further = world.clone();
        further.perform(action);
        if !visited.insert(further.digest()) {
            continue;
        }
        let way: Vec<Action> = way.iter().copied().chain([action]).collect();
        let mut trace = way.iter().map(|action| format!("{action:?}")).collect();
        if let Some(what) = ends_badly(&further, &mut trace) {
            return Err(Found { seed: 0, what, trace });
        }
        next.push((further, way));
    }
    Ok(())
}
