//! Traffic added up from the records of flows: by backend and by listener. The programs count in the records alone, so
//! that a packet touches no further memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_common::{Address, BackendId, Direction, Flow, ListenerId, State};
use serde::Serialize;

use super::view::Tuple;

/// Flows and what they carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Flows.
    pub flows: u64,
    /// Packets from clients.
    pub packets_to_backend: u64,
    /// Bytes of frames from clients.
    pub bytes_to_backend: u64,
    /// Packets to clients.
    pub packets_to_client: u64,
    /// Bytes of frames to clients.
    pub bytes_to_client: u64,
}

impl Traffic {
    /// Of one flow.
    fn of<A>(flow: &Flow<A>) -> Self {
        let [to_backend, to_client] = flow.halves;
        Self {
            flows: 1,
            packets_to_backend: to_backend.packets,
            bytes_to_backend: to_backend.bytes,
            packets_to_client: to_client.packets,
            bytes_to_client: to_client.bytes,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            flows: self.flows + other.flows,
            packets_to_backend: self.packets_to_backend + other.packets_to_backend,
            bytes_to_backend: self.bytes_to_backend + other.bytes_to_backend,
            packets_to_client: self.packets_to_client + other.packets_to_client,
            bytes_to_client: self.bytes_to_client + other.bytes_to_client,
        }
    }
}

/// Traffic of many flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    backends: HashMap<BackendId, Traffic>,
    listeners: HashMap<ListenerId, Traffic>,
}

impl Tally {
    /// Adds a flow.
    pub fn add<A>(&mut self, flow: &Flow<A>) {
        let traffic = Traffic::of(flow);
        let add = |sum: &mut Traffic| *sum = sum.plus(traffic);
        add(self.backends.entry(flow.backend_id).or_default());
        add(self.listeners.entry(flow.listener).or_default());
    }

    /// Number of flows.
    pub fn flows(&self) -> usize {
        self.backends.values().map(|traffic| traffic.flows as usize).sum()
    }

    /// Of a backend.
    pub fn backend(&self, id: BackendId) -> Traffic {
        self.backends.get(&id).copied().unwrap_or_default()
    }

    /// Of a listener.
    pub fn listener(&self, id: ListenerId) -> Traffic {
        self.listeners.get(&id).copied().unwrap_or_default()
    }

    /// Forgets a backend, whose number will be another's.
    pub fn forget_backend(&mut self, id: BackendId) {
        self.backends.remove(&id);
    }
}

/// A flow that is over, as the access log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Client's and gateway's end.
    pub client_side: Tuple,
    /// Gateway's source address and port towards the backend, and the backend.
    pub backend_side: Tuple,
    /// The backend.
    pub backend: BackendId,
    /// The listener.
    pub listener: ListenerId,
    /// What it carried.
    pub traffic: Traffic,
    /// From the first SYN to the last packet.
    pub duration: Duration,
    /// How it ended.
    pub state: State,
}

impl Ended {
    /// Of the record of a flow; `now` is the monotonic clock in ns.
    pub fn new<A: Address>(flow: &Flow<A>, now: u64) -> Self {
        let lived = Duration::from_nanos(now.saturating_sub(flow.created));
        Self {
            client_side: Tuple::of(&flow.arriving(Direction::ToBackend)),
            backend_side: Tuple::of(&flow.leaving(Direction::ToBackend)),
            backend: flow.backend_id,
            listener: flow.listener,
            traffic: Traffic::of(flow),
            duration: lived.saturating_sub(super::ageing::silence(flow, now)),
            state: State(flow.state),
        }
    }

    /// Address and port of the client.
    pub fn client(&self) -> SocketAddr {
        self.client_side.source
    }
}
