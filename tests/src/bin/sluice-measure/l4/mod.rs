//! The data plane of TCP beside its peers', black-box: the same work for each, in turns, in namespaces of its own.
//!
//! Gateways run on one processor, clients and backends on another. For bulk, what an interface receives is worked on by
//! the processor of its side, as if they were machines. For all else it is worked on by the sender's, as virtual
//! interfaces have it: otherwise each small packet would interrupt another processor, which in a virtual machine costs
//! more than any gateway does, and the slower a gateway is the more packets share an interrupt.

mod columns;
mod flood;
mod plot;
mod report;
mod stand;
mod table;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use harness::cpu;
use harness::peers::Contender;
use serde_json::Value;

use columns::Measure;
use stand::Stand;

/// Length of each measurement in the round before the first, which does not count.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the machine is looked at before anything is done.
const LOOK: Duration = Duration::from_secs(1);

/// Flags of `cargo xtask bench l4`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Contenders to compare, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contender>,
    /// What to measure, separated by commas. Default: everything.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<Measure>,
    /// Seconds of each measurement, of each contender, in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Requests each second, where their latency is measured.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Whose processor works on what an interface receives.
    #[arg(long, value_enum, default_value_t = Steer::ByMeasure)]
    steer: Steer,
    /// Directory of l4.txt, l4.json and l4.svg. Default: bench below the target directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Whose processor works on what an interface receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Steer {
    /// The receiver's for bulk, the sender's for all else.
    ByMeasure,
    /// The receiver's.
    Always,
    /// The sender's.
    Never,
}

impl Steer {
    /// Whether it is the receiver's.
    pub(crate) fn to_receivers(self, measure: Measure) -> bool {
        match self {
            Self::ByMeasure => measure == Measure::Bulk,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

impl Options {
    fn contenders(&self) -> Vec<Contender> {
        let chosen = |contender: &Contender| self.only.is_empty() || self.only.contains(contender);
        Contender::ALL.into_iter().filter(chosen).collect()
    }

    fn measures(&self) -> Vec<Measure> {
        let chosen = |measure: &&Measure| self.measures.is_empty() || self.measures.contains(measure);
        Measure::value_variants().iter().filter(chosen).copied().collect()
    }

    fn length(&self) -> Result<Duration> {
        ensure!((0.1..=60.0).contains(&self.seconds), "--seconds must be between 0.1 and 60");
        Ok(Duration::from_secs_f64(self.seconds))
    }

    fn out(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.out {
            return Ok(directory.clone());
        }
        let own = std::env::current_exe()?;
        Ok(own.ancestors().nth(2).context("this program lies in no target directory")?.join("bench"))
    }
}

/// What all parts of a run need to know.
pub(crate) struct Run<'a> {
    rounds: usize,
    length: Duration,
    options: &'a Options,
    contenders: Vec<Contender>,
    measures: Vec<Measure>,
    /// Part of the machine that others took just before, in percent.
    others: f64,
}

/// Measures, writes the files, and returns the table and the numbers.
pub(crate) fn run(rounds: usize, options: &Options) -> Result<(String, Value)> {
    let (contenders, measures) = (options.contenders(), options.measures());
    cpu::ensure_two()?;
    let run = Run { rounds, length: options.length()?, options, contenders, measures, others: others()? };
    run.contenders.iter().try_for_each(|contender| contender.ensure_installed())?;
    let out = options.out()?;
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    watch_for_interruption();
    // An interruption ends gateways too, whose end is not the error to tell of.
    let stands = measure(&run).or_else(|error| uninterrupted().and(Err(error)))?;
    let (table, numbers) = (table::table(&run, &stands)?, report::report(&run, &stands)?);
    std::fs::write(out.join("l4.txt"), &table)?;
    std::fs::write(out.join("l4.json"), format!("{numbers:#}\n"))?;
    std::fs::write(out.join("l4.svg"), plot::plot(&run, &stands)?)?;
    eprintln!("{0}/l4.txt, {0}/l4.json, {0}/l4.svg", out.display());
    Ok((table, numbers))
}

/// How busy the machine is while we do nothing.
fn others() -> Result<f64> {
    let busy = cpu::busy_seconds()?;
    std::thread::sleep(LOOK);
    let processors = std::thread::available_parallelism()?.get() as f64;
    Ok((cpu::busy_seconds()? - busy) / LOOK.as_secs_f64() / processors * 100.0)
}

fn measure(run: &Run<'_>) -> Result<Vec<Stand>> {
    let starting = |contender: &Contender| {
        eprintln!("starting {}", contender.name());
        uninterrupted()?;
        Stand::start(*contender)
    };
    let mut stands = run.contenders.iter().map(starting).collect::<Result<Vec<_>>>()?;
    for to_receivers in [true, false] {
        let is_now = |measure: &&Measure| run.options.steer.to_receivers(**measure) == to_receivers;
        let measures: Vec<_> = run.measures.iter().filter(is_now).copied().collect();
        stands.iter().try_for_each(|stand| stand.arena.steer(to_receivers))?;
        in_turns(run, &mut stands, &measures)?;
    }
    stand::add_latency_over_routed(&mut stands);
    if run.measures.contains(&Measure::Flood) {
        // Last: what it leaves in tables disturbs nobody then.
        for stand in &mut stands {
            eprintln!("flood: {}", stand.contender().name());
            stand.arena.steer(run.options.steer.to_receivers(Measure::Flood))?;
            flood::measure(stand, run.rounds, run.length).with_context(|| stand.contender().name())?;
        }
    }
    Ok(stands)
}

/// Rounds of measurements, the first of which do not count. The flood has its own.
fn in_turns(run: &Run<'_>, stands: &mut [Stand], measures: &[Measure]) -> Result<()> {
    let measures: Vec<_> = measures.iter().filter(|measure| **measure != Measure::Flood).collect();
    let rounds = if measures.is_empty() { 0..=0 } else { 0..=run.rounds };
    for round in rounds {
        for stand in stands.iter_mut() {
            for measure in &measures {
                eprintln!(
                    "round {round} of {}: {}, {}",
                    run.rounds,
                    measure.word(),
                    stand.contender().name()
                );
                uninterrupted()?;
                let length = if round == 0 { WARM_UP } else { run.length };
                stand
                    .measure(**measure, length, run.options.rate)
                    .with_context(|| stand.contender().name())?;
                if round == 0 {
                    stand.forget(measure);
                }
            }
        }
    }
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and SIGTERM end the run between two measurements, so that all guards do their work.
fn watch_for_interruption() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
}

/// An error once the run was interrupted.
pub(crate) fn uninterrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
