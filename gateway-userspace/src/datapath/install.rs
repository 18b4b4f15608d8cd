//! Carries out a plan's steps on the maps, and remembers what they hold: numbers of backends, regions of tables, and
//! what must stay for a while because a packet may still be looking at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aya::Pod;
use gateway_common::{Address, Backend, BackendId, Be16, ListenerKey, Table};

use super::maglev::{self, Weights};
use super::maps::{FamilyMaps, Maps, MapsError};
use super::plan::{BackendSpec, ListenerSpec, State, Step};
use super::regions::{Region, Regions};

/// How long a replaced table and a removed backend stay readable. A program runs for microseconds; this leaves
/// room for a virtual machine that is paused in the middle of one.
const GRACE: Duration = Duration::from_secs(5);

/// What one step was refused for.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The kernel refused.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Every slot is in use.
    #[error("no room for the backend table of {0}")]
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
    Region(Region),
    Backend { id: BackendId, v6: bool },
}

/// The maps as this agent installed them.
#[derive(Debug)]
pub struct Installed {
    state: State,
    backends: BTreeMap<SocketAddr, BackendId>,
    tables: BTreeMap<TableKey, Shared>,
    listeners: BTreeMap<SocketAddr, TableKey>,
    regions: Regions,
    remains: Vec<(Instant, Remains)>,
    /// Backends of an agent before this one, in use until the first plan is carried out.
    adopted: Vec<Remains>,
    next_backend: BackendId,
}

impl Installed {
    /// Takes over what the maps hold. Tables and backends of an agent before this one serve on until the first plan
    /// has been carried out: their weights cannot be read back, so each listener that stays gets a new table.
    pub fn adopt(maps: &Maps) -> Result<Self, MapsError> {
        let mut installed = Self {
            state: State::default(),
            backends: BTreeMap::new(),
            tables: BTreeMap::new(),
            listeners: BTreeMap::new(),
            regions: Regions::new(maps.slots()),
            remains: Vec::new(),
            adopted: Vec::new(),
            next_backend: maps.config()?.next_backend.max(1),
        };
        installed.adopt_family(&maps.v4)?;
        installed.adopt_family(&maps.v6)?;
        Ok(installed)
    }

    fn adopt_family<A: Address + Pod>(&mut self, maps: &FamilyMaps<A>) -> Result<(), MapsError> {
        for (key, table) in maps.listeners()? {
            let region = Region { base: table.base, size: table.size };
            self.regions.adopt(region);
            let address = SocketAddr::new(key.address.ip(), key.port.get());
            // No weights are equal to none: the first diff writes a new table or removes the listener.
            let spec = ListenerSpec { weights: Weights::new(), idle_timeout: table.idle_timeout };
            self.state.listeners.insert(address, spec);
            // A key no real table has (backend 0 does not exist), one for each region.
            let key = vec![(0, u64::from(region.base))];
            self.tables.entry(key.clone()).or_insert(Shared { region, listeners: 0 }).listeners += 1;
            self.listeners.insert(address, key);
        }
        for (id, backend) in maps.backends()? {
            // Not in `state`: each backend that stays gets a new number.
            self.adopted.push(Remains::Backend { id, v6: backend.address.ip().is_ipv6() });
            self.next_backend = self.next_backend.max(id.saturating_add(1));
        }
        Ok(())
    }

    /// What the maps hold.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Addresses and ports that are steered.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Takes one step.
    pub fn take(&mut self, maps: &mut Maps, step: &Step, generation: u64) -> Result<(), InstallError> {
        match step {
            Step::PutBackend(spec) => self.put_backend(maps, spec)?,
            Step::PutListener(address, spec) => self.put_listener(maps, *address, spec, generation)?,
            Step::RemoveListener(address) => self.remove_listener(maps, *address)?,
            Step::RemoveBackend(address) => self.remove_backend(*address),
        }
        self.state.apply(step);
        Ok(())
    }

    /// A plan was carried out: nothing names the backends of an agent before this one any more.
    pub fn settle(&mut self) {
        for remains in std::mem::take(&mut self.adopted) {
            self.leave(remains);
        }
    }

