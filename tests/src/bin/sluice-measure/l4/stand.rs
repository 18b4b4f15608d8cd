//! A contender in an arena of its own, and its figures so far.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::arena::{Arena, BULK, REQUESTS};
use harness::load::backend::Backend;
use harness::load::bulk::Streams;
use harness::load::connections::{self, Ports};
use harness::load::paced;
use harness::peers::{Contender, Peer};

use super::columns::{ADDED_P50, ADDED_P99, Measure, STREAMS};

/// See the module. Dropped from the top: the gateway before the backend before the namespaces.
pub(crate) struct Stand {
    pub(crate) peer: Peer,
    _backend: Backend,
    pub(crate) arena: Arena,
    ports: Ports,
    figures: HashMap<&'static str, Vec<f64>>,
}

impl Stand {
    /// Makes the arena and starts what runs in it.
    pub(crate) fn start(contender: Contender) -> Result<Self> {
        let arena = Arena::new()?;
        let backend = Backend::start(&arena)?;
        let peer = Peer::start(contender, &arena)?;
        Ok(Self { peer, _backend: backend, arena, ports: Ports::default(), figures: HashMap::new() })
    }

    pub(crate) fn contender(&self) -> Contender {
        self.peer.contender
    }

    /// One figure of each round; none for what was not measured.
    pub(crate) fn figures(&self, key: &str) -> &[f64] {
        self.figures.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn note(&mut self, key: &'static str, value: f64) {
        self.figures.entry(key).or_default().push(value);
    }

    /// Forgets the figures of a measure.
    pub(crate) fn forget(&mut self, measure: &Measure) {
        measure.columns().for_each(|column| drop(self.figures.remove(column.key)));
    }

    /// Does one kind of work for a while. The flood has a module of its own.
    pub(crate) fn measure(&mut self, measure: Measure, length: Duration, rate: u32) -> Result<()> {
        match measure {
            Measure::Bulk => self.bulk(length),
            Measure::Connections => self.connections(length),
            Measure::Latency => self.latency(length, rate),
            Measure::Flood => Ok(()),
        }
    }

    /// Streams through the contender.
    pub(crate) fn streams(&self, count: usize) -> Result<Streams> {
        Streams::start(&self.arena.lab.client, &self.peer.targets(&self.arena, BULK), count)
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
        let (targets, ports) = (self.peer.targets(&self.arena, REQUESTS), self.ports);
        let (done, ports) = self.arena.lab.client.enter(move || connections::run(&targets, ports, length))?;
        self.ports = ports;
        self.note("connections_per_s", done.per_second);
        self.note("connection_cpu_us", done.cpu_microseconds);
        self.note("connections_failed", done.failed as f64);
        Ok(())
    }

    fn latency(&mut self, length: Duration, rate: u32) -> Result<()> {
        let targets = self.peer.targets(&self.arena, REQUESTS);
        let times = self.arena.lab.client.enter(move || paced::run(&targets, rate, length))?;
        self.note("latency_p50_us", times.p50);
        self.note("latency_p99_us", times.p99);
        Ok(())
    }
}

/// Round by round, what each contender adds to the routed way's latency; nothing when that was left out.
pub(crate) fn add_latency_over_routed(stands: &mut [Stand]) {
    for (key, added) in [("latency_p50_us", ADDED_P50), ("latency_p99_us", ADDED_P99)] {
        let routed = stands.iter().find(|stand| stand.contender() == Contender::Routed);
        let base = routed.map(|stand| stand.figures(key).to_vec()).unwrap_or_default();
        for stand in stands.iter_mut().filter(|stand| stand.contender() != Contender::Routed) {
            let over: Vec<_> = stand.figures(key).iter().zip(&base).map(|(own, base)| own - base).collect();
            for value in over {
                stand.note(added, value);
            }
        }
    }
}
