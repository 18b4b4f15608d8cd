//! The gateway's own metrics, beside Istio's: `sluice_…`, and `process_…`. docs/telemetry.md says what each means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::process;
use super::view::View;
use crate::datapath;
use crate::model::{Cluster, Health, Limits, Listener, Tier};
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::{Encoder, Kind, Registry};
use crate::tls::certificate;

/// Clusters whose endpoints are told of one by one; the first by name.
const MOST_CLUSTERS: usize = 1000;
/// Likewise, credentials.
const MOST_CREDENTIALS: usize = 10_000;

use Kind::{Counter, Gauge};

impl View {
    /// Writes all metrics, with what the kernel plane says.
    pub(super) fn measure(&self, to: &mut Encoder<'_>, kernel: Option<&datapath::Status>) {
        if let Some(registry) = &self.metrics {
            to.traffic(registry, &self.snapshot.metrics);
            to.listeners(registry);
            measure_registry(to, registry);
        }
        self.measure_configuration(to);
        self.measure_protection(to);
        self.measure_endpoints(to);
        self.measure_credentials(to);
        self.measure_connections(to);
        to.single(
            ("sluice_kernel_plane_up", Gauge),
            "Whether there is a kernel plane",
            flag(self.kernel.off.is_none()),
        );
        measure_kernel(to, kernel);
        process::measure(to);
        let version = env!("CARGO_PKG_VERSION");
        to.family("sluice_build_info", Gauge, "Version of the gateway");
        to.sample(&[("version", version)], 1u32);
        to.family("istio_build", Gauge, "Version of the gateway, as Istio tells it");
        to.sample(&[("component", "proxy"), ("tag", version)], 1u32);
    }

    fn measure_configuration(&self, to: &mut Encoder<'_>) {
        to.single(("sluice_ready", Gauge), "Whether traffic is served and no end is near", flag(self.ready));
        let generation = self.snapshot.generation as f64;
        to.single(("sluice_generation", Gauge), "Generation of the configuration in force", generation);
        to.single(("sluice_documents", Gauge), "Documents in force, sound or not", self.documents as f64);
        to.family("sluice_findings", Gauge, "Findings about documents, by severity and code");
        for ((severity, code), count) in &self.findings {
            to.sample(&[("severity", severity), ("code", code)], *count as f64);
        }
        let (name, help) =
            ("sluice_apply_duration_seconds", "From reading documents until they are in force");
        to.durations(name, help, &self.applies);
        let faults = self.credential_faults.len() as f64;
        to.single(("sluice_credential_faults", Gauge), "Credentials that cannot be used", faults);
        let closed = self.bind_failures.len() as f64;
        to.single(("sluice_listener_bind_failures", Gauge), "Listeners that could not be opened", closed);
        let help = "How old the state of the cluster is that is in force; 0 while changes are learnt";
        to.family("sluice_cluster_state_age_seconds", Gauge, help);
        if let Some(cluster) = &self.cluster {
            to.sample(&[], cluster.age().as_secs_f64());
        }
    }

    fn measure_protection(&self, to: &mut Encoder<'_>) {
        to.family(
            "sluice_refused_total",
            Counter,
            "What was refused before any rule or for the gateway's own protection",
        );
        for (reason, count) in self.counts.refusals.all() {
            to.sample(&[("reason", reason)], count as f64);
        }
        to.family("sluice_listener_limited_total", Counter, "Connections beyond the limits of a listener");
        let limited = |listener: &&Arc<Listener>| listener.limits != Limits::default();
        for listener in self.snapshot.listeners.iter().filter(limited) {
            let refused = self.counts.listeners.refused(&listener.key);
            to.sample(&[("listener", &listener.key.to_string())], refused as f64);
        }
        to.family(
            "sluice_proxy_header_missing_total",
            Counter,
            "Connections without the PROXY header that they had to begin with",
        );
        for listener in self.snapshot.listeners.iter().filter(|listener| listener.behind_proxy) {
            let strangers = self.counts.proxy_headers.of(listener.key);
            to.sample(&[("listener", &listener.key.to_string())], strangers as f64);
        }
        let level = self.overload.read();
        to.single(
            ("sluice_overload_level", Gauge),
            "Step that is taken against a shortage: 0 none, 1 closing, 2 refusing, 3 shedding",
            level,
        );
        let dropped = self.access_log.as_ref().map_or(0, AccessLog::dropped);
        to.single(
            ("sluice_access_log_dropped_total", Counter),
            "Records that the access logs lost",
            dropped as f64,
        );
    }

