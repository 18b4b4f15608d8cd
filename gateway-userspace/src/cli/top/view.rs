//! A frame as lines, for a terminal or for text: pure, and never wider or higher than it may be. What a colour says a word or a
//! sign says too.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Instant;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::app::{App, Sort};
use super::pane::Pane;
use super::rates::{Rates, quantile};
use super::state::State;
use super::tables::{self, Column, Row, Table, milliseconds, short, uptime};
use crate::admin::counters::Counters;
use crate::cli::flows::row::bytes;

/// Rows of the overview.
pub(super) const OVERVIEW: usize = 17;
/// Between columns.
const GAP: usize = 2;
/// A text that has less room is left out.
const LEAST_TEXT: usize = 12;
/// Where the overview's numbers begin, and its lines of what has become of them.
const VALUES: usize = 15;
const HISTORY: usize = 46;
/// Lines that a frame has to have for more than its rows and one above them.
const TALL: usize = 8;

/// What a frame has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Columns.
    pub(super) width: usize,
    /// Lines.
    pub(super) height: usize,
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Colours.
    pub(super) color: bool,
    /// No characters beyond ASCII.
    pub(super) ascii: bool,
}

/// A frame.
pub(super) struct Frame {
    /// At most as many as there is room for.
    pub(super) lines: Vec<Line<'static>>,
    /// The first row that is shown: as far down as there are rows.
    pub(super) first: usize,
    /// Rows that there is room for.
    pub(super) room: usize,
}

/// The lines of a frame.
pub(super) fn lines(state: &State, app: &App, size: Size, look: Look, now: Instant) -> Vec<Line<'static>> {
    frame(state, app, size, look, now).lines
}

/// A frame.
pub(super) fn frame(state: &State, app: &App, size: Size, look: Look, now: Instant) -> Frame {
    let is_tall = size.height >= TALL;
    let mut lines = vec![styled(heading(state, app), Modifier::BOLD)];
    if is_tall {
        lines.push(tabs(app.pane, size.width));
        let notice = state.notice(now).map(|words| format!("! {words}"));
        lines.push(colored(notice.unwrap_or_default(), Color::Yellow, look));
    }
    let footer = usize::from(is_tall);
    let room = size.height.saturating_sub(lines.len() + footer);
    let (mut first, mut rows, mut total) = (0, room, None);
    if app.helps {
        lines.extend(help(room));
    } else if let Some(mut table) = tables::table(app.pane, state) {
        table.filter(&app.filter);
        if let Sort { column: Some(column), is_reversed } = app.sort() {
            table.sort(column, is_reversed);
        } else if app.sort().is_reversed {
            table.rows.reverse();
        }
        rows = room.saturating_sub(1);
        first = app.first.min(table.rows.len().saturating_sub(rows));
        total = Some(table.rows.len());
        lines.extend(body(&table, app, (first, rows), size.width, look));
        if table.rows.is_empty() {
            lines.push(Line::raw(nothing(state, app)));
        }
    } else {
        lines.extend(overview(state, size.width, look).into_iter().take(room));
    }
    lines.truncate(size.height.saturating_sub(footer));
    if is_tall {
        let rows = total.map(|total| (first, rows, total));
        lines.push(footer_line(app, rows));
    }
    let lines = lines.into_iter().map(|line| cut(line, size.width, look)).collect();
    Frame { lines, first, room: rows }
}

fn styled(text: impl Into<String>, modifier: Modifier) -> Line<'static> {
    Line::styled(text.into(), Style::new().add_modifier(modifier))
}

fn colored(text: impl Into<String>, color: Color, look: Look) -> Line<'static> {
    let style = if look.color { Style::new().fg(color) } else { Style::new() };
    Line::styled(text.into(), style)
}

/// Who answers, and how it is.
fn heading(state: &State, app: &App) -> String {
    let paused = if app.is_paused { "PAUSED  " } else { "" };
    let Some(now) = state.counters() else {
        return format!("{paused}sluice: no agent; flows of the kernel plane go on without one");
    };
    let ready = match (state.is_connected(), now.ready) {
        (false, _) => "NO ANSWER",
        (true, true) => "ready",
        (true, false) => "NOT READY",
    };
    let found = |severity: &str| now.findings.get(severity).copied().unwrap_or(0);
    let faults = match now.faults {
        0 => String::new(),
        faults => format!(", {faults} not open or unusable"),
    };
    format!(
        "{paused}sluice {}  {ready}  generation {}  {} documents, {}, {}{faults}  process {}  up {}",
        now.version,
        now.generation,
        now.documents,
        of(found("error"), "error"),
        of(found("warning"), "warning"),
        now.process,
        uptime(now.usage.uptime_seconds),
    )
}

