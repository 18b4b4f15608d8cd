//! What the kernel plane tells about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{ListenerId, Translation};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::ageing::Sweep;
use super::events::Failures;
use super::flows::Kind;
use super::handoff::Tallied;
use super::maps::{Maps, MapsError};
use super::tally::Traffic;
use super::view;
use crate::model::ListenerKey;

/// The kernel plane at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Handshakes in the tables.
    pub handshakes: FlowCounts,
    /// Handshakes of each family that there is room for.
    pub max_handshakes: u32,
    /// Memory of the flow tables.
    pub memory: Memory,
    /// What flows, and connections that may become some, have of it and besides.
    #[serde(default)]
    pub in_use: InUse,
    /// Ports towards the backends that there are.
    #[serde(default)]
    pub max_source_ports: u64,
    /// Events of flows that found no room in the ring buffer, since the maps were made.
    #[serde(default)]
    pub events_lost: u64,
    /// Packets by verdict (label, see `gateway_common::Verdict`), since the maps were made.
    pub verdicts: BTreeMap<String, u64>,
    /// Connections that user space handed over.
    #[serde(default)]
    pub handoff: Tallied,
    /// What the documents' listeners carried.
    pub listener_traffic: Vec<ListenerTraffic>,
    /// What went to each backend, and how often it failed.
    pub backend_traffic: Vec<BackendTraffic>,
}

/// What is given out and not given back yet. Flows keep theirs for a while when they are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InUse {
    /// Records of IPv4 flows.
    pub ipv4_records: u64,
    /// Records of IPv6 flows.
    pub ipv6_records: u64,
    /// What handed-over flows are translated by.
    pub translations: u32,
    /// Ports towards backends.
    pub source_ports: u32,
}

impl InUse {
    /// Of these maps. `port_count` ports belong to each of `bitmaps`, which are told by their first words in `PORTS`.
    pub fn of(maps: &Maps, port_count: u32, bitmaps: impl Iterator<Item = u32>) -> Self {
        let words = port_count / PORTS_PER_WORD;
        Self {
            ipv4_records: maps.v4.flows.taken(),
            ipv6_records: maps.v6.flows.taken(),
            translations: maps.translations.in_use(),
            source_ports: bitmaps.map(|base| maps.ports.count(base, words)).sum(),
        }
    }
}

/// The kernel's memory for flows, all of it taken when the maps are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// For each IPv4 flow that there is room for.
    pub bytes_per_ipv4_flow: f64,
    /// For each IPv6 flow.
    pub bytes_per_ipv6_flow: f64,
    /// In addition for each flow that was handed over, of either family.
    #[serde(default)]
    pub bytes_per_translation: usize,
    /// For all flows, translations and handshakes.
    pub total_bytes: usize,
}

impl Memory {
    /// Of these maps.
    pub fn of(maps: &Maps) -> Self {
        Self {
            bytes_per_ipv4_flow: maps.v4.flows.bytes_per_flow(),
            bytes_per_ipv6_flow: maps.v6.flows.bytes_per_flow(),
            bytes_per_translation: size_of::<Translation>(),
            total_bytes: maps.v4.flows.bytes() + maps.v6.flows.bytes() + maps.translations.bytes(),
        }
    }
}

/// A listener's flows, those that are over included, since the agent began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTraffic {
    /// Address and port of the documents' listener; `0.0.0.0` stands for every address.
    pub listener: String,
    /// Flows that there are.
    pub active: u64,
    /// All flows, and what they carried.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A backend's flows likewise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTraffic {
    /// Its address and port.
    pub backend: SocketAddr,
    /// Flows that there are.
    pub active: u64,
    /// New flows that it failed.
    #[serde(flatten)]
    pub failures: Failures,
    /// All flows, and what they carried.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// An interface with the classifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
pub fn verdicts(maps: &Maps) -> Result<BTreeMap<String, u64>, MapsError> {
    Ok(maps.verdicts()?.into_iter().map(|(verdict, count)| (verdict.label().to_owned(), count)).collect())
}

/// Handshakes now.
pub fn handshakes(maps: &Maps) -> FlowCounts {
    FlowCounts { ipv4: view::live(&maps.v4, Kind::Handshakes), ipv6: view::live(&maps.v6, Kind::Handshakes) }
}

/// Traffic of every listener that has a name. `sweeps` are those of the address families.
pub fn by_listener(
    sweeps: [&Sweep; 2],
    names: impl Iterator<Item = (ListenerKey, ListenerId)>,
) -> Vec<ListenerTraffic> {
    let active = sum(sweeps.iter().flat_map(|sweep| sweep.current().listeners()));
    let ended = sum(sweeps.iter().flat_map(|sweep| sweep.ended().listeners()));
    let row = |(name, id): (ListenerKey, ListenerId)| {
        let active = active.get(&id).copied().unwrap_or_default();
        let traffic = active.plus(ended.get(&id).copied().unwrap_or_default());
        ListenerTraffic { listener: name.to_string(), active: active.flows, traffic }
    };
    names.map(row).collect()
}

/// Traffic of every backend that new flows may go to, has had one, or has failed one.
pub fn by_backend(
    sweeps: [&Sweep; 2],
    backends: impl Iterator<Item = SocketAddr>,
    failed: &BTreeMap<SocketAddr, Failures>,
) -> Vec<BackendTraffic> {
    let active = sum(sweeps.iter().flat_map(|sweep| sweep.current().backends()));
    let ended = sum(sweeps.iter().flat_map(|sweep| sweep.ended().backends()));
    let others = active.keys().chain(ended.keys()).chain(failed.keys()).copied();
    let all: BTreeSet<_> = backends.chain(others).collect();
    let row = |backend: SocketAddr| {
        let active = active.get(&backend).copied().unwrap_or_default();
        let traffic = active.plus(ended.get(&backend).copied().unwrap_or_default());
        let failures = failed.get(&backend).copied().unwrap_or_default();
        BackendTraffic { backend, active: active.flows, failures, traffic }
    };
    all.into_iter().map(row).collect()
}

fn sum<K: Ord>(of: impl Iterator<Item = (K, Traffic)>) -> BTreeMap<K, Traffic> {
    let mut sums: BTreeMap<K, Traffic> = BTreeMap::new();
    for (key, traffic) in of {
        let sum = sums.entry(key).or_default();
        *sum = sum.plus(traffic);
    }
    sums
}

/// The clock that flow entries are stamped by (`CLOCK_MONOTONIC`), in ns.
pub fn monotonic() -> u64 {
    // Reading this clock cannot fail on Linux; 0 would make every flow look fresh, the safe way to be wrong.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The same clock at a moment that has passed.
pub fn monotonic_at(moment: Instant) -> u64 {
    let age = u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX);
    monotonic().saturating_sub(age)
}
