//! What a comparison found, whatever it compared.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use harness::peers::{Contender, Peer, Program};
use serde_json::{Map, Value};

use super::{Column, plot, report, table};

/// The figures of a contender, one of each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(HashMap<&'static str, Vec<f64>>);

impl Figures {
    /// One of each round; none for what was not measured.
    pub(crate) fn of(&self, key: &str) -> &[f64] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Adds the next round's.
    pub(crate) fn note(&mut self, key: &'static str, value: f64) {
        self.0.entry(key).or_default().push(value);
    }
}

/// A contender, and what it reached.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// How it is run.
    pub(crate) command: &'a str,
    pub(crate) configuration: &'a str,
    /// Of its bars.
    pub(crate) colour: &'static str,
    /// Whether it is the one that ratios are to.
    pub(crate) is_base: bool,
    pub(crate) figures: &'a Figures,
}

impl<'a> Row<'a> {
    /// Of a contender at work.
    pub(crate) fn new<C: Contender>(contender: C, peer: &'a Peer, figures: &'a Figures) -> Result<Self> {
        let program = contender.program();
        Ok(Self {
            name: contender.name(),
            version: program.version()?,
            command: &peer.command,
            configuration: &peer.configuration,
            colour: colour(program, contender.is_foremost()),
            is_base: program == Program::None,
            figures,
        })
    }
}

/// Ours stand out, in colours that differ also for those who see few; the limit is grey.
fn colour(program: Program, is_foremost: bool) -> &'static str {
    match program {
        Program::None => "#bbbbbb",
        Program::Sluice if is_foremost => "#d55e00",
        Program::Sluice => "#e69f00",
        _ => "#56b4e9",
    }
}

/// One kind of work.
#[derive(Debug)]
pub(crate) struct Section {
    /// What the work is, in a line or two.
    pub(crate) description: String,
    pub(crate) columns: &'static [Column],
    /// The command that measures it again.
    pub(crate) command: String,
    /// What else there is to say of this run, a line each.
    pub(crate) notes: Vec<String>,
}

/// All that was found.
#[derive(Debug)]
pub(crate) struct Sheet<'a> {
    /// Name of the files without their endings, and of the member of the JSON.
    pub(crate) name: &'static str,
    /// Of the plot.
    pub(crate) title: &'static str,
    /// The command that measures everything again.
    pub(crate) command: String,
    pub(crate) rounds: usize,
    /// Of each measurement.
    pub(crate) seconds: f64,
    /// Part of the machine that others took just before, in percent.
    pub(crate) others: f64,
    /// Further members of the JSON.
    pub(crate) further: Map<String, Value>,
    pub(crate) sections: Vec<Section>,
    pub(crate) rows: Vec<Row<'a>>,
}

impl Sheet<'_> {
    /// The row that ratios are to.
    pub(super) fn base(&self) -> Option<&Row<'_>> {
        self.rows.iter().find(|row| row.is_base)
    }

    /// Writes table, JSON and plot to a directory, and returns the first two.
    pub(crate) fn publish(&self, out: &Path) -> Result<(String, Value)> {
        let (table, numbers) = (table::table(self)?, report::report(self)?);
        let file = |ending: &str| out.join(format!("{}.{ending}", self.name));
        std::fs::write(file("txt"), &table)?;
        std::fs::write(file("json"), format!("{numbers:#}\n"))?;
        std::fs::write(file("svg"), plot::plot(self)?)?;
        let paths = ["txt", "json", "svg"].map(|ending| file(ending).display().to_string());
        eprintln!("{}", paths.join(", "));
        Ok((table, numbers))
    }
}
