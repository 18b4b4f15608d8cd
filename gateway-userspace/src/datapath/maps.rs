//! The pinned maps, typed. The only module that writes one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use gateway_common::{
    Addr4, Addr6, Address, Backend, BackendId, Config, Flow, FlowKey, ListenerKey, Table, Verdict,
};

use super::sys::{self, Cursor};

/// How a map must look to be the one our programs were compiled for.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Name, at most 15 bytes.
    pub name: &'static str,
    /// Kind.
    pub kind: MapType,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value (of one CPU's).
    pub value: u32,
}

macro_rules! shapes {
    ($($name:literal $kind:ident $key:ty => $value:ty;)+) => {
        /// Every map.
        pub const SHAPES: &[Shape] = &[$(
            Shape {
                name: $name,
                kind: MapType::$kind,
                key: size_of::<$key>() as u32,
                value: size_of::<$value>() as u32,
            },
        )+];
    };
}

shapes! {
    "CONFIG" Array u32 => Config;
    "VERDICTS" PerCpuArray u32 => u64;
    "LISTENERS4" Hash ListenerKey<Addr4> => Table;
    "LISTENERS6" Hash ListenerKey<Addr6> => Table;
    "MAGLEV" Array u32 => BackendId;
    "BACKENDS4" Hash BackendId => Backend<Addr4>;
    "BACKENDS6" Hash BackendId => Backend<Addr6>;
    "FLOWS4" Hash FlowKey<Addr4> => Flow<Addr4>;
    "FLOWS6" Hash FlowKey<Addr6> => Flow<Addr6>;
}

