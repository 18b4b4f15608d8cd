//! What each pane but the overview shows, as rows with numbers to sort by. Nothing here knows a terminal.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pane::Pane;
use super::rates::{per_second, quantile};
use super::state::State;
use crate::admin::dump::Kind;
use crate::cli::flows::row::{FlowRow, bytes};
use crate::cli::maps::duration;
use crate::model::Below;
use crate::telemetry::metrics::Traffic;

/// A column. The one of the highest `rank` goes first where there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Its heading.
    pub(super) name: &'static str,
    /// Whether it is right-aligned, and the largest come first.
    pub(super) is_number: bool,
    /// See above.
    pub(super) rank: u8,
}

/// What stands in a row below a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// For people.
    pub(super) text: String,
    /// To sort by.
    number: Option<f64>,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// As many as there are columns.
    pub(super) cells: Vec<Cell>,
    /// Whether something is wrong with it; its cells say what.
    pub(super) is_bad: bool,
}

/// A pane's rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    /// Their headings.
    pub(super) columns: &'static [Column],
    /// In no order.
    pub(super) rows: Vec<Row>,
}

const fn text(name: &'static str, rank: u8) -> Column {
    Column { name, is_number: false, rank }
}

const fn number(name: &'static str, rank: u8) -> Column {
    Column { name, is_number: true, rank }
}

const LISTENERS: &[Column] = &[
    text("LISTENER", 0),
    text("MATCH", 5),
    number("CONNS", 1),
    number("CONN/S", 4),
    number("REQUESTS", 3),
    number("FLOWS", 2),
    number("KERNEL/S", 6),
    text("PATH", 1),
    text("DESTINATION", 7),
];
const CLUSTERS: &[Column] = &[
    text("SERVICE", 0),
    number("REQ/S", 1),
    number("4XX/S", 5),
    number("5XX/S", 2),
    number("P50", 6),
    number("P99", 4),
    number("CONN/S", 8),
    number("BYTES/S", 7),
    number("ENDPOINTS", 3),
];
const ENDPOINTS: &[Column] = &[
    text("ENDPOINT", 0),
    text("STATUS", 1),
    text("OUTLIER CHECK", 3),
    number("FLOWS", 2),
    number("BYTES/S", 5),
    number("REFUSED", 6),
    number("UNANSWERED", 7),
    text("CLUSTER", 4),
];
const ROUTES: &[Column] = &[
    text("NAME", 3),
    text("VHOST NAME", 4),
    text("DOMAINS", 0),
    text("MATCH", 1),
    text("VIRTUAL SERVICE", 2),
];
const FLOWS: &[Column] = &[
    text("CLIENT", 0),
    text("GATEWAY", 5),
    text("BACKEND", 1),
    text("TIER", 2),
    number("RATE", 1),
    number("BYTES", 4),
    number("AGE", 6),
    number("IDLE", 7),
    text("REASON", 3),
    text("SNI", 8),
];
const FINDINGS: &[Column] = &[text("KIND", 1), text("WHAT", 0)];

/// The columns of a pane; none of the overview.
pub(super) fn columns(pane: Pane) -> &'static [Column] {
    match pane {
        Pane::Overview => &[],
        Pane::Listeners => LISTENERS,
        Pane::Clusters => CLUSTERS,
        Pane::Endpoints => ENDPOINTS,
        Pane::Routes => ROUTES,
        Pane::Flows => FLOWS,
        Pane::Findings => FINDINGS,
    }
}

/// The column that a pane is sorted by until the user says otherwise; `None`: as the agent lists them.
pub(super) fn first_sort(pane: Pane) -> Option<usize> {
    let name = match pane {
        Pane::Clusters => "REQ/S",
        Pane::Endpoints => "FLOWS",
        Pane::Flows => "RATE",
        Pane::Overview | Pane::Listeners | Pane::Routes | Pane::Findings => return None,
    };
    columns(pane).iter().position(|column| column.name == name)
}

/// The table of a pane; `None` of the overview.
pub(super) fn table(pane: Pane, state: &State) -> Option<Table> {
    let rows = match pane {
        Pane::Overview => return None,
        Pane::Listeners => listeners(state),
        Pane::Clusters => clusters(state),
        Pane::Endpoints => endpoints(state),
        Pane::Routes => routes(state),
        Pane::Flows => state.flows.iter().map(flow).collect(),
        Pane::Findings => findings(state),
    };
    Some(Table { columns: columns(pane), rows })
}