    fn measure_endpoints(&self, to: &mut Encoder<'_>) {
        let now = Instant::now();
        to.family("sluice_endpoints", Gauge, "Endpoints of all clusters, by what the documents say of them");
        let mut all: BTreeMap<&str, u64> = [("draining", 0), ("healthy", 0), ("unready", 0)].into();
        for endpoint in self.snapshot.clusters.values().flat_map(|cluster| &cluster.endpoints) {
            *all.entry(health(endpoint.health)).or_default() += 1;
        }
        for (state, count) in &all {
            to.sample(&[("state", state)], *count as f64);
        }
        let is_judged = |cluster: &&Arc<Cluster>| cluster.outlier.is_some() || cluster.health_check.is_some();
        let judged: Vec<_> = self.snapshot.clusters.values().filter(is_judged).take(MOST_CLUSTERS).collect();
        to.family(
            "sluice_cluster_endpoints",
            Gauge,
            "Endpoints of clusters with outlier detection or health checks, by what is known of them",
        );
        let ejected = self.counts.fitness.outliers.ejected(now);
        for cluster in &judged {
            let failing = self.counts.fitness.checks.failing_of(cluster);
            let mut states: BTreeMap<&str, u64> = [("ejected", 0), ("failing", 0), ("healthy", 0)].into();
            for endpoint in cluster.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy) {
                let is_ejected =
                    ejected.iter().any(|it| it.endpoint == endpoint.address && it.cluster == cluster.name);
                let fails = failing.as_ref().is_some_and(|failing| failing.contains(endpoint.address));
                let state = if fails {
                    "failing"
                } else if is_ejected {
                    "ejected"
                } else {
                    "healthy"
                };
                *states.entry(state).or_default() += 1;
            }
            let name = cluster.name.to_string();
            for (state, count) in &states {
                to.sample(&[("cluster", &name), ("state", state)], *count as f64);
            }
        }
        to.family(
            "sluice_cluster_limited_total",
            Counter,
            "Connections and requests beyond the limits of a cluster",
        );
        let limits = [
            ("connections", &self.counts.clusters),
            ("pending", &self.counts.pending),
            ("requests", &self.counts.requests),
            ("retries", &self.counts.retries),
        ];
        for (limit, counts) in limits {
            for (cluster, refused) in counts.all_refused().into_iter().take(MOST_CLUSTERS) {
                to.sample(&[("cluster", &cluster.to_string()), ("limit", limit)], refused as f64);
            }
        }
    }

    fn measure_credentials(&self, to: &mut Encoder<'_>) {
        to.family(
            "sluice_certificate_expiry_timestamp_seconds",
            Gauge,
            "When a certificate ends to be valid, since 1970",
        );
        let credentials =
            self.snapshot.listeners.iter().flat_map(|listener| super::dump::server_tls(listener));
        let credentials = credentials.filter_map(|tls| tls.credential.as_ref().ok());
        let mut ends: BTreeMap<(String, &str), i64> = BTreeMap::new();
        for credential in credentials {
            let own = credential.certificates.iter().map(|it| (&it.source, "certificate", &it.chain));
            let authority =
                credential.client_authority.iter().map(|it| (&it.source, "authority", &it.bundle));
            for (source, kind, pem) in own.chain(authority) {
                if let Some((_, end)) = certificate::bounds(pem) {
                    ends.insert((source.to_string(), kind), end);
                }
            }
        }
        for ((credential, kind), end) in ends.iter().take(MOST_CREDENTIALS) {
            to.sample(&[("credential", credential), ("kind", kind)], *end as f64);
        }
    }

    fn measure_connections(&self, to: &mut Encoder<'_>) {
        to.family("sluice_opaque_connections", Gauge, "Opaque connections that user space relays, by tier");
        let tiers = self.counts.connections.by_tier();
        for tier in [Tier::Copy, Tier::Splice] {
            let count = tiers.get(&tier).copied().unwrap_or(0);
            to.sample(&[("tier", &tier.to_string())], count as f64);
        }
        let handed_over = self.handed_over.tallied();
        let count = handed_over.handed_over as f64;
        to.single(
            ("sluice_handoffs_total", Counter),
            "Connections that were handed over to the kernel plane",
            count,
        );
        to.family(
            "sluice_handoff_refusals_total",
            Counter,
            "Attempts to hand over that left the connection in user space",
        );
        for (reason, count) in &handed_over.refused {
            to.sample(&[("reason", reason)], *count as f64);
        }
    }
}

