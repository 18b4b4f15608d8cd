//! The numbers that move, for `sluice top`: what the metrics have, added up by service and by listener, so that asking once a
//! second costs little however many series there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::process::{self, Usage};
use super::view::View;
use crate::datapath;
use crate::datapath::stats::{BackendTraffic, FlowCounts, ListenerTraffic};
use crate::telemetry::metrics::{AtListener, Bounds, Registry, Traffic};

/// `/counters`. Whatever grows does so since the process began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Version of the agent.
    pub version: String,
    /// Its process; where it is another one, counters began anew.
    pub process: u32,
    /// Whether traffic is served and no end is near.
    pub ready: bool,
    /// Generation in force.
    pub generation: u64,
    /// Documents in force, sound or not.
    pub documents: usize,
    /// Findings about them by severity: `error`, `warning`, `info`.
    pub findings: BTreeMap<String, usize>,
    /// What is wrong besides: listeners that are not open, secrets that cannot be used.
    pub faults: usize,
    /// `on`, or why not.
    pub kernel_plane: String,
    /// What the process takes.
    pub usage: Usage,
    /// Step against a shortage: 0 none, 1 closing, 2 refusing, 3 shedding.
    pub overload_level: u32,
    /// Whether requests and connections are counted: not with `--metrics-address none`.
    pub counted: bool,
    /// Upper bounds in milliseconds of each service's `durations`.
    pub duration_bounds: Vec<f64>,
    /// By the host of the service; `unknown` is what nothing was routed of.
    pub services: BTreeMap<String, Traffic>,
    /// By `address:port`.
    pub listeners: BTreeMap<String, AtListener>,
    /// Opaque connections in user space by tier.
    pub connections: BTreeMap<String, u64>,
    /// Bytes that those carried, both ways.
    pub carried_bytes: u64,
    /// Connections that were handed over to the kernel plane.
    pub handoffs: u64,
    /// Attempts that left the connection in user space.
    pub handoff_refusals: u64,
    /// What was refused before any rule or for the gateway's own protection.
    pub refused: u64,
    /// Of the kernel plane, if there is one.
    pub kernel: Option<KernelCounters>,
}

/// Of the kernel plane, as of its latest walk through the records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelCounters {
    /// Flows of each family that there is room for.
    pub max_flows: u32,
    /// Flows.
    pub flows: FlowCounts,
    /// Handshakes.
    pub handshakes: FlowCounts,
    /// What listeners carried.
    pub listeners: Vec<ListenerTraffic>,
    /// What went to backends.
    pub backends: Vec<BackendTraffic>,
}

impl From<datapath::Status> for KernelCounters {
    fn from(status: datapath::Status) -> Self {
        Self {
            max_flows: status.max_flows,
            flows: status.flows,
            handshakes: status.handshakes,
            listeners: status.listener_traffic,
            backends: status.backend_traffic,
        }
    }
}

impl View {
    /// The numbers now, with what the kernel plane says.
    pub fn counters(&self, kernel: Option<datapath::Status>) -> Counters {
        let findings = self.by_severity().into_iter();
        let tiers = self.counts.connections.by_tier();
        let handed_over = self.handed_over.tallied();
        let metrics = self.metrics.as_ref();
        Counters {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            ready: self.ready,
            generation: self.snapshot.generation,
            documents: self.documents,
            findings: findings.map(|(severity, count)| (severity.to_owned(), count)).collect(),
            faults: self.bind_failures.len() + self.credential_faults.len(),
            kernel_plane: self.kernel_plane_words(),
            usage: process::usage(),
            overload_level: self.overload.read(),
            counted: metrics.is_some(),
            duration_bounds: Bounds::istio().0.to_vec(),
            services: metrics.map(|metrics| metrics.by_service(|_| true)).unwrap_or_default(),
            listeners: metrics.map(Registry::at_listeners).unwrap_or_default(),
            connections: tiers.into_iter().map(|(tier, count)| (tier.to_string(), count)).collect(),
            carried_bytes: self.counts.connections.carried(),
            handoffs: handed_over.handed_over,
            handoff_refusals: handed_over.refused.values().sum(),
            refused: self.counts.refusals.all().map(|(_, count)| count).sum(),
            kernel: kernel.map(KernelCounters::from),
        }
    }
}