impl Table {
    /// Keeps rows with a text in them, whatever its case.
    pub(super) fn filter(&mut self, text: &str) {
        let wanted = text.to_lowercase();
        self.rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
    }

    /// Sorts by a column: the largest numbers first, texts by the alphabet; or the other way round.
    pub(super) fn sort(&mut self, column: usize, is_reversed: bool) {
        let is_number = self.columns.get(column).is_some_and(|column| column.is_number);
        // Stable, so that rows that are alike keep their places from one reading to the next.
        self.rows.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.cells.get(column), b.cells.get(column)) else {
                return Ordering::Equal;
            };
            let order = if is_number { by_number(b, a) } else { a.text.cmp(&b.text) };
            if is_reversed { order.reverse() } else { order }
        });
    }
}

/// What has no number is below all that have.
fn by_number(a: &Cell, b: &Cell) -> Ordering {
    let number = |cell: &Cell| cell.number.unwrap_or(f64::NEG_INFINITY);
    number(a).total_cmp(&number(b))
}

impl Cell {
    fn of(text: impl Into<String>) -> Self {
        // Server names, for one, are what clients say.
        let text: String = text.into().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { text, number: None }
    }

    fn counted(count: u64) -> Self {
        Self { text: count.to_string(), number: Some(count as f64) }
    }

    fn rate(rate: f64) -> Self {
        Self { text: short(rate), number: Some(rate) }
    }

    fn bytes(count: f64) -> Self {
        Self { text: bytes(count as u64), number: Some(count) }
    }

    fn seconds(count: u64) -> Self {
        Self { text: duration(count), number: Some(count as f64) }
    }

    fn milliseconds(of: Option<f64>) -> Self {
        Self { text: of.map_or_else(|| "-".to_owned(), milliseconds), number: of }
    }
}

/// A rate in at most six characters, up to billions.
pub(super) fn short(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..9.95 => format!("{rate:.1}"),
        ..99_999.5 => format!("{rate:.0}"),
        ..9_999_500.0 => format!("{:.0}k", rate / 1e3),
        _ => format!("{:.0}M", rate / 1e6),
    }
}

/// A duration as people say it.
pub(super) fn milliseconds(of: f64) -> String {
    match of {
        ..9.95 => format!("{of:.1} ms"),
        ..999.5 => format!("{of:.0} ms"),
        _ => format!("{:.1} s", of / 1e3),
    }
}

fn listeners(state: &State) -> Vec<Row> {
    let Some((before, now, time)) = state.step() else { return Vec::new() };
    let kernel = |of: &crate::admin::counters::Counters, name: &str| {
        let found = of.kernel.as_ref()?.listeners.iter().find(|it| it.listener == name)?;
        Some((found.active, found.traffic.bytes_to_backend + found.traffic.bytes_to_client))
    };
    let row = |item: &crate::admin::dump::Item| {
        let cell = |at: usize| item.cells.get(at).cloned().unwrap_or_default();
        let name = if cell(0).contains(':') {
            format!("[{}]:{}", cell(0), cell(1))
        } else {
            format!("{}:{}", cell(0), cell(1))
        };
        let totals = now.listeners.get(&name).copied().unwrap_or_default();
        let accepted = before.listeners.get(&name).map_or(0, |totals| totals.accepted);
        let (flows, carried) = kernel(now, &name).unwrap_or_default();
        let carried_before = kernel(before, &name).map_or(0, |(_, bytes)| bytes);
        let is_bad = cell(4).starts_with("not open");
        let cells = vec![
            Cell::of(name),
            Cell::of(cell(2)),
            Cell::counted(totals.connections),
            Cell::rate(per_second(accepted, totals.accepted, time)),
            Cell::counted(totals.requests),
            Cell::counted(flows),
            Cell::bytes(per_second(carried_before, carried, time)),
            Cell::of(cell(4)),
            Cell::of(cell(3)),
        ];
        Row { cells, is_bad }
    };
    state.listed(Kind::Listeners).iter().map(row).collect()
}

/// Endpoints of a service, and those that may be chosen.
#[derive(Default)]
struct Fitness<'a> {
    all: BTreeSet<&'a str>,
    unfit: BTreeSet<&'a str>,
}

