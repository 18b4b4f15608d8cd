//! A flow as a line of output: one that the kernel steers, or a connection that user space carries.

use std::net::SocketAddr;

use serde::Serialize;

use crate::cli::maps::{Row, duration};
use crate::model::{Below, Tier};

/// Which half of the gateway carries a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(in crate::cli) enum Plane {
    #[serde(rename = "kernel")]
    Kernel,
    #[serde(rename = "user space")]
    UserSpace,
}

impl Plane {
    pub(in crate::cli) fn words(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::UserSpace => "user space",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct FlowRow {
    pub(in crate::cli) client: SocketAddr,
    pub(in crate::cli) gateway: SocketAddr,
    pub(in crate::cli) source: SocketAddr,
    pub(in crate::cli) backend: SocketAddr,
    pub(in crate::cli) plane: Plane,
    pub(in crate::cli) tier: Tier,
    /// Why its tier is no better, if it might be.
    pub(in crate::cli) reason: Option<Below>,
    /// The server name that its TLS client asked for, if user space has read it.
    pub(in crate::cli) sni: Option<Box<str>>,
    pub(in crate::cli) state: &'static str,
    pub(in crate::cli) age_seconds: u64,
    pub(in crate::cli) idle_seconds: u64,
    pub(in crate::cli) bytes_to_backend: u64,
    pub(in crate::cli) bytes_to_client: u64,
    pub(in crate::cli) bytes_per_second: u64,
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] = &[
        "CLIENT",
        "GATEWAY",
        "SOURCE",
        "BACKEND",
        "PLANE",
        "TIER",
        "STATE",
        "AGE",
        "IDLE",
        "TO BACKEND",
        "TO CLIENT",
        "RATE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.client.to_string(),
            self.gateway.to_string(),
            self.source.to_string(),
            self.backend.to_string(),
            self.plane.words().to_owned(),
            self.tier.to_string(),
            self.state.to_owned(),
            duration(self.age_seconds),
            duration(self.idle_seconds),
            bytes(self.bytes_to_backend),
            bytes(self.bytes_to_client),
            format!("{}/s", bytes(self.bytes_per_second)),
        ]
    }
}

/// With columns for all that is known.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(in crate::cli) struct WideRow(pub(in crate::cli) FlowRow);

impl Row for WideRow {
    const COLUMNS: &'static [&'static str] = &[
        "CLIENT",
        "GATEWAY",
        "SOURCE",
        "BACKEND",
        "PLANE",
        "TIER",
        "STATE",
        "AGE",
        "IDLE",
        "TO BACKEND",
        "TO CLIENT",
        "RATE",
        "REASON",
        "SNI",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(row) = self;
        let mut cells = row.cells();
        cells.push(row.reason.map_or("-", Below::words).to_owned());
        cells.push(row.sni.as_deref().unwrap_or("-").to_owned());
        cells
    }
}

/// Bytes as people say them.
pub(in crate::cli) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (count as f64, "B");
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (count, want) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn the_wide_form_begins_as_the_other() {
        assert!(WideRow::COLUMNS.starts_with(FlowRow::COLUMNS));
    }
}
