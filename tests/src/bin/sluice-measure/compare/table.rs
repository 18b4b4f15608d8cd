//! The figures for people.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Column, Row, Section, Sheet};
use crate::figures::{least, median, most};

/// A table for each kind of work, each with its command, then the commands of the contenders.
pub(super) fn table(sheet: &Sheet<'_>) -> Result<String> {
    let mut text = format!(
        "rounds: {} of {} s; medians (least–most); × is against routed; others took {:.0} % of the machine just before\n",
        sheet.rounds, sheet.seconds, sheet.others
    );
    for part in &sheet.sections {
        writeln!(text, "\n{}", part.description)?;
        text += &section(sheet, part);
        part.notes.iter().try_for_each(|note| writeln!(text, "{note}"))?;
        writeln!(text, "again: {}", part.command)?;
    }
    writeln!(
        text,
        "\ngateways, each in a network namespace; their configurations are in {}.json:",
        sheet.name
    )?;
    for row in sheet.rows.iter().filter(|row| !row.command.is_empty()) {
        writeln!(text, "{:<18} {}\n{:<18} {}", row.name, row.version, "", row.command)?;
    }
    Ok(text)
}

fn section(sheet: &Sheet<'_>, section: &Section) -> String {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(section.columns.iter().map(|column| column.head.to_owned()));
    let is_measured =
        |row: &&Row<'_>| section.columns.iter().any(|column| !row.figures.of(column.key).is_empty());
    for row in sheet.rows.iter().filter(is_measured) {
        let cells = section.columns.iter().map(|column| cell(column, row, sheet.base()));
        rows.push(std::iter::once(row.name.to_owned()).chain(cells).collect());
    }
    align(&rows)
}

fn cell(column: &Column, row: &Row<'_>, base: Option<&Row<'_>>) -> String {
    let figures = row.figures.of(column.key);
    if figures.is_empty() {
        return "–".to_owned();
    }
    let [low, middle, high] = [least, median, most].map(|of| column.write(of(figures)));
    let base = base.filter(|_| column.ratio).map(|base| median(base.figures.of(column.key)));
    let ratio = base.map(|base| format!("  {:.2}×", median(figures) / base)).unwrap_or_default();
    let spread = if figures.len() > 1 { format!(" ({low}–{high})") } else { String::new() };
    format!("{middle}{spread}{ratio}")
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