/// Why a map could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// Not in the object or not below the pin directory.
    #[error("map {name} is missing")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// Another layout than ours.
    #[error("map {name} has another {what} than this version's: {found} instead of {expected}")]
    Foreign {
        /// Which.
        name: &'static str,
        /// What differs.
        what: &'static str,
        /// As found.
        found: String,
        /// As it should be.
        expected: String,
    },
    /// aya refused.
    #[error("map {name}: {source}")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// The kernel refused a batch.
    #[error("map {name}: {source}")]
    Batch {
        /// Which.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Entries of a flow table.
pub type Entries<A> = Vec<(FlowKey<A>, Flow<A>)>;

fn about(name: &'static str) -> impl Fn(MapError) -> MapsError {
    move |source| MapsError::Map { name, source }
}

/// The maps of one address family.
pub struct FamilyMaps<A: Address + Pod> {
    names: [&'static str; 3],
    listeners: HashMap<MapData, ListenerKey<A>, Table>,
    backends: HashMap<MapData, BackendId, Backend<A>>,
    flows: HashMap<MapData, FlowKey<A>, Flow<A>>,
    flows_fd: OwnedFd,
}

/// All maps.
pub struct Maps {
    config: Array<MapData, Config>,
    verdicts: PerCpuArray<MapData, u64>,
    maglev: Array<MapData, BackendId>,
    maglev_fd: OwnedFd,
    /// IPv4.
    pub v4: FamilyMaps<Addr4>,
    /// IPv6.
    pub v6: FamilyMaps<Addr6>,
}

impl Maps {
    /// Gathers the maps from wherever `take` finds one by its name.
    pub fn gather(mut take: impl FnMut(&'static str) -> Result<Map, MapsError>) -> Result<Self, MapsError> {
        let (maglev, maglev_fd) = with_fd("MAGLEV", take("MAGLEV")?)?;
        Ok(Self {
            config: take("CONFIG")?.try_into().map_err(about("CONFIG"))?,
            verdicts: take("VERDICTS")?.try_into().map_err(about("VERDICTS"))?,
            maglev: maglev.try_into().map_err(about("MAGLEV"))?,
            maglev_fd,
            v4: FamilyMaps::gather(["LISTENERS4", "BACKENDS4", "FLOWS4"], &mut take)?,
            v6: FamilyMaps::gather(["LISTENERS6", "BACKENDS6", "FLOWS6"], &mut take)?,
        })
    }

    /// Opens the maps pinned in a directory, each held against its shape first.
    pub fn open(directory: &Path) -> Result<Self, MapsError> {
        Self::gather(|name| open(directory, name))
    }

    /// What the programs were told.
    pub fn config(&self) -> Result<Config, MapsError> {
        self.config.get(&0, 0).map_err(about("CONFIG"))
    }

    /// Tells the programs.
    pub fn set_config(&mut self, config: Config) -> Result<(), MapsError> {
        self.config.set(0, config, 0).map_err(about("CONFIG"))
    }

    /// How often each verdict was given, over all CPUs.
    pub fn verdicts(&self) -> Result<Vec<(Verdict, u64)>, MapsError> {
        let count = |verdict: &Verdict| {
            let values = self.verdicts.get(&verdict.index(), 0).map_err(about("VERDICTS"))?;
            Ok((*verdict, values.iter().sum()))
        };
        Verdict::ALL.iter().map(count).collect()
    }

    /// Number of slots for backend tables.
    pub fn slots(&self) -> u32 {
        self.maglev.len()
    }

    /// Writes a backend table into a region that no listener names.
    pub fn write_table(&mut self, base: u32, slots: &[BackendId]) -> Result<(), MapsError> {
        sys::update_array(self.maglev_fd.as_fd(), base, slots)
            .map_err(|source| MapsError::Batch { name: "MAGLEV", source })
    }

    /// Reads a listener's backend table.
    pub fn read_table(&self, table: &Table) -> Result<Vec<BackendId>, MapsError> {
        let slots = table.base..table.base.saturating_add(table.size).min(self.slots());
        slots.map(|index| self.maglev.get(&index, 0).map_err(about("MAGLEV"))).collect()
    }
}

impl<A: Address + Pod> FamilyMaps<A> {
    fn gather(
        names: [&'static str; 3],
        take: &mut impl FnMut(&'static str) -> Result<Map, MapsError>,
    ) -> Result<Self, MapsError> {
        let [listeners, backends, flows] = names;
        let (flows_map, flows_fd) = with_fd(flows, take(flows)?)?;
        Ok(Self {
            names,
            listeners: take(listeners)?.try_into().map_err(about(listeners))?,
            backends: take(backends)?.try_into().map_err(about(backends))?,
            flows: flows_map.try_into().map_err(about(flows))?,
            flows_fd,
        })
    }

    /// Steered listeners.
    pub fn listeners(&self) -> Result<Vec<(ListenerKey<A>, Table)>, MapsError> {
        self.listeners.iter().collect::<Result<_, _>>().map_err(about(self.names[0]))
    }

    /// Steers a listener, or gives it another table.
    pub fn put_listener(&mut self, key: ListenerKey<A>, table: Table) -> Result<(), MapsError> {
        self.listeners.insert(key, table, 0).map_err(about(self.names[0]))
    }

    /// Steers a listener no more.
    pub fn remove_listener(&mut self, key: &ListenerKey<A>) -> Result<(), MapsError> {
        absent_is_fine(self.listeners.remove(key)).map_err(about(self.names[0]))
    }

    /// Backends that new flows may go to.
    pub fn backends(&self) -> Result<Vec<(BackendId, Backend<A>)>, MapsError> {
        self.backends.iter().collect::<Result<_, _>>().map_err(about(self.names[1]))
    }

    /// Adds a backend.
    pub fn put_backend(&mut self, id: BackendId, backend: Backend<A>) -> Result<(), MapsError> {
        self.backends.insert(id, backend, 0).map_err(about(self.names[1]))
    }

    /// Removes a backend.
    pub fn remove_backend(&mut self, id: BackendId) -> Result<(), MapsError> {
        absent_is_fine(self.backends.remove(&id)).map_err(about(self.names[1]))
    }

    /// One entry of the flow table.
    pub fn flow(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>, MapsError> {
        match self.flows.get(key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(about(self.names[2])(error)),
        }
    }

    /// Removes an entry.
    pub fn remove_flow(&mut self, key: &FlowKey<A>) -> Result<(), MapsError> {
        absent_is_fine(self.flows.remove(key)).map_err(about(self.names[2]))
    }

    /// Puts an entry in, as the tests of the programs do.
    pub fn put_flow(&mut self, key: &FlowKey<A>, flow: Flow<A>) -> Result<(), MapsError> {
        self.flows.insert(key, flow, 0).map_err(about(self.names[2]))
    }

    /// Up to `count` further entries of the flow table.
    pub(super) fn flow_batch(&self, cursor: &mut Cursor, count: usize) -> Result<Entries<A>, MapsError> {
        sys::lookup_batch(self.flows_fd.as_fd(), cursor, count)
            .map_err(|source| MapsError::Batch { name: self.names[2], source })
    }

    /// Every entry of the flow table.
    pub fn flows(&self) -> Result<Entries<A>, MapsError> {
        let mut cursor = Cursor::default();
        let mut flows = Vec::new();
        loop {
            flows.extend(self.flow_batch(&mut cursor, 4096)?);
            if cursor.is_start() {
                return Ok(flows);
            }
        }
    }
}

/// Opens one pinned map and holds it against its shape: aya takes whatever lies under the name.
pub fn open(directory: &Path, name: &'static str) -> Result<Map, MapsError> {
    let path = directory.join(name);
    if !path.exists() {
        return Err(MapsError::Missing { name });
    }
    let data = MapData::from_pin(path).map_err(about(name))?;
    verify(name, &data)?;
    Map::from_map_data(data).map_err(about(name))
}

fn verify(name: &'static str, data: &MapData) -> Result<(), MapsError> {
    let shape = SHAPES.iter().find(|shape| shape.name == name).ok_or(MapsError::Missing { name })?;
    let info = data.info().map_err(about(name))?;
    let kind = info.map_type().map_err(about(name))?;
    let foreign = |what, found: String, expected: String| MapsError::Foreign { name, what, found, expected };
    if kind != shape.kind {
        return Err(foreign("type", format!("{kind:?}"), format!("{:?}", shape.kind)));
    }
    if info.key_size() != shape.key {
        return Err(foreign("key size", info.key_size().to_string(), shape.key.to_string()));
    }
    if info.value_size() != shape.value {
        return Err(foreign("value size", info.value_size().to_string(), shape.value.to_string()));
    }
    Ok(())
}

/// The number of elements a pinned map was made for.
pub fn capacity(directory: &Path, name: &'static str) -> Result<u32, MapsError> {
    let data = MapData::from_pin(directory.join(name)).map_err(about(name))?;
    Ok(data.info().map_err(about(name))?.max_entries())
}

/// A second descriptor of a map, for the commands that aya does not wrap.
fn with_fd(name: &'static str, map: Map) -> Result<(Map, OwnedFd), MapsError> {
    let fd: BorrowedFd<'_> = match &map {
        Map::Array(data) | Map::HashMap(data) => data.fd().as_fd(),
        _ => return Err(MapsError::Missing { name }),
    };
    let fd = fd.try_clone_to_owned().map_err(|source| MapsError::Batch { name, source })?;
    Ok((map, fd))
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
