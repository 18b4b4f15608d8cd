//! A contender in an arena of its own, and its figures so far.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::arena::{Arena, BULK, REQUESTS};
use harness::load::backend::Backend;
use harness::load::bulk::Streams;
use harness::load::connections::{self, Ports};
use harness::load::paced;
use harness::peers::Peer;
use harness::peers::l4::Contender;

use super::columns::{Measure, STREAMS};
use crate::compare::{self, Figures};

/// See the module. Dropped from the top: the gateway before the backend before the namespaces.
pub(crate) struct Stand {
    pub(crate) contender: Contender,
    rate: u32,
    pub(crate) peer: Peer,
    _backend: Backend,
    pub(crate) arena: Arena,
    ports: Ports,
    pub(crate) figures: Figures,
}

impl Stand {
    /// Makes the arena and starts what runs in it. `rate`: requests a second, where their latency is measured.
    pub(crate) fn start(contender: Contender, rate: u32) -> Result<Self> {
        let arena = Arena::new()?;
        let backend = Backend::start(&arena)?;
        let peer = contender.start(&arena)?;
        let (ports, figures) = (Ports::default(), Figures::default());
        Ok(Self { contender, rate, peer, _backend: backend, arena, ports, figures })
    }

    /// Where clients connect to reach a port of the backend.
    pub(crate) fn targets(&self, port: u16) -> Vec<SocketAddr> {
        self.contender.targets(&self.arena, port)
    }

    pub(crate) fn note(&mut self, key: &'static str, value: f64) {
        self.figures.note(key, value);
    }

    /// Streams through the contender.
    pub(crate) fn streams(&self, count: usize) -> Result<Streams> {
        Streams::start(&self.arena.lab.client, &self.targets(BULK), count)
    }

    fn bulk(&mut self, length: Duration) -> Result<()> {
        let keys =
            [("bulk_1_gbit_per_s", "bulk_1_cpu_s_per_gb"), ("bulk_16_gbit_per_s", "bulk_16_cpu_s_per_gb")];
        for (count, (gigabits, cpu)) in STREAMS.into_iter().zip(keys) {
            let flow = self.streams(count)?.watch(length)?;
            ensure!(flow.gigabits > 0.0, "{count} streams stand still");
            self.note(gigabits, flow.gigabits);
            self.note(cpu, flow.cpu_per_gigabyte);
        }
        Ok(())
    }

    fn connections(&mut self, length: Duration) -> Result<()> {
        let (targets, ports) = (self.targets(REQUESTS), self.ports);
        let (done, ports) = self.arena.lab.client.enter(move || connections::run(&targets, ports, length))?;
        self.ports = ports;
        self.note("connections_per_s", done.per_second);
        self.note("connection_cpu_us", done.cpu_microseconds);
        self.note("connections_failed", done.failed as f64);
        Ok(())
    }

    fn latency(&mut self, length: Duration) -> Result<()> {
        let (targets, rate) = (self.targets(REQUESTS), self.rate);
        let times = self.arena.lab.client.enter(move || paced::run(&targets, rate, length))?;
        self.note("latency_p50_us", times.p50);
        self.note("latency_p99_us", times.p99);
        Ok(())
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

    /// The flood has a module of its own.
    fn measure(&mut self, measure: Measure, length: Duration) -> Result<()> {
        match measure {
            Measure::Bulk => self.bulk(length),
            Measure::Connections => self.connections(length),
            Measure::Latency => self.latency(length),
            Measure::Flood => Ok(()),
        }
    }
}
