//! What is measured.

use clap::ValueEnum;
use harness::load::connections;
use harness::load::sni::behaviour::{self, Behaviour};
use harness::load::sni::{ANSWER, PACE, REQUEST};

use crate::compare::{Column, Kind, column};

/// A kind of work; may be chosen alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Throughput of one stream and of several.
    Bulk,
    /// New connections, with a TLS handshake each.
    Connections,
    /// New connections that end as soon as they were answered.
    Brief,
    /// Latency of requests on many connections that stay.
    Latency,
    /// What connections that do nothing take.
    Memory,
    /// Connections that are handed over to the kernel, and how soon. Of ours alone.
    Handoff,
}

/// Streams at once, in the measurement of bulk.
pub(crate) const STREAMS: [usize; 2] = [1, 16];

const BULK: &[Column] = &[
    column("bulk_1_gbit_per_s", "1 stream, Gbit/s", 2).ratio().panel("Gbit/s, 1 stream (more is better)"),
    column("bulk_1_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 1 stream (less is better)"),
    column("bulk_1_added_cpu_s_per_gb", "above routed", 3),
    column("bulk_16_gbit_per_s", "16 streams, Gbit/s", 2)
        .ratio()
        .panel("Gbit/s, 16 streams (more is better)"),
    column("bulk_16_cpu_s_per_gb", "CPU s/GB", 3)
        .ratio()
        .panel("CPU seconds per GB, 16 streams (less is better)"),
    column("bulk_16_added_cpu_s_per_gb", "above routed", 3),
    column("bulk_16_sockets", "sockets each", 2),
];

const CONNECTIONS: &[Column] = &[
    column("connections_per_s", "connections/s", 0)
        .ratio()
        .panel("New connections per second, TLS handshake and 1 KiB (more is better)"),
    column("connection_cpu_us", "CPU µs each", 1)
        .ratio()
        .panel("CPU microseconds per new connection (less is better)"),
    column("connection_added_cpu_us", "above routed", 1),
    column("connections_failed", "failed", 0),
];

const BRIEF: &[Column] = &[
    column("brief_per_s", "connections/s", 0).ratio(),
    column("brief_cpu_us", "CPU µs each", 1).ratio(),
    column("brief_added_cpu_us", "above routed", 1),
    column("brief_failed", "failed", 0),
];

const LATENCY: &[Column] = &[
    column("latency_p50_us", "p50, µs", 0).panel("Latency, p50, µs (less is better)"),
    column("latency_p99_us", "p99, µs", 0).panel("Latency, p99, µs (less is better)"),
    column("latency_p999_us", "p99.9, µs", 0),
    column("beside_p50_us", "beside bulk p50, µs", 0).panel("Latency beside bulk, p50, µs (less is better)"),
    column("beside_p99_us", "p99, µs", 0).panel("Latency beside bulk, p99, µs (less is better)"),
    column("beside_p999_us", "p99.9, µs", 0),
    column("beside_gbit_per_s", "bulk, Gbit/s", 2),
];

const MEMORY: &[Column] = &[
    column("memory_connections", "connections", 0),
    column("memory_idle_mib", "RSS before, MiB", 1),
    column("memory_rss_bytes", "RSS each, bytes", 0)
        .panel("Resident memory, bytes per idle connection (less is better)"),
    column("memory_slab_bytes", "kernel each, bytes", 0),
    column("memory_added_slab_bytes", "above routed", 0)
        .panel("Kernel memory above routed, bytes per idle connection (less is better)"),
    column("memory_sockets", "sockets each", 2),
];

const HANDOFF: &[Column] = &[
    column("idle_first_in_kernel_percent", "in kernel, %", 1),
    column("idle_first_attempted", "attempted", 0),
    column("idle_first_handed_over_percent", "handed over, %", 1),
    column("idle_first_p50_us", "p50, µs", 0),
    column("idle_first_p99_us", "p99, µs", 0),
    column("download_in_kernel_percent", "in kernel, %", 1),
    column("download_attempted", "attempted", 0),
    column("download_handed_over_percent", "handed over, %", 1),
    column("download_p50_us", "p50, µs", 0),
    column("download_p99_us", "p99, µs", 0),
    column("chatty_in_kernel_percent", "in kernel, %", 1),
    column("chatty_attempted", "attempted", 0),
    column("chatty_handed_over_percent", "handed over, %", 1),
    column("chatty_p50_us", "p50, µs", 0),
    column("chatty_p99_us", "p99, µs", 0),
];
const EACH_BEHAVIOUR: usize = HANDOFF.len() / Behaviour::ALL.len();

