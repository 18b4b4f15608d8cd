//! Carries out a plan's steps on the maps, and remembers what they hold: numbers of backends and listeners, regions of
//! tables, bitmaps of ports, and what must stay for a while because a packet or a flow may still need it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aya::Pod;
use gateway_common::flow::NO_PORTS;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{Address, Backend, BackendId, Be16, ListenerId, ListenerKey, Table};

use super::bitmaps::Bitmaps;
use super::maglev::{self, Weights};
use super::maps::{FamilyMaps, Maps, MapsError, SLOTS_PER_ELEMENT};
use super::numbers::Numbers;
use super::plan::{BackendKey, BackendSpec, ListenerSpec, State, Step};
use super::regions::{Region, Regions};
use super::routes::Route;
use super::targets::{Hold, Target};
use crate::model;

/// How long a replaced table and a removed backend stay readable. A program runs for microseconds; this leaves
/// room for a virtual machine that is paused in the middle of one.
const GRACE: Duration = Duration::from_secs(5);

/// Elements of `LIMITS`.
const LISTENERS: u32 = 4096;

/// What one step was refused for.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The kernel refused.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Every slot, number, bitmap or place for a listener is in use.
    #[error("no room for the tables of {0}")]
    NoRoom(SocketAddr),
}

/// What a table was built from; listeners with equal ones share a region.
type TableKey = Vec<(BackendId, u64)>;

/// A table in use.
#[derive(Debug)]
struct Shared {
    region: Region,
    listeners: usize,
}

/// What waits for its end.
#[derive(Debug)]
enum Remains {
    /// A table.
    Region(Region),
    /// A backend that new flows may still be on their way to.
    Backend(Old),
}

/// A backend that new flows may go to.
#[derive(Debug)]
struct Current {
    id: BackendId,
    spec: BackendSpec,
    /// First word of its bitmap, or [`NO_PORTS`].
    ports: u32,
    hold: Hold,
}

/// A backend of the maps, as far as it must be known to forget it.
#[derive(Debug)]
struct Old {
    id: BackendId,
    address: SocketAddr,
    /// The gateway's address, if its ports are counted.
    source: Option<IpAddr>,
    hold: Hold,
}

/// What flows still have.
#[derive(Debug, Default)]
struct InUse {
    backends4: HashSet<BackendId>,
    backends6: HashSet<BackendId>,
    listeners: HashSet<ListenerId>,
}

/// The maps as this agent installed them.
#[derive(Debug)]
pub struct Installed {
    state: State,
    backends: BTreeMap<BackendKey, Current>,
    tables: BTreeMap<TableKey, Shared>,
    listeners: BTreeMap<SocketAddr, (TableKey, ListenerId)>,
    /// Numbers of the documents' listeners, over all of their addresses.
    owners: BTreeMap<model::ListenerKey, ListenerId>,
    /// Listeners that have a number for the sake of opaque connections.
    opaque: BTreeSet<model::ListenerKey>,
    regions: Regions,
    bitmaps: Bitmaps,
    numbers4: Numbers,
    numbers6: Numbers,
    listener_numbers: Numbers,
    /// Waits for packets.
    remains: Vec<(Instant, Remains)>,
    /// Waits for flows.
    lingering: Vec<Old>,
    lingering_listeners: Vec<ListenerId>,
    /// Where flows of these were accepted, as far as they are of an agent before this one.
    origins: HashMap<ListenerId, SocketAddr>,
    /// Backends and listeners of an agent before this one, in use until the first plan is carried out.
    adopted: Vec<Old>,
    adopted_listeners: HashSet<ListenerId>,
}

impl Installed {
    /// Takes over what the maps hold. Tables and backends of an agent before this one serve on until the first plan
    /// has been carried out: their weights cannot be read back, so each listener that stays gets a new table.
    pub fn adopt(maps: &Maps) -> Result<Self, MapsError> {
        let words = maps.config()?.port_count / PORTS_PER_WORD;
        let mut installed = Self {
            state: State::default(),
            backends: BTreeMap::new(),
            tables: BTreeMap::new(),
            listeners: BTreeMap::new(),
            owners: BTreeMap::new(),
            opaque: BTreeSet::new(),
            regions: Regions::new(maps.slots()),
            bitmaps: Bitmaps::new(maps.ports.words(), words),
            numbers4: Numbers::below(maps.v4.backend_capacity()),
            numbers6: Numbers::below(maps.v6.backend_capacity()),
            listener_numbers: Numbers::below(LISTENERS),
            remains: Vec::new(),
            lingering: Vec::new(),
            lingering_listeners: Vec::new(),
            origins: HashMap::new(),
            adopted: Vec::new(),
            adopted_listeners: HashSet::new(),
        };
        installed.adopt_family(&maps.v4)?;
        installed.adopt_family(&maps.v6)?;
        // When the listeners of both families are known: they may share a number.
        installed.adopt_flows(&maps.v4);
        installed.adopt_flows(&maps.v6);
        Ok(installed)
    }

