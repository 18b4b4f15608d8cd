//! What is measured.

use clap::ValueEnum;
use harness::load::http::{LARGE, MESSAGE, POSTED, SMALL, Work};

use crate::compare::{Column, Kind, column};

/// A kind of work; may be chosen alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// HTTP/1.1 on connections that stay.
    H1,
    /// Likewise, with large answers.
    Large,
    /// Likewise, with bodies of requests.
    Post,
    /// HTTP/1.1, a connection for each request.
    Fresh,
    /// HTTP/1.1 in TLS on connections that stay.
    Tls,
    /// A connection with a full TLS handshake for each request.
    Full,
    /// A connection with a TLS session resumed for each request.
    Resumed,
    /// HTTP/2 in TLS.
    H2,
    /// gRPC's unary calls.
    Grpc,
    /// Messages on WebSockets.
    Websocket,
    /// What connections that do nothing take.
    Memory,
}

/// Those of a kind of load.
macro_rules! columns {
    ($key:literal, $title:literal) => {
        const {
            &[
                column(concat!($key, "_per_s"), "requests/s", 0)
                    .ratio()
                    .panel(concat!($title, ": requests per second (more is better)")),
                column(concat!($key, "_busy_percent"), "gateway's CPU busy, %", 0),
                column(concat!($key, "_per_core"), "requests/s of a full CPU", 0),
                column(concat!($key, "_cpu_us"), "machine's CPU µs each", 1),
                column(concat!($key, "_added_cpu_us"), "above routed", 1)
                    .panel(concat!($title, ": CPU microseconds per request above routed (less is better)")),
                column(concat!($key, "_own_cpu_us"), "gateway's own", 1),
                column(concat!($key, "_rate"), "at requests/s", 0),
                column(concat!($key, "_p50_us"), "p50, µs", 0),
                column(concat!($key, "_p99_us"), "p99, µs", 0)
                    .panel(concat!($title, ": p99 at a fixed rate, µs (less is better)")),
                column(concat!($key, "_p999_us"), "p99.9, µs", 0),
            ]
        }
    };
}

const MEMORY: &[Column] = &[
    column("memory_idle_mib", "RSS before, MiB", 1),
    column("memory_h1_rss_bytes", "HTTP/1.1, RSS each, bytes", 0)
        .panel("HTTP/1.1: resident bytes per idle connection (less is better)"),
    column("memory_h1_slab_bytes", "kernel's", 0),
    column("memory_tls_rss_bytes", "TLS, RSS each, bytes", 0)
        .panel("TLS: resident bytes per idle connection (less is better)"),
    column("memory_tls_slab_bytes", "kernel's", 0),
    column("memory_h2_rss_bytes", "HTTP/2, RSS each, bytes", 0)
        .panel("HTTP/2 in TLS: resident bytes per idle connection (less is better)"),
    column("memory_h2_slab_bytes", "kernel's", 0),
];

/// A kind of connections whose memory is measured, and the keys of its figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) work: Work,
    pub(crate) resident: &'static str,
    pub(crate) slab: &'static str,
}

/// All of them.
pub(crate) const IDLE: [Idle; 3] = [
    Idle { work: Work::Small, resident: "memory_h1_rss_bytes", slab: "memory_h1_slab_bytes" },
    Idle { work: Work::Tls, resident: "memory_tls_rss_bytes", slab: "memory_tls_slab_bytes" },
    Idle { work: Work::H2, resident: "memory_h2_rss_bytes", slab: "memory_h2_slab_bytes" },
];

/// Keys of what every kind of load has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) per_second: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) per_core: &'static str,
    pub(crate) cpu: &'static str,
    pub(crate) added_cpu: &'static str,
    pub(crate) own_cpu: &'static str,
    pub(crate) rate: &'static str,
    pub(crate) percentiles: [&'static str; 3],
}

