//! One thread of clients: as many requests as go, or so many a second as are wanted, and how long these took.
//!
//! At a rate the load is open, as in `paced`: a request is due when the clock says so, and its time counts from then. A
//! connection that breaks, or an answer that is not as it should be, ends the run: who answers errors fast does not win.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

use super::sealed::Sealing;
use super::wire::Wire;
use super::{Dialect, Work};
use crate::arena;
use crate::cpu::{self, Spent};
use crate::load::connections::Ports;
use crate::load::paced::Times;

const EVENTS: usize = 256;
/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;
/// At the beginning of a run; what is done in it does not count.
const WARM_UP: Duration = Duration::from_millis(300);
/// Between two looks at the clock when nothing happens, milliseconds.
const LOOK: u16 = 20;
/// A connection without an answer for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// Between two ticks of a rate: more often would cost more than it tells.
const TICK: Duration = Duration::from_micros(100);
const TIMER: u64 = u64::MAX;
/// Clients that are not free are passed over, so many of them.
const TAKEN: u32 = 16;
/// Of handshakes, where sessions are to be resumed: others are those of the beginning.
const RESUMED: f64 = 0.98;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of this kind.
    pub work: Work,
    /// To these addresses in turns.
    pub targets: Vec<SocketAddr>,
    /// For so long, behind the beginning.
    pub length: Duration,
    /// So many requests a second; otherwise as many as go.
    pub rate: Option<f64>,
    /// Processes of the gateway, whose CPU time is looked at.
    pub processes: Vec<u32>,
}

/// What was done in the time that counts.
#[derive(Debug, Clone)]
pub struct Done {
    /// Right answers.
    pub answers: u64,
    /// Those outside it too.
    pub all: u64,
    /// The time.
    pub seconds: f64,
    /// CPU time in it.
    pub spent: Spent,
    /// Of requests at a rate.
    pub times: Option<Times>,
}

/// Runs a plan from the calling thread's namespace.
pub fn run(plan: &Plan, ports: Ports) -> Result<(Done, Ports)> {
    cpu::pin(cpu::LOAD)?;
    let mut load = Load::new(plan, ports)?;
    let done = if plan.rate.is_some() { load.paced(plan) } else { load.as_many_as_go(plan) }?;
    Ok((done, load.ports))
}

/// One request and its right answer.
pub fn once(work: Work, targets: &[SocketAddr], ports: Ports) -> Result<Ports> {
    hold(work, targets, 1, ports).map(|held| held.0.ports)
}

/// Connections that have had one answer each.
#[derive(Debug)]
pub struct Held(Load);

/// Opens so many, one after another.
pub fn hold(work: Work, targets: &[SocketAddr], count: usize, ports: Ports) -> Result<Held> {
    let plan = Plan { work, targets: targets.to_vec(), length: STUCK, rate: None, processes: Vec::new() };
    let mut load = Load::new(&plan, ports)?;
    for place in 0..count {
        let begun = Instant::now();
        load.open(place, Some(begun))?;
        while load.answered <= place as u64 {
            ensure!(begun.elapsed() < STUCK, "no answer");
            load.step()?;
        }
    }
    Ok(Held(load))
}

impl Held {
    /// Ports that may be used after these.
    pub fn ports(&self) -> Ports {
        self.0.ports
    }
}

struct Slot {
    wire: Wire,
    dialect: Box<dyn Dialect>,
    /// Whether what is said first has been said.
    has_begun: bool,
    /// When its first request was due, if that is sure.
    first: Option<Instant>,
    /// Whether it waits until the socket takes more.
    is_full: bool,
    /// Whether it is among those that may have room.
    is_free: bool,
    last_answer: Instant,
}

/// When requests are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// As soon as there is room.
    Endless,
    /// When they are due.
    Due,
}

struct Load {
    work: Work,
    targets: Vec<SocketAddr>,
    sealing: Option<Sealing>,
    demand: Demand,
    epoll: Epoll,
    ports: Ports,
    passed_over: u32,
    slots: Vec<Option<Slot>>,
    /// Places that have had an answer.
    served: Vec<bool>,
    /// Of slots that may have room, where requests wait until they are due.
    free: VecDeque<usize>,
    /// When those that have not been asked were due.
    waiting: VecDeque<Instant>,
    answered: u64,
    resumed: u64,
    nanoseconds: Vec<u64>,
    /// Of requests that were due before, no times are kept.
    counts_from: Instant,
    buffer: Vec<u8>,
    plain: Vec<u8>,
    out: Vec<u8>,
    done: Vec<Instant>,
}

