//! The pinned maps, typed. The only module that writes one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use gateway_common::{
    Addr4, Addr6, Address, Backend, BackendId, Bucket, Config, Flow, Link, ListenerId, ListenerKey, Load,
    Pool, Table, Translation, Verdict,
};

use super::events::Events;
use super::flows::{self, Flows, PortsInUse};
use super::memory::{Records, Words};
use super::pin::Presence;
use super::sys;
use super::targets::{Hold, Offers, Tables};
use super::translations::Translations;

/// Slots of backend tables in one element of `MAGLEV`: an element takes eight bytes, a backend's number two.
pub const SLOTS_PER_ELEMENT: u32 = 4;

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
    "EVENTS" RingBuf () => ();
    "LINKS" Hash u32 => Link;
    "LISTENERS4" Hash ListenerKey<Addr4> => Table;
    "LISTENERS6" Hash ListenerKey<Addr6> => Table;
    "LIMITS" Array u32 => Load;
    "SOURCES" Array u32 => u64;
    "DENY4" LpmTrie [u8; 8] => u32;
    "DENY6" LpmTrie [u8; 20] => u32;
    "MAGLEV" Array u32 => u64;
    "BACKENDS4" Array u32 => Backend<Addr4>;
    "BACKENDS6" Array u32 => Backend<Addr6>;
    "PORTS" Array u32 => u64;
    "POOLS" Array u32 => Pool;
    "INDEX4" Array u32 => Bucket<u64>;
    "INDEX6" Array u32 => Bucket<u64>;
    "FLOWS4" Array u32 => Flow<Addr4>;
    "FLOWS6" Array u32 => Flow<Addr6>;
    "FREE4" Array u32 => u64;
    "FREE6" Array u32 => u64;
    "TRANSLATIONS" Array u32 => Translation;
    "OFFERS" Array u32 => u64;
    "ANSWERS4" Hash ListenerKey<Addr4> => u32;
    "ANSWERS6" Hash ListenerKey<Addr6> => u32;
    "HALFIDX4" Array u32 => Bucket<u64>;
    "HALFIDX6" Array u32 => Bucket<u64>;
    "HALF4" Array u32 => Flow<Addr4>;
    "HALF6" Array u32 => Flow<Addr6>;
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

impl MapsError {
    /// Whether a hash map has no room for another element.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Map { source: MapError::SyscallError(error), .. }
            if error.io_error.raw_os_error() == Some(libc::E2BIG))
    }
}

fn about(name: &'static str) -> impl Fn(MapError) -> MapsError {
    move |source| MapsError::Map { name, source }
}

