//! What is measured.

use clap::ValueEnum;
use harness::load::{ANSWER, REQUEST, connections, paced};

use crate::compare::{Column, Kind, column};

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

const BULK: &[Column] = &[
    column("bulk_1_gbit_per_s", "1 stream, Gbit/s", 2).ratio().panel("Gbit/s, 1 stream (more is better)"),
    column("bulk_1_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 1 stream (less is better)"),
    column("bulk_16_gbit_per_s", "16 streams, Gbit/s", 2)
        .ratio()
        .panel("Gbit/s, 16 streams (more is better)"),
    column("bulk_16_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 16 streams (less is better)"),
];

const CONNECTIONS: &[Column] = &[
    column("connections_per_s", "connections/s", 0)
        .ratio()
        .panel("New connections per second (more is better)"),
    column("connection_cpu_us", "CPU µs each", 1)
        .ratio()
        .panel("CPU microseconds per new connection (less is better)"),
    column("connections_failed", "failed", 0),
];

const LATENCY: &[Column] = &[
    column("latency_p50_us", "p50, µs", 0),
    column("latency_p99_us", "p99, µs", 0),
    column(ADDED_P50, "added p50, µs", 0).panel("Latency over routed, p50, µs (less is better)"),
    column(ADDED_P99, "added p99, µs", 0).panel("Latency over routed, p99, µs (less is better)"),
];

const FLOOD: &[Column] = &[
    column("flood_quiet_gbit_per_s", "quiet, Gbit/s", 2),
    column("flood_control_gbit_per_s", "control, Gbit/s", 2),
    column("flood_gbit_per_s", "flood, Gbit/s", 2),
    column("flood_loss_percent", "loss, %", 1)
        .panel("Throughput lost to a flood of SYNs, % of the control's (less is better)"),
    column("flood_cpu_us_per_syn", "CPU µs/SYN", 2)
        .panel("CPU microseconds per SYN of a flood (less is better)"),
    column("flood_packets_per_s", "SYN/s", 0),
    column("flood_share_percent", "of packets, %", 0),
];

/// Keys of what is calculated from others.
pub(crate) const ADDED_P50: &str = "latency_added_p50_us";
/// See [`ADDED_P50`].
pub(crate) const ADDED_P99: &str = "latency_added_p99_us";

impl Kind for Measure {
    fn columns(self) -> &'static [Column] {
        match self {
            Self::Bulk => BULK,
            Self::Connections => CONNECTIONS,
            Self::Latency => LATENCY,
            Self::Flood => FLOOD,
        }
    }
}

impl Measure {
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
}