impl Load {
    fn new(plan: &Plan, ports: Ports) -> Result<Self> {
        let sealing = plan.work.is_sealed().then(|| Sealing::of(plan.work)).transpose()?;
        Ok(Self {
            work: plan.work,
            targets: plan.targets.clone(),
            sealing,
            demand: Demand::Due,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            ports,
            passed_over: 0,
            slots: Vec::new(),
            served: Vec::new(),
            free: VecDeque::new(),
            waiting: VecDeque::new(),
            answered: 0,
            resumed: 0,
            nanoseconds: Vec::new(),
            counts_from: Instant::now(),
            buffer: vec![0; BUFFER],
            plain: Vec::with_capacity(BUFFER),
            out: Vec::new(),
            done: Vec::new(),
        })
    }

    fn as_many_as_go(&mut self, plan: &Plan) -> Result<Done> {
        self.demand = Demand::Endless;
        (0..self.work.connections()).try_for_each(|place| self.open(place, None))?;
        let begun = Instant::now();
        self.until(begun + WARM_UP)?;
        // The first handshake of each place is a full one.
        while self.served.contains(&false) && begun.elapsed() < STUCK {
            self.step()?;
        }
        let (answered, resumed) = (self.answered, self.resumed);
        let (spent, begun) = (Spent::now(&plan.processes)?, Instant::now());
        self.until(begun + plan.length)?;
        let (spent, seconds) = (Spent::now(&plan.processes)?.since(&spent), begun.elapsed().as_secs_f64());
        let answers = self.answered - answered;
        ensure!(answers > 0, "no answer");
        if self.work == Work::Resumed {
            let share = (self.resumed - resumed) as f64 / answers as f64;
            ensure!(share > RESUMED, "{:.0} of 100 sessions were resumed", share * 100.0);
        }
        Ok(Done { answers, all: self.answered, seconds, spent, times: None })
    }