    fn adopt_family<A: Address + Pod>(&mut self, maps: &FamilyMaps<A>) -> Result<(), MapsError> {
        for (key, table) in maps.listeners()? {
            let region = Region { base: table.base, size: region_size(table.size) };
            self.regions.adopt(region);
            self.listener_numbers.adopt(table.listener);
            self.adopted_listeners.insert(table.listener);
            let address = SocketAddr::new(key.address.ip(), key.port.get());
            // No weights are equal to none: the first diff writes a new table or removes the listener.
            self.state.listeners.insert(address, ListenerSpec::default());
            // A key no real table has (backend 0 does not exist), one for each region.
            let key = vec![(0, u64::from(region.base))];
            self.tables.entry(key.clone()).or_insert(Shared { region, listeners: 0 }).listeners += 1;
            self.listeners.insert(address, (key, table.listener));
        }
        for (id, backend) in maps.backends()? {
            let address = SocketAddr::new(backend.address.ip(), backend.port.get());
            let old = self.adopt_backend(id, address, backend.source.ip(), backend.ports);
            // Not in `state`: each backend that stays gets a new number.
            self.adopted.push(old);
        }
        Ok(())
    }

    /// Backends of which nothing but flows is left. Those whose record is not freed yet still have a number and a port.
    fn adopt_flows<A: Address + Pod>(&mut self, maps: &FamilyMaps<A>) {
        for flow in maps.flows.all().map(|(_, _, flow)| flow).chain(maps.flows.retired()) {
            let address = SocketAddr::new(flow.backend.destination.ip(), flow.backend.destination_port.get());
            let known = |old: &Old| old.id == flow.backend_id && old.address.is_ipv4() == address.is_ipv4();
            if !self.adopted.iter().any(known) && !self.lingering.iter().any(known) {
                let source = flow.backend.source.ip();
                let old = self.adopt_backend(flow.backend_id, address, source, flow.ports);
                self.lingering.push(old);
            }
            let is_listener = |(_, id): &(TableKey, ListenerId)| *id == flow.listener;
            if !self.listeners.values().any(is_listener) && !self.lingering_listeners.contains(&flow.listener)
            {
                self.listener_numbers.adopt(flow.listener);
                self.lingering_listeners.push(flow.listener);
                let (ip, port) = (flow.client.destination.ip(), flow.client.destination_port.get());
                self.origins.insert(flow.listener, SocketAddr::new(ip, port));
            }
        }
    }

    /// Takes over a number, and the bitmap of its ports if they are counted.
    fn adopt_backend(&mut self, id: BackendId, address: SocketAddr, source: IpAddr, ports: u32) -> Old {
        self.numbers(address).adopt(id);
        let source = (ports != NO_PORTS).then_some(source);
        if let Some(source) = source {
            self.bitmaps.adopt(source, address, ports);
        }
        Old { id, address, source, hold: Hold::default() }
    }

    fn numbers(&mut self, address: SocketAddr) -> &mut Numbers {
        if address.is_ipv4() { &mut self.numbers4 } else { &mut self.numbers6 }
    }

    /// What the maps hold.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Addresses and ports that are steered.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Numbers of the documents' listeners.
    pub fn owners(&self) -> impl Iterator<Item = (model::ListenerKey, ListenerId)> {
        self.owners.iter().map(|(owner, id)| (*owner, *id))
    }

    /// Numbers of the backends that new flows may go to.
    pub fn backends(&self) -> impl Iterator<Item = (BackendKey, BackendId)> {
        self.backends.iter().map(|(key, backend)| (*key, backend.id))
    }

    /// The same as connections that become flows need them. `mtus` are the largest packets of interfaces, in bytes; without
    /// its interface a backend is none.
    pub fn targets(&self, mtus: &HashMap<u32, u32>) -> impl Iterator<Item = (BackendKey, Target)> {
        self.backends.iter().filter_map(|(key, Current { id, spec, ports, hold })| {
            let Route { source, oif } = spec.route;
            let mtu = *mtus.get(&oif)?;
            Some((
                *key,
                Target { address: key.address, id: *id, source, oif, mtu, ports: *ports, hold: hold.clone() },
            ))
        })
    }

