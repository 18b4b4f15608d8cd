//! What is counted, and as whose, and how long the series of what is gone stay.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::Subscription;
use crate::proxy::Runtime;
use crate::settings::RunArgs;
use crate::telemetry::metrics::{Peer, Registry, Source, UNKNOWN};

/// How often series of what is gone are looked for.
const TIDY: Duration = Duration::from_secs(15);

/// Where requests and connections are counted; nowhere if nobody is to read it.
pub(super) fn registry(args: &RunArgs) -> Option<Registry> {
    args.admin.metrics_address.0?;
    let labels = &args.identity.labels;
    let workload = args.admin.workload.clone().or_else(|| labels.get("app").cloned());
    let source = Source {
        workload: workload.unwrap_or_else(|| UNKNOWN.to_owned()),
        namespace: args.identity.namespace.clone(),
        peer: Peer::of(labels),
        cluster: args.admin.cluster_id.clone(),
    };
    Some(Registry::new(source, args.admin.max_metric_series as usize))
}

/// Drops series of services and listeners that have gone from the documents, as long as it is polled.
pub(super) async fn tidy(registry: Registry, runtime: Subscription<Runtime>) {
    loop {
        tokio::time::sleep(TIDY).await;
        let snapshot = runtime.current().snapshot.clone();
        let hosts: HashSet<&str> = snapshot.clusters.keys().map(|name| &*name.host).collect();
        registry.tidy(Instant::now(), |service| service == UNKNOWN || hosts.contains(service));
        let listeners: HashSet<String> = snapshot.listeners.iter().map(|it| it.key.to_string()).collect();
        registry.tidy_listeners(|listener| listeners.contains(listener));
    }
}