fn of(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// All panes with their keys, or where they have no room, the one in sight.
fn tabs(chosen: Pane, width: usize) -> Line<'static> {
    let words = |pane: Pane| {
        let key = pane.index() + 1;
        if pane == chosen { format!("[{key} {}]", pane.name()) } else { format!("{key} {}", pane.name()) }
    };
    let all: Vec<String> = Pane::ALL.into_iter().map(words).collect();
    let shown = if all.iter().map(|words| words.len() + 1).sum::<usize>() <= width + 1 {
        all
    } else {
        vec![format!("1-{}", Pane::ALL.len()), words(chosen)]
    };
    let span = |text: String| {
        let modifier = if text.starts_with('[') { Modifier::REVERSED } else { Modifier::empty() };
        [Span::styled(text, Style::new().add_modifier(modifier)), Span::raw(" ")]
    };
    shown.into_iter().flat_map(span).collect()
}

fn footer_line(app: &App, rows: Option<(usize, usize, usize)>) -> Line<'static> {
    if app.is_typing {
        return styled(format!("/{}_   Enter keeps it, Esc takes it back", app.filter), Modifier::BOLD);
    }
    let mut words = String::new();
    if let Some((first, room, total)) = rows.filter(|(_, room, total)| total > room) {
        words = format!("rows {}-{} of {total}  ", first + 1, (first + room).min(total));
    }
    if !app.filter.is_empty() {
        let _ = write!(words, "/{}  ", app.filter);
    }
    Line::raw(words + "Tab pane  s sort  r reverse  / filter  p pause  ? help  q quit")
}

fn help(room: usize) -> Vec<Line<'static>> {
    const KEYS: [(&str, &str); 13] = [
        ("1 to 7", "the pane: overview, listeners, clusters, endpoints, routes, flows, findings"),
        ("Tab, Right", "the next pane; Shift-Tab, Left: the one before"),
        ("Up, Down, k, j", "a row up or down; PageUp, PageDown: a page"),
        ("Home, End, g, G", "the first and the last row"),
        ("s", "sort by the next column; behind the last, as the agent lists rows"),
        ("r", "the other way round"),
        ("/", "only rows with a text in them; Enter keeps it, Esc takes it back"),
        ("p, Space", "pause, and go on"),
        ("Ctrl-L", "draw everything anew"),
        ("Ctrl-Z", "give the terminal back; `fg` goes on"),
        ("?, h, F1", "this; any key leads back"),
        ("q, Ctrl-C", "end"),
        ("!", "stands before rows that something is wrong with"),
    ];
    KEYS.iter().take(room).map(|(key, what)| Line::raw(format!("  {key:<16} {what}"))).collect()
}

/// Why there are no rows.
fn nothing(state: &State, app: &App) -> String {
    let words = match app.pane {
        _ if !app.filter.is_empty() => "no row has this text: Esc takes the filter back",
        _ if state.counters().is_none() && app.pane != Pane::Flows => "no agent answers that could tell",
        Pane::Findings => "nothing is wrong",
        Pane::Flows => "no flows in the kernel, and no opaque connections in user space",
        _ => "none",
    };
    match state.unread.as_slice() {
        unread @ [_, ..] if app.pane == Pane::Flows => format!("  {words}; {}", unread.join("; ")),
        _ => format!("  {words}"),
    }
}

