//! What a worker must know to hand a connection that it accepted over to the kernel: backends as the programs see them,
//! numbers of listeners, and the flow tables. The plane publishes it; whoever finds nothing in here keeps its connection.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gateway_common::{Addr4, Addr6, BackendId, Config, ListenerId, offer};

use super::flows::{Flows, PortsInUse};
use super::memory::Words;
use super::pin::Presence;
use super::plan::{self, BackendKey};
use super::translations::Translations;
use super::view::Tuple;
use crate::model::{ListenerKey, Snapshot};
use crate::net::repair::TcpInfo;

/// Bytes of IP and TCP header without options.
pub(super) const HEADERS4: u32 = 40;
pub(super) const HEADERS6: u32 = 60;

/// Keeps a backend's number and bitmap from being given to another one, as flows do, for as long as a copy of it is
/// anywhere but with the plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold(Arc<()>);

impl Hold {
    /// Whether there is another copy.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A backend that flows can be sent to. Its number and its ports stay its own while a copy of this lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// Its number.
    pub id: BackendId,
    /// The gateway's address towards it.
    pub source: IpAddr,
    /// The interface that leads to it.
    pub oif: u32,
    /// Largest IP packet of that interface, in bytes.
    pub mtu: u32,
    /// First word of its bitmap in `PORTS`, or [`NO_PORTS`](gateway_common::flow::NO_PORTS): connections come from their
    /// clients' addresses.
    pub ports: u32,
    pub(super) hold: Hold,
}

impl Target {
    /// Claims a source port towards it, outside the range that the node's own sockets take theirs from. `None` if none
    /// was found free.
    pub fn claim(&self, tables: &Arc<Tables>) -> Option<SourcePort> {
        let port = tables.ports.claim(&tables.config, self.ports)?;
        let address = SocketAddr::new(self.source, port);
        let (target, tables) = (self.clone(), tables.clone());
        Some(SourcePort { address, target, tables, is_counted: true, speaker: None })
    }

    /// Takes a client's address and a port to speak to a backend from, which is one of those that see their clients.
    /// `None` if a flow has them. No other socket has them if connecting succeeds; what answers comes to this node for as
    /// long as anybody has what is returned.
    pub fn speak_as(&self, tables: &Arc<Tables>, client: SocketAddr) -> Option<SourcePort> {
        if tables.has_flow(Tuple { source: self.address, destination: client }) {
            return None;
        }
        let (target, tables, speaker) = (self.clone(), tables.clone(), tables.speakers.clone());
        Some(SourcePort { address: client, target, tables, is_counted: false, speaker: Some(speaker) })
    }
}

/// An address and port to speak to a backend from, which no other connection to it has. A port of ours is given back when
/// this is dropped, unless a flow has it then.
#[derive(Debug)]
pub struct SourcePort {
    address: SocketAddr,
    target: Target,
    tables: Arc<Tables>,
    /// Whether there is a bit of `PORTS` to be given back.
    is_counted: bool,
    /// If the address is a client's.
    speaker: Option<Hold>,
}

impl SourcePort {
    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The backend that it is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Has a connection from the port do without options that its client does without. Another one from a port of the
    /// same number, to another backend at the same time, may do without them too; then it is not handed over.
    pub fn modestly(&self, client: &TcpInfo) -> Option<Modest<'_>> {
        let lacks = |option: u8, mark: u8| if client.options & option == 0 { mark } else { 0 };
        let without = lacks(TcpInfo::TIMESTAMPS, offer::NO_TIMESTAMPS)
            | lacks(TcpInfo::SACK, offer::NO_SACK)
            | lacks(TcpInfo::SCALED, offer::NO_SCALE);
        if without == 0 {
            return None;
        }
        let port = self.address.port();
        let word = self.tables.offers.words.all().get(offer::index(port) as usize)?;
        offer::mark(word, port, without);
        Some(Modest { word, port })
    }

    /// Leaves the port to a flow that has been put into the table: it is given back with the flow's record. What is
    /// returned has answers to a client's address come to this node for as long as the flow's socket lives.
    pub fn keep(mut self) -> Option<Hold> {
        self.is_counted = false;
        self.speaker.take()
    }
}

impl Drop for SourcePort {
    fn drop(&mut self) {
        if self.is_counted {
            self.tables.ports.release_port(&self.tables.config, self.target.ports, self.address.port());
        }
    }
}

/// What SYNs from a source port do not offer, see [`offer`].
#[derive(Debug)]
pub struct Offers {
    pub(super) words: Words,
}

/// A source port that is marked until this is dropped: when the handshake is through, or has failed.
#[derive(Debug)]
pub struct Modest<'a> {
    word: &'a AtomicU64,
    port: u16,
}

impl Drop for Modest<'_> {
    fn drop(&mut self) {
        offer::unmark(self.word, self.port);
    }
}