    /// The backends among them that see their clients' own addresses.
    pub fn preserving(&self) -> impl Iterator<Item = SocketAddr> {
        self.backends.keys().filter(|key| key.preserve).map(|key| key.address)
    }

    /// Address and port of a backend, by its number.
    pub fn backend_address(&self, v6: bool, id: BackendId) -> Option<SocketAddr> {
        let current = self.backends.iter().map(|(key, backend)| (backend.id, key.address));
        let old = self.old().chain(&self.adopted).map(|old| (old.id, old.address));
        current
            .chain(old)
            .find(|(found, address)| *found == id && address.is_ipv6() == v6)
            .map(|found| found.1)
    }

    /// The bitmaps of ports in use: the gateway's address, the backend's, and the first word.
    pub fn bitmaps(&self) -> impl Iterator<Item = (IpAddr, SocketAddr, u32)> {
        self.bitmaps.all()
    }

    /// Every backend that there may be flows of.
    pub fn all_backends(&self) -> impl Iterator<Item = SocketAddr> {
        let adopted = self.adopted.iter().map(|old| old.address);
        self.backends.keys().map(|key| key.address).chain(self.old_backends()).chain(adopted)
    }

    /// Backends that new flows no longer go to, but there may be some of.
    pub fn old_backends(&self) -> impl Iterator<Item = SocketAddr> {
        self.old().map(|old| old.address)
    }

    fn old(&self) -> impl Iterator<Item = &Old> {
        let waiting = self.remains.iter().filter_map(|(_, remains)| match remains {
            Remains::Backend(old) => Some(old),
            Remains::Region(_) => None,
        });
        waiting.chain(&self.lingering)
    }

    /// Takes one step.
    pub fn take(&mut self, maps: &mut Maps, step: &Step, generation: u64) -> Result<(), InstallError> {
        match step {
            Step::PutBackend(spec) => {
                // Without room the listeners that need it are refused, each by name.
                if !self.put_backend(maps, spec)? {
                    return Ok(());
                }
            }
            Step::PutListener(address, spec) => self.put_listener(maps, *address, spec, generation)?,
            Step::RemoveListener(address) => self.remove_listener(maps, *address)?,
            Step::RemoveBackend(key) => self.remove_backend(*key),
        }
        self.state.apply(step);
        Ok(())
    }

    /// Gives these listeners numbers for the flows of their opaque connections, besides those that have one anyway. One
    /// without any left has its connections in user space.
    pub fn number(&mut self, listeners: &BTreeSet<model::ListenerKey>) {
        // Those on one address first: they come last, and a flow of theirs is none of a listener's on every address.
        for owner in listeners.iter().rev() {
            if self.owners.contains_key(owner) {
                continue;
            }
            if let Some(id) = self.inherit(*owner).or_else(|| self.listener_numbers.take()) {
                self.owners.insert(*owner, id);
            }
        }
        self.opaque.clone_from(listeners);
    }

    /// The number that a listener's flows have from an agent before this one.
    fn inherit(&mut self, owner: model::ListenerKey) -> Option<ListenerId> {
        let is_from = |address: &SocketAddr| {
            let here = owner.bind.is_none_or(|bind| bind.is_unspecified() || bind == address.ip());
            address.port() == owner.port && here
        };
        let is_of = |id: &ListenerId| self.origins.get(id).is_some_and(is_from);
        let place = self.lingering_listeners.iter().position(is_of)?;
        let id = self.lingering_listeners.remove(place);
        self.origins.remove(&id);
        Some(id)
    }

    /// Steers an address no more, whatever a plan says.
    pub fn unsteer(&mut self, maps: &mut Maps, address: SocketAddr) -> Result<(), MapsError> {
        self.remove_listener(maps, address)?;
        self.state.apply(&Step::RemoveListener(address));
        Ok(())
    }

    /// A plan was carried out: nothing names the backends of an agent before this one any more.
    pub fn settle(&mut self) {
        for old in std::mem::take(&mut self.adopted) {
            self.leave(Remains::Backend(old));
        }
        let mut used: HashSet<ListenerId> = self.listeners.values().map(|(_, id)| *id).collect();
        used.extend(self.opaque.iter().filter_map(|owner| self.owners.get(owner)));
        let adopted = std::mem::take(&mut self.adopted_listeners);
        self.lingering_listeners.extend(adopted.difference(&used));
        let unused: Vec<_> = self
            .owners
            .iter()
            .filter(|(_, id)| !used.contains(id))
            .map(|(owner, id)| (*owner, *id))
            .collect();
        for (owner, id) in unused {
            self.owners.remove(&owner);
            self.lingering_listeners.push(id);
        }
    }

