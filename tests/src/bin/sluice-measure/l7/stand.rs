//! A contender in an arena of its own, and its figures so far.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::arena::Arena;
use harness::load::backend::Backend;
use harness::load::connections::Ports;
use harness::load::http::drive::{self, Done, Plan};
use harness::load::http::{Work, backend};
use harness::peers::l7::{Common, Contender};
use harness::peers::{Contender as _, Peer, Program};
use harness::wait;

use super::columns::{Keys, Measure};
use crate::compare::{self, Figures};

/// See the module. Dropped from the top: the gateway before the backend before the namespaces.
pub(crate) struct Stand {
    pub(crate) contender: Contender,
    pub(crate) peer: Peer,
    _backend: Backend,
    pub(crate) arena: Arena,
    ports: Ports,
    /// Requests a second of each measure; as many as go before they are known.
    rates: Vec<(Measure, f64)>,
    /// The access log, where one is asked for; requests that were answered, and lines.
    log: Option<&'static str>,
    answered: u64,
    logged: u64,
    pub(crate) figures: Figures,
}

impl Stand {
    /// Makes the arena and starts what runs in it.
    pub(crate) fn start(contender: Contender, common: &Common) -> Result<Self> {
        let arena = Arena::new()?;
        let backend = backend::start(&arena, &common.identity)?;
        let peer = contender.start(&arena, common)?;
        let (ports, figures) = (Ports::default(), Figures::default());
        Ok(Self {
            contender,
            peer,
            _backend: backend,
            arena,
            ports,
            rates: Vec::new(),
            log: contender.access_log().filter(|_| common.logs),
            answered: 0,
            logged: 0,
            figures,
        })
    }

    /// From now on, latency is measured at these rates.
    pub(crate) fn pace(&mut self, rates: &[(Measure, f64)]) {
        self.rates = rates.to_vec();
    }

    fn run(&mut self, work: Work, length: Duration, rate: Option<f64>) -> Result<Done> {
        let targets = self.contender.targets(&self.arena, work);
        let (ports, processes) = (self.ports, self.peer.processes());
        let plan = Plan { work, targets, length, rate, processes };
        let (done, ports) = self.arena.lab.client.enter(move || drive::run(&plan, ports))?;
        self.ports = ports;
        // A WebSocket has a line when it ends.
        if work != Work::Socket {
            self.answered += done.all;
        }
        self.look_at_log()?;
        Ok(done)
    }

    /// Counts what was logged, and keeps the log short.
    fn look_at_log(&mut self) -> Result<()> {
        if let Some(log) = self.log {
            self.logged += self.peer.take_lines(log)?;
        }
        Ok(())
    }

    /// Requests that have a line, in percent: of a gateway that was asked for lines, once it has written the last.
    pub(crate) fn logged_percent(&mut self) -> Result<Option<f64>> {
        if self.log.is_none() || self.answered == 0 {
            return Ok(None);
        }
        wait::within(wait::PATIENCE, || match self.look_at_log() {
            Ok(()) => (self.logged >= self.answered).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })
        .transpose()?;
        Ok(Some((self.logged as f64 / self.answered as f64 * 100.0).min(100.0)))
    }

    fn note_capacity(&mut self, keys: Keys, done: &Done) {
        let (answers, spent) = (done.answers as f64, done.spent);
        let each = |seconds: f64| seconds * 1e6 / answers;
        self.figures.note(keys.per_second, answers / done.seconds);
        self.figures.note(keys.cpu, each(spent.machine));
        if self.contender.program() != Program::None {
            self.figures.note(keys.busy, spent.processor / done.seconds * 100.0);
            self.figures.note(keys.per_core, answers / spent.processor);
            self.figures.note(keys.own_cpu, each(spent.own));
        }
    }

    fn note_latency(&mut self, keys: Keys, rate: f64, done: &Done) -> Result<()> {
        let times = done.times.context("no times")?;
        self.figures.note(keys.rate, rate);
        for (key, time) in keys.percentiles.into_iter().zip([times.p50, times.p99, times.p999]) {
            self.figures.note(key, time);
        }
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

    /// Memory has a module of its own.
    fn measure(&mut self, measure: Measure, length: Duration) -> Result<()> {
        let (Some(work), Some(keys)) = (measure.work(), measure.keys()) else { return Ok(()) };
        let rate = self.rates.iter().find(|(of, _)| *of == measure).map(|(_, rate)| *rate);
        let done = self.run(work, length, rate)?;
        if let Some(rate) = rate {
            self.note_latency(keys, rate, &done)
        } else {
            self.note_capacity(keys, &done);
            Ok(())
        }
    }
}
