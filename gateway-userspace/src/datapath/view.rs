//! What the maps hold, in the words of people: addresses instead of words in network order, flows instead of pairs
//! of entries, both families in one list.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use gateway_common::flow::State;
use gateway_common::{Address, BackendId, Direction, Flow, FlowKey, Table};

use super::maps::{FamilyMaps, Maps, MapsError};

/// A four-tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Where packets come from.
    pub source: SocketAddr,
    /// Where they go.
    pub destination: SocketAddr,
}

impl Tuple {
    /// Of a key or a rewrite.
    pub fn of<A: Address>(key: &FlowKey<A>) -> Self {
        Self {
            source: SocketAddr::new(key.source.ip(), key.source_port.get()),
            destination: SocketAddr::new(key.destination.ip(), key.destination_port.get()),
        }
    }

    /// The tuple of the answers.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowView {
    /// As packets arrive.
    pub arriving: Tuple,
    /// As they leave.
    pub leaving: Tuple,
    /// Towards backend or client.
    pub direction: Direction,
    /// Of the flow, from both directions.
    pub state: State,
    /// [`gateway_common::Seen`] bits of this direction.
    pub seen: u32,
    /// Packets in this direction.
    pub packets: u64,
    /// Bytes of frames in this direction.
    pub bytes: u64,
    /// Monotonic clock of the SYN, in ns.
    pub created: u64,
    /// Monotonic clock of this direction's latest packet, in ns.
    pub last_seen: u64,
    /// Interface that packets leave by.
    pub oif: u32,
    /// Backend.
    pub backend: BackendId,
    /// Idle timeout in seconds.
    pub idle_timeout: u32,
}

impl FlowView {
    /// Client's and gateway's end.
    pub fn client_side(&self) -> Tuple {
        match self.direction {
            Direction::ToBackend => self.arriving,
            Direction::ToClient => self.leaving.reversed(),
        }
    }

    /// Gateway's source address and port towards the backend, and the backend.
    pub fn backend_side(&self) -> Tuple {
        match self.direction {
            Direction::ToBackend => self.leaving,
            Direction::ToClient => self.arriving.reversed(),
        }
    }
}

/// A steered address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerView {
    /// Local address and port.
    pub address: SocketAddr,
    /// Its table.
    pub table: Table,
}

/// A backend that new flows may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendView {
    /// Number.
    pub id: BackendId,
    /// Address and port.
    pub address: SocketAddr,
    /// Gateway's address towards it.
    pub source: IpAddr,
    /// Interface towards it.
    pub oif: u32,
}

/// Every entry of both flow tables, in order of the client's side; each flow's direction to the backend first.
pub fn entries(maps: &Maps) -> Result<Vec<FlowView>, MapsError> {
    let mut entries = family_entries(&maps.v4)?;
    entries.extend(family_entries(&maps.v6)?);
    entries.sort_by_key(|entry| (entry.client_side(), entry.direction as u32));
    Ok(entries)
}

/// Every flow, by its direction to the backend.
pub fn flows(maps: &Maps) -> Result<Vec<FlowView>, MapsError> {
    let mut entries = entries(maps)?;
    entries.retain(|entry| entry.direction == Direction::ToBackend);
    Ok(entries)
}

fn family_entries<A: Address + Pod>(maps: &FamilyMaps<A>) -> Result<Vec<FlowView>, MapsError> {
    let flows: HashMap<FlowKey<A>, Flow<A>> = maps.flows()?.into_iter().collect();
    Ok(flows.iter().filter_map(|(key, flow)| entry(key, flow, &flows)).collect())
}

fn entry<A: Address>(
    key: &FlowKey<A>,
    flow: &Flow<A>,
    flows: &HashMap<FlowKey<A>, Flow<A>>,
) -> Option<FlowView> {
    let direction = flow.direction()?;
    let there = flows.get(&flow.other()).map(Flow::seen).unwrap_or_default();
    let state = match direction {
        Direction::ToBackend => State::of(flow.seen(), there),
        Direction::ToClient => State::of(there, flow.seen()),
    };
    Some(FlowView {
        arriving: Tuple::of(key),
        leaving: Tuple::of(&flow.rewritten),
        direction,
        state,
        seen: flow.seen,
        packets: flow.packets,
        bytes: flow.bytes,
        created: flow.created,
        last_seen: flow.last_seen,
        oif: flow.oif,
        backend: flow.backend,
        idle_timeout: flow.idle_timeout,
    })
}

/// Every steered listener, by address.
pub fn listeners(maps: &Maps) -> Result<Vec<ListenerView>, MapsError> {
    let mut listeners = family_listeners(&maps.v4)?;
    listeners.extend(family_listeners(&maps.v6)?);
    listeners.sort_by_key(|listener| listener.address);
    Ok(listeners)
}

fn family_listeners<A: Address + Pod>(maps: &FamilyMaps<A>) -> Result<Vec<ListenerView>, MapsError> {
    let view = |(key, table): (gateway_common::ListenerKey<A>, Table)| ListenerView {
        address: SocketAddr::new(key.address.ip(), key.port.get()),
        table,
    };
    Ok(maps.listeners()?.into_iter().map(view).collect())
}

/// Every backend, by number.
pub fn backends(maps: &Maps) -> Result<Vec<BackendView>, MapsError> {
    let mut backends = family_backends(&maps.v4)?;
    backends.extend(family_backends(&maps.v6)?);
    backends.sort_by_key(|backend| backend.id);
    Ok(backends)
}

fn family_backends<A: Address + Pod>(maps: &FamilyMaps<A>) -> Result<Vec<BackendView>, MapsError> {
    let view = |(id, backend): (BackendId, gateway_common::Backend<A>)| BackendView {
        id,
        address: SocketAddr::new(backend.address.ip(), backend.port.get()),
        source: backend.source.ip(),
        oif: backend.oif,
    };
    Ok(maps.backends()?.into_iter().map(view).collect())
}
