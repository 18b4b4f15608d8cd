//! The figures for machines.

use std::fmt::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use harness::peers::Contender;
use serde_json::{Map, Value, json};

use super::columns::{Column, Measure};
use super::stand::Stand;
use super::{Run, Steer};
use crate::figures::{least, median, most};

/// The command that measures this again.
pub(crate) fn command(run: &Run<'_>, contenders: &[Contender], measures: &[Measure]) -> String {
    let options = run.options;
    let mut text = format!("cargo xtask bench l4 --rounds {} --seconds {}", run.rounds, options.seconds);
    if contenders.len() < Contender::ALL.len() {
        let words = contenders.iter().filter_map(ValueEnum::to_possible_value);
        let words: Vec<_> = words.map(|word| word.get_name().to_owned()).collect();
        let _ = write!(text, " --only {}", words.join(","));
    }
    if measures.len() < Measure::value_variants().len() {
        let words: Vec<_> = measures.iter().map(|measure| measure.word()).collect();
        let _ = write!(text, " --measures {}", words.join(","));
    }
    if measures.contains(&Measure::Latency) {
        let _ = write!(text, " --rate {}", options.rate);
    }
    match options.steer {
        Steer::ByMeasure => text,
        Steer::Always => text + " --steer always",
        Steer::Never => text + " --steer never",
    }
}

/// All that was measured, round by round.
pub(crate) fn report(run: &Run<'_>, stands: &[Stand]) -> Result<Value> {
    let routed = stands.iter().find(|stand| stand.contender() == Contender::Routed);
    let contenders = stands.iter().map(|stand| contender(run, stand, routed)).collect::<Result<Vec<_>>>()?;
    Ok(json!({"l4": {
        "command": command(run, &run.contenders, &run.measures),
        "rounds": run.rounds,
        "seconds": run.options.seconds,
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "processors": std::thread::available_parallelism()?.get(),
        "others_percent": run.others,
        "received_on": received_on(run),
        "contenders": contenders,
    }}))
}

/// Whose processor worked on what interfaces received, by measure.
fn received_on(run: &Run<'_>) -> Map<String, Value> {
    let side =
        |measure: &Measure| if run.options.steer.to_receivers(*measure) { "receiver" } else { "sender" };
    run.measures.iter().map(|measure| (measure.word().to_owned(), side(measure).into())).collect()
}

fn contender(run: &Run<'_>, stand: &Stand, routed: Option<&Stand>) -> Result<Value> {
    let mut figures = Map::new();
    for measure in &run.measures {
        for column in measure.columns().filter(|column| !stand.figures(column.key).is_empty()) {
            figures.insert(column.key.to_owned(), column_of(run, column, stand, routed));
        }
    }
    Ok(json!({
        "name": stand.contender().name(),
        "version": stand.contender().version()?,
        "command": stand.peer.command,
        "configuration": stand.peer.configuration,
        "figures": figures,
    }))
}

fn column_of(run: &Run<'_>, column: &Column, stand: &Stand, routed: Option<&Stand>) -> Value {
    let rounds = stand.figures(column.key);
    let mut value = json!({
        "rounds": rounds,
        "median": median(rounds),
        "least": least(rounds),
        "most": most(rounds),
        "command": command(run, &run.contenders, &[column.measure]),
    });
    if let Some(routed) = routed.filter(|_| column.ratio) {
        value["ratio_to_routed"] = json!(median(rounds) / median(routed.figures(column.key)));
    }
    value
}