/// The overview's lines: what, how much, and what has become of it.
fn overview(state: &State, width: usize, look: Look) -> Vec<Line<'static>> {
    let Some(now) = state.counters() else { return vec![Line::raw("  key 6 shows the flows")] };
    let rates = state.rates();
    let graph = |of: fn(&Rates) -> f64| spark(&state.history, of, width.saturating_sub(HISTORY), look.ascii);
    let line = |name: &str, value: String, graph: String, is_bad: bool| {
        let sign = if is_bad { "!" } else { " " };
        let (name_width, value_width) = (VALUES - 2, HISTORY - VALUES - 1);
        let text = format!("{sign}{name:<name_width$} {value:<value_width$} {graph}");
        if is_bad { colored(text, Color::Red, look) } else { Line::raw(text) }
    };
    let plain = |name: &str, value: String| line(name, value, String::new(), false);
    let each = |count: f64, graph: String, name: &str, is_bad: bool| line(name, short(count), graph, is_bad);
    let flow = |rate: f64| format!("{}/s", bytes(rate as u64));
    let mut lines = vec![
        each(rates.requests, graph(|it| it.requests), "requests/s", false),
        each(rates.client_errors, graph(|it| it.client_errors), "4xx/s", false),
        each(rates.server_errors, graph(|it| it.server_errors), "5xx/s", rates.server_errors > 0.0),
        each(rates.refused, graph(|it| it.refused), "refused/s", rates.refused > 0.0),
        plain("duration", durations(state)),
        line("user bytes", flow(rates.user_space_bytes), graph(|it| it.user_space_bytes), false),
        line("kernel bytes", flow(rates.kernel_bytes), graph(|it| it.kernel_bytes), false),
        line("connections", connections(now, rates), graph(|it| it.accepted), false),
        plain("under way", format!("{} requests", now.listeners.values().map(|of| of.requests).sum::<u64>())),
        plain("opaque", opaque(now)),
        line("flows", flows(now, rates), graph(|it| it.flows), false),
        line("handed over", handed_over(now, rates), graph(|it| it.handoffs), false),
        plain("memory", bytes(now.usage.memory_bytes)),
        line("CPU", format!("{:.1} % of a processor", rates.cpu * 100.0), graph(|it| it.cpu), false),
        plain("open files", now.usage.open_files.to_string()),
        line("overload", overload(now.overload_level), String::new(), now.overload_level > 0),
        plain("kernel plane", now.kernel_plane.clone()),
    ];
    if !now.counted {
        lines[4] = plain("duration", "nothing is counted: --metrics-address none".to_owned());
    }
    lines
}

/// Of all services' requests.
fn durations(state: &State) -> String {
    let (Some(now), Some(oldest)) = (state.counters(), state.oldest()) else { return String::new() };
    let sum = |of: &Counters| {
        let mut all = vec![0; of.duration_bounds.len() + 1];
        for totals in of.services.values() {
            all.iter_mut().zip(&totals.durations).for_each(|(all, more)| *all += more);
        }
        all
    };
    let (before, after) = (sum(oldest), sum(now));
    let of = |share| {
        quantile(&before, &after, &now.duration_bounds, share).map_or_else(|| "-".to_owned(), milliseconds)
    };
    format!("p50 {}, p99 {}", of(0.5), of(0.99))
}

fn connections(now: &Counters, rates: Rates) -> String {
    let open: u64 = now.listeners.values().map(|of| of.connections).sum();
    format!("{open}, {} new/s", short(rates.accepted))
}

fn opaque(now: &Counters) -> String {
    if now.connections.is_empty() {
        return "0".to_owned();
    }
    let tiers = now.connections.iter().map(|(tier, count)| format!("{count} {tier}"));
    tiers.collect::<Vec<_>>().join(", ")
}

fn flows(now: &Counters, rates: Rates) -> String {
    let Some(kernel) = &now.kernel else { return "-".to_owned() };
    format!("{} of {}, {} new/s", kernel.flows.total(), u64::from(kernel.max_flows) * 2, short(rates.flows))
}

fn handed_over(now: &Counters, rates: Rates) -> String {
    format!("{}, {}/s; {} not", now.handoffs, short(rates.handoffs), now.handoff_refusals)
}

fn overload(level: u32) -> String {
    let words = match level {
        0 => "none",
        1 => "closing idle connections",
        2 => "refusing connections",
        _ => "shedding requests",
    };
    format!("{level} {words}")
}

/// What has become of a rate, the latest on the right, held against the largest.
fn spark(history: &VecDeque<Rates>, of: fn(&Rates) -> f64, width: usize, ascii: bool) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
    let shades = if ascii { ASCII } else { BLOCKS };
    let values: Vec<f64> = history.iter().skip(history.len().saturating_sub(width)).map(of).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let shade = |value: &f64| {
        let share = if most > 0.0 { value / most } else { 0.0 };
        shades[((share * (shades.len() - 1) as f64).round() as usize).min(shades.len() - 1)]
    };
    values.iter().map(shade).collect()
}

