//! What moves, of the agent as a whole and of its listeners. Worked out once a second at most, whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use gateway_common::{Action, Verdict};
use serde::Serialize;
use tokio::sync::Mutex;

use super::super::process;
use super::super::view::View;
use super::history::milliseconds;
use crate::datapath::handoff::Tallied;
use crate::datapath::{self, stats};
use crate::model::{Health, Listener, Snapshot, Tier};
use crate::source::kubernetes::{Link, LinkView};
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::{Bounds, Registry, Traffic};

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(900);
/// Listeners that are told of; the topology pages through all.
const MOST_LISTENERS: usize = 256;
/// Limits that were hit, and failures, which are told of.
const MOST_TOLD: usize = 50;

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<(Instant, u64, Bytes)>>);

/// The kernel plane.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KernelNow {
    interfaces: Vec<stats::InterfaceStatus>,
    flows: usize,
    max_flows: u32,
    handshakes: usize,
    max_handshakes: u32,
    in_use: stats::InUse,
    memory: usize,
    /// Packets by verdict, those that there were, by what became of them: `sent`, `dropped`, `passed`.
    verdicts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    handoff: Tallied,
}

/// A listener, by its address.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerNow {
    key: String,
    /// Connections that user space has accepted.
    accepted: u64,
    /// Connections that it has.
    connections: u64,
    /// Requests under way.
    requests: u64,
    /// Connections beyond its limits.
    refused: u64,
    /// What the kernel has steered of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<stats::ListenerTraffic>,
}

/// A limit that was hit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limited {
    limit: &'static str,
    name: String,
    count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Now<'a> {
    /// Milliseconds since 1970.
    at: u64,
    version: &'static str,
    process: u32,
    ready: bool,
    generation: u64,
    revision: u64,
    /// When the generation was put in force, in milliseconds since 1970.
    applied: Option<u64>,
    documents: usize,
    fingerprint: &'a str,
    cluster: Option<LinkView>,
    findings: BTreeMap<&'static str, usize>,
    bind_failures: &'a [(String, String)],
    credential_faults: usize,
    /// Why there is no kernel plane, if there is none.
    kernel_off: Option<&'a str>,
    kernel: Option<KernelNow>,
    highest_tier: Tier,
    /// 0 none, 1 closing, 2 refusing, 3 shedding.
    overload: u32,
    refused: BTreeMap<String, u64>,
    limited: Vec<Limited>,
    access_log_dropped: Option<u64>,
    endpoints: BTreeMap<&'static str, usize>,
    /// Without it nothing is counted.
    total: Option<Traffic>,
    /// Upper bounds of the buckets of durations, in milliseconds; beyond the last there is one more.
    bounds: &'static [f64],
    series: [usize; 2],
    /// Opaque connections in user space by tier.
    opaque: BTreeMap<Tier, u64>,
    memory: Option<u64>,
    cpu: Option<f64>,
    listeners: Vec<ListenerNow>,
    listeners_left_out: usize,
}

/// The answer, perhaps that of a moment ago.
pub(super) async fn answer(view: &Arc<View>) -> Bytes {
    let mut latest = view.dashboard.now.0.lock().await;
    if let Some((at, revision, body)) = &*latest
        && at.elapsed() < FRESH
        && *revision == view.revision
    {
        return body.clone();
    }
    let kernel = view.kernel_plane.status().await;
    let body = Bytes::from(serde_json::to_vec(&now(view, kernel)).unwrap_or_default());
    *latest = Some((Instant::now(), view.revision, body.clone()));
    body
}

fn now(view: &View, kernel: Option<datapath::Status>) -> Now<'_> {
    let metrics = view.metrics.as_ref();
    let all = &view.snapshot.listeners;
    Now {
        at: milliseconds(SystemTime::now()),
        version: env!("CARGO_PKG_VERSION"),
        process: std::process::id(),
        ready: view.ready,
        generation: view.snapshot.generation,
        revision: view.revision,
        applied: view.applied.map(milliseconds),
        documents: view.documents,
        fingerprint: &view.fingerprint,
        cluster: view.cluster.as_ref().map(Link::view),
        findings: view.by_severity(),
        bind_failures: &view.bind_failures[..view.bind_failures.len().min(MOST_TOLD)],
        credential_faults: view.credential_faults.len(),
        kernel_off: view.kernel.off.as_deref(),
        highest_tier: match view.kernel.off {
            None => Tier::Kernel,
            Some(_) => view.tier.highest().min(Tier::Splice),
        },
        overload: view.overload.read(),
        refused: view.counts.refusals.view(),
        limited: limited(view),
        access_log_dropped: view.access_log.as_ref().map(AccessLog::dropped),
        endpoints: endpoints(view),
        total: metrics.map(Registry::total),
        bounds: Bounds::istio().0,
        series: metrics.map_or([0; 2], |metrics| [metrics.len(), metrics.limit()]),
        opaque: view.counts.connections.by_tier(),
        memory: process::resident(),
        cpu: process::cpu_seconds(),
        listeners: listeners(view, kernel.as_ref(), &all[..all.len().min(MOST_LISTENERS)]),
        listeners_left_out: all.len().saturating_sub(MOST_LISTENERS),
        kernel: kernel.map(of_kernel),
    }
}

