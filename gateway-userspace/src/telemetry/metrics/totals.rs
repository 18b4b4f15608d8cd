//! What was counted of each service and listener, whatever their other labels: little beside the text that Prometheus reads,
//! for those who look once a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bounds::ISTIO;
use super::labels::Outcome;
use super::registry::Registry;
use super::rows::{HttpSum, Progress};

/// Statuses of gRPC that are the server's fault, as OpenTelemetry has them: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_FAULTS: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// Of one service, since the agent began. All but the gRPC messages of `istio_…`, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTotals {
    /// Requests.
    pub requests: u64,
    /// Those answered by 4xx.
    pub client_errors: u64,
    /// Those answered by 5xx, or by a status of gRPC that is the server's fault.
    pub server_errors: u64,
    /// Requests by duration, of each bucket of [`bounds`] alone; the last one is beyond all of them. Empty without requests.
    pub durations: Vec<u64>,
    /// Bytes of bodies, both ways.
    pub body_bytes: u64,
    /// TCP connections that began.
    pub connections: u64,
    /// Bytes of TCP connections, both ways, on either plane.
    pub tcp_bytes: u64,
}

/// Of one listener's user space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTotals {
    /// Connections since the agent began.
    pub accepted: u64,
    /// Connections that there are.
    pub connections: u64,
    /// Requests under way.
    pub requests: u64,
}

/// Upper bounds of [`ServiceTotals::durations`] in milliseconds.
pub fn bounds() -> &'static [f64] {
    ISTIO.0
}

impl ServiceTotals {
    /// Whether anything was counted.
    pub(super) fn is_any(&self) -> bool {
        self.requests > 0 || self.connections > 0 || self.tcp_bytes > 0
    }

    pub(super) fn add_requests(&mut self, outcome: Outcome, sum: &HttpSum) {
        let is_fault = outcome.grpc.is_some_and(|status| GRPC_FAULTS.contains(&status));
        self.requests += sum.requests;
        match outcome.status {
            500.. => self.server_errors += sum.requests,
            _ if is_fault => self.server_errors += sum.requests,
            400..500 => self.client_errors += sum.requests,
            _ => {}
        }
        self.durations.resize(sum.duration.buckets.len(), 0);
        self.durations.iter_mut().zip(sum.duration.buckets).for_each(|(all, more)| *all += more);
        // Thousandths, as histograms have them.
        self.body_bytes += (sum.received.sum / 1000).saturating_add(sum.sent.sum / 1000);
    }

    pub(super) fn add_connections(&mut self, sum: Progress) {
        self.connections += sum.opened;
        self.tcp_bytes = self.tcp_bytes.saturating_add(sum.received).saturating_add(sum.sent);
    }
}

impl Registry {
    /// What is under way at each listener, by `address:port`.
    pub fn by_listener(&self) -> BTreeMap<String, ListenerTotals> {
        let totals = self.underway().into_iter().map(|(listener, of)| {
            let super::in_flight::Underway { accepted, connections, requests } = of;
            (listener, ListenerTotals { accepted, connections, requests })
        });
        totals.collect()
    }
}
