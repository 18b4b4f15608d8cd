//! What the maps hold, in the words of people: addresses instead of words in network order, flows instead of pairs
//! of entries, both families in one list.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aya::Pod;
use gateway_common::flow::{NO_PORTS, NO_TRANSLATION, TICKS_PER_SECOND};
use gateway_common::{
    Address, BackendId, Be16, Direction, Flow, FlowKey, ListenerId, Phase, Seen, State, Table,
};

use super::ageing;
use super::flows::Kind;
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

    /// As the maps have it; `None` if it is of another family, or of two.
    pub fn key<A: Address>(self) -> Option<FlowKey<A>> {
        Some(FlowKey {
            source: A::from_ip(self.source.ip())?,
            destination: A::from_ip(self.destination.ip())?,
            source_port: Be16::new(self.source.port()),
            destination_port: Be16::new(self.destination.port()),
        })
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
    /// Whether user space had accepted the flow, and handed it over.
    pub handed_over: bool,
    /// Of the flow, from both directions.
    pub phase: Phase,
    /// The state word.
    pub state: State,
    /// Which table it is in.
    pub kind: Kind,
    /// Packets in this direction.
    pub packets: u64,
    /// Bytes of the stream in this direction, see [`Flow::carried`].
    pub bytes: u64,
    /// Monotonic clock of the SYN, in ns.
    pub created: u64,
    /// Clock of this direction's latest packet, see [`gateway_common::flow::ticks`].
    pub last_seen: u32,
    /// Interface that packets leave by.
    pub oif: u32,
    /// Backend.
    pub backend: BackendId,
    /// Listener.
    pub listener: ListenerId,
    /// Idle timeout in seconds.
    pub idle_timeout: u32,
}

impl FlowView {
    /// Seconds since the latest packet in this direction; without one, since the SYN. `now` is the monotonic clock in
    /// ns.
    pub fn idle_seconds(&self, now: u64) -> u64 {
        match self.packets {
            0 => Duration::from_nanos(now.saturating_sub(self.created)).as_secs(),
            _ => u64::from(ageing::since(self.last_seen, now) / TICKS_PER_SECOND),
        }
    }

    /// What was seen in this direction.
    pub fn seen(&self) -> Seen {
        self.state.seen(self.direction)
    }

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

/// A flow as people see it, in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steered {
    /// Client's and gateway's end.
    pub client_side: Tuple,
    /// Gateway's source address and port towards the backend, and the backend.
    pub backend_side: Tuple,
    /// Whether user space had accepted the flow, and handed it over.
    pub handed_over: bool,
    /// From both directions.
    pub phase: Phase,
    /// Monotonic clock of the SYN, in ns.
    pub created: u64,
    /// Since the SYN.
    pub age_seconds: u64,
    /// Since the latest packet.
    pub idle_seconds: u64,
    /// Of the stream.
    pub bytes_to_backend: u64,
    /// Of the stream.
    pub bytes_to_client: u64,
}

impl Steered {
    /// Of a flow's two directions; `now` is the monotonic clock in ns.
    pub fn of([to_backend, to_client]: &[FlowView; 2], now: u64) -> Self {
        Self {
            client_side: to_backend.client_side(),
            backend_side: to_backend.backend_side(),
            handed_over: to_backend.handed_over,
            phase: to_backend.phase,
            created: to_backend.created,
            age_seconds: Duration::from_nanos(now.saturating_sub(to_backend.created)).as_secs(),
            idle_seconds: to_backend.idle_seconds(now).min(to_client.idle_seconds(now)),
            bytes_to_backend: to_backend.bytes,
            bytes_to_client: to_client.bytes,
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
    /// Gateway's address towards it; `None`: the client's own.
    pub source: Option<IpAddr>,
    /// First word of its bitmap in `PORTS`, or [`NO_PORTS`].
    pub ports: u32,
    /// Interface towards it.
    pub oif: u32,
}

/// Number of flows in a table.
pub fn live<A: Address + Pod>(maps: &FamilyMaps<A>, kind: Kind) -> usize {
    maps.flows.all().filter(|(found, ..)| *found == kind).count()
}

/// Both directions of every flow, in order of the client's side; each flow's direction to the backend first.
pub fn entries(maps: &Maps) -> Vec<FlowView> {
    let mut entries: Vec<_> = pairs(maps).into_iter().flatten().collect();
    entries.sort_by_key(|entry| (entry.client_side(), entry.direction as u32));
    entries
}

/// Every flow, by its direction to the backend.
pub fn flows(maps: &Maps) -> Vec<FlowView> {
    let mut entries = entries(maps);
    entries.retain(|entry| entry.direction == Direction::ToBackend);
    entries
}

/// Every flow, by its directions to the backend and to the client, in no order.
pub fn pairs(maps: &Maps) -> Vec<[FlowView; 2]> {
    family_pairs(&maps.v4).chain(family_pairs(&maps.v6)).collect()
}

/// Every established flow, in no order. `now` is the monotonic clock in ns.
pub fn steered(maps: &Maps, now: u64) -> impl Iterator<Item = Steered> + '_ {
    family_steered(&maps.v4, now).chain(family_steered(&maps.v6, now))
}

fn family_steered<A: Address + Pod>(maps: &FamilyMaps<A>, now: u64) -> impl Iterator<Item = Steered> + '_ {
    let flows = maps.flows.established();
    flows.map(move |(_, flow)| Steered::of(&directions(&flow, Kind::Established), now))
}

fn family_pairs<A: Address + Pod>(maps: &FamilyMaps<A>) -> impl Iterator<Item = [FlowView; 2]> {
    maps.flows.all().map(|(kind, _, flow)| directions(&flow, kind))
}

/// A flow, by its directions to the backend and to the client.
pub fn directions<A: Address>(flow: &Flow<A>, kind: Kind) -> [FlowView; 2] {
    [Direction::ToBackend, Direction::ToClient].map(|direction| entry(flow, kind, direction))
}

fn entry<A: Address>(flow: &Flow<A>, kind: Kind, direction: Direction) -> FlowView {
    let at = direction as usize;
    let half = flow.halves.get(at).copied().unwrap_or_default();
    let state = State(flow.state);
    FlowView {
        arriving: Tuple::of(&flow.arriving(direction)),
        leaving: Tuple::of(&flow.leaving(direction)),
        direction,
        handed_over: flow.translation != NO_TRANSLATION,
        phase: state.phase(),
        state,
        kind,
        packets: half.packets,
        bytes: flow.carried(direction),
        created: flow.created,
        last_seen: half.last_seen,
        oif: flow.oif.get(at).copied().unwrap_or_default(),
        backend: flow.backend_id,
        listener: flow.listener,
        idle_timeout: flow.idle_timeout,
    }
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

/// The prefixes on the deny list.
pub fn denied(maps: &Maps) -> Result<Vec<(IpAddr, u32)>, MapsError> {
    let mut denied = family_denied(&maps.v4)?;
    denied.extend(family_denied(&maps.v6)?);
    denied.sort_unstable();
    Ok(denied)
}

fn family_denied<A: Address + Pod>(maps: &FamilyMaps<A>) -> Result<Vec<(IpAddr, u32)>, MapsError> {
    Ok(maps.denied()?.into_iter().map(|(length, address)| (address.ip(), length)).collect())
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
        source: (backend.ports != NO_PORTS).then(|| backend.source.ip()),
        ports: backend.ports,
        oif: backend.oif,
    };
    Ok(maps.backends()?.into_iter().map(view).collect())
}