/// By host. An endpoint is unfit if one of the service's clusters says so.
fn fitness(state: &State) -> BTreeMap<&str, Fitness<'_>> {
    let mut hosts: BTreeMap<&str, Fitness<'_>> = BTreeMap::new();
    for item in state.listed(Kind::Clusters) {
        hosts.entry(&item.name).or_default();
    }
    for item in state.listed(Kind::Endpoints) {
        let [address, status, check, ..] = item.cells.as_slice() else { continue };
        let fitness = hosts.entry(host_of(&item.name)).or_default();
        fitness.all.insert(address);
        if !is_fit(status, check) {
            fitness.unfit.insert(address);
        }
    }
    hosts
}

fn is_fit(status: &str, check: &str) -> bool {
    status == "HEALTHY" && check == "OK"
}

/// The host in a cluster's name, `outbound|80|subset|host`.
fn host_of(cluster: &str) -> &str {
    cluster.rsplit('|').next().unwrap_or(cluster)
}

fn clusters(state: &State) -> Vec<Row> {
    let Some((before, now, time)) = state.step() else { return Vec::new() };
    let fitness = fitness(state);
    let counted = now.services.keys().map(String::as_str);
    let hosts: BTreeSet<&str> = fitness.keys().copied().chain(counted).collect();
    let row = |host: &str| {
        let of = |counters: &'_ crate::admin::counters::Counters| counters.services.get(host).cloned();
        let (earlier, latest) = (of(before).unwrap_or_default(), of(now).unwrap_or_default());
        let oldest = state.oldest().and_then(of).unwrap_or_default();
        let rate = |count: fn(&Traffic) -> u64| per_second(count(&earlier), count(&latest), time);
        let percentile = |share| quantile(&oldest.durations, &latest.durations, &now.duration_bounds, share);
        let errors = rate(|totals| totals.errors);
        let (cell, is_poor) = endpoint_cell(fitness.get(host));
        let cells = vec![
            Cell::of(host),
            Cell::rate(rate(|totals| totals.requests)),
            Cell::rate(rate(|totals| totals.client_errors)),
            Cell::rate(errors),
            Cell::milliseconds(percentile(0.5)),
            Cell::milliseconds(percentile(0.99)),
            Cell::rate(rate(|totals| totals.opened)),
            Cell::bytes(rate(Traffic::bytes)),
            cell,
        ];
        Row { cells, is_bad: errors > 0.0 || is_poor }
    };
    hosts.into_iter().map(row).collect()
}

/// Those that may be chosen, of all; and whether that is fewer.
fn endpoint_cell(fitness: Option<&Fitness<'_>>) -> (Cell, bool) {
    let Some(Fitness { all, unfit }) = fitness else { return (Cell::of("-"), false) };
    let fit = all.len() - unfit.len();
    let cell = Cell { text: format!("{fit}/{}", all.len()), number: Some(fit as f64) };
    (cell, all.is_empty() || !unfit.is_empty())
}

fn endpoints(state: &State) -> Vec<Row> {
    let Some((before, now, time)) = state.step() else { return Vec::new() };
    let by_address = |of: &crate::admin::counters::Counters| {
        let backends = of.kernel.iter().flat_map(|kernel| kernel.backends.clone());
        backends.map(|it| (it.backend.to_string(), it)).collect::<BTreeMap<_, _>>()
    };
    let (earlier, latest) = (by_address(before), by_address(now));
    let row = |item: &crate::admin::dump::Item| {
        let cell = |at: usize| item.cells.get(at).cloned().unwrap_or_default();
        let carried = |of: &BTreeMap<String, crate::datapath::stats::BackendTraffic>| {
            of.get(&cell(0)).map_or(0, |it| it.traffic.bytes_to_backend + it.traffic.bytes_to_client)
        };
        let found = latest.get(&cell(0));
        let cells = vec![
            Cell::of(cell(0)),
            Cell::of(cell(1)),
            Cell::of(cell(2)),
            Cell::counted(found.map_or(0, |it| it.active)),
            Cell::bytes(per_second(carried(&earlier), carried(&latest), time)),
            Cell::counted(found.map_or(0, |it| it.failures.refused)),
            Cell::counted(found.map_or(0, |it| it.failures.unanswered)),
            Cell::of(cell(3)),
        ];
        Row { cells, is_bad: !is_fit(&cell(1), &cell(2)) }
    };
    state.listed(Kind::Endpoints).iter().map(row).collect()
}

