//! TLS passthrough beside its peers, black-box: the same work for each, in turns, in namespaces of its own.
//!
//! One port of each gateway takes connections to one of two backends by the server name in their ClientHello, and every
//! client checks which one answers. Processors are shared out as in `l4`, and so is the work of interfaces, unless said
//! otherwise: to the processor of their side for bulk, to the sender's for all else.

mod columns;
mod once;
mod stand;
mod told;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::Args;
use harness::load::sni::behaviour::Behaviour;
use harness::peers::Contender as _;
use harness::peers::sni::Contender;
use harness::{cpu, limits};
use serde_json::{Map, Value};

use crate::compare::{
    Chosen, Figures, Kind as _, Row, Section, Sheet, Steer, add_over, in_turns, others, uninterrupted,
    watch_for_interruption,
};
use columns::{Measure, OVER_ROUTED, of_behaviour};
use stand::{Pace, Stand};

/// Flags of `cargo xtask bench sni`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    chosen: Chosen<Contender, Measure>,
    /// Connections that stay open, where the latency of requests on them is measured.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=5000))]
    open: u16,
    /// Milliseconds between two requests on each of them. More than the slowest contender can carry measures queues, not
    /// latency.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    interval: u32,
    /// Whose processor works on what an interface receives.
    #[arg(long, value_enum, default_value_t = Steer::ByMeasure)]
    steer: Steer,
}

impl Options {
    fn pace(&self) -> Pace {
        Pace { open: self.open.into(), interval: self.interval }
    }

    /// The command that measures some of it again.
    fn command(&self, rounds: usize, measures: &[Measure]) -> String {
        let mut text = self.chosen.command("sni", rounds, measures);
        if measures.contains(&Measure::Latency) {
            let _ = write!(text, " --open {} --interval {}", self.open, self.interval);
        }
        text + self.steer.flag()
    }
}

/// Measures, writes the files, and returns the table and the numbers.
pub(crate) fn run(rounds: usize, options: &Options) -> Result<(String, Value)> {
    let (contenders, out) = (options.chosen.contenders(), options.chosen.out()?);
    cpu::ensure_two()?;
    limits::descriptors();
    let others = others()?;
    contenders.iter().try_for_each(|contender| contender.program().ensure_installed())?;
    watch_for_interruption();
    // An interruption ends gateways too, whose end is not the error to tell of.
    let measured = measure(rounds, options, &contenders);
    let stands = measured.or_else(|error| uninterrupted().and(Err(error)))?;
    sheet(rounds, options, others, &stands)?.publish(&out)
}

fn measure(rounds: usize, options: &Options, contenders: &[Contender]) -> Result<Vec<Stand>> {
    let starting = |contender: &Contender| {
        eprintln!("starting {}", contender.name());
        uninterrupted()?;
        Stand::start(*contender, options.pace()).with_context(|| contender.name())
    };
    let mut stands = contenders.iter().map(starting).collect::<Result<Vec<_>>>()?;
    let (chosen, length) = (options.chosen.measures(), options.chosen.length()?);
    for to_receivers in [true, false] {
        let is_now = |measure: &&Measure| {
            measure.is_in_rounds() && options.steer.to_receivers(**measure == Measure::Bulk) == to_receivers
        };
        let measures: Vec<_> = chosen.iter().filter(is_now).copied().collect();
        stands.iter().try_for_each(|stand| stand.arena.steer(to_receivers))?;
        in_turns(rounds, length, &mut stands, &measures)?;
    }
    for measure in chosen.iter().filter(|measure| !measure.is_in_rounds()) {
        for stand in stands.iter_mut().filter(|stand| once::is_for(*measure, stand.contender)) {
            let name = stand.contender.name();
            eprintln!("{measure:?}: {name}");
            uninterrupted()?;
            let notes = measure_once(*measure, stand.contender, options.pace(), &mut stand.figures);
            stand.notes.extend(notes.with_context(|| name)?.into_iter().map(|note| (*measure, note)));
        }
    }
    add_over(&mut stands, OVER_ROUTED);
    Ok(stands)
}

/// Returns what there is to say beside the figures.
fn measure_once(
    measure: Measure,
    contender: Contender,
    pace: Pace,
    figures: &mut Figures,
) -> Result<Vec<String>> {
    match measure {
        Measure::Memory => Ok(once::memory(contender, figures)?.into_iter().collect()),
        _ => once::handoff(contender, pace, figures),
    }
}

fn sheet<'a>(rounds: usize, options: &Options, others: f64, stands: &'a [Stand]) -> Result<Sheet<'a>> {
    let measures = options.chosen.measures();
    let rows = stands.iter().map(|stand| Row::new(stand.contender, &stand.peer, &stand.figures));
    let mut further = Map::new();
    further.insert(
        "notes".to_owned(),
        stands.iter().flat_map(|stand| &stand.notes).map(|(_, note)| note.clone()).collect(),
    );
    further.insert("descriptors".to_owned(), limits::descriptors().into());
    Ok(Sheet {
        name: "sni",
        title: "TLS passthrough by server name",
        command: options.command(rounds, &measures),
        rounds,
        seconds: options.chosen.seconds,
        others,
        further,
        sections: measures.iter().flat_map(|measure| sections(rounds, options, *measure, stands)).collect(),
        rows: rows.collect::<Result<_>>()?,
    })
}

/// One of a measure, but of the handover one of each behaviour.
fn sections(rounds: usize, options: &Options, measure: Measure, stands: &[Stand]) -> Vec<Section> {
    let section = |about: &str, columns| {
        let notes = stands.iter().flat_map(|stand| &stand.notes);
        let notes = notes.filter(|(of, note)| *of == measure && note.contains(about));
        let title = if about.is_empty() { String::new() } else { format!("\n{about}") };
        Section {
            description: measure.describe(options.open.into(), options.interval) + &title,
            columns,
            command: options.command(rounds, &[measure]),
            notes: notes.map(|(_, note)| note.clone()).collect(),
        }
    };
    if measure != Measure::Handoff {
        return vec![section("", measure.columns())];
    }
    Behaviour::ALL.map(|behaviour| section(behaviour.name(), of_behaviour(behaviour))).into()
}
