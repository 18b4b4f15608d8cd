//! What is measured: each column of the table, which is a member of the JSON and, if asked for, a panel of the plot.

use clap::ValueEnum;
use harness::load::{ANSWER, REQUEST, connections, paced};

/// A kind of work; may be chosen alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Throughput of one stream and of several.
    Bulk,
    /// New connections.
    Connections,
    /// Latency of requests at a fixed rate.
    Latency,
    /// Throughput of established streams under a flood of SYNs.
    Flood,
}

/// Streams at once, in the measurement of bulk.
pub(crate) const STREAMS: [usize; 2] = [1, 16];

/// One figure of each contender in each round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// The work that it is measured by.
    pub(crate) measure: Measure,
    /// Name in the JSON.
    pub(crate) key: &'static str,
    /// Head in the table.
    pub(crate) head: &'static str,
    /// Title of its panel in the plot, if it has one.
    pub(crate) panel: Option<&'static str>,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether the ratio to the routed way means something.
    pub(crate) ratio: bool,
}

/// All columns, in the order of tables and plots.
pub(crate) const COLUMNS: &[Column] = &[
    column(Measure::Bulk, "bulk_1_gbit_per_s", "1 stream, Gbit/s", 2)
        .ratio()
        .panel("Gbit/s, 1 stream (more is better)"),
    column(Measure::Bulk, "bulk_1_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 1 stream (less is better)"),
    column(Measure::Bulk, "bulk_16_gbit_per_s", "16 streams, Gbit/s", 2)
        .ratio()
        .panel("Gbit/s, 16 streams (more is better)"),
    column(Measure::Bulk, "bulk_16_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 16 streams (less is better)"),
    column(Measure::Connections, "connections_per_s", "connections/s", 0)
        .ratio()
        .panel("New connections per second (more is better)"),
    column(Measure::Connections, "connection_cpu_us", "CPU µs each", 1)
        .ratio()
        .panel("CPU microseconds per new connection (less is better)"),
    column(Measure::Connections, "connections_failed", "failed", 0),
    column(Measure::Latency, "latency_p50_us", "p50, µs", 0),
    column(Measure::Latency, "latency_p99_us", "p99, µs", 0),
    column(Measure::Latency, ADDED_P50, "added p50, µs", 0)
        .panel("Latency over routed, p50, µs (less is better)"),
    column(Measure::Latency, ADDED_P99, "added p99, µs", 0)
        .panel("Latency over routed, p99, µs (less is better)"),
    column(Measure::Flood, "flood_quiet_gbit_per_s", "quiet, Gbit/s", 2),
    column(Measure::Flood, "flood_control_gbit_per_s", "control, Gbit/s", 2),
    column(Measure::Flood, "flood_gbit_per_s", "flood, Gbit/s", 2),
    column(Measure::Flood, "flood_loss_percent", "loss, %", 1)
        .panel("Throughput lost to a flood of SYNs, % of the control's (less is better)"),
    column(Measure::Flood, "flood_cpu_us_per_syn", "CPU µs/SYN", 2)
        .panel("CPU microseconds per SYN of a flood (less is better)"),
    column(Measure::Flood, "flood_packets_per_s", "SYN/s", 0),
    column(Measure::Flood, "flood_share_percent", "of packets, %", 0),
];

/// Keys of what is calculated from others.
pub(crate) const ADDED_P50: &str = "latency_added_p50_us";
/// See [`ADDED_P50`].
pub(crate) const ADDED_P99: &str = "latency_added_p99_us";

const fn column(measure: Measure, key: &'static str, head: &'static str, digits: usize) -> Column {
    Column { measure, key, head, panel: None, digits, ratio: false }
}

impl Column {
    const fn panel(mut self, title: &'static str) -> Self {
        self.panel = Some(title);
        self
    }

    const fn ratio(mut self) -> Self {
        self.ratio = true;
        self
    }

    /// A figure as people read it.
    pub(crate) fn write(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}

impl Measure {
    /// Its name on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Connections => "connections",
            Self::Latency => "latency",
            Self::Flood => "flood",
        }
    }

    /// What the work is, in a line.
    pub(crate) fn describe(self, rate: u32) -> String {
        let exchange = format!("{REQUEST} bytes up, {ANSWER} bytes down");
        match self {
            Self::Bulk => "bulk: bytes down, without end; CPU is the whole machine's".to_owned(),
            Self::Connections => format!(
                "connections: connect, {exchange}, close; {} at once, from 8 addresses in turns and ports that are not \
                 used twice; CPU is the whole machine's",
                connections::AT_ONCE
            ),
            Self::Latency => format!(
                "latency: {exchange}, {rate} a second on {} connections, counted from when each was due; added is over \
                 routed in the same round",
                paced::CONNECTIONS
            ),
            Self::Flood => "flood: 16 established streams alone (quiet), beside SYNs to an address that the gateway \
                            drops (control), beside as many to a listener (flood); loss is the flood's against the \
                            control; the flooded listener's backends drop what they get, so that their work does not count; share is \
                            of all packets that the gateway receives in the control, super-packets counted once; CPU is the \
                            whole machine's at 100,000 SYNs a second and no streams, less the control's"
                .to_owned(),
        }
    }

    /// Its columns.
    pub(crate) fn columns(self) -> impl Iterator<Item = &'static Column> {
        COLUMNS.iter().filter(move |column| column.measure == self)
    }
}