/// Headings, and as many rows as there is room for.
fn body(
    table: &Table,
    app: &App,
    (first, room): (usize, usize),
    width: usize,
    look: Look,
) -> Vec<Line<'static>> {
    let shown = table.rows.iter().skip(first).take(room);
    let sort = app.sort();
    let heading = |at: usize, column: &Column| match (sort.column == Some(at), sort.is_reversed, look.ascii) {
        (false, ..) => column.name.to_owned(),
        (true, false, false) => format!("{}↓", column.name),
        (true, true, false) => format!("{}↑", column.name),
        (true, false, true) => format!("{}v", column.name),
        (true, true, true) => format!("{}^", column.name),
    };
    let headings: Vec<String> = table.columns.iter().enumerate().map(|(at, it)| heading(at, it)).collect();
    let widths = fitted(table.columns, &headings, shown.clone(), width.saturating_sub(1));
    let line = |cells: &mut dyn Iterator<Item = &str>, sign: char| {
        let mut text = String::from(sign);
        for ((cell, width), column) in cells.zip(&widths).zip(table.columns) {
            let Some(width) = *width else { continue };
            let cell = shortened(cell, width, look.ascii);
            let gap = if text.len() > 1 { GAP } else { 0 };
            text.extend(std::iter::repeat_n(' ', gap));
            let _ = if column.is_number {
                write!(text, "{cell:>width$}")
            } else {
                write!(text, "{cell:<width$}")
            };
        }
        text
    };
    let mut lines = vec![styled(line(&mut headings.iter().map(String::as_str), ' '), Modifier::BOLD)];
    lines.extend(shown.map(|row| {
        let cells = &mut row.cells.iter().map(|cell| cell.text.as_str());
        if row.is_bad { colored(line(cells, '!'), Color::Red, look) } else { Line::raw(line(cells, ' ')) }
    }));
    lines
}

/// Widths of the columns that there is room for, the most telling first. Where not all fit, the first of them takes half of the
/// room at most.
fn fitted<'a>(
    columns: &[Column],
    headings: &[String],
    rows: impl Iterator<Item = &'a Row>,
    room: usize,
) -> Vec<Option<usize>> {
    let mut wanted: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (wanted, cell) in wanted.iter_mut().zip(&row.cells) {
            *wanted = (*wanted).max(cell.text.chars().count());
        }
    }
    let all: usize = wanted.iter().sum::<usize>() + GAP * columns.len().saturating_sub(1);
    let mut widths = vec![None; columns.len()];
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|at| columns[*at].rank);
    let mut left = room;
    let others =
        all.saturating_sub(wanted.iter().zip(columns).find(|(_, it)| it.rank == 0).map_or(0, |it| *it.0));
    for (place, at) in order.into_iter().enumerate() {
        let gap = if place == 0 { 0 } else { GAP };
        let most = if place == 0 && all > room {
            (room / 2).max(room.saturating_sub(others)).max(LEAST_TEXT.min(room))
        } else {
            left.saturating_sub(gap)
        };
        let least = if columns[at].is_number { wanted[at] } else { wanted[at].min(LEAST_TEXT) };
        if place == 0 || least <= most {
            let width = wanted[at].min(most);
            widths[at] = Some(width);
            left = left.saturating_sub(width + gap);
        }
    }
    widths
}

/// As much as fits, with a sign that there is more.
fn shortened(text: &str, width: usize, ascii: bool) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.extend((width > 0).then_some(if ascii { '~' } else { '…' }));
    short
}