/// The maps of one address family.
pub struct FamilyMaps<A: Address + Pod> {
    names: [&'static str; 4],
    listeners: HashMap<MapData, ListenerKey<A>, Table>,
    backends: Array<MapData, Backend<A>>,
    deny: LpmTrie<MapData, A, u32>,
    answers: HashMap<MapData, ListenerKey<A>, u32>,
    /// The flow tables.
    pub flows: Arc<Flows<A>>,
}

/// All maps.
pub struct Maps {
    config: Array<MapData, Config>,
    verdicts: PerCpuArray<MapData, u64>,
    links: HashMap<MapData, u32, Link>,
    /// What the programs tell.
    pub events: Events,
    maglev: Array<MapData, u64>,
    maglev_fd: OwnedFd,
    limits: Words,
    /// Source ports.
    pub ports: Arc<PortsInUse>,
    /// What handed-over flows are translated by.
    pub translations: Arc<Translations>,
    offers: Arc<Offers>,
    /// IPv4.
    pub v4: FamilyMaps<Addr4>,
    /// IPv6.
    pub v6: FamilyMaps<Addr6>,
}

impl Maps {
    /// Gathers the maps from wherever `take` finds one by its name.
    pub fn gather(mut take: impl FnMut(&'static str) -> Result<Map, MapsError>) -> Result<Self, MapsError> {
        let (maglev, maglev_fd) = with_fd("MAGLEV", take("MAGLEV")?)?;
        let pools = Arc::new(words("POOLS", &take("POOLS")?)?);
        Ok(Self {
            config: take("CONFIG")?.try_into().map_err(about("CONFIG"))?,
            verdicts: take("VERDICTS")?.try_into().map_err(about("VERDICTS"))?,
            links: take("LINKS")?.try_into().map_err(about("LINKS"))?,
            events: Events::new(take("EVENTS")?.try_into().map_err(about("EVENTS"))?),
            maglev: maglev.try_into().map_err(about("MAGLEV"))?,
            maglev_fd,
            limits: words("LIMITS", &take("LIMITS")?)?,
            ports: Arc::new(PortsInUse::over(words("PORTS", &take("PORTS")?)?)),
            offers: Arc::new(Offers { words: words("OFFERS", &take("OFFERS")?)? }),
            translations: Arc::new(Translations::over(words("TRANSLATIONS", &take("TRANSLATIONS")?)?)),
            v4: FamilyMaps::gather(&NAMES4, (pools.clone(), 0), &mut take)?,
            v6: FamilyMaps::gather(&NAMES6, (pools, 1), &mut take)?,
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

    /// The interfaces that the programs were told of.
    pub fn links(&self) -> Result<Vec<(u32, Link)>, MapsError> {
        let mut links: Vec<_> = self.links.iter().collect::<Result<_, _>>().map_err(about("LINKS"))?;
        links.sort_unstable_by_key(|(index, _)| *index);
        Ok(links)
    }

    /// Tells the programs of an interface.
    pub fn put_link(&mut self, index: u32, link: Link) -> Result<(), MapsError> {
        self.links.insert(index, link, 0).map_err(about("LINKS"))
    }

    /// Forgets an interface that is gone.
    pub fn remove_link(&mut self, index: u32) -> Result<(), MapsError> {
        absent_is_fine(self.links.remove(&index)).map_err(about("LINKS"))
    }

    /// Number of slots for backend tables.
    pub fn slots(&self) -> u32 {
        self.maglev.len().saturating_mul(SLOTS_PER_ELEMENT)
    }

    /// Writes a backend table into a region that no listener names. `base` is a multiple of
    /// [`SLOTS_PER_ELEMENT`], and backends' numbers are below 2^16.
    pub fn write_table(&mut self, base: u32, slots: &[BackendId]) -> Result<(), MapsError> {
        let pack = |chunk: &[BackendId]| {
            chunk.iter().rev().fold(0, |packed, backend| packed << 16 | u64::from(backend & 0xffff))
        };
        let elements: Vec<u64> = slots.chunks(SLOTS_PER_ELEMENT as usize).map(pack).collect();
        sys::update_array(self.maglev_fd.as_fd(), base / SLOTS_PER_ELEMENT, &elements)
            .map_err(|source| MapsError::Batch { name: "MAGLEV", source })
    }

    /// Reads a listener's backend table.
    pub fn read_table(&self, table: &Table) -> Result<Vec<BackendId>, MapsError> {
        let slots = table.base..table.base.saturating_add(table.size).min(self.slots());
        let slot = |slot: u32| {
            let element = self.maglev.get(&(slot / SLOTS_PER_ELEMENT), 0).map_err(about("MAGLEV"))?;
            Ok((element >> (slot % SLOTS_PER_ELEMENT * 16) & 0xffff) as BackendId)
        };
        slots.map(slot).collect()
    }

    /// What is shared with those who put flows into the tables.
    pub fn tables(&self, presence: Presence) -> Result<Tables, MapsError> {
        let (v4, v6, ports) = (self.v4.flows.clone(), self.v6.flows.clone(), self.ports.clone());
        let (translations, offers) = (self.translations.clone(), self.offers.clone());
        let (config, presence) = (self.config()?, Some(presence));
        let speakers = Hold::default();
        Ok(Tables { v4, v6, ports, translations, offers, config, speakers, presence })
    }

    /// Flows and handshakes that go on, see [`Flows::going_on`].
    pub fn going_on(&self, now: u64) -> usize {
        self.v4.flows.going_on(now) + self.v6.flows.going_on(now)
    }

    /// Whether anything is in the flow tables, see [`Flows::is_in_use`].
    pub fn is_in_use(&self, now: u64) -> bool {
        self.v4.flows.is_in_use(now) || self.v6.flows.is_in_use(now)
    }

    /// The flows that a listener's limit is held against, as the programs count them up.
    pub fn listener_flows(&self, listener: ListenerId) -> Option<&AtomicU64> {
        self.limits.all().get(listener as usize * size_of::<Load>() / size_of::<u64>())
    }
}

/// Names of a family's maps.
struct Names {
    listeners: &'static str,
    backends: &'static str,
    deny: &'static str,
    answers: &'static str,
    index: &'static str,
    flows: &'static str,
    free: &'static str,
    half_index: &'static str,
    half: &'static str,
}

const NAMES4: Names = Names {
    listeners: "LISTENERS4",
    backends: "BACKENDS4",
    deny: "DENY4",
    answers: "ANSWERS4",
    index: "INDEX4",
    flows: "FLOWS4",
    free: "FREE4",
    half_index: "HALFIDX4",
    half: "HALF4",
};

const NAMES6: Names = Names {
    listeners: "LISTENERS6",
    backends: "BACKENDS6",
    deny: "DENY6",
    answers: "ANSWERS6",
    index: "INDEX6",
    flows: "FLOWS6",
    free: "FREE6",
    half_index: "HALFIDX6",
    half: "HALF6",
};

impl<A: Address + Pod> FamilyMaps<A> {
    fn gather(
        names: &Names,
        (pools, pool): (Arc<Words>, usize),
        take: &mut impl FnMut(&'static str) -> Result<Map, MapsError>,
    ) -> Result<Self, MapsError> {
        let mut table = |index, records| {
            let (index, records) = ((index, take(index)?), (records, take(records)?));
            Ok(flows::Table {
                index: words(index.0, &index.1)?,
                records: mapped_records(records.0, &records.1)?,
            })
        };
        let (established, handshakes) =
            (table(names.index, names.flows)?, table(names.half_index, names.half)?);
        let free = words(names.free, &take(names.free)?)?;
        Ok(Self {
            names: [names.listeners, names.backends, names.deny, names.answers],
            listeners: take(names.listeners)?.try_into().map_err(about(names.listeners))?,
            backends: take(names.backends)?.try_into().map_err(about(names.backends))?,
            deny: take(names.deny)?.try_into().map_err(about(names.deny))?,
            answers: take(names.answers)?.try_into().map_err(about(names.answers))?,
            flows: Arc::new(Flows { established, handshakes, free, pools, pool }),
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
        let backend = |id| Ok((id, self.backends.get(&id, 0).map_err(about(self.names[1]))?));
        let all: Vec<_> = (1..self.backends.len()).map(backend).collect::<Result<_, _>>()?;
        Ok(all.into_iter().filter(|(_, backend): &(_, Backend<A>)| backend.oif != 0).collect())
    }

    /// Number of backends that there is room for; numbers begin at 1.
    pub fn backend_capacity(&self) -> u32 {
        self.backends.len()
    }

    /// Adds a backend.
    pub fn put_backend(&mut self, id: BackendId, backend: Backend<A>) -> Result<(), MapsError> {
        self.backends.set(id, backend, 0).map_err(about(self.names[1]))
    }

    /// Removes a backend.
    pub fn remove_backend(&mut self, id: BackendId) -> Result<(), MapsError> {
        let old = self.backends.get(&id, 0).map_err(about(self.names[1]))?;
        self.put_backend(id, Backend { oif: 0, ..old })
    }

    /// Puts a prefix on the deny list, or takes it off.
    pub fn deny(&mut self, prefix: u32, address: A, denied: bool) -> Result<(), MapsError> {
        let key = Key::new(prefix, address);
        let done = if denied { self.deny.insert(&key, 1, 0) } else { absent_is_fine(self.deny.remove(&key)) };
        done.map_err(about(self.names[2]))
    }

    /// Has packets of a backend be looked at as answers to sockets of ours under clients' addresses.
    pub fn put_answering(&mut self, backend: ListenerKey<A>) -> Result<(), MapsError> {
        self.answers.insert(backend, 1, 0).map_err(about(self.names[3]))
    }

    /// Takes a backend out of that list.
    pub fn remove_answering(&mut self, backend: &ListenerKey<A>) -> Result<(), MapsError> {
        absent_is_fine(self.answers.remove(backend)).map_err(about(self.names[3]))
    }

    /// The backends on that list.
    pub fn answering(&self) -> Result<Vec<ListenerKey<A>>, MapsError> {
        self.answers.keys().collect::<Result<_, _>>().map_err(about(self.names[3]))
    }

    /// The prefixes on the deny list.
    pub fn denied(&self) -> Result<Vec<(u32, A)>, MapsError> {
        let prefix = |key: Result<Key<A>, MapError>| key.map(|key| (key.prefix_len(), key.data()));
        self.deny.keys().map(prefix).collect::<Result<_, _>>().map_err(about(self.names[2]))
    }
}

/// Maps an array of words, two of them a bucket's cache line or whatever else its elements are made of.
fn words(name: &'static str, map: &Map) -> Result<Words, MapsError> {
    let (fd, info) = array(name, map)?;
    let words = info.max_entries() as usize * info.value_size() as usize / size_of::<u64>();
    Words::map(fd, words).map_err(|source| MapsError::Batch { name, source })
}

fn mapped_records<A: Address>(name: &'static str, map: &Map) -> Result<Records<A>, MapsError> {
    let (fd, info) = array(name, map)?;
    Records::map(fd, info.max_entries()).map_err(|source| MapsError::Batch { name, source })
}

fn array<'a>(name: &'static str, map: &'a Map) -> Result<(BorrowedFd<'a>, MapInfo), MapsError> {
    let Map::Array(data) = map else { return Err(MapsError::Missing { name }) };
    Ok((data.fd().as_fd(), data.info().map_err(about(name))?))
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

/// Makes the programs of another version, whose maps are pinned in a directory, open no new flow: it has no listener any
/// more. Every version has kept those in hash maps of these names.
pub fn stop_opening(directory: &Path) -> Result<(), MapsError> {
    for name in ["LISTENERS4", "LISTENERS6"] {
        let data = MapData::from_pin(directory.join(name)).map_err(about(name))?;
        let keys = data.info().map_err(about(name))?.key_size();
        sys::clear(data.fd().as_fd(), keys as usize).map_err(|source| MapsError::Batch { name, source })?;
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