    /// Frees what no packet can be looking at any more.
    pub fn bury(&mut self, maps: &mut Maps, now: Instant) -> Result<(), MapsError> {
        let mut waiting = Vec::new();
        for (due, remains) in std::mem::take(&mut self.remains) {
            if due > now {
                waiting.push((due, remains));
                continue;
            }
            match remains {
                Remains::Region(region) => self.regions.free(region),
                Remains::Backend { id, v6: false } => maps.v4.remove_backend(id)?,
                Remains::Backend { id, v6: true } => maps.v6.remove_backend(id)?,
            }
        }
        self.remains = waiting;
        Ok(())
    }

    fn put_backend(&mut self, maps: &mut Maps, spec: &BackendSpec) -> Result<(), MapsError> {
        let id = self.next_backend;
        // First the number that will be next: an agent that dies in between leaves one unused, never one twice.
        let mut config = maps.config()?;
        config.next_backend = id.saturating_add(1);
        maps.set_config(config)?;
        self.next_backend = config.next_backend;
        if spec.address.is_ipv4() {
            write_backend(&mut maps.v4, id, spec)?;
        } else {
            write_backend(&mut maps.v6, id, spec)?;
        }
        self.remove_backend(spec.address);
        self.backends.insert(spec.address, id);
        Ok(())
    }

    fn remove_backend(&mut self, address: SocketAddr) {
        if let Some(id) = self.backends.remove(&address) {
            self.leave(Remains::Backend { id, v6: address.is_ipv6() });
        }
    }

    fn put_listener(
        &mut self,
        maps: &mut Maps,
        address: SocketAddr,
        spec: &ListenerSpec,
        generation: u64,
    ) -> Result<(), InstallError> {
        let key: TableKey = spec
            .weights
            .iter()
            .filter_map(|(backend, weight)| Some((*self.backends.get(backend)?, *weight)))
            .collect();
        let region = self.table(maps, address, &key, &spec.weights)?;
        let table = Table {
            base: region.base,
            size: region.size,
            generation: generation as u32,
            idle_timeout: spec.idle_timeout,
        };
        if address.is_ipv4() {
            write_listener(&mut maps.v4, address, table)?;
        } else {
            write_listener(&mut maps.v6, address, table)?;
        }
        if let Some(shared) = self.tables.get_mut(&key) {
            shared.listeners += 1;
        }
        if let Some(old) = self.listeners.insert(address, key) {
            self.release(&old);
        }
        Ok(())
    }

    fn remove_listener(&mut self, maps: &mut Maps, address: SocketAddr) -> Result<(), MapsError> {
        if let Some(key) = listener_key(address) {
            maps.v4.remove_listener(&key)?;
        }
        if let Some(key) = listener_key(address) {
            maps.v6.remove_listener(&key)?;
        }
        if let Some(key) = self.listeners.remove(&address) {
            self.release(&key);
        }
        Ok(())
    }

    /// The region of a table, written if it is not there yet.
    fn table(
        &mut self,
        maps: &mut Maps,
        address: SocketAddr,
        key: &TableKey,
        weights: &Weights,
    ) -> Result<Region, InstallError> {
        if let Some(shared) = self.tables.get(key) {
            return Ok(shared.region);
        }
        let size = maglev::size(weights.len());
        let owners = maglev::build(weights, size).ok_or(InstallError::NoRoom(address))?;
        let region = self.regions.allocate(size).ok_or(InstallError::NoRoom(address))?;
        let slots: Vec<BackendId> =
            owners.into_iter().filter_map(|owner| key.get(owner).map(|(id, _)| *id)).collect();
        if let Err(error) = maps.write_table(region.base, &slots) {
            self.regions.free(region);
            return Err(error.into());
        }
        self.tables.insert(key.clone(), Shared { region, listeners: 0 });
        Ok(region)
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
) -> Result<(), MapsError> {
    let (Some(address), Some(source)) = (A::from_ip(spec.address.ip()), A::from_ip(spec.route.source)) else {
        return Ok(());
    };
    let port = Be16::new(spec.address.port());
    maps.put_backend(id, Backend { address, source, oif: spec.route.oif, port, reserved: 0 })
}
