//! Writes what was found into the status of documents, and says by an Event what was refused. One after the other, and what
//! is out of date by then not at all.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::client;
use super::kinds::Kind;
use super::lease;
use super::standing::{Standing, Status};
use crate::api::ObjectRef;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Who says so.
const CONTROLLER: &str = "sluice.dev/gateway";

/// One status to be written.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) kind: &'static Kind,
    pub(super) standing: Standing,
    pub(super) status: Status,
}

/// What is to be written. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders(Arc<(Mutex<BTreeMap<ObjectRef, Order>>, Notify)>);

impl Orders {
    /// In place of all that was to be written before.
    pub(super) fn replace(&self, orders: BTreeMap<ObjectRef, Order>) {
        let (pending, news) = &*self.0;
        *pending.lock().unwrap_or_else(PoisonError::into_inner) = orders;
        news.notify_one();
    }

    async fn next(&self) -> (ObjectRef, Order) {
        let (pending, news) = &*self.0;
        loop {
            let first = pending.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(first) => return first,
                None => news.notified().await,
            }
        }
    }
}

/// Writes what is ordered, until the task is dropped.
pub(super) async fn run(client: Client, orders: Orders) {
    let mut is_told = false;
    let keys = RandomState::new();
    let mut done: HashMap<ObjectRef, u64> = HashMap::new();
    loop {
        let (reference, order) = orders.next().await;
        // Ordered again before it was heard that it is done. Who has undone it since makes another order of it.
        let mark = keys.hash_one((&order.standing, &order.status));
        if done.get(&reference) == Some(&mark) {
            continue;
        }
        let written = timeout(PATIENCE, write(&client, &reference, &order)).await;
        match written {
            Ok(Ok(())) => {
                is_told = false;
                done.insert(reference, mark);
            }
            // It is gone, or another by now: what is known of that one comes with it.
            Ok(Err(Error::Api(status))) if [404, 409].contains(&status.code) => {}
            failed => {
                if let (Ok(Err(error)), false) = (failed, std::mem::replace(&mut is_told, true)) {
                    let why = client::words(&error);
                    tracing::warn!(%why, document = %reference, "its status cannot be written");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn write(client: &Client, reference: &ObjectRef, order: &Order) -> Result<(), Error> {
    let Order { kind, standing, status } = order;
    let request = Request::new(kind.path(standing.version, Some(&reference.namespace)));
    let now = Timestamp::now();
    let patch = kube::api::Patch::Merge(status.patch(standing.status.as_ref(), &seconds(now)));
    let patch = request.patch_subresource("status", &reference.name, &PatchParams::default(), &patch);
    client.request::<Value>(patch.map_err(Error::BuildRequest)?).await?;
    if status.is_in_force == Some(false) {
        tell(client, reference, order, now).await?;
    }
    Ok(())
}

/// An Event of events.k8s.io/v1, for `kubectl describe` and `kubectl get events`.
async fn tell(client: &Client, reference: &ObjectRef, order: &Order, now: Timestamp) -> Result<(), Error> {
    let Order { kind, standing, status } = order;
    let event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}-", reference.name), "namespace": &*reference.namespace},
        "regarding": {
            "apiVersion": kind.api_version(standing.version),
            "kind": kind.name,
            "namespace": &*reference.namespace,
            "name": &*reference.name,
            "uid": standing.uid,
        },
        "type": "Warning",
        "reason": "Refused",
        "action": "Reading",
        "note": status.summary(),
        "eventTime": format!("{now:.6}"),
        "reportingController": CONTROLLER,
        "reportingInstance": lease::pod_name(),
    });
    let request = Request::new(format!("/apis/events.k8s.io/v1/namespaces/{}/events", reference.namespace));
    let body = serde_json::to_vec(&event).map_err(Error::SerdeError)?;
    let request = request.create(&PostParams::default(), body).map_err(Error::BuildRequest)?;
    client.request::<Value>(request).await.map(drop)
}

/// As the API server writes times.
fn seconds(now: Timestamp) -> String {
    format!("{now:.0}")
}