fn of_kernel(status: datapath::Status) -> KernelNow {
    let mut verdicts: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for verdict in Verdict::ALL {
        let count = status.verdicts.get(verdict.label()).copied().unwrap_or(0);
        let became = match verdict.action() {
            Action::Send => "sent",
            Action::Drop => "dropped",
            Action::Pass => "passed",
        };
        if count > 0 {
            verdicts.entry(became).or_default().insert(verdict.label().to_owned(), count);
        }
    }
    KernelNow {
        flows: status.flows.total(),
        max_flows: status.max_flows,
        handshakes: status.handshakes.total(),
        max_handshakes: status.max_handshakes,
        in_use: status.in_use,
        memory: status.memory.total_bytes,
        verdicts,
        handoff: status.handoff,
        interfaces: status.interfaces,
    }
}

fn listeners(
    view: &View,
    kernel: Option<&datapath::Status>,
    listeners: &[Arc<Listener>],
) -> Vec<ListenerNow> {
    let in_user_space = view.metrics.as_ref().map(Registry::at_listeners).unwrap_or_default();
    let row = |listener: &Arc<Listener>| {
        let key = listener.key.to_string();
        let own = in_user_space.get(&key).copied().unwrap_or_default();
        let steered = kernel.iter().flat_map(|kernel| &kernel.listener_traffic);
        ListenerNow {
            accepted: own.accepted,
            connections: own.connections,
            requests: own.requests,
            refused: view.counts.listeners.refused(&listener.key),
            kernel: steered.into_iter().find(|traffic| traffic.listener == key).cloned(),
            key,
        }
    };
    listeners.iter().map(row).collect()
}

fn limited(view: &View) -> Vec<Limited> {
    let counts = &view.counts;
    let of_listeners = counts.listeners.all_refused().into_iter();
    let of_listeners = of_listeners.map(|(key, count)| ("listener", key.to_string(), count));
    let of_clusters = [
        ("connections", &counts.clusters),
        ("pending requests", &counts.pending),
        ("requests", &counts.requests),
        ("retries", &counts.retries),
    ];
    let of_clusters = of_clusters.into_iter().flat_map(|(limit, counts)| {
        counts.all_refused().into_iter().map(move |(name, count)| (limit, name.to_string(), count))
    });
    let hit = of_listeners.chain(of_clusters).filter(|(.., count)| *count > 0);
    let mut hit: Vec<_> = hit.map(|(limit, name, count)| Limited { limit, name, count }).collect();
    hit.sort_by_key(|it| std::cmp::Reverse(it.count));
    hit.truncate(MOST_TOLD);
    hit
}

/// How many endpoints there are, by what is known of them. One that fails its checks and is ejected besides counts as failing.
fn endpoints(view: &View) -> BTreeMap<&'static str, usize> {
    let mut states = of_documents(&view.snapshot);
    let failing = view.counts.fitness.checks.unhealthy().len();
    let ejected = view.counts.fitness.outliers.ejected(Instant::now()).len();
    let healthy = states.entry("healthy").or_default();
    *healthy = healthy.saturating_sub(failing + ejected);
    states.insert("failing", failing);
    states.insert("ejected", ejected);
    states
}

fn of_documents(snapshot: &Snapshot) -> BTreeMap<&'static str, usize> {
    let mut states: BTreeMap<_, _> = [("healthy", 0), ("unready", 0), ("draining", 0)].into();
    for endpoint in snapshot.clusters.values().flat_map(|cluster| &cluster.endpoints) {
        *states.entry(word(endpoint.health)).or_default() += 1;
    }
    states
}

/// What the documents say of an endpoint.
pub(super) fn word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unready",
        Health::Draining => "draining",
    }
}
