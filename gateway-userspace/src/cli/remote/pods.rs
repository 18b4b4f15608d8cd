//! Finding gateway pods: by name, by node, or all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use super::PATIENCE;
use super::failure::{self, Asked};
use super::target::Reading;

/// Pods that an error names at most.
const NAMED: usize = 12;
/// Pods to a page of a list.
const PAGE: u32 = 500;
/// Labels that tell pods of one workload apart, or its states.
const OF_REVISIONS: [&str; 5] = [
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// A pod that a gateway runs in, or is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct GatewayPod {
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
    /// Empty while none is chosen.
    pub(in crate::cli) node: String,
    /// Without those that tell it from its like.
    pub(in crate::cli) labels: BTreeMap<String, String>,
    /// `status.phase`, or `Terminating`.
    pub(in crate::cli) phase: String,
    is_ready: bool,
}

impl GatewayPod {
    fn of(pod: Pod) -> Self {
        let status = pod.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
        let mut labels = pod.metadata.labels.unwrap_or_default();
        labels.retain(|key, _| !OF_REVISIONS.contains(&key.as_str()));
        Self {
            namespace: pod.metadata.namespace.unwrap_or_default(),
            name: pod.metadata.name.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(),
            labels,
            is_ready: ready.is_some_and(|condition| condition.status == "True"),
            phase: if is_leaving { "Terminating".to_owned() } else { phase },
        }
    }

    /// `POD.NAMESPACE`, as istioctl shows it and takes it.
    pub(in crate::cli) fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// Whether its processes run.
    pub(in crate::cli) fn runs(&self) -> bool {
        ["Running", "Terminating"].contains(&self.phase.as_str())
    }
}

/// The pods of a namespace, or of all, that have these labels, by namespace and name.
pub(in crate::cli) async fn gateways(
    client: &Client,
    namespace: Option<&str>,
    selector: &str,
) -> anyhow::Result<Vec<GatewayPod>> {
    list(client, namespace, ListParams::default().labels(selector)).await
}

/// The pod that is meant by a name.
pub(super) async fn find(
    client: &Client,
    written: &str,
    readings: &[Reading],
    (namespace, selector): (Option<&str>, &str),
) -> anyhow::Result<GatewayPod> {
    for reading in readings {
        let found = match reading {
            Reading::Pod { namespace, name } => {
                one(client, namespace.as_deref().unwrap_or(client.default_namespace()), name).await?
            }
            Reading::Node(node) => on_node(client, node, namespace, selector).await?,
        };
        match found {
            Some(pod) if pod.runs() => return Ok(pod),
            Some(pod) => bail!(
                "the pod {} does not run, it is {}: kubectl -n {} describe pod {}",
                pod.full_name(),
                pod.phase,
                pod.namespace,
                pod.name
            ),
            None => {}
        }
    }
    bail!("{}", nobody(client, written, readings, (namespace, selector)).await)
}

async fn one(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<GatewayPod>> {
    let asked = Asked { verb: "get", resource: "pods", namespace: Some(namespace) };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match within(pods.get(name)).await? {
        Ok(pod) => Ok(Some(GatewayPod::of(pod))),
        Err(error) if failure::is(&error, StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(failure::told(error, asked)),
    }
}

/// While one gateway takes over from another there are two of them: the one that is there to stay is meant.
async fn on_node(
    client: &Client,
    node: &str,
    namespace: Option<&str>,
    selector: &str,
) -> anyhow::Result<Option<GatewayPod>> {
    let parameters = ListParams::default().labels(selector).fields(&format!("spec.nodeName={node}"));
    let mut there = list(client, namespace, parameters).await?;
    let rank = |pod: &GatewayPod| (pod.phase == "Running", pod.runs(), pod.is_ready);
    let best = there.iter().map(rank).max();
    there.retain(|pod| Some(rank(pod)) == best);
    if there.len() > 1 {
        bail!("several gateways run on {node}; choose one:{}", names(&there));
    }
    Ok(there.pop())
}

async fn list(
    client: &Client,
    namespace: Option<&str>,
    mut parameters: ListParams,
) -> anyhow::Result<Vec<GatewayPod>> {
    let asked = Asked { verb: "list", resource: "pods", namespace };
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut all = Vec::new();
    parameters = parameters.limit(PAGE);
    loop {
        let page = within(pods.list(&parameters)).await?.map_err(|error| failure::told(error, asked))?;
        all.extend(page.items.into_iter().map(GatewayPod::of));
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => break,
        }
    }
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(all)
}

pub(super) async fn within<T>(answer: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, answer).await.with_context(|| no_answer(PATIENCE))
}

fn no_answer(patience: Duration) -> String {
    format!("no answer of the API server within {patience:?}")
}

/// That there is no such pod, and which there are.
async fn nobody(
    client: &Client,
    written: &str,
    readings: &[Reading],
    (namespace, selector): (Option<&str>, &str),
) -> String {
    let places: Vec<String> = readings.iter().map(|reading| place(client, reading)).collect();
    let mut words = format!("no gateway {written}: there is no {}", places.join(", no "));
    // Who may not list pods is told what is wrong with the name all the same.
    let Ok(there) = gateways(client, namespace, selector).await else { return words };
    let within = namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
    let _ = if there.is_empty() {
        write!(words, "\nno pod{within} has the labels {selector}: say which gateways have, with --selector")
    } else {
        write!(words, "\ngateways{within} are:{}", names(&there))
    };
    words
}

fn place(client: &Client, reading: &Reading) -> String {
    match reading {
        Reading::Pod { namespace, name } => {
            let namespace = namespace.as_deref().unwrap_or(client.default_namespace());
            format!("pod {name} in the namespace {namespace}")
        }
        Reading::Node(node) => format!("gateway on a node {node}"),
    }
}

fn names(pods: &[GatewayPod]) -> String {
    let mut words = String::new();
    for pod in pods.iter().take(NAMED) {
        let _ = write!(words, "\n  {} on {}", pod.full_name(), pod.node);
    }
    if pods.len() > NAMED {
        let _ = write!(words, "\n  and {} more", pods.len() - NAMED);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> GatewayPod {
        GatewayPod::of(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn what_tells_a_pod_from_its_like_is_no_label_of_the_gateway() {
        let labels = |more: &str| {
            let of = serde_json::json!({"app.kubernetes.io/name": "sluice", "istio": "edge", "pod-template-hash": more});
            pod(serde_json::json!({"metadata": {"name": more, "namespace": "edge", "labels": of}})).labels
        };
        assert_eq!(labels("5d9c"), labels("77fb"));
        assert_eq!(labels("5d9c").len(), 2);
    }

    #[test]
    fn a_pod_that_is_being_deleted_runs_on_and_one_without_a_node_does_not() {
        let leaving = pod(serde_json::json!({
            "metadata": {"name": "a", "namespace": "edge", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"},
        }));
        assert_eq!((leaving.full_name().as_str(), leaving.phase.as_str()), ("a.edge", "Terminating"));
        assert!(leaving.runs());
        assert!(!pod(serde_json::json!({"metadata": {}, "status": {"phase": "Pending"}})).runs());
    }
}