/// A line that is no wider than there is room for.
fn cut(line: Line<'static>, width: usize, look: Look) -> Line<'static> {
    if line.width() <= width {
        return line;
    }
    let style = line.style;
    Line::styled(shortened(&line.to_string(), width, look.ascii), style)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::asking::{More, Sample};
    use super::*;
    use crate::admin::dump::{Item, Kind};
    use crate::telemetry::metrics::Traffic;

    const LOOK: Look = Look { color: false, ascii: false };

    fn state() -> State {
        let (mut state, start) = (State::default(), Instant::now());
        for second in 0..30u64 {
            let mut counters = Counters { version: "0.1.0".to_owned(), ready: true, ..Counters::default() };
            counters.duration_bounds = vec![1.0, 5.0];
            counters.counted = true;
            for service in 0..40 {
                let requests = second * (service + 1);
                let mut totals = Traffic { requests, ..Traffic::default() };
                totals.durations[0] = requests;
                counters.services.insert(format!("a-service-{service:02}.shop.svc.cluster.local"), totals);
            }
            let item = |name: &str, cells: [&str; 4]| Item {
                name: name.to_owned(),
                port: None,
                cells: cells.map(str::to_owned).into(),
                object: None,
            };
            let name = "outbound|80||a-service-00.shop.svc.cluster.local";
            let items = vec![item(name, ["10.0.0.1:80", "UNHEALTHY (no answer)", "OK", name])];
            let more = Some(Ok(More::Items(vec![(Kind::Endpoints, items)])));
            state.take(Sample { counters: Ok(counters), more }, start + Duration::from_secs(second));
        }
        state
    }

    fn text(pane: Pane, width: usize, height: usize, look: Look) -> Vec<String> {
        let app = App::new(pane, None, "").expect("no column is named");
        let lines = lines(&state(), &app, Size { width, height }, look, Instant::now());
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_frame_is_wider_or_higher_than_its_terminal() {
        for pane in Pane::ALL {
            for width in [0, 1, 2, 5, 11, 20, 40, 79, 80, 200] {
                for height in [0, 1, 2, 3, 7, 8, 24, 60] {
                    let lines = text(pane, width, height, LOOK);
                    assert!(lines.len() <= height, "{pane:?} {width}x{height}");
                    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                    assert!(widest <= width, "{pane:?} {width}x{height}: {lines:#?}");
                }
            }
        }
    }

    #[test]
    fn at_80_by_24_there_is_all_that_matters() {
        let clusters = text(Pane::Clusters, 80, 24, LOOK);
        assert_eq!(clusters.len(), 24);
        assert!(clusters[1].contains("[3 clusters]") && clusters[1].contains("7 findings"), "{clusters:#?}");
        for heading in ["SERVICE", "REQ/S↓", "5XX/S", "P99", "ENDPOINTS"] {
            assert!(clusters[3].contains(heading), "no {heading} in {}", clusters[3]);
        }
        assert!(clusters[4].contains("a-service-39") && clusters[4].contains(" 40 "), "{clusters:#?}");
        assert!(clusters[23].starts_with("rows 1-19 of 40"), "{}", clusters[23]);
        let overview = text(Pane::Overview, 80, 24, LOOK);
        let line = overview.iter().find(|line| line.contains("requests/s")).expect("a line");
        assert!(line.contains("820") && line.ends_with('█'), "{line}");
    }

    #[test]
    fn what_is_wrong_has_a_sign_and_no_colour_is_asked_of_a_terminal_without_any() {
        let app = App::new(Pane::Endpoints, None, "").expect("no column is named");
        let size = Size { width: 80, height: 24 };
        for (color, want) in [(true, Some(Color::Red)), (false, None)] {
            let lines = lines(&state(), &app, size, Look { color, ascii: false }, Instant::now());
            let bad = lines.iter().find(|line| line.to_string().contains("10.0.0.1:80")).expect("a row");
            assert!(bad.to_string().starts_with('!'), "{bad}");
            assert_eq!(bad.style.fg, want);
            let colors = lines.iter().flat_map(|line| line.spans.iter().map(|span| span.style.fg));
            assert!(color || colors.flatten().next().is_none());
        }
    }

    #[test]
    fn an_old_terminal_gets_no_character_that_it_has_not() {
        for pane in Pane::ALL {
            let all = text(pane, 60, 24, Look { color: false, ascii: true }).join("\n");
            assert!(all.is_ascii(), "{all}");
        }
    }

    #[test]
    fn a_filter_says_why_nothing_is_left() {
        let app = App::new(Pane::Clusters, None, "nowhere").expect("no column is named");
        let lines = lines(&state(), &app, Size { width: 80, height: 24 }, LOOK, Instant::now());
        assert!(lines.iter().any(|line| line.to_string().contains("no row has this text")));
        let app = App::new(Pane::Clusters, None, "SERVICE-07").expect("no column is named");
        let lines = super::lines(&state(), &app, Size { width: 80, height: 24 }, LOOK, Instant::now());
        assert_eq!(lines.iter().filter(|line| line.to_string().contains("a-service-")).count(), 1);
    }
}