    fn until(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.step()?;
        }
        let stuck = self.slots.iter().flatten().filter(|slot| slot.last_answer.elapsed() > STUCK);
        let stuck = stuck.count();
        ensure!(stuck == 0, "{stuck} connections have had no answer for {STUCK:?}");
        Ok(())
    }

    fn paced(&mut self, plan: &Plan) -> Result<Done> {
        let rate = plan.rate.context("a rate")?;
        for place in 0..self.work.connections() {
            if self.work.is_fresh() {
                self.slots.push(None);
                self.served.push(false);
                self.free.push_back(place);
            } else {
                self.open(place, None)?;
            }
        }
        // A timer of its own wakes to the microsecond; the timeout of epoll_wait, to the millisecond.
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let tick = TICK.max(Duration::from_secs_f64(1.0 / rate));
        timer.set(Expiration::Interval(TimeSpec::from_duration(tick)), TimerSetTimeFlags::empty())?;
        self.epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let begun = Instant::now();
        self.counts_from = begun + WARM_UP;
        let total = ((WARM_UP + plan.length).as_secs_f64() * rate) as u64;
        let (mut spent, mut asked) = (None, 0);
        while self.answered < total {
            while asked < total && begun + Duration::from_secs_f64(asked as f64 / rate) <= Instant::now() {
                self.waiting.push_back(begun + Duration::from_secs_f64(asked as f64 / rate));
                asked += 1;
            }
            self.ask_waiting()?;
            if spent.is_none() && begun.elapsed() >= WARM_UP {
                spent = Some(Spent::now(&plan.processes)?);
            }
            if self.step()? {
                // It is armed again by being read.
                timer.wait()?;
            }
            let late = begun.elapsed().saturating_sub(WARM_UP + plan.length);
            let unanswered = total - self.answered;
            ensure!(late < STUCK, "{unanswered} of {total} requests have no answer {STUCK:?} after the last");
        }
        let spent = Spent::now(&plan.processes)?.since(&spent.context("the run was too short")?);
        let (answers, seconds) = (self.nanoseconds.len() as u64, plan.length.as_secs_f64());
        let times = Times::of(std::mem::take(&mut self.nanoseconds))?;
        Ok(Done { answers, all: self.answered, seconds, spent, times: Some(times) })
    }

    /// Opens a connection in a place, for a request that was due then if there is one.
    fn open(&mut self, place: usize, first: Option<Instant>) -> Result<()> {
        let wire = self.connect()?;
        self.epoll.add(&wire, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
        let dialect = self.work.dialect();
        if place >= self.slots.len() {
            self.slots.resize_with(place + 1, || None);
            self.served.resize(place + 1, false);
        }
        let last_answer = Instant::now();
        self.slots[place] = Some(Slot {
            wire,
            dialect,
            has_begun: false,
            first,
            is_full: false,
            is_free: false,
            last_answer,
        });
        self.advance(place)
    }

    /// From the next client that is free: who asked before whether the gateway serves may have left its tuple behind.
    fn connect(&mut self) -> Result<Wire> {
        loop {
            let number = self.ports.take();
            let target = self.targets[number as usize % self.targets.len()];
            let wire = Wire::connect(arena::client(number), target, self.sealing.as_ref());
            let is_taken = |error: &anyhow::Error| {
                let cause = error.root_cause().downcast_ref::<io::Error>();
                cause.is_some_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
            };
            match wire {
                Err(error) if is_taken(&error) && self.passed_over < TAKEN => self.passed_over += 1,
                wire => return wire,
            }
        }
    }

    /// Waits for events and does what is to be done then. Returns whether the timer was one of them.
    fn step(&mut self) -> Result<bool> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, LOOK)?;
        let mut has_ticked = false;
        for event in &events[..count] {
            match event.data() {
                TIMER => has_ticked = true,
                place => self.hear(place as usize)?,
            }
        }
        Ok(has_ticked)
    }

    /// Reads what is there, and goes on.
    fn hear(&mut self, place: usize) -> Result<()> {
        let Some(slot) = &mut self.slots[place] else { return Ok(()) };
        let unseen = slot.dialect.unseen();
        if let Some(count) = slot.wire.pass_over(&mut self.buffer, unseen)? {
            slot.dialect.pass_over(count, &mut self.done);
        } else {
            self.plain.clear();
            slot.wire.receive(&mut self.buffer, &mut self.plain)?;
            slot.dialect.hear(&self.plain, &mut self.out, &mut self.done)?;
        }
        self.advance(place)
    }

    /// Counts the answers that have come, and asks what may be asked.
    fn advance(&mut self, place: usize) -> Result<()> {
        let is_over = self.count(place) && self.work.is_fresh();
        if is_over {
            self.slots[place] = None;
            self.out.clear();
            return match self.demand {
                Demand::Endless => self.open(place, None),
                Demand::Due => {
                    self.free.push_back(place);
                    Ok(())
                }
            };
        }
        let Some(slot) = &mut self.slots[place] else { return Ok(()) };
        if slot.wire.is_open() {
            if !slot.has_begun {
                slot.has_begun = true;
                slot.dialect.begin(&mut self.out);
            }
            while slot.dialect.room() > 0 {
                let due = match self.demand {
                    Demand::Endless => Some(slot.last_answer),
                    Demand::Due => slot.first.take().or_else(|| self.waiting.pop_front()),
                };
                let Some(due) = due else {
                    if !std::mem::replace(&mut slot.is_free, true) {
                        self.free.push_back(place);
                    }
                    break;
                };
                slot.dialect.ask(due, &mut self.out);
            }
        }
        slot.send(&mut self.out, &self.epoll, place)
    }

    /// Whether there were any.
    fn count(&mut self, place: usize) -> bool {
        if self.done.is_empty() {
            return false;
        }
        self.served[place] = true;
        let now = Instant::now();
        for due in self.done.drain(..) {
            self.answered += 1;
            if self.demand == Demand::Due && due >= self.counts_from {
                self.nanoseconds.push(now.duration_since(due).as_nanos() as u64);
            }
        }
        if let Some(slot) = &mut self.slots[place] {
            slot.last_answer = now;
            self.resumed += u64::from(slot.wire.is_resumed());
        }
        true
    }

    /// Asks what is due of who has room.
    fn ask_waiting(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            let Some(place) = self.free.pop_front() else { return Ok(()) };
            if let Some(slot) = &mut self.slots[place] {
                slot.is_free = false;
                self.advance(place)?;
            } else {
                let due = self.waiting.pop_front();
                self.open(place, due)?;
            }
        }
        Ok(())
    }
}

impl Slot {
    /// Sends, and has the poll look out for room as long as there is none.
    fn send(&mut self, out: &mut Vec<u8>, epoll: &Epoll, place: usize) -> Result<()> {
        if !out.is_empty() || self.is_full {
            self.wire.send(out)?;
            out.clear();
        }
        if self.is_full == self.wire.is_sent() {
            self.is_full = !self.wire.is_sent();
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            let flags = if self.is_full { both } else { EpollFlags::EPOLLIN };
            epoll.modify(&self.wire, &mut EpollEvent::new(flags, place as u64))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Load({:?}, {} answers)", self.work, self.answered)
    }
}
