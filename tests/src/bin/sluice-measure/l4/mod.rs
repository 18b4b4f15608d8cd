//! The data plane of TCP beside its peers', black-box: the same work for each, in turns, in namespaces of its own.
//!
//! Gateways run on one processor, clients and backends on another. For bulk, what an interface receives is worked on by
//! the processor of its side, as if they were machines. For all else it is worked on by the sender's, as virtual
//! interfaces have it: otherwise each small packet would interrupt another processor, which in a virtual machine costs
//! more than any gateway does, and the slower a gateway is the more packets share an interrupt.

mod columns;
mod flood;
mod stand;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::Args;
use harness::peers::Contender as _;
use harness::peers::l4::Contender;
use harness::{cpu, limits};
use serde_json::{Map, Value};

use crate::compare::{
    Chosen, Kind as _, Row, Section, Sheet, Steer, add_over, in_turns, others, uninterrupted,
    watch_for_interruption, word,
};
use columns::{ADDED_P50, ADDED_P99, Measure};
use stand::Stand;

/// Flags of `cargo xtask bench l4`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    chosen: Chosen<Contender, Measure>,
    /// Requests each second, where their latency is measured.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Whose processor works on what an interface receives.
    #[arg(long, value_enum, default_value_t = Steer::ByMeasure)]
    steer: Steer,
}

impl Options {
    /// The command that measures some of it again.
    fn command(&self, rounds: usize, measures: &[Measure]) -> String {
        let mut text = self.chosen.command("l4", rounds, measures);
        if measures.contains(&Measure::Latency) {
            let _ = write!(text, " --rate {}", self.rate);
        }
        text + self.steer.flag()
    }

    fn to_receivers(&self, measure: Measure) -> bool {
        self.steer.to_receivers(measure == Measure::Bulk)
    }

    /// Whose processor worked on what interfaces received, by measure.
    fn received_on(&self, measures: &[Measure]) -> Value {
        let side = |measure: &Measure| if self.to_receivers(*measure) { "receiver" } else { "sender" };
        let members = measures.iter().map(|measure| (word(measure), side(measure).into()));
        members.collect::<Map<_, _>>().into()
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
        Stand::start(*contender, options.rate).with_context(|| contender.name())
    };
    let mut stands = contenders.iter().map(starting).collect::<Result<Vec<_>>>()?;
    let (chosen, length) = (options.chosen.measures(), options.chosen.length()?);
    for to_receivers in [true, false] {
        let is_now = |measure: &&Measure| {
            // The flood has rounds of its own.
            **measure != Measure::Flood && options.to_receivers(**measure) == to_receivers
        };
        let measures: Vec<_> = chosen.iter().filter(is_now).copied().collect();
        stands.iter().try_for_each(|stand| stand.arena.steer(to_receivers))?;
        in_turns(rounds, length, &mut stands, &measures)?;
    }
    add_over(&mut stands, &[("latency_p50_us", ADDED_P50), ("latency_p99_us", ADDED_P99)]);
    if chosen.contains(&Measure::Flood) {
        // Last: what it leaves in tables disturbs nobody then.
        for (stand, contender) in stands.iter_mut().zip(contenders) {
            eprintln!("flood: {}", contender.name());
            stand.arena.steer(options.to_receivers(Measure::Flood))?;
            flood::measure(stand, rounds, length).with_context(|| contender.name())?;
        }
    }
    Ok(stands)
}

fn sheet<'a>(rounds: usize, options: &Options, others: f64, stands: &'a [Stand]) -> Result<Sheet<'a>> {
    let measures = options.chosen.measures();
    let section = |measure: &Measure| Section {
        description: measure.describe(options.rate),
        columns: measure.columns(),
        command: options.command(rounds, &[*measure]),
        notes: Vec::new(),
    };
    let rows = stands.iter().map(|stand| Row::new(stand.contender, &stand.peer, &stand.figures));
    Ok(Sheet {
        name: "l4",
        title: "TCP through a gateway",
        command: options.command(rounds, &measures),
        rounds,
        seconds: options.chosen.seconds,
        others,
        further: Map::from_iter([("received_on".to_owned(), options.received_on(&measures))]),
        sections: measures.iter().map(section).collect(),
        rows: rows.collect::<Result<_>>()?,
    })
}
