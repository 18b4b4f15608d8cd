//! All that the admin interface shows, published whole whenever a part of it changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::dashboard::{AsRulesSee, Dashboard};
use super::kernel::Kernel;
use super::orders::Orders;
use super::reading::Reading;
use crate::api::{Diagnostic, Objects};
use crate::datapath;
use crate::datapath::handoff::Ledger;
use crate::model::explain::{Explanation, Question, State, decide};
use crate::model::{ConnectionView, Counts, Exposure, KernelPlaneState, Snapshot};
use crate::settings::TierLimit;
use crate::source::kubernetes::{Link, LinkView};
use crate::telemetry::{AccessLog, metrics};
use crate::tls::ServerConfigs;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The configuration in force.
    pub snapshot: Arc<Snapshot>,
    /// The kernel's share in it.
    pub kernel: KernelPlaneState,
    /// Every worker serves its first snapshot.
    pub ready: bool,
    /// Listeners that could not be opened: name and reason.
    pub bind_failures: Vec<(String, String)>,
    /// Secrets that cannot be used: `namespace/name` and reason.
    pub credential_faults: Vec<(String, String)>,
    /// Of filter chains that have a certificate to show, be it one of before.
    pub tls: Arc<ServerConfigs>,
    /// Errors and warnings about documents, one line each.
    pub diagnostics: Vec<String>,
    /// How many there are, by severity and code.
    pub findings: BTreeMap<(&'static str, &'static str), usize>,
    /// The worst of them first, as many as people are shown.
    pub worst: Arc<[Diagnostic]>,
    /// Documents that the configuration was made of, sound or not.
    pub documents: usize,
    /// Those of them that are in force.
    pub objects: Arc<Objects>,
    /// When the configuration was put in force.
    pub applied: Option<SystemTime>,
    /// Counts up with every change of the view: while it stays the same, so does all that is not counted.
    pub revision: u64,
    /// The same in every gateway that has the same documents in force.
    pub fingerprint: String,
    /// How things stand with the API server, if documents are read from one.
    pub cluster: Option<Link>,
    /// Ejected and unhealthy endpoints and refused connections, as they are at the moment.
    pub counts: Counts,
    /// Answers for the kernel plane.
    pub kernel_plane: Kernel,
    /// Where the agent takes orders.
    pub orders: Orders,
    /// The best tier that opaque connections may reach.
    pub tier: TierLimit,
    /// What is known of connections that user space has handed over to the kernel plane.
    pub handed_over: Arc<Ledger>,
    /// Where TCP connections are told of.
    pub access_log: Option<AccessLog>,
    /// Where requests and connections are counted, if they are.
    pub metrics: Option<metrics::Registry>,
    /// How long it took to put generations in force.
    pub applies: metrics::Durations,
    /// The step that is taken against a shortage, 0 for none.
    pub overload: Reading,
    /// How rules see headers, for questions about requests that nobody has sent.
    pub as_rules_see: AsRulesSee,
    /// What the dashboard remembers.
    pub dashboard: Arc<Dashboard>,
}

/// `sluice status`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process.
    #[serde(default)]
    pub process: u32,
    /// Every worker serves its first snapshot.
    pub ready: bool,
    /// Generation in force.
    pub generation: u64,
    /// Documents that it was made of, sound or not.
    #[serde(default)]
    pub documents: usize,
    /// Of the documents in force, wherever they come from: 32 hexadecimal digits that are the same in every process with
    /// the same documents, where generations are each process' own.
    #[serde(default)]
    pub fingerprint: String,
    /// Open and failed listeners.
    pub listeners: usize,
    /// Where clients outside of the cluster find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposures: Vec<Exposure>,
    /// `on`, or why not.
    pub kernel_plane: String,
    /// Interfaces that programs are attached to.
    pub interfaces: Vec<String>,
    /// Listeners that could not be opened, and why.
    pub bind_failures: Vec<(String, String)>,
    /// Secrets that cannot be used, and why.
    pub credential_faults: Vec<(String, String)>,
    /// About documents.
    pub diagnostics: Vec<String>,
    /// How things stand with the API server, if documents are read from one.
    #[serde(default)]
    pub cluster: Option<LinkView>,
    /// Access logs in force.
    #[serde(default)]
    pub access_logs: Vec<String>,
    /// Lines that the access logs lost.
    pub access_log_dropped: Option<u64>,
    /// What was refused, by reason: requests and answers for what they are, and whatever for the gateway's own protection.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Endpoints that get nothing new as they do not answer their health checks well.
    #[serde(default)]
    pub unhealthy: Vec<String>,
    /// State and counters of the kernel plane, if there is one.
    pub kernel: Option<datapath::Status>,
}

impl View {
    /// The opaque connections of user space, the oldest first.
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.counts.connections.view(Instant::now())
    }

    /// The way of a request, with the endpoints that are neither ejected nor unhealthy at the moment.
    /// `None`: its path is refused before any rule.
    pub fn explain(&self, question: Question) -> Option<Explanation> {
        let now = Instant::now();
        let state = State {
            available: &|cluster| {
                let available = cluster.available(&self.counts.fitness, now);
                available.map(|candidate| candidate.endpoint.address).collect()
            },
            terminates: &|listener, chain| self.tls.get(listener, &chain.name).is_some(),
        };
        let question = question.in_form(self.snapshot.http.path)?;
        Some(decide(&self.snapshot, &question, state))
    }

    /// How many findings there are, by severity.
    pub(super) fn by_severity(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for ((severity, _), count) in &self.findings {
            *counts.entry(*severity).or_default() += count;
        }
        counts
    }

    /// `on`, or why there is no kernel plane.
    pub(super) fn kernel_plane_words(&self) -> String {
        self.kernel.off.as_ref().map_or_else(|| "on".to_owned(), |off| format!("off: {off}"))
    }

    /// The summary, with what the kernel plane says.
    pub fn status(&self, kernel: Option<datapath::Status>) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            ready: self.ready,
            generation: self.snapshot.generation,
            documents: self.documents,
            fingerprint: self.fingerprint.clone(),
            listeners: self.snapshot.listeners.len(),
            exposures: self.snapshot.exposures.clone(),
            kernel_plane: self.kernel_plane_words(),
            interfaces: self.kernel.interfaces.clone(),
            bind_failures: self.bind_failures.clone(),
            credential_faults: self.credential_faults.clone(),
            diagnostics: self.diagnostics.clone(),
            cluster: self.cluster.as_ref().map(Link::view),
            access_logs: self.snapshot.logging.rules().iter().map(ToString::to_string).collect(),
            access_log_dropped: self.access_log.as_ref().map(AccessLog::dropped),
            refused: self.counts.refusals.view(),
            unhealthy: self.counts.fitness.checks.unhealthy().iter().map(ToString::to_string).collect(),
            kernel,
        }
    }
}