impl Kind for Measure {
    fn columns(self) -> &'static [Column] {
        match self {
            Self::H1 => columns!("h1", "HTTP/1.1, 1 KiB"),
            Self::Large => columns!("large", "HTTP/1.1, 1 MiB"),
            Self::Post => columns!("post", "HTTP/1.1, 16 KiB posted"),
            Self::Fresh => columns!("fresh", "HTTP/1.1, a connection each"),
            Self::Tls => columns!("tls", "TLS 1.3, 1 KiB"),
            Self::Full => columns!("full", "TLS 1.3, a full handshake each"),
            Self::Resumed => columns!("resumed", "TLS 1.3, a resumed session each"),
            Self::H2 => columns!("h2", "HTTP/2 in TLS, 1 KiB"),
            Self::Grpc => columns!("grpc", "gRPC in TLS"),
            Self::Websocket => columns!("websocket", "WebSocket messages"),
            Self::Memory => MEMORY,
        }
    }
}

impl Measure {
    /// The load; memory has several.
    pub(crate) fn work(self) -> Option<Work> {
        Some(match self {
            Self::H1 => Work::Small,
            Self::Large => Work::Large,
            Self::Post => Work::Post,
            Self::Fresh => Work::Fresh,
            Self::Tls => Work::Tls,
            Self::Full => Work::Full,
            Self::Resumed => Work::Resumed,
            Self::H2 => Work::H2,
            Self::Grpc => Work::Grpc,
            Self::Websocket => Work::Socket,
            Self::Memory => return None,
        })
    }

    /// Of its figures, if it is a load.
    pub(crate) fn keys(self) -> Option<Keys> {
        self.work()?;
        let [per_second, busy, per_core, cpu, added_cpu, own_cpu, rate, p50, p99, p999] = self.columns()
        else {
            return None;
        };
        Some(Keys {
            per_second: per_second.key,
            busy: busy.key,
            per_core: per_core.key,
            cpu: cpu.key,
            added_cpu: added_cpu.key,
            own_cpu: own_cpu.key,
            rate: rate.key,
            percentiles: [p50.key, p99.key, p999.key],
        })
    }

    /// What the work is, in a line or two.
    pub(crate) fn describe(self) -> String {
        let Some(work) = self.work() else {
            return format!(
                "memory: once, from a fresh start; {} connections of each kind, each of which has had one answer; RSS is that of \
                 the gateway's processes above what it was before; kernel's is the machine's slab (/proc/meminfo), the \
                 client's socket included, which is half of it",
                super::idle::CONNECTIONS
            );
        };
        let what = match self {
            Self::Large => format!("HTTP/1.1, answers of {LARGE} bytes"),
            Self::Post => format!("HTTP/1.1, {POSTED} bytes posted"),
            Self::Fresh => format!("HTTP/1.1, a connection for each answer of {SMALL} bytes"),
            Self::Tls => format!("HTTP/1.1 in TLS 1.3, answers of {SMALL} bytes"),
            Self::Full => {
                format!("TLS 1.3, a connection and a full handshake for each answer of {SMALL} bytes")
            }
            Self::Resumed => {
                format!("TLS 1.3, a connection and a resumed session for each answer of {SMALL} bytes")
            }
            Self::H2 => format!("HTTP/2 in TLS 1.3, answers of {SMALL} bytes"),
            Self::Grpc => format!("gRPC in TLS 1.3, calls of {MESSAGE} bytes, answers of {SMALL}"),
            Self::Websocket => {
                format!("WebSockets in cleartext, messages of {MESSAGE} bytes and the same back")
            }
            Self::H1 | Self::Memory => format!("HTTP/1.1, answers of {SMALL} bytes"),
        };
        let (connections, depth) = (work.connections(), work.depth());
        let at_once = if depth > 1 { format!("{connections} × {depth}") } else { connections.to_string() };
        format!("{what}; {at_once} at once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_has_keys_of_its_own() {
        let all: Vec<_> = Measure::value_variants().iter().flat_map(|measure| measure.columns()).collect();
        let keys: std::collections::HashSet<_> = all.iter().map(|column| column.key).collect();
        assert_eq!(keys.len(), all.len());
        for measure in Measure::value_variants() {
            assert_eq!(measure.keys().is_some(), measure.work().is_some(), "{measure:?}");
        }
    }

    #[test]
    fn idle_connections_have_columns() {
        for key in IDLE.iter().flat_map(|idle| [idle.resident, idle.slab]) {
            assert!(MEMORY.iter().any(|column| column.key == key), "{key}");
        }
    }
}