/// What is calculated from what: pairs of keys.
pub(crate) const OVER_ROUTED: &[(&str, &str)] = &[
    ("bulk_1_cpu_s_per_gb", "bulk_1_added_cpu_s_per_gb"),
    ("bulk_16_cpu_s_per_gb", "bulk_16_added_cpu_s_per_gb"),
    ("connection_cpu_us", "connection_added_cpu_us"),
    ("brief_cpu_us", "brief_added_cpu_us"),
    ("memory_slab_bytes", "memory_added_slab_bytes"),
];

/// Of one behaviour: in the kernel, attempted, handed over, p50, p99.
pub(crate) fn of_behaviour(behaviour: Behaviour) -> &'static [Column] {
    let place = Behaviour::ALL.iter().position(|one| *one == behaviour).unwrap_or_default();
    &HANDOFF[place * EACH_BEHAVIOUR..][..EACH_BEHAVIOUR]
}

impl Kind for Measure {
    fn columns(self) -> &'static [Column] {
        match self {
            Self::Bulk => BULK,
            Self::Connections => CONNECTIONS,
            Self::Brief => BRIEF,
            Self::Latency => LATENCY,
            Self::Memory => MEMORY,
            Self::Handoff => HANDOFF,
        }
    }
}

impl Measure {
    /// Whether it is measured in rounds; otherwise once, with a gateway that has done nothing yet.
    pub(crate) fn is_in_rounds(self) -> bool {
        !matches!(self, Self::Memory | Self::Handoff)
    }

    /// What the work is, in a line or two. `open` connections, a request on each every `interval` milliseconds.
    pub(crate) fn describe(self, open: usize, interval: u32) -> String {
        match self {
            Self::Bulk => "bulk: a ClientHello up, then bytes down in plain TCP, without end; CPU is the whole machine's, and so \
                           is what is above routed; sockets are those in the gateway's namespace for each stream"
                .to_owned(),
            Self::Connections => format!(
                "connections: connect, a full TLS 1.3 handshake, {REQUEST} bytes up, {ANSWER} bytes down, close; {} at \
                 once, to both backends in turns; both ends' share of the handshake is in the CPU time, the whole machine's",
                connections::AT_ONCE
            ),
            Self::Brief => format!(
                "brief: connect, a ClientHello up, a byte down, close: the least that there is to carry; {} at once",
                connections::AT_ONCE
            ),
            Self::Latency => format!(
                "latency: {REQUEST} bytes up, {ANSWER} bytes down, every {interval} ms on each of {open} connections, counted \
                 from when each was due; then the same beside a stream of {} Gbit/s through the same gateway",
                PACE / 1_000_000_000
            ),
            Self::Memory => "memory: once, from a fresh start; connections that said their server name, and nothing since; RSS is \
                             that of the gateway's processes above what it was before; kernel is the machine's slab \
                             (/proc/meminfo), both ends' sockets included, and what is above routed is the gateway's; tables that \
                             are made at the start, such as nginx's connections and Sluice's flows, are in neither"
                .to_owned(),
            Self::Handoff => format!("handoff: of ours, {} connections of each behaviour, from a fresh start; \
                             in the kernel are those without a socket in the gateway's namespace, as the machine tells; the \
                             rest is what the agent tells",
                             behaviour::AT_ONCE * super::once::WAVES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_behaviour_has_its_own_columns() {
        for (behaviour, word) in Behaviour::ALL.into_iter().zip(["idle_first", "download", "chatty"]) {
            let keys: Vec<_> = of_behaviour(behaviour).iter().map(|column| column.key).collect();
            assert!(keys.iter().all(|key| key.starts_with(word)), "{keys:?}");
        }
    }

    #[test]
    fn what_is_calculated_has_a_column() {
        let columns = || Measure::value_variants().iter().flat_map(|measure| measure.columns());
        for key in OVER_ROUTED.iter().flat_map(|(own, over)| [own, over]) {
            assert!(columns().any(|column| column.key == *key), "{key}");
        }
    }
}
