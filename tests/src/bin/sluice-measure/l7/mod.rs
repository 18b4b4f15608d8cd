//! HTTP and TLS beside peers, black-box: the same work for each, in turns, in namespaces of its own.
//!
//! First as many requests as go, then latency at half of what the slowest contender could do. Processors are shared out
//! as in `l4`, and so is the work of interfaces: to the processor of their side for large bodies, to the sender's for
//! all else, unless said otherwise. Clients and backend share one processor, which may be the limit: the gateway's own is
//! then not busy all the time, and what it would do if it were is a column.

mod columns;
mod idle;
mod stand;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use harness::load::http::sealed;
use harness::peers::l7::{Common, Contender};
use harness::peers::{Contender as _, Program};
use harness::{cpu, limits};
use serde_json::{Map, Value, json};

use crate::compare::{
    Chosen, Kind as _, Row, Section, Sheet, Steer, add_over, in_turns, others, uninterrupted,
    watch_for_interruption,
};
use crate::figures::{least, median};
use columns::Measure;
use stand::Stand;

/// Flags of `cargo xtask bench l7`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    chosen: Chosen<Contender, Measure>,
    /// Whether all gateways write a line of each request to an access log.
    #[arg(long, value_enum, default_value_t = Log::On)]
    log: Log,
    /// Whether Sluice counts requests for Prometheus; other gateways count as they do by default.
    #[arg(long, value_enum, default_value_t = Log::On)]
    metrics: Log,
    /// Whose processor works on what an interface receives.
    #[arg(long, value_enum, default_value_t = Steer::ByMeasure)]
    steer: Steer,
}

/// `--log`, `--metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// By all of them.
    On,
    /// By none.
    Off,
}

impl Options {
    /// The command that measures some of it again.
    fn command(&self, rounds: usize, measures: &[Measure]) -> String {
        let log = if self.log == Log::On { "" } else { " --log off" };
        let metrics = if self.metrics == Log::On { "" } else { " --metrics off" };
        self.chosen.command("l7", rounds, measures) + log + metrics + self.steer.flag()
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
    let mut stands = measured.or_else(|error| uninterrupted().and(Err(error)))?;
    let logged = logged(&mut stands)?;
    sheet(rounds, options, others, logged, &stands)?.publish(&out)
}

fn measure(rounds: usize, options: &Options, contenders: &[Contender]) -> Result<Vec<Stand>> {
    let (logs, metrics) = (options.log == Log::On, options.metrics == Log::On);
    let common = Common { identity: sealed::identity(), logs, metrics };
    let starting = |contender: &Contender| {
        eprintln!("starting {}", contender.name());
        uninterrupted()?;
        Stand::start(*contender, &common).with_context(|| contender.name())
    };
    let mut stands = contenders.iter().map(starting).collect::<Result<Vec<_>>>()?;
    in_rounds(rounds, options, &mut stands)?;
    let rates = rates(options, &stands);
    for stand in &mut stands {
        stand.pace(&rates);
    }
    in_rounds(rounds, options, &mut stands)?;
    if options.chosen.measures().contains(&Measure::Memory) {
        for stand in &mut stands {
            let name = stand.contender.name();
            eprintln!("memory: {name}");
            uninterrupted()?;
            idle::measure(stand.contender, &common, &mut stand.figures).with_context(|| name)?;
        }
    }
    let loads = Measure::value_variants().iter().filter_map(|measure| measure.keys());
    add_over(&mut stands, &loads.map(|keys| (keys.cpu, keys.added_cpu)).collect::<Vec<_>>());
    Ok(stands)
}

/// How many of its requests each has logged, in percent; a log that is not written is an error.
fn logged(stands: &mut [Stand]) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for stand in stands {
        let name = stand.contender.name();
        if let Some(percent) = stand.logged_percent()? {
            ensure!(percent > 50.0, "{name} logs {percent:.0} % of its requests");
            all.insert(name.to_owned(), json!((percent * 10.0).round() / 10.0));
        }
    }
    Ok(all)
}

fn in_rounds(rounds: usize, options: &Options, stands: &mut [Stand]) -> Result<()> {
    let length = options.chosen.length()?;
    for to_receivers in [true, false] {
        let is_now = |measure: &Measure| {
            measure.work().is_some() && options.steer.to_receivers(*measure == Measure::Large) == to_receivers
        };
        let measures: Vec<_> = options.chosen.measures().into_iter().filter(is_now).collect();
        stands.iter().try_for_each(|stand| stand.arena.steer(to_receivers))?;
        in_turns(rounds, length, stands, &measures)?;
    }
    Ok(())
}

/// Half of what the slowest could do.
fn rates(options: &Options, stands: &[Stand]) -> Vec<(Measure, f64)> {
    let rate = |measure: Measure| {
        let key = measure.keys()?.per_second;
        let all: Vec<_> = stands.iter().map(|stand| median(stand.figures.of(key))).collect();
        Some((measure, (least(&all) / 2.0).floor().max(1.0)))
    };
    options.chosen.measures().into_iter().filter_map(rate).collect()
}

fn sheet<'a>(
    rounds: usize,
    options: &Options,
    others: f64,
    logged: Map<String, Value>,
    stands: &'a [Stand],
) -> Result<Sheet<'a>> {
    let measures = options.chosen.measures();
    let rows = stands.iter().map(|stand| Row::new(stand.contender, &stand.peer, &stand.figures));
    let section = |measure: &Measure| Section {
        description: measure.describe(),
        columns: measure.columns(),
        command: options.command(rounds, &[*measure]),
        notes: standing(*measure, stands).into_iter().collect(),
    };
    let mut sections: Vec<_> = measures.iter().map(section).collect();
    if let Some(first) = sections.first_mut() {
        first.notes.push(about_logs(&logged));
    }
    let mut further = Map::new();
    further.insert("access_log_percent".to_owned(), logged.into());
    further.insert("descriptors".to_owned(), limits::descriptors().into());
    Ok(Sheet {
        name: "l7",
        title: "HTTP and TLS",
        command: options.command(rounds, &measures),
        rounds,
        seconds: options.chosen.seconds,
        others,
        further,
        sections,
        rows: rows.collect::<Result<_>>()?,
    })
}

fn about_logs(logged: &Map<String, Value>) -> String {
    let each: Vec<_> = logged.iter().map(|(name, percent)| format!("{name} {percent} %")).collect();
    if each.is_empty() {
        "no access logs".to_owned()
    } else {
        format!("requests in access logs: {}", each.join(", "))
    }
}

/// Ours against each of the others.
fn standing(measure: Measure, stands: &[Stand]) -> Option<String> {
    let keys = measure.keys()?;
    let is_peer = |stand: &&Stand| !matches!(stand.contender.program(), Program::None | Program::Sluice);
    let ours = stands.iter().find(|stand| stand.contender.program() == Program::Sluice)?;
    let against = |peer: &Stand| {
        let ratio = |key| median(ours.figures.of(key)) / median(peer.figures.of(key));
        let [_, p99, _] = keys.percentiles;
        let [requests, cpu, time] = [keys.per_second, keys.added_cpu, p99].map(ratio);
        format!("{} {requests:.2}, {cpu:.2}, {time:.2}", peer.contender.name())
    };
    let all: Vec<_> = stands.iter().filter(is_peer).map(against).collect();
    (!all.is_empty())
        .then(|| format!("sluice's requests/s, CPU above routed, p99, as multiples of: {}", all.join("; ")))
}