    /// Frees what no packet can be looking at any more, and what no flow has any more.
    pub fn bury(&mut self, maps: &mut Maps, now: Instant) -> Result<(), MapsError> {
        let mut waiting = Vec::new();
        for (due, remains) in std::mem::take(&mut self.remains) {
            match remains {
                _ if due > now => waiting.push((due, remains)),
                Remains::Region(region) => self.regions.free(region),
                Remains::Backend(old) => {
                    if old.address.is_ipv4() {
                        maps.v4.remove_backend(old.id)?;
                    } else {
                        maps.v6.remove_backend(old.id)?;
                    }
                    self.lingering.push(old);
                }
            }
        }
        self.remains = waiting;
        if !self.lingering.is_empty() || !self.lingering_listeners.is_empty() {
            self.bury_lingering(maps);
        }
        Ok(())
    }

    fn bury_lingering(&mut self, maps: &Maps) {
        let in_use = InUse::of(maps);
        for old in std::mem::take(&mut self.lingering) {
            if in_use.has(old.address, old.id) || old.hold.is_shared() {
                self.lingering.push(old);
                continue;
            }
            self.numbers(old.address).free(old.id);
            if let Some(region) = old.source.and_then(|source| self.bitmaps.free(source, old.address)) {
                maps.ports.clear(region.base, region.size);
            }
        }
        for id in std::mem::take(&mut self.lingering_listeners) {
            if in_use.listeners.contains(&id) {
                self.lingering_listeners.push(id);
                continue;
            }
            self.listener_numbers.free(id);
            self.origins.remove(&id);
            if let Some(flows) = maps.listener_flows(id) {
                flows.store(0, Ordering::SeqCst);
            }
        }
    }

    /// False if there is no room.
    fn put_backend(&mut self, maps: &mut Maps, spec: &BackendSpec) -> Result<bool, MapsError> {
        let BackendSpec { key, route } = *spec;
        let Some(id) = self.numbers(key.address).take() else { return Ok(false) };
        let ports = if key.preserve {
            NO_PORTS
        } else if let Some(region) = self.bitmaps.take(route.source, key.address) {
            region.base
        } else {
            self.numbers(key.address).free(id);
            return Ok(false);
        };
        if key.address.is_ipv4() {
            write_backend(&mut maps.v4, id, spec, ports)?;
        } else {
            write_backend(&mut maps.v6, id, spec, ports)?;
        }
        self.remove_backend(key);
        self.backends.insert(key, Current { id, spec: *spec, ports, hold: Hold::default() });
        Ok(true)
    }

    fn remove_backend(&mut self, key: BackendKey) {
        if let Some(Current { id, spec, hold, .. }) = self.backends.remove(&key) {
            let source = (!key.preserve).then_some(spec.route.source);
            self.leave(Remains::Backend(Old { id, address: key.address, source, hold }));
        }
    }

    fn put_listener(
        &mut self,
        maps: &mut Maps,
        address: SocketAddr,
        spec: &ListenerSpec,
        generation: u64,
    ) -> Result<(), InstallError> {
        let id_of = |backend: BackendKey| self.backends.get(&backend).map(|backend| backend.id);
        let ids: Option<Vec<BackendId>> = spec.backends().map(id_of).collect();
        let ids = ids.ok_or(InstallError::NoRoom(address))?;
        let key: TableKey = ids.into_iter().zip(spec.weights.values().copied()).collect();
        let listener = self.listener_number(address, spec).ok_or(InstallError::NoRoom(address))?;
        let (region, size) = self.table(maps, address, &key, &spec.weights)?;
        let table = Table {
            base: region.base,
            size,
            generation: generation as u32,
            idle_timeout: spec.idle_timeout,
            listener,
            flags: if spec.by_client { Table::BY_CLIENT } else { 0 },
            max_flows: spec.max_flows,
            max_rate: spec.max_rate,
        };
        if let Some(shared) = self.tables.get_mut(&key) {
            shared.listeners += 1;
        }
        let written = if address.is_ipv4() {
            write_listener(&mut maps.v4, address, table)
        } else {
            write_listener(&mut maps.v6, address, table)
        };
        if let Err(error) = written {
            self.release(&key);
            return Err(if error.is_full() { InstallError::NoRoom(address) } else { error.into() });
        }
        if let Some((old, _)) = self.listeners.insert(address, (key, listener)) {
            self.release(&old);
        }
        Ok(())
    }

