//! What was counted, in sums: of everything, of services, of listeners. For those who show numbers themselves; it costs a
//! fraction of a scrape, as no text is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bounds::ISTIO_BUCKETS;
use super::labels::Outcome;
use super::registry::Registry;
use super::rows::{Distribution, HttpRow, Progress, Row as _, TcpRow};

/// Statuses of gRPC that are the server's fault, as OpenTelemetry has them: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_FAULTS: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// Requests and connections since the agent began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests that are over.
    pub requests: u64,
    /// Those that were answered 400 to 499.
    pub client_errors: u64,
    /// Those that were answered 500 or above, or by a status of gRPC that is the server's fault.
    pub errors: u64,
    /// Bytes of their bodies.
    pub received: u64,
    /// Bytes of the responses' bodies.
    pub sent: u64,
    /// Durations: of each bucket alone, by [`Bounds::istio`](super::Bounds::istio); the last one is beyond all of them.
    pub durations: [u64; ISTIO_BUCKETS],
    /// TCP connections that began, of both planes.
    pub opened: u64,
    /// TCP connections that ended.
    pub closed: u64,
    /// Bytes of TCP connections from clients.
    pub tcp_received: u64,
    /// Bytes of TCP connections to clients.
    pub tcp_sent: u64,
}

/// A listener's share in user space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AtListener {
    /// Connections accepted since the agent began.
    pub accepted: u64,
    /// Connections that there are.
    pub connections: u64,
    /// Requests under way.
    pub requests: u64,
}

impl Traffic {
    /// Bytes of bodies and of TCP connections, both ways.
    pub fn bytes(&self) -> u64 {
        let all = [self.received, self.sent, self.tcp_received, self.tcp_sent];
        all.into_iter().fold(0, u64::wrapping_add)
    }

    fn add_http(&mut self, outcome: Outcome, row: &HttpRow) {
        let brief = row.brief();
        self.requests += brief.requests;
        let is_fault = outcome.grpc.is_some_and(|status| GRPC_FAULTS.contains(&status));
        match outcome.status {
            500.. => self.errors += brief.requests,
            _ if is_fault => self.errors += brief.requests,
            400..500 => self.client_errors += brief.requests,
            _ => {}
        }
        self.received = self.received.wrapping_add(brief.received);
        self.sent = self.sent.wrapping_add(brief.sent);
        let Distribution { buckets, .. } = brief.duration;
        self.durations.iter_mut().zip(buckets).for_each(|(sum, bucket)| *sum += bucket);
    }

    fn add_tcp(&mut self, row: &TcpRow) {
        let mut sum = Progress::default();
        row.add_to(&mut sum);
        self.opened += sum.opened;
        self.closed += sum.closed;
        self.tcp_received = self.tcp_received.wrapping_add(sum.received);
        self.tcp_sent = self.tcp_sent.wrapping_add(sum.sent);
    }
}

impl Registry {
    /// Everything together, what is counted beyond the limit of series included.
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        self.rows_of_http(|_| true, |_, outcome, row| total.add_http(outcome, row));
        self.rows_of_tcp(|_| true, |_, row| total.add_tcp(row));
        total
    }

    /// Services whose hosts are wanted, by those; what is counted beyond the limit of series is one that is called `overflow`. Those
    /// that nothing was counted of are left out.
    pub fn by_service(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Traffic> {
        let mut all: BTreeMap<String, Traffic> = BTreeMap::new();
        self.rows_of_http(&is_wanted, |service, outcome, row| of(&mut all, service).add_http(outcome, row));
        self.rows_of_tcp(&is_wanted, |service, row| of(&mut all, service).add_tcp(row));
        all.retain(|_, traffic| traffic.requests > 0 || traffic.opened > 0 || traffic.bytes() > 0);
        all
    }

    /// Listeners by their addresses.
    pub fn at_listeners(&self) -> BTreeMap<String, AtListener> {
        let brief = |(name, underway): (String, super::in_flight::Underway)| {
            let super::in_flight::Underway { accepted, connections, requests } = underway;
            (name, AtListener { accepted, connections, requests })
        };
        self.underway().into_iter().map(brief).collect()
    }
}

/// A series follows others of its service mostly: no text is made but for the first.
fn of<'a>(all: &'a mut BTreeMap<String, Traffic>, service: &str) -> &'a mut Traffic {
    if !all.contains_key(service) {
        all.insert(service.to_owned(), Traffic::default());
    }
    all.get_mut(service).expect("it is there")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Destination, Flags, HttpSample, Outcome, Peer, Protocol, Source};
    use super::*;

    #[test]
    fn services_are_told_apart_and_the_total_has_them_all() {
        let [workload, namespace, cluster] = ["gateway", "edge", "Kubernetes"].map(str::to_owned);
        let source = Source { workload, namespace, peer: Peer::of(&BTreeMap::new()), cluster };
        let registry = Registry::new(source, 3);
        let shards = [registry.shard(), registry.shard()];
        let answered =
            |status| Outcome { protocol: Protocol::Http, status, grpc: None, flags: Flags::default() };
        let count = |host: &str, status, times| {
            for shard in &shards {
                let series = shard.series(&Destination::of(host, None), answered(status));
                for _ in 0..times {
                    let duration = Duration::from_millis(7);
                    let sample = HttpSample { duration, received: 3, sent: 5, ..HttpSample::default() };
                    shard.request(series.as_deref(), &sample);
                }
            }
        };
        count("a.test", 200, 10);
        count("a.test", 503, 2);
        // Beyond the limit: in the total alone.
        let tcp = shards[0].series(&Destination::of("b.test", None), Outcome::tcp(Flags::default()));
        shards[0].connection(tcp.as_deref(), Progress { received: 7, sent: 9, opened: 2, closed: 1 });
        count("c.test", 404, 1);

        let found = registry.by_service(|host| ["a.test", "b.test", "nobody.test"].contains(&host));
        let a = &found["a.test"];
        assert_eq!((a.requests, a.errors, a.client_errors), (24, 4, 0));
        assert_eq!((a.received, a.sent, a.durations[3]), (72, 120, 24), "7 ms are in the bucket up to 10");
        let b = &found["b.test"];
        assert_eq!((b.opened, b.closed, b.tcp_received, b.tcp_sent), (2, 1, 7, 9));
        assert_eq!(found.len(), 2);
        let total = registry.total();
        assert_eq!((total.requests, total.errors, total.opened), (26, 4, 2));
    }
}
