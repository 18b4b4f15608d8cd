//! The figures for people.

use std::fmt::Write as _;

use anyhow::Result;
use harness::peers::Contender;

use super::Run;
use super::columns::{Column, Measure};
use super::report::command;
use super::stand::Stand;
use crate::figures::{least, median, most};

/// A table for each kind of work, each with its command, then the commands of the contenders.
pub(crate) fn table(run: &Run<'_>, stands: &[Stand]) -> Result<String> {
    let mut text = format!(
        "rounds: {} of {} s; medians (least–most); × is against routed; others took {:.0} % of the machine just before\n",
        run.rounds, run.options.seconds, run.others
    );
    for measure in &run.measures {
        writeln!(text, "\n{}", measure.describe(run.options.rate))?;
        text += &section(*measure, stands);
        writeln!(text, "again: {}", command(run, &run.contenders, &[*measure]))?;
    }
    writeln!(text, "\ngateways, each in a network namespace; their configurations are in l4.json:")?;
    for stand in stands.iter().filter(|stand| !stand.peer.command.is_empty()) {
        writeln!(text, "{:<18} {}", stand.contender().name(), stand.peer.command)?;
    }
    Ok(text)
}

fn section(measure: Measure, stands: &[Stand]) -> String {
    let routed = stands.iter().find(|stand| stand.contender() == Contender::Routed);
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(measure.columns().map(|column| column.head.to_owned()));
    for stand in stands {
        let name = stand.contender().name().to_owned();
        let cells = measure.columns().map(|column| cell(column, stand, routed));
        rows.push(std::iter::once(name).chain(cells).collect());
    }
    align(&rows)
}

fn cell(column: &Column, stand: &Stand, routed: Option<&Stand>) -> String {
    let figures = stand.figures(column.key);
    if figures.is_empty() {
        return "–".to_owned();
    }
    let [low, middle, high] = [least, median, most].map(|of| column.write(of(figures)));
    let base = routed.filter(|_| column.ratio).map(|routed| median(routed.figures(column.key)));
    let ratio = base.map(|base| format!("  {:.2}×", median(figures) / base)).unwrap_or_default();
    format!("{middle} ({low}–{high}){ratio}")
}

/// Columns as wide as their widest cell, the first to the left, the others to the right.
fn align(rows: &[Vec<String>]) -> String {
    let length = |text: &String| text.chars().count();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - length(cell));
            let parts = if index == 0 { ["", cell, &space] } else { ["   ", &space, cell] };
            text.extend(parts);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["", "µs"], ["routed", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(align(&rows), "         µs\nrouted    1\n");
    }
}