fn measure_registry(to: &mut Encoder<'_>, registry: &Registry) {
    let (len, limit) = (registry.len() as f64, registry.limit() as f64);
    to.single(("sluice_metric_series", Gauge), "Combinations of labels of istio metrics", len);
    to.single(("sluice_metric_series_limit", Gauge), "Combinations of labels that there may be", limit);
    let overflown = registry.overflown() as f64;
    to.single(
        ("sluice_metric_overflow_total", Counter),
        "Requests and connections counted beyond that limit",
        overflown,
    );
    let dropped = registry.dropped() as f64;
    to.single(
        ("sluice_metric_series_dropped_total", Counter),
        "Combinations dropped as their service was gone",
        dropped,
    );
}

/// Without a kernel plane the metrics are there, and have no samples.
fn measure_kernel(to: &mut Encoder<'_>, status: Option<&datapath::Status>) {
    to.family("sluice_kernel_verdicts_total", Counter, "Packets by what the programs made of them");
    for (verdict, count) in status.iter().flat_map(|status| &status.verdicts) {
        to.sample(&[("verdict", verdict)], *count as f64);
    }
    to.family("sluice_kernel_flows", Gauge, "Records of flows and handshakes");
    let flows = status.map(|status| [("established", status.flows), ("handshake", status.handshakes)]);
    for (state, counts) in flows.into_iter().flatten() {
        for (family, count) in [("ipv4", counts.ipv4), ("ipv6", counts.ipv6)] {
            to.sample(&[("family", family), ("state", state)], count as f64);
        }
    }
    to.family("sluice_kernel_map_entries", Gauge, "Entries in use of the tables that may fill up");
    let entries = status.map(|status| {
        [
            ("flows4", status.in_use.ipv4_records),
            ("flows6", status.in_use.ipv6_records),
            ("translations", u64::from(status.in_use.translations)),
            ("source_ports", u64::from(status.in_use.source_ports)),
        ]
    });
    for (map, count) in entries.into_iter().flatten() {
        to.sample(&[("map", map)], count as f64);
    }
    to.family("sluice_kernel_map_capacity", Gauge, "Entries that there is room for");
    if let Some(status) = status {
        for map in ["flows4", "flows6", "translations"] {
            to.sample(&[("map", map)], f64::from(status.max_flows));
        }
        to.sample(&[("map", "source_ports")], status.max_source_ports as f64);
    }
    to.family("sluice_kernel_events_lost_total", Counter, "Events of flows that found no room in the ring");
    if let Some(status) = status {
        to.sample(&[], status.events_lost as f64);
    }
    to.family("sluice_kernel_memory_bytes", Gauge, "Memory of the flow tables");
    if let Some(status) = status {
        to.sample(&[], status.memory.total_bytes as f64);
    }
    to.family("sluice_kernel_listeners", Gauge, "Addresses and ports that new flows are steered of");
    if let Some(status) = status {
        to.sample(&[], status.listeners as f64);
    }
    to.family("sluice_kernel_backend_failures_total", Counter, "New flows that backends failed");
    if let Some(status) = status {
        let failures = || status.backend_traffic.iter().map(|backend| backend.failures);
        to.sample(&[("failure", "refused")], failures().map(|it| it.refused).sum::<u64>() as f64);
        to.sample(&[("failure", "unanswered")], failures().map(|it| it.unanswered).sum::<u64>() as f64);
    }
}

fn flag(is: bool) -> u32 {
    u32::from(is)
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unready",
        Health::Draining => "draining",
    }
}