fn routes(state: &State) -> Vec<Row> {
    let row = |item: &crate::admin::dump::Item| Row {
        cells: item.cells.iter().map(Cell::of).collect(),
        // What no document routes is answered 404.
        is_bad: item.cells.last().is_some_and(|from| from == "404"),
    };
    state.listed(Kind::Routes).iter().map(row).collect()
}

fn flow(flow: &FlowRow) -> Row {
    let carried = flow.bytes_to_backend.saturating_add(flow.bytes_to_client);
    let mut rate = Cell::bytes(flow.bytes_per_second as f64);
    rate.text.push_str("/s");
    let cells = vec![
        Cell::of(flow.client.to_string()),
        Cell::of(flow.gateway.to_string()),
        Cell::of(flow.backend.to_string()),
        Cell::of(flow.tier.to_string()),
        rate,
        Cell::bytes(carried as f64),
        Cell::seconds(flow.age_seconds),
        Cell::seconds(flow.idle_seconds),
        Cell::of(flow.reason.map_or("-", Below::words)),
        Cell::of(flow.sni.as_deref().unwrap_or("-")),
    ];
    Row { cells, is_bad: false }
}

fn findings(state: &State) -> Vec<Row> {
    let Some(status) = &state.status else { return Vec::new() };
    let row = |kind: &str, what: String| Row { cells: vec![Cell::of(kind), Cell::of(what)], is_bad: true };
    let named = |(name, why): &(String, String)| format!("{name}: {why}");
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(status.bind_failures.iter().map(|it| row("not open", named(it))));
    rows.extend(status.credential_faults.iter().map(|it| row("secret", named(it))));
    rows.extend(status.unhealthy.iter().map(|it| row("unhealthy", it.clone())));
    rows.extend(status.diagnostics.iter().map(|it| row("document", it.clone())));
    let lost = status.cluster.iter().flat_map(|cluster| &cluster.lost);
    rows.extend(lost.map(|(what, why)| row("not heard", format!("{what}: {why}"))));
    rows
}

/// Time since the process began, as people say it.
pub(super) fn uptime(seconds: f64) -> String {
    duration(Duration::from_secs_f64(seconds.max(0.0)).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(column: usize, is_reversed: bool) -> Vec<String> {
        let row = |name: &str, rate: Option<f64>| Row {
            cells: vec![Cell::of(name), Cell { text: String::new(), number: rate }],
            is_bad: false,
        };
        let rows = vec![row("b", Some(9.0)), row("a", Some(10.0)), row("c", None)];
        let mut table = Table { columns: &CLUSTERS[..2], rows };
        table.sort(column, is_reversed);
        table.rows.into_iter().map(|row| row.cells[0].text.clone()).collect()
    }

    #[test]
    fn the_largest_come_first_and_texts_by_the_alphabet() {
        assert_eq!(sorted(1, false), ["a", "b", "c"]);
        assert_eq!(sorted(1, true), ["c", "b", "a"]);
        assert_eq!(sorted(0, false), ["a", "b", "c"]);
        assert_eq!(sorted(0, true), ["c", "b", "a"]);
    }

    #[test]
    fn numbers_are_short() {
        for (rate, want) in
            [(0.0, "0"), (0.25, "0.2"), (9.96, "10"), (99_999.0, "99999"), (123_456.0, "123k")]
        {
            assert_eq!(short(rate), want);
        }
        for (of, want) in [(0.51, "0.5 ms"), (12.3, "12 ms"), (1500.0, "1.5 s")] {
            assert_eq!(milliseconds(of), want);
        }
    }

    #[test]
    fn what_clients_say_cannot_move_the_cursor() {
        assert_eq!(Cell::of("a\x1b[2Jb\n").text, "a?[2Jb?");
    }

    #[test]
    fn each_pane_has_one_column_that_stays_however_narrow_it_is() {
        for pane in Pane::ALL.into_iter().skip(1) {
            assert!(columns(pane).iter().filter(|column| column.rank == 0).count() == 1, "{pane:?}");
            assert!(first_sort(pane).is_none_or(|at| at < columns(pane).len()), "{pane:?}");
        }
    }
}
