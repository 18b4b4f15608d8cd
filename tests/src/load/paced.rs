//! Requests at a fixed rate on connections that stay open, and how long each took.
//!
//! The load is open: a request is due when the clock says so, whether or not others are still under way, and its time
//! counts from then. A gateway that stalls is charged for all that had to wait (no coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

use super::{ANSWER, REQUEST};
use crate::cpu;

/// Connections that share the requests.
pub const CONNECTIONS: usize = 32;
const EVENTS: usize = 256;
/// Requests at the beginning that do not count.
const WARM_UP: Duration = Duration::from_millis(100);
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: u64 = u64::MAX;

/// Times of requests, from when each was due to the last byte of its answer, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1000 took no longer.
    pub p999: f64,
}

impl Times {
    /// Of times in nanoseconds.
    pub fn of(mut counted: Vec<u64>) -> Result<Self> {
        counted.sort_unstable();
        let at = |share: f64| counted.get((counted.len() as f64 * share) as usize).copied();
        let microseconds = |share| Some(at(share)? as f64 / 1e3);
        let times =
            || Some(Self { p50: microseconds(0.5)?, p99: microseconds(0.99)?, p999: microseconds(0.999)? });
        times().context("no request in the time")
    }
}

/// Bytes of a request and of its answer.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Up.
    pub request: usize,
    /// Down.
    pub answer: usize,
}

/// Sends from the calling thread's namespace, by connections to the targets in turns.
pub fn run(targets: &[SocketAddr], per_second: u32, length: Duration) -> Result<Times> {
    let connect =
        |target: &SocketAddr| TcpStream::connect(target).with_context(|| format!("connecting to {target}"));
    let streams = targets.iter().cycle().take(CONNECTIONS).map(connect).collect::<Result<_>>()?;
    run_on(streams, Sizes { request: REQUEST, answer: ANSWER }, per_second, length)
}

/// Sends on connections that are there, in turns.
pub fn run_on(streams: Vec<TcpStream>, sizes: Sizes, per_second: u32, length: Duration) -> Result<Times> {
    cpu::pin(cpu::LOAD)?;
    let mut load = Load::new(streams, sizes, Duration::from_secs(1) / per_second)?;
    let total = ((WARM_UP + length).as_secs_f64() * f64::from(per_second)) as usize;
    while load.answered() < total {
        load.step(total)?;
        let late = load.begun.elapsed().saturating_sub(WARM_UP + length);
        let unanswered = total - load.answered();
        ensure!(late < PATIENCE, "{unanswered} of {total} requests have no answer; try a lower rate");
    }
    load.times((WARM_UP.as_secs_f64() * f64::from(per_second)) as usize)
}

struct Connection {
    stream: TcpStream,
    /// When the requests under way were due.
    due: VecDeque<Instant>,
    received: usize,
}

struct Load {
    epoll: Epoll,
    timer: TimerFd,
    begun: Instant,
    period: Duration,
    request: Vec<u8>,
    /// Bytes of an answer.
    answer: usize,
    sent: usize,
    connections: Vec<Connection>,
    nanoseconds: Vec<u64>,
}

impl Load {
    fn new(streams: Vec<TcpStream>, sizes: Sizes, period: Duration) -> Result<Self> {
        let prepare = |stream: TcpStream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Connection { stream, due: VecDeque::new(), received: 0 })
        };
        let connections: Vec<_> = streams.into_iter().map(prepare).collect::<Result<_>>()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (number, connection) in connections.iter().enumerate() {
            epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        }
        // A timer of its own wakes to the microsecond; the timeout of epoll_wait, to the millisecond.
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(period)), TimerSetTimeFlags::empty())?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TICK))?;
        let (request, answer, nanoseconds) = (vec![0x5a; sizes.request], sizes.answer, Vec::new());
        Ok(Self {
            epoll,
            timer,
            begun: Instant::now(),
            period,
            request,
            answer,
            sent: 0,
            connections,
            nanoseconds,
        })
    }

    fn answered(&self) -> usize {
        self.nanoseconds.len()
    }

    fn step(&mut self, total: usize) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, 100_u16)?;
        for event in &events[..count] {
            match event.data() {
                TICK => self.send_due(total)?,
                number => self.receive(number as usize)?,
            }
        }
        Ok(())
    }

    fn send_due(&mut self, total: usize) -> Result<()> {
        // It is armed again by being read.
        self.timer.wait()?;
        let now = Instant::now();
        loop {
            let due = self.begun + self.period * (self.sent as u32 + 1);
            if due > now || self.sent == total {
                return Ok(());
            }
            let place = self.sent % self.connections.len();
            let connection = &mut self.connections[place];
            connection.stream.write_all(&self.request).context("sending a request; try a lower rate")?;
            connection.due.push_back(due);
            self.sent += 1;
        }
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        let mut buffer = [0; 8 * ANSWER];
        let length = match connection.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            result => result.context("receiving an answer")?,
        };
        ensure!(length > 0, "a connection was closed before its answer");
        connection.received += length;
        while connection.received >= self.answer {
            connection.received -= self.answer;
            let due = connection.due.pop_front().context("an answer without a request")?;
            self.nanoseconds.push(due.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn times(mut self, warm_up: usize) -> Result<Times> {
        Times::of(self.nanoseconds.split_off(warm_up))
    }
}