/// Why flows cannot be sent to a backend. The words are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// No plane, or a backend that it does not know of (yet).
    #[error("not known to the kernel plane")]
    Unknown,
    /// The programs cannot send there.
    #[error("{0}")]
    Unreachable(String),
    /// No number or bitmap was left.
    #[error("no room for it in the kernel's tables (backends, source ports)")]
    NoRoom,
}

/// The flow tables and what is needed to write to them. Shared with the plane and with the programs.
#[derive(Debug)]
pub struct Tables {
    /// IPv4 flows.
    pub v4: Arc<Flows<Addr4>>,
    /// IPv6 flows.
    pub v6: Arc<Flows<Addr6>>,
    /// Source ports.
    pub ports: Arc<PortsInUse>,
    /// What handed-over flows are translated by.
    pub translations: Arc<Translations>,
    /// What connections to backends do without.
    pub offers: Arc<Offers>,
    /// What never changes while the maps are there is to be read from it: the index's key and size, the range of ports.
    pub config: Config,
    /// Copied by whoever speaks to a backend under a client's address.
    pub(super) speakers: Hold,
    /// As long as anybody has the tables.
    pub(super) presence: Option<Presence>,
}

impl Tables {
    /// Whether a flow, or a handshake, is found by the tuple of a packet.
    fn has_flow(&self, arriving: Tuple) -> bool {
        let v4 = arriving.key().is_some_and(|key| self.v4.find(&self.config, &key).is_some());
        v4 || arriving.key().is_some_and(|key| self.v6.find(&self.config, &key).is_some())
    }

    /// The range that source ports of flows are taken from, and no socket of the node's gets one of by itself.
    pub fn any_port(&self) -> u16 {
        (self.config.first_port + fastrand::u32(..self.config.port_count.max(1))) as u16
    }
}

/// See the module. Empty until there is a plane, and when there is none any more.
#[derive(Debug, Default)]
pub struct Targets {
    /// Of the snapshot whose backends these are.
    pub(super) generation: u64,
    pub(super) tables: Option<Arc<Tables>>,
    pub(super) backends: HashMap<BackendKey, Result<Target, NoTarget>>,
    /// There are others, which see the gateway and have no room.
    pub(super) is_crowded: bool,
    pub(super) listeners: HashMap<ListenerKey, ListenerId>,
    /// Largest IP packets, in bytes, by number of interface.
    pub(super) mtus: HashMap<u32, u32>,
}

impl Targets {
    /// Whether there is a plane, which knows the backends of a snapshot, or of a later one.
    pub fn know(&self, generation: u64) -> bool {
        self.tables.is_some() && self.generation >= generation
    }

    /// The flow tables; `None` without a plane.
    pub fn tables(&self) -> Option<&Arc<Tables>> {
        self.tables.as_ref()
    }

    /// A backend that sees the gateway, or why flows cannot be sent to it.
    pub fn backend(&self, address: SocketAddr) -> Result<&Target, NoTarget> {
        self.find(BackendKey { address, preserve: false })
    }

    /// One that sees its clients.
    pub fn preserving(&self, address: SocketAddr) -> Result<&Target, NoTarget> {
        self.find(BackendKey { address, preserve: true })
    }

    fn find(&self, key: BackendKey) -> Result<&Target, NoTarget> {
        match self.backends.get(&key) {
            Some(target) => target.as_ref().map_err(Clone::clone),
            None if self.is_crowded && !key.preserve => Err(NoTarget::NoRoom),
            None => Err(NoTarget::Unknown),
        }
    }

    /// The number that a listener's flows carry.
    pub fn listener(&self, key: ListenerKey) -> Option<ListenerId> {
        self.listeners.get(&key).copied()
    }

    /// Largest IP packet of an interface that the programs are on, in bytes.
    pub fn mtu(&self, interface: u32) -> Option<u32> {
        self.mtus.get(&interface).copied()
    }

    /// The largest segments, in bytes, that clients of listeners may send so that what they send fits the way to every
    /// backend. Only where some client's link carries more.
    pub fn segment_sizes(&self, snapshot: &Snapshot) -> HashMap<ListenerKey, u32> {
        let widest = self.mtus.values().max().copied().unwrap_or(0);
        let mut sizes = HashMap::new();
        for listener in plan::opaque_listeners(snapshot) {
            let targets = plan::backends(listener).filter_map(|key| self.find(key).ok());
            if let Some(narrowest) = targets.map(|target| target.mtu).min().filter(|mtu| *mtu < widest) {
                // A socket for every address takes clients of both families.
                let headers =
                    if listener.key.bind.is_some_and(|ip| ip.is_ipv4()) { HEADERS4 } else { HEADERS6 };
                sizes.insert(listener.key, narrowest.saturating_sub(headers));
            }
        }
        sizes
    }

    /// Whether a reader of one finds the same in the other.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let same_tables = match (&self.tables, &other.tables) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_tables
            && self.generation == other.generation
            && self.backends == other.backends
            && self.is_crowded == other.is_crowded
            && self.listeners == other.listeners
            && self.mtus == other.mtus
    }
}
