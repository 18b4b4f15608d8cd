//! The figures as a picture: a panel for each column that asks for one, a bar for each contender, a line from the least
//! round to the greatest. SVG of rectangles and text; nothing more is needed.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Column, Row, Sheet};
use crate::figures::{least, median, most};

/// Panels side by side.
const ACROSS: usize = 2;
const PANEL_WIDTH: f64 = 520.0;
const MARGIN: f64 = 24.0;
const HEAD: f64 = 34.0;
/// Height of a bar with the space below it.
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
/// Space for names on the left and for figures on the right of the bars.
const NAMES: f64 = 130.0;
const FIGURES: f64 = 80.0;

/// The picture.
pub(super) fn plot(sheet: &Sheet<'_>) -> Result<String> {
    let measured = |column: &&Column| column.panel.is_some() && bars(column, &sheet.rows).next().is_some();
    let columns = sheet.sections.iter().flat_map(|section| section.columns);
    let panels: Vec<_> = columns.filter(measured).collect();
    let panel_height = HEAD + ROW * sheet.rows.len() as f64 + MARGIN;
    let width = MARGIN + (PANEL_WIDTH + MARGIN) * ACROSS as f64;
    let height = 2.0 * MARGIN + HEAD + panel_height * panels.len().div_ceil(ACROSS) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, MARGIN, MARGIN + 8.0, "font-size=\"18\" font-weight=\"bold\"", sheet.title)?;
    let below = format!(
        "medians of {} rounds, lines from the least to the greatest · {}",
        sheet.rounds, sheet.command
    );
    text(&mut svg, MARGIN, MARGIN + 28.0, "fill=\"#555555\" font-size=\"12\"", &below)?;
    for (index, column) in panels.iter().enumerate() {
        let left = MARGIN + (PANEL_WIDTH + MARGIN) * (index % ACROSS) as f64;
        let top = MARGIN + HEAD + panel_height * (index / ACROSS) as f64;
        panel(&mut svg, left, top, column, &sheet.rows)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// Contenders that have figures in a column.
fn bars<'a>(column: &Column, rows: &'a [Row<'a>]) -> impl Iterator<Item = (&'a Row<'a>, &'a [f64])> {
    let key = column.key;
    let of = move |row: &'a Row<'a>| (row, row.figures.of(key));
    rows.iter().map(of).filter(|(_, figures)| !figures.is_empty())
}

fn panel(svg: &mut String, left: f64, top: f64, column: &Column, rows: &[Row<'_>]) -> Result<()> {
    let title = column.panel.unwrap_or(column.head);
    text(svg, left, top + 22.0, "font-weight=\"bold\"", title)?;
    // What stood still took infinitely long for nothing: such a bar ends with the longest of the others.
    let ends = bars(column, rows).map(|(_, figures)| most(figures)).filter(|end| end.is_finite());
    let greatest = ends.fold(f64::MIN_POSITIVE, f64::max);
    let scale = (PANEL_WIDTH - NAMES - FIGURES) / greatest;
    for (place, (row, figures)) in bars(column, rows).enumerate() {
        let y = top + HEAD + ROW * place as f64;
        let baseline = y + BAR - 3.0;
        text(svg, left + NAMES - 8.0, baseline, "text-anchor=\"end\"", row.name)?;
        bar(svg, left + NAMES, y, scale, row.colour, &lengths(figures, greatest))?;
        let end = left + NAMES + most(figures).clamp(0.0, greatest) * scale + 8.0;
        text(svg, end, baseline, "", &column.write(median(figures)))?;
    }
    Ok(())
}

/// Of least, middle and greatest, in the column's unit. What is below nothing has no length; the figure beside it tells.
fn lengths(figures: &[f64], longest: f64) -> [f64; 3] {
    [least, median, most].map(|of| of(figures).clamp(0.0, longest))
}

fn bar(svg: &mut String, x: f64, y: f64, scale: f64, colour: &str, lengths: &[f64; 3]) -> Result<()> {
    let [low, middle, high] = lengths.map(|length| length * scale);
    writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{middle:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
    )?;
    let (from, to, centre) = (x + low, x + high, y + BAR / 2.0);
    writeln!(
        svg,
        "<path d=\"M{from:.1} {centre:.1}H{to:.1}M{from:.1} {0:.1}v6M{to:.1} {0:.1}v6\" stroke=\"#222222\" fill=\"none\"/>",
        centre - 3.0
    )?;
    Ok(())
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, words: &str) -> Result<()> {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::lengths;

    #[test]
    fn bars_lie_between_nothing_and_the_longest() {
        assert_eq!(lengths(&[-1.0, 2.0, f64::INFINITY], 5.0).map(|length| length as u32), [0, 2, 5]);
    }
}