    /// The number of the listener that an address belongs to; that of an agent before this one is kept.
    fn listener_number(&mut self, address: SocketAddr, spec: &ListenerSpec) -> Option<ListenerId> {
        let owner = spec.owner?;
        if let Some(id) = self.owners.get(&owner) {
            return Some(*id);
        }
        let taken = |id: ListenerId| self.owners.values().any(|owned| *owned == id);
        let adopted = self.listeners.get(&address).map(|(_, id)| *id).filter(|id| !taken(*id));
        let id = match adopted {
            Some(id) => id,
            None => self.listener_numbers.take()?,
        };
        self.owners.insert(owner, id);
        Some(id)
    }

    fn remove_listener(&mut self, maps: &mut Maps, address: SocketAddr) -> Result<(), MapsError> {
        if let Some(key) = listener_key(address) {
            maps.v4.remove_listener(&key)?;
        }
        if let Some(key) = listener_key(address) {
            maps.v6.remove_listener(&key)?;
        }
        if let Some((key, _)) = self.listeners.remove(&address) {
            self.release(&key);
        }
        Ok(())
    }

    /// The region of a table, written if it is not there yet, and its number of slots.
    fn table(
        &mut self,
        maps: &mut Maps,
        address: SocketAddr,
        key: &TableKey,
        weights: &Weights,
    ) -> Result<(Region, u32), InstallError> {
        let size = maglev::size(weights.len());
        if let Some(shared) = self.tables.get(key) {
            return Ok((shared.region, size));
        }
        let owners = maglev::build(weights, size).ok_or(InstallError::NoRoom(address))?;
        let region = self.regions.allocate(region_size(size)).ok_or(InstallError::NoRoom(address))?;
        let slots: Vec<BackendId> =
            owners.into_iter().filter_map(|owner| key.get(owner).map(|(id, _)| *id)).collect();
        if let Err(error) = maps.write_table(region.base, &slots) {
            self.regions.free(region);
            return Err(error.into());
        }
        self.tables.insert(key.clone(), Shared { region, listeners: 0 });
        Ok((region, size))
    }

    /// One listener less uses a table.
    fn release(&mut self, key: &TableKey) {
        let Some(shared) = self.tables.get_mut(key) else { return };
        shared.listeners = shared.listeners.saturating_sub(1);
        if shared.listeners == 0 {
            let region = shared.region;
            self.tables.remove(key);
            self.leave(Remains::Region(region));
        }
    }

    fn leave(&mut self, remains: Remains) {
        self.remains.push((Instant::now() + GRACE, remains));
    }
}

impl InUse {
    fn of(maps: &Maps) -> Self {
        let mut in_use = Self::default();
        in_use.add(&maps.v4, |in_use| &mut in_use.backends4);
        in_use.add(&maps.v6, |in_use| &mut in_use.backends6);
        in_use
    }

    fn add<A: Address + Pod>(
        &mut self,
        maps: &FamilyMaps<A>,
        backends: fn(&mut Self) -> &mut HashSet<BackendId>,
    ) {
        let retired = maps.flows.retired().map(|flow| (flow.backend_id, flow.listener));
        let live = maps.flows.all().map(|(_, _, flow)| (flow.backend_id, flow.listener));
        for (backend, listener) in live.chain(retired) {
            backends(self).insert(backend);
            self.listeners.insert(listener);
        }
    }

    fn has(&self, address: SocketAddr, id: BackendId) -> bool {
        if address.is_ipv4() { self.backends4.contains(&id) } else { self.backends6.contains(&id) }
    }
}

/// Regions begin at whole elements of `MAGLEV`.
fn region_size(slots: u32) -> u32 {
    slots.next_multiple_of(SLOTS_PER_ELEMENT)
}

fn listener_key<A: Address>(address: SocketAddr) -> Option<ListenerKey<A>> {
    Some(ListenerKey::new(A::from_ip(address.ip())?, Be16::new(address.port())))
}

fn write_listener<A: Address + Pod>(
    maps: &mut FamilyMaps<A>,
    address: SocketAddr,
    table: Table,
) -> Result<(), MapsError> {
    match listener_key(address) {
        Some(key) => maps.put_listener(key, table),
        None => Ok(()),
    }
}

fn write_backend<A: Address + Pod>(
    maps: &mut FamilyMaps<A>,
    id: BackendId,
    spec: &BackendSpec,
    ports: u32,
) -> Result<(), MapsError> {
    let address = spec.key.address;
    let (Some(ip), Some(source)) = (A::from_ip(address.ip()), A::from_ip(spec.route.source)) else {
        return Ok(());
    };
    let port = Be16::new(address.port());
    maps.put_backend(id, Backend { address: ip, source, oif: spec.route.oif, ports, port, reserved: 0 })
}
