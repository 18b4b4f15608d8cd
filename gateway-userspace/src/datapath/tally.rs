//! Traffic added up from the records of flows: by backend and by listener. The programs count in the records alone, so
//! that a packet touches no further memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_common::{Address, BackendId, Direction, Flow, ListenerId, Phase, Seen, State};
use serde::{Deserialize, Serialize};

use super::view::Tuple;

/// Flows and what they carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Flows.
    pub flows: u64,
    /// Packets from clients.
    pub packets_to_backend: u64,
    /// Bytes of their streams from clients.
    pub bytes_to_backend: u64,
    /// Packets to clients.
    pub packets_to_client: u64,
    /// Bytes of their streams to clients.
    pub bytes_to_client: u64,
}

impl Traffic {
    /// Of one flow.
    fn of<A: Address>(flow: &Flow<A>) -> Self {
        let [to_backend, to_client] = flow.halves;
        Self {
            flows: 1,
            packets_to_backend: to_backend.packets,
            bytes_to_backend: flow.carried(Direction::ToBackend),
            packets_to_client: to_client.packets,
            bytes_to_client: flow.carried(Direction::ToClient),
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
    /// By address: numbers of backends are given to others some day.
    backends: HashMap<SocketAddr, Traffic>,
    listeners: HashMap<ListenerId, Traffic>,
}

impl Tally {
    /// Adds a flow.
    pub fn add<A: Address>(&mut self, flow: &Flow<A>) {
        let traffic = Traffic::of(flow);
        let add = |sum: &mut Traffic| *sum = sum.plus(traffic);
        add(self.backends.entry(Tuple::of(&flow.backend).destination).or_default());
        add(self.listeners.entry(flow.listener).or_default());
    }

    /// Adds another tally.
    pub fn absorb(&mut self, other: Self) {
        for (backend, traffic) in other.backends {
            let sum = self.backends.entry(backend).or_default();
            *sum = sum.plus(traffic);
        }
        for (listener, traffic) in other.listeners {
            let sum = self.listeners.entry(listener).or_default();
            *sum = sum.plus(traffic);
        }
    }

    /// Number of flows.
    pub fn flows(&self) -> usize {
        self.backends.values().map(|traffic| traffic.flows as usize).sum()
    }

    /// Of each backend.
    pub fn backends(&self) -> impl Iterator<Item = (SocketAddr, Traffic)> {
        self.backends.iter().map(|(backend, traffic)| (*backend, *traffic))
    }

    /// Of each listener.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerId, Traffic)> {
        self.listeners.iter().map(|(listener, traffic)| (*listener, *traffic))
    }

    /// Forgets what nobody asks for any more: backends come and go, and a listener's number becomes another's.
    pub fn retain(&mut self, backend: impl Fn(SocketAddr) -> bool, listener: impl Fn(ListenerId) -> bool) {
        self.backends.retain(|address, _| backend(*address));
        self.listeners.retain(|id, _| listener(*id));
    }
}

/// A flow that has its backend, as the access log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Client's and gateway's end.
    pub client_side: Tuple,
    /// Gateway's source address and port towards the backend, and the backend.
    pub backend_side: Tuple,
    /// Monotonic clock at the first SYN, in ns.
    pub created: u64,
}

impl Started {
    /// Of the record of an established flow.
    pub fn new<A: Address>(flow: &Flow<A>) -> Self {
        Self {
            client_side: Tuple::of(&flow.arriving(Direction::ToBackend)),
            backend_side: Tuple::of(&flow.leaving(Direction::ToBackend)),
            created: flow.created,
        }
    }
}

/// A flow that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// Client's and gateway's end.
    pub client_side: Tuple,
    /// The backend.
    pub backend: SocketAddr,
    /// What it has carried.
    pub traffic: Traffic,
    /// Monotonic clock at the first SYN, in ns.
    pub created: u64,
}

impl Lasting {
    /// Of the record of an established flow.
    pub fn new<A: Address>(flow: &Flow<A>) -> Self {
        Self {
            client_side: Tuple::of(&flow.arriving(Direction::ToBackend)),
            backend: Tuple::of(&flow.leaving(Direction::ToBackend)).destination,
            traffic: Traffic::of(flow),
            created: flow.created,
        }
    }
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both ends closed.
    Closed,
    /// Neither said anything for the idle timeout.
    Idle,
    /// The client reset it.
    ResetByClient,
    /// The backend reset it.
    ResetByBackend,
    /// Its backend was gone for the drain time.
    BackendGone,
    /// No backend took it: the last one that was tried refused.
    Refused,
    /// No backend took it: the last one that was tried said nothing.
    Unanswered,
}

impl End {
    /// Of an established flow.
    fn of(state: State) -> Self {
        match state.phase() {
            _ if state.any(State::CONDEMNED) => Self::BackendGone,
            Phase::Reset if state.seen(Direction::ToBackend).any(Seen::RST) => Self::ResetByClient,
            Phase::Reset => Self::ResetByBackend,
            Phase::Closing => Self::Closed,
            Phase::Opening | Phase::Established => Self::Idle,
        }
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
    /// Monotonic clock at the first SYN, in ns.
    pub created: u64,
    /// From the first SYN to the last packet.
    pub duration: Duration,
    /// How it ended.
    pub end: End,
}

impl Ended {
    /// Of the record of an established flow; `now` is the monotonic clock in ns.
    pub fn new<A: Address>(flow: &Flow<A>, now: u64) -> Self {
        Self::by(End::of(State(flow.state)), flow, now)
    }

    /// Of any record.
    pub fn by<A: Address>(end: End, flow: &Flow<A>, now: u64) -> Self {
        let lived = Duration::from_nanos(now.saturating_sub(flow.created));
        Self {
            client_side: Tuple::of(&flow.arriving(Direction::ToBackend)),
            backend_side: Tuple::of(&flow.leaving(Direction::ToBackend)),
            backend: flow.backend_id,
            listener: flow.listener,
            traffic: Traffic::of(flow),
            created: flow.created,
            duration: lived.saturating_sub(super::ageing::silence(flow, now)),
            end,
        }
    }

    /// Address and port of the client.
    pub fn client(&self) -> SocketAddr {
        self.client_side.source
    }
}
