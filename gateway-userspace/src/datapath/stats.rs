//! What the kernel plane tells about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::maps::{Maps, MapsError};

/// The kernel plane at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Interfaces that the classifier is on.
    pub interfaces: Vec<InterfaceStatus>,
    /// Addresses and ports that new flows are steered of.
    pub listeners: usize,
    /// Flows in the tables, as of the last full sweep.
    pub flows: FlowCounts,
    /// Flows of each family that the tables have room for.
    pub max_flows: u32,
    /// Packets by verdict (label, see `gateway_common::Verdict`), since the maps were made.
    pub verdicts: BTreeMap<&'static str, u64>,
}

/// An interface with the classifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Number.
    pub index: u32,
    /// Where the programs meet its packets.
    pub hook: String,
    /// Whether clients come in by it; else it leads to backends only.
    pub clients: bool,
}

/// Flows by address family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// IPv4.
    pub ipv4: usize,
    /// IPv6.
    pub ipv6: usize,
}

impl FlowCounts {
    /// Both.
    pub fn total(self) -> usize {
        self.ipv4 + self.ipv6
    }
}

/// The verdict counters by label.
pub fn verdicts(maps: &Maps) -> Result<BTreeMap<&'static str, u64>, MapsError> {
    Ok(maps.verdicts()?.into_iter().map(|(verdict, count)| (verdict.label(), count)).collect())
}

/// The clock that flow entries are stamped by (`CLOCK_MONOTONIC`), in ns.
pub fn monotonic() -> u64 {
    // Reading this clock cannot fail on Linux; 0 would make every flow look fresh, the safe way to be wrong.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
