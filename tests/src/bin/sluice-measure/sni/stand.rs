//! A contender in an arena of its own, and its figures so far.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::arena::Arena;
use harness::load::backend::Backend;
use harness::load::bulk::Streams;
use harness::load::connections::{self, Exchange, Ports};
use harness::load::paced::{self, Sizes, Times};
use harness::load::sni::client::Way;
use harness::load::sni::handshake::Handshake;
use harness::load::sni::touch::Touch;
use harness::load::sni::{ANSWER, Ends, Kind, REQUEST, backend};
use harness::peers::sni::Contender;
use harness::peers::{Contender as _, Peer};

use super::columns::{Measure, STREAMS};
use crate::compare::{self, Figures};

/// Requests on connections that stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Connections.
    pub(crate) open: usize,
    /// Milliseconds between two requests on each.
    pub(crate) interval: u32,
}

/// See the module. Dropped from the top: the gateway before the backend before the namespaces.
pub(crate) struct Stand {
    pub(crate) contender: Contender,
    pub(crate) peer: Peer,
    _backend: Backend,
    pub(crate) arena: Arena,
    ends: Ends,
    ports: Ports,
    pace: Pace,
    pub(crate) figures: Figures,
    /// What there is to say of a measure beside its figures.
    pub(crate) notes: Vec<(Measure, String)>,
}

impl Stand {
    /// Makes the arena and starts what runs in it.
    pub(crate) fn start(contender: Contender, pace: Pace) -> Result<Self> {
        let (arena, ends) = (Arena::new()?, Ends::new()?);
        let backend = backend::start(&arena, &ends)?;
        let peer = contender.start(&arena)?;
        let (ports, figures, notes) = (Ports::default(), Figures::default(), Vec::new());
        Ok(Self { contender, peer, _backend: backend, arena, ends, ports, pace, figures, notes })
    }

    /// Clients' way to a kind of work.
    pub(crate) fn way(&self, kind: Kind) -> Way {
        Way::new(self.contender, &self.arena, kind)
    }

    fn streams(&self, kind: Kind, count: usize) -> Result<Streams> {
        Streams::of(self.way(kind).open_all(&self.arena.lab.client, count)?)
    }

    fn bulk(&mut self, length: Duration) -> Result<()> {
        let keys =
            [("bulk_1_gbit_per_s", "bulk_1_cpu_s_per_gb"), ("bulk_16_gbit_per_s", "bulk_16_cpu_s_per_gb")];
        for (count, (gigabits, cpu)) in STREAMS.into_iter().zip(keys) {
            let before = self.arena.gateway_sockets()?;
            let streams = self.streams(Kind::Bulk, count)?;
            let flow = streams.watch(length)?;
            if flow.gigabits <= 0.0 {
                self.notes
                    .push((Measure::Bulk, format!("{}: {count} streams stood still", self.contender.name())));
            }
            self.figures.note(gigabits, flow.gigabits);
            self.figures.note(cpu, flow.cpu_per_gigabyte);
            if count == STREAMS[1] {
                let sockets = self.arena.gateway_sockets()?.saturating_sub(before);
                self.figures.note("bulk_16_sockets", sockets as f64 / count as f64);
            }
        }
        Ok(())
    }

    fn connections(&mut self, length: Duration) -> Result<()> {
        let (way, config) = (self.way(Kind::Tls), self.ends.client.clone());
        let next = move |number| {
            let (name, target) = way.turn(number);
            (target, Handshake::new(&config, name))
        };
        self.connect(next, length, ["connections_per_s", "connection_cpu_us", "connections_failed"])
    }

    fn brief(&mut self, length: Duration) -> Result<()> {
        let way = self.way(Kind::Answers);
        let next = move |number| {
            let (name, target) = way.turn(number);
            (target, Touch::new(way.hello(name.choice), name.choice))
        };
        self.connect(next, length, ["brief_per_s", "brief_cpu_us", "brief_failed"])
    }

    fn connect<E: Exchange>(
        &mut self,
        next: impl Fn(u64) -> (SocketAddr, E) + Send + 'static,
        length: Duration,
        [per_second, cpu, failed]: [&'static str; 3],
    ) -> Result<()> {
        let ports = self.ports;
        let (done, ports) = self.arena.lab.client.enter(move || connections::run_by(next, ports, length))?;
        self.ports = ports;
        self.figures.note(per_second, done.per_second);
        self.figures.note(cpu, done.cpu_microseconds);
        self.figures.note(failed, done.failed as f64);
        Ok(())
    }

    fn latency(&mut self, length: Duration) -> Result<()> {
        let alone = self.requests(length)?;
        let bulk = self.streams(Kind::Paced, 1)?;
        let (flow, beside) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| bulk.watch(length));
            let beside = self.requests(length);
            (watching.join(), beside)
        });
        let flow = flow.ok().context("watching the stream failed")??;
        let beside = beside.context("beside bulk")?;
        let keys = [
            (alone, ["latency_p50_us", "latency_p99_us", "latency_p999_us"]),
            (beside, ["beside_p50_us", "beside_p99_us", "beside_p999_us"]),
        ];
        for (times, [p50, p99, p999]) in keys {
            self.figures.note(p50, times.p50);
            self.figures.note(p99, times.p99);
            self.figures.note(p999, times.p999);
        }
        self.figures.note("beside_gbit_per_s", flow.gigabits);
        Ok(())
    }

    fn requests(&self, length: Duration) -> Result<Times> {
        let Pace { open, interval } = self.pace;
        let streams = self.way(Kind::Answers).open_all(&self.arena.lab.client, open)?;
        let per_second = (open as u32 * 1000).div_ceil(interval);
        let sizes = Sizes { request: REQUEST, answer: ANSWER };
        self.arena.lab.client.enter(move || paced::run_on(streams, sizes, per_second, length))
    }
}

impl compare::Stand for Stand {
    type Contender = Contender;
    type Kind = Measure;

    fn contender(&self) -> Contender {
        self.contender
    }

    fn figures(&mut self) -> &mut Figures {
        &mut self.figures
    }

    /// What is measured once has a module of its own.
    fn measure(&mut self, measure: Measure, length: Duration) -> Result<()> {
        match measure {
            Measure::Bulk => self.bulk(length),
            Measure::Connections => self.connections(length),
            Measure::Brief => self.brief(length),
            Measure::Latency => self.latency(length),
            Measure::Memory | Measure::Handoff => Ok(()),
        }
    }
}
