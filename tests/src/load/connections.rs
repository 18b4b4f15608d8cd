//! As many connections as go: each connects, sends a request, receives the answer and closes; a set number at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ANSWER, REQUEST};
use crate::{arena, cpu};

/// Connections at once.
pub const AT_ONCE: usize = 64;
const EVENTS: usize = AT_ONCE;
/// Between two looks at the clock when nothing happens.
const LOOK: u16 = 50;
/// One that takes longer has failed.
const STUCK: Duration = Duration::from_secs(1);

/// How long the first may take, on a machine that others keep busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was done in the time.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Connections each second that had their whole answer.
    pub per_second: f64,
    /// CPU microseconds of the whole machine for each of them.
    pub cpu_microseconds: f64,
    /// Connections that failed, or were stuck at the end.
    pub failed: u64,
}

/// Client ports that were used, so that none is used again too soon: see `arena::client`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports(u64);

impl Ports {
    /// The number of the next client.
    pub fn take(&mut self) -> u64 {
        self.0 += 1;
        self.0 - 1
    }
}

/// What is said on a connection.
pub trait Exchange {
    /// Does what can be done now, after these events; whether all is done. Is called again only after what it left
    /// undone could not be done: what is to be read must be read to the end.
    fn advance(&mut self, socket: &mut Socket, events: EpollFlags) -> std::io::Result<bool>;
}

/// Requests of plain TCP from the calling thread's namespace, to the targets in turns.
pub fn run(targets: &[SocketAddr], ports: Ports, length: Duration) -> Result<(Done, Ports)> {
    let next = |number: u64| (targets[number as usize % targets.len()], Request::default());
    run_by(next, ports, length)
}

/// Likewise, with where to and what to say there from the number of the connection.
pub fn run_by<E: Exchange>(
    next: impl Fn(u64) -> (SocketAddr, E),
    ports: Ports,
    length: Duration,
) -> Result<(Done, Ports)> {
    cpu::pin(cpu::LOAD)?;
    let (busy, begun) = (cpu::busy_seconds()?, Instant::now());
    let mut clients = Clients::new(next, ports)?;
    while begun.elapsed() < length || (clients.done == 0 && begun.elapsed() < PATIENCE) {
        clients.step()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let busy = cpu::busy_seconds()? - busy;
    let failure = clients.failure.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    ensure!(clients.done > 0, "no connection of {} had an answer{failure}", clients.ports.0 - ports.0);
    let done = clients.done as f64;
    let failed = clients.failed + clients.stuck();
    Ok((Done { per_second: done / seconds, cpu_microseconds: busy * 1e6 / done, failed }, clients.ports))
}

/// A connection from its SYN to its last byte.
struct Client<E> {
    socket: Socket,
    begun: Instant,
    exchange: E,
}

struct Clients<E, N> {
    epoll: Epoll,
    next: N,
    ports: Ports,
    under_way: Vec<Client<E>>,
    done: u64,
    failed: u64,
    /// Why the last one failed.
    failure: Option<std::io::Error>,
}

impl<E: Exchange, N: Fn(u64) -> (SocketAddr, E)> Clients<E, N> {
    fn new(next: N, ports: Ports) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut clients =
            Self { epoll, next, ports, under_way: Vec::new(), done: 0, failed: 0, failure: None };
        for place in 0..AT_ONCE {
            let client = clients.connect(place)?;
            clients.under_way.push(client);
        }
        Ok(clients)
    }

    /// Edge-triggered for both directions at once: one system call less for each connection.
    fn connect(&mut self, place: usize) -> Result<Client<E>> {
        let number = self.ports.take();
        let (target, exchange) = (self.next)(number);
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&arena::client(number).into())?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error)?,
            _ => {}
        }
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(both, place as u64))?;
        Ok(Client { socket, begun: Instant::now(), exchange })
    }

    fn step(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, LOOK)?;
        for event in &events[..count] {
            let place = event.data() as usize;
            let client = &mut self.under_way[place];
            match client.exchange.advance(&mut client.socket, event.events()) {
                Ok(false) => continue,
                Ok(true) => self.done += 1,
                Err(error) => {
                    self.failed += 1;
                    self.failure = Some(error);
                }
            }
            self.under_way[place] = self.connect(place)?;
        }
        Ok(())
    }

    fn stuck(&self) -> u64 {
        self.under_way.iter().filter(|client| client.begun.elapsed() > STUCK).count() as u64
    }
}

/// A request of plain TCP and its answer.
#[derive(Debug, Default)]
struct Request {
    asked: bool,
    received: usize,
}

impl Exchange for Request {
    fn advance(&mut self, socket: &mut Socket, events: EpollFlags) -> std::io::Result<bool> {
        if !self.asked && events.contains(EpollFlags::EPOLLOUT) {
            self.asked = true;
            socket.write_all(&[0x5a; REQUEST])?;
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            return self.receive(socket);
        }
        Ok(false)
    }
}

impl Request {
    fn receive(&mut self, socket: &mut Socket) -> std::io::Result<bool> {
        let mut buffer = [0; 2 * ANSWER];
        while self.received < ANSWER {
            match socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
