//! Every map, and the only code that touches one. The agent gives the maps their real sizes when it loads them.
#![expect(unsafe_code, reason = "map values are raw pointers, shared with other CPUs and with the agent")]

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd};
use core::num::NonZeroU32;
use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
};
use gateway_common::{
    Addr4, Addr6, Address, Backend, BackendId, Be16, Bucket, Config, Direction, Event, Flow, FlowKey, Half,
    Hash, Link, ListenerKey, Load, Pair, Pool, Reference, State, Table, Verdict, Word,
    config::SOURCE_CELLS,
    flow::NO_PORTS,
    index::Refused,
    ports::{self, PORTS_PER_WORD, PROBES},
};

use crate::{handshake::Opening, packet::random, parse::Segment};

/// A word that other CPUs and the agent change at the same time.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<u64>);

// SAFETY: every access is atomic.
unsafe impl Sync for Shared {}

const ORDERED: AtomicOrdering = AtomicOrdering::SeqCst;

impl Word for Shared {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: valid and aligned; a load of eight bytes is one instruction.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    fn replace(&self, old: u64, new: u64) -> bool {
        // SAFETY: valid and aligned (Linux 5.12 for this and the next three).
        unsafe { atomic_cxchg::<u64, ORDERED, ORDERED>(self.0.get(), old, new).0 == old }
    }

    #[inline(always)]
    fn set(&self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_or::<u64, u64, ORDERED>(self.0.get(), bits) }
    }

    #[inline(always)]
    fn clear(&self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_and::<u64, u64, ORDERED>(self.0.get(), !bits) }
    }

    #[inline(always)]
    fn add(&self, number: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic_xadd::<u64, u64, ORDERED>(self.0.get(), number) }
    }
}

/// Arrays that the agent maps into its memory.
const MAPPED: u32 = BPF_F_MMAPABLE;

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
static LINKS: HashMap<u32, Link> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static MAGLEV: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<Shared> = Array::with_max_entries(1, MAPPED);
#[map]
static POOLS: Array<Pool> = Array::with_max_entries(2, MAPPED);
#[map]
static LIMITS: Array<Load> = Array::with_max_entries(4096, MAPPED);
#[map]
static SOURCES: Array<Shared> = Array::with_max_entries(SOURCE_CELLS, 0);
#[map]
static DENY4: LpmTrie<Addr4, u32> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
static DENY6: LpmTrie<Addr6, u32> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);

// The segment that a CPU is busy with: its place on the stack would leave too little for the functions called.
#[map]
static SEGMENT4: PerCpuArray<Segment<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SEGMENT6: PerCpuArray<Segment<Addr6>> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of a packet that a CPU is looking at.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[map]
static LISTENERS4: HashMap<ListenerKey<Addr4>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
static LISTENERS6: HashMap<ListenerKey<Addr6>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
static BACKENDS4: Array<Backend<Addr4>> = Array::with_max_entries(16_384, 0);
#[map]
static BACKENDS6: Array<Backend<Addr6>> = Array::with_max_entries(16_384, 0);
#[map]
static INDEX4: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
static INDEX6: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
static FLOWS4: Array<Flow<Addr4>> = Array::with_max_entries(1, MAPPED);
#[map]
static FLOWS6: Array<Flow<Addr6>> = Array::with_max_entries(1, MAPPED);
#[map]
static FREE4: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
static FREE6: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
static HALFIDX4: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
static HALFIDX6: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
static HALF4: Array<Flow<Addr4>> = Array::with_max_entries(1, MAPPED);
#[map]
static HALF6: Array<Flow<Addr6>> = Array::with_max_entries(1, MAPPED);

/// The maps of an address family.
pub(crate) trait Maps: Address {
    /// 4 or 6.
    const FAMILY: u32;
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table>;
    fn backends() -> &'static Array<Backend<Self>>;
    fn records(kind: Kind) -> &'static Array<Flow<Self>>;
    fn free() -> &'static Array<u64>;
    fn segment() -> &'static PerCpuArray<Segment<Self>>;
    fn deny() -> &'static LpmTrie<Self, u32>;
    /// Bit of `Config::flags` that says whether there is anything in `deny`.
    const DENY: u32;
    /// Whether an address is the one whose packets are told of.
    fn is_traced(self, config: &Config) -> bool;
    /// For events: the address in the first of four words or in all of them.
    fn words(self) -> [u32; 4];
}

/// Which of the two flow tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Established flows: bounded, nothing is evicted.
    Flows,
    /// Handshakes: a small ring, so that a flood of them stays in the cache and harms no established flow.
    Half,
}

impl Maps for Addr4 {
    const FAMILY: u32 = 4;
    const DENY: u32 = Config::DENY4;

    #[inline(always)]
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table> {
        &LISTENERS4
    }

    #[inline(always)]
    fn backends() -> &'static Array<Backend<Self>> {
        &BACKENDS4
    }

    #[inline(always)]
    fn records(kind: Kind) -> &'static Array<Flow<Self>> {
        match kind {
            Kind::Flows => &FLOWS4,
            Kind::Half => &HALF4,
        }
    }

    #[inline(always)]
    fn free() -> &'static Array<u64> {
        &FREE4
    }

    #[inline(always)]
    fn segment() -> &'static PerCpuArray<Segment<Self>> {
        &SEGMENT4
    }

    #[inline(always)]
    fn deny() -> &'static LpmTrie<Self, u32> {
        &DENY4
    }

    #[inline(always)]
    fn is_traced(self, config: &Config) -> bool {
        config.trace4 != 0 && config.trace4 == self.0.wire()
    }

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        [self.0.wire(), 0, 0, 0]
    }
}

impl Maps for Addr6 {
    const FAMILY: u32 = 6;
    const DENY: u32 = Config::DENY6;

    #[inline(always)]
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table> {
        &LISTENERS6
    }

    #[inline(always)]
    fn backends() -> &'static Array<Backend<Self>> {
        &BACKENDS6
    }

    #[inline(always)]
    fn records(kind: Kind) -> &'static Array<Flow<Self>> {
        match kind {
            Kind::Flows => &FLOWS6,
            Kind::Half => &HALF6,
        }
    }

    #[inline(always)]
    fn free() -> &'static Array<u64> {
        &FREE6
    }

    #[inline(always)]
    fn segment() -> &'static PerCpuArray<Segment<Self>> {
        &SEGMENT6
    }

    #[inline(always)]
    fn deny() -> &'static LpmTrie<Self, u32> {
        &DENY6
    }

    #[inline(always)]
    fn is_traced(self, config: &Config) -> bool {
        let [a, b, c, d] = config.trace6;
        let words = self.words();
        a | b | c | d != 0 && words[0] == a && words[1] == b && words[2] == c && words[3] == d
    }

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        let [a, b, c, d] = self.0;
        [a.wire(), b.wire(), c.wire(), d.wire()]
    }
}

/// The record of a flow. A record is used again only when no program can be looking at it any more: the agent waits
/// for that, and the ring of handshakes is as long.
pub(crate) struct Record<A: 'static> {
    flow: *mut Flow<A>,
    /// Which table it is in.
    pub(crate) kind: Kind,
    /// Its index there.
    pub(crate) number: u32,
}

impl<A: Maps> Record<A> {
    /// The record of a number, in use or not.
    #[inline(always)]
    pub(crate) fn at(kind: Kind, number: u32) -> Option<Self> {
        let flow = A::records(kind).get_ptr_mut(number)?;
        Some(Self { flow, kind, number })
    }

    /// The tuple that packets of a direction leave with.
    #[inline(always)]
    pub(crate) fn leaving(&self, direction: Direction) -> FlowKey<A> {
        // SAFETY: a map value, which lives as long as the program runs. These fields were written before the record
        // was entered in the index; the boundary's outcomes tell whether it is still the same flow's.
        unsafe {
            match direction {
                Direction::ToBackend => (*self.flow).backend,
                Direction::ToClient => (*self.flow).client.reversed(),
            }
        }
    }

    /// The interface that packets of a direction leave by.
    #[inline(always)]
    pub(crate) fn oif(&self, direction: Direction) -> u32 {
        // SAFETY: as in `leaving`.
        unsafe {
            match direction {
                Direction::ToBackend => (*self.flow).oif[0],
                Direction::ToClient => (*self.flow).oif[1],
            }
        }
    }

    /// The tuple that packets of a direction arrive with.
    #[inline(always)]
    pub(crate) fn arriving(&self, direction: Direction) -> FlowKey<A> {
        // SAFETY: as in `leaving`.
        unsafe {
            match direction {
                Direction::ToBackend => (*self.flow).client,
                Direction::ToClient => (*self.flow).backend.reversed(),
            }
        }
    }

    /// Fills a record that nobody else can find, and makes it the next use of it.
    #[inline(always)]
    pub(crate) fn fill(&self, opening: &Opening<A>, bits: u64) -> State {
        // SAFETY: as in `leaving`; the caller has just taken the record.
        unsafe {
            (*self.flow).client = opening.client;
            (*self.flow).backend = opening.backend;
            (*self.flow).oif = opening.oif;
            (*self.flow).backend_id = opening.backend_id;
            (*self.flow).listener = opening.listener;
            (*self.flow).ports = opening.ports;
            (*self.flow).idle_timeout = opening.idle_timeout;
            (*self.flow).attempts = 0;
            (*self.flow).created = opening.created;
            (*self.flow).halves[0] = Half::default();
            (*self.flow).halves[1] = Half::default();
        }
        self.begin(bits)
    }

    /// Fills a record that nobody else can find with another one's flow.
    #[inline(always)]
    pub(crate) fn fill_from(&self, other: &Self) -> State {
        let (to, from) = (self.flow, other.flow);
        // SAFETY: as in `fill`. Field by field: a copy of the whole would go through the stack, which it would fill.
        unsafe {
            (*to).client = (*from).client;
            (*to).backend = (*from).backend;
            (*to).oif = (*from).oif;
            (*to).backend_id = (*from).backend_id;
            (*to).listener = (*from).listener;
            (*to).ports = (*from).ports;
            (*to).idle_timeout = (*from).idle_timeout;
            (*to).attempts = (*from).attempts;
            (*to).created = (*from).created;
            (*to).halves[0] = (*from).halves[0];
            (*to).halves[1] = (*from).halves[1];
        }
        self.begin(State::LIVE | other.state().0 & State::SEEN)
    }

    #[inline(always)]
    fn begin(&self, bits: u64) -> State {
        let next = self.state().next(bits);
        // SAFETY: as in `fill`.
        unsafe { ptr::write_volatile(&raw mut (*self.flow).state, next.0) };
        next
    }

    #[inline(always)]
    fn state_word(&self) -> &Shared {
        // SAFETY: an aligned word of a map value; `Shared` is a transparent `u64`.
        unsafe { &*(&raw mut (*self.flow).state).cast() }
    }

    /// Its state.
    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        State(self.state_word().load())
    }

    /// Adds bits to the state. Mostly there is nothing to add, and then nothing is written.
    #[inline(always)]
    pub(crate) fn mark(&self, bits: u64) -> State {
        let state = self.state();
        if state.0 & bits == bits { state } else { State(self.state_word().set(bits)) }
    }

    /// Takes bits out of the state and returns what it was.
    #[inline(always)]
    pub(crate) fn unmark(&self, bits: u64) -> State {
        State(self.state_word().clear(bits))
    }

    #[inline(always)]
    fn half(&self, direction: Direction) -> *mut Half {
        // SAFETY: a field of a map value.
        unsafe {
            match direction {
                Direction::ToBackend => &raw mut (*self.flow).halves[0],
                Direction::ToClient => &raw mut (*self.flow).halves[1],
            }
        }
    }

    /// Counts a packet.
    #[inline(always)]
    pub(crate) fn count(&self, direction: Direction, now: u32, packets: u32, bytes: u32) {
        let half = self.half(direction);
        // SAFETY: aligned words of a map value; `Shared` is a transparent `u64`.
        unsafe {
            (*half).last_seen = now;
            let (packet_count, byte_count) = (&raw mut (*half).packets, &raw mut (*half).bytes);
            (*packet_count.cast::<Shared>()).add(packets.into());
            (*byte_count.cast::<Shared>()).add(bytes.into());
        }
    }

    /// The initial sequence number of an end.
    #[inline(always)]
    pub(crate) fn initial(&self, direction: Direction) -> u32 {
        // SAFETY: an aligned word of a map value.
        unsafe { ptr::read_volatile(&raw const (*self.half(direction)).initial) }
    }

    /// Keeps the initial sequence number of an end.
    #[inline(always)]
    pub(crate) fn set_initial(&self, direction: Direction, sequence: u32) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*self.half(direction)).initial, sequence) };
    }

    /// Clock of the latest packet of a direction.
    #[inline(always)]
    pub(crate) fn last_seen(&self, direction: Direction) -> u32 {
        // SAFETY: as above.
        unsafe { ptr::read_volatile(&raw const (*self.half(direction)).last_seen) }
    }

    /// Gives a handshake another backend: only its own packets look at these fields, and they come one at a time.
    #[inline(always)]
    pub(crate) fn turn(&self, backend: &FlowKey<A>, oif: u32, backend_id: BackendId, ports: u32) {
        // SAFETY: as in `fill`.
        unsafe {
            (*self.flow).backend = *backend;
            (*self.flow).oif[0] = oif;
            (*self.flow).backend_id = backend_id;
            (*self.flow).ports = ports;
            (*self.flow).attempts += 1;
        }
    }

    /// Monotonic clock at the first SYN, in ns.
    #[inline(always)]
    pub(crate) fn created(&self) -> u64 {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).created }
    }

    /// The flow's backend.
    #[inline(always)]
    pub(crate) fn backend_id(&self) -> BackendId {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).backend_id }
    }

    /// The flow's listener.
    #[inline(always)]
    pub(crate) fn listener(&self) -> u32 {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).listener }
    }

    /// First word of the bitmap that its port is in.
    #[inline(always)]
    pub(crate) fn ports(&self) -> u32 {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).ports }
    }

    /// Says that no port is the record's.
    #[inline(always)]
    pub(crate) fn forget_ports(&self) {
        // SAFETY: as in `fill`.
        unsafe { (*self.flow).ports = NO_PORTS };
    }

    /// Further backends that were tried.
    #[inline(always)]
    pub(crate) fn attempts(&self) -> u32 {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).attempts }
    }

    /// How the record is named in the index, for a direction.
    #[inline(always)]
    pub(crate) fn reference(&self, direction: Direction) -> Reference {
        Reference::new(self.number, direction)
    }
}

/// Which index: the bits choose between its maps.
const HALVES: u32 = 1;
const IPV6: u32 = 2;

#[inline(always)]
const fn which<A: Maps>(kind: Kind) -> u32 {
    let kind = match kind {
        Kind::Flows => 0,
        Kind::Half => HALVES,
    };
    if A::FAMILY == 6 { kind | IPV6 } else { kind }
}

/// The place of a tuple in one of the indexes.
#[inline(always)]
fn pair(which: u32, hash: Hash) -> Option<Pair<'static, Shared>> {
    let config = config()?;
    let index = match which {
        0 => &INDEX4,
        HALVES => &HALFIDX4,
        IPV6 => &INDEX6,
        _ => &HALFIDX6,
    };
    let buckets = if which & HALVES == 0 { config.buckets } else { config.half_buckets };
    Some(Pair::new(hash, index.get(hash.home(buckets))?, index.get(hash.other(buckets))?))
}

/// The entry of a tuple. Like the next two a function of its own to the verifier, which looks at it once, for all
/// arguments, and not again with what it knows at each call: numbers go in and a number comes out.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn index_find(which: u32, hash: u64) -> u32 {
    let pair = pair(which, Hash::of_bits(hash));
    pair.and_then(|pair| pair.find()).map_or(0, Reference::bits)
}

const ENTERED: u32 = 0;
const TAKEN: u32 = 1;
const FULL: u32 = 2;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn index_enter(which: u32, hash: u64, reference: u32) -> u32 {
    let (Some(pair), Some(reference)) = (pair(which, Hash::of_bits(hash)), Reference::of_bits(reference))
    else {
        return FULL;
    };
    match pair.insert(reference) {
        Ok(()) => ENTERED,
        Err(Refused::Taken) => TAKEN,
        Err(Refused::Full) => FULL,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn index_remove(which: u32, hash: u64, reference: u32) -> u32 {
    if let (Some(pair), Some(reference)) = (pair(which, Hash::of_bits(hash)), Reference::of_bits(reference)) {
        pair.remove(reference);
    }
    0
}

/// The entry of a tuple in one of the indexes. The record must be held against the tuple.
#[inline(always)]
pub(crate) fn find<A: Maps>(kind: Kind, hash: Hash) -> Option<Reference> {
    Reference::of_bits(index_find(which::<A>(kind), hash.bits()))
}

/// Enters a direction of a record in its index.
#[inline(always)]
pub(crate) fn enter<A: Maps>(record: &Record<A>, hash: Hash, direction: Direction) -> Result<(), Refused> {
    match index_enter(which::<A>(record.kind), hash.bits(), record.reference(direction).bits()) {
        ENTERED => Ok(()),
        TAKEN => Err(Refused::Taken),
        _ => Err(Refused::Full),
    }
}

/// Takes a direction of a record out of its index.
#[inline(always)]
pub(crate) fn remove<A: Maps>(record: &Record<A>, hash: Hash, direction: Direction) {
    index_remove(which::<A>(record.kind), hash.bits(), record.reference(direction).bits());
}

#[inline(always)]
fn pool<A: Maps>() -> Option<(&'static Shared, &'static Shared, &'static Shared)> {
    let pool = POOLS.get_ptr_mut(u32::from(A::FAMILY == 6))?;
    // SAFETY: aligned words of a map value; `Shared` is a transparent `u64`.
    unsafe {
        Some((
            &*(&raw mut (*pool).head).cast(),
            &*(&raw mut (*pool).tail).cast(),
            &*(&raw mut (*pool).half).cast(),
        ))
    }
}

/// Whether a record is free.
#[inline(always)]
pub(crate) fn has_free<A: Maps>() -> bool {
    pool::<A>().is_some_and(|(head, tail, _)| head.load() != tail.load())
}

/// Tries to take a free record, against as many CPUs at once.
const TAKES: u32 = 16;

/// Takes a free record. `u32::MAX` if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn record_take(which: u32) -> u32 {
    let ipv6 = which & IPV6 != 0;
    let taken = if ipv6 { take_number::<Addr6>() } else { take_number::<Addr4>() };
    taken.unwrap_or(u32::MAX)
}

#[inline(always)]
fn take_number<A: Maps>() -> Option<u32> {
    let config = config()?;
    let (head, tail, _) = pool::<A>()?;
    for _ in 0..TAKES {
        let next = head.load();
        if next == tail.load() {
            return None;
        }
        let place = next.checked_rem(config.flows.into())? as u32;
        let number = (*A::free().get(place / 2)? >> (place % 2 * 32)) as u32;
        if head.replace(next, next + 1) {
            return Some(number);
        }
    }
    None
}

/// Takes a free record.
#[inline(always)]
pub(crate) fn take_free<A: Maps>() -> Option<Record<A>> {
    Record::at(Kind::Flows, record_take(which::<A>(Kind::Flows)))
}

/// The record for the next handshake, which may be another handshake's still.
#[inline(always)]
pub(crate) fn next_half<A: Maps>(config: &Config) -> Option<Record<A>> {
    let (_, _, half) = pool::<A>()?;
    let number = half.add(1).checked_rem(config.half_flows.into())? as u32;
    Record::at(Kind::Half, number)
}

/// Claims a source port in the bitmap that begins at a word of `PORTS`; 0 if none was found free.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn port_claim(base: u32) -> u32 {
    claim(base).unwrap_or(0)
}

#[inline(always)]
fn claim(base: u32) -> Option<u32> {
    let config = config()?;
    let words = NonZeroU32::new(config.port_count / PORTS_PER_WORD)?;
    for _ in 0..PROBES {
        let random = random();
        let index = (random >> 6) % words;
        if let Some(bit) = ports::claim(PORTS.get(base.wrapping_add(index))?, random) {
            return Some(config.first_port + index * PORTS_PER_WORD + bit);
        }
    }
    None
}

/// Gives a source port back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn port_release(base: u32, port: u32) -> u32 {
    if let Some(config) = config() {
        let place = port.wrapping_sub(config.first_port);
        if place < config.port_count
            && let Some(word) = PORTS.get(base.wrapping_add(place / PORTS_PER_WORD))
        {
            ports::release(word, place % PORTS_PER_WORD);
        }
    }
    0
}

/// Claims a source port towards a backend.
#[inline(always)]
pub(crate) fn claim_port(base: u32) -> Option<Be16> {
    match port_claim(base) {
        0 => None,
        port => Some(Be16::new(port as u16)),
    }
}

/// Gives it back.
#[inline(always)]
pub(crate) fn release_port(base: u32, port: Be16) {
    port_release(base, port.get().into());
}

/// A listener's load: its flows, and the word that counts new ones.
#[inline(always)]
pub(crate) fn load(listener: u32) -> Option<(&'static Shared, &'static Shared)> {
    let load = LIMITS.get_ptr_mut(listener)?;
    // SAFETY: aligned words of a map value; `Shared` is a transparent `u64`.
    unsafe { Some((&*(&raw mut (*load).flows).cast(), &*(&raw mut (*load).rate).cast())) }
}

/// A cell that counts the new flows of sources.
#[inline(always)]
pub(crate) fn source(cell: u32) -> Option<&'static Shared> {
    SOURCES.get(cell)
}

/// Whether an address is on the deny list.
#[inline(always)]
pub(crate) fn is_denied<A: Maps>(address: A) -> bool {
    A::deny().get(&Key::new(size_of::<A>() as u32 * 8, address)).is_some()
}

/// The backend table of a listener.
#[inline(always)]
pub(crate) fn table<A: Maps>(key: &ListenerKey<A>) -> Option<&'static Table> {
    // SAFETY: the agent replaces values whole and waits before it uses a table's region again.
    unsafe { A::listeners().get(key) }
}

/// What the agent set.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// The backend in a slot of `MAGLEV`.
#[inline(always)]
pub(crate) fn slot(index: u32) -> Option<BackendId> {
    let element = MAGLEV.get(index / 4)?;
    Some((element >> (index % 4 * 16)) as BackendId & 0xffff)
}

/// A backend.
#[inline(always)]
pub(crate) fn backend<A: Maps>(id: BackendId) -> Option<&'static Backend<A>> {
    A::backends().get(id).filter(|backend| backend.oif != 0)
}

/// An interface.
#[inline(always)]
pub(crate) fn link(interface: u32) -> Option<Link> {
    // SAFETY: the agent replaces values whole.
    unsafe { LINKS.get(&interface) }.copied()
}

/// Tells the agent. What finds no room in the ring is lost.
#[inline(always)]
pub(crate) fn tell(event: &Event) {
    let _ = EVENTS.output::<Event>(event, 0);
}

/// The place for the segment that this CPU is busy with.
#[inline(always)]
pub(crate) fn segment<A: Maps>() -> Option<&'static mut Segment<A>> {
    // SAFETY: a per-CPU value; the programs are not interrupted by each other on one CPU, and each asks once.
    unsafe { A::segment().get_ptr_mut(0)?.as_mut() }
}

/// The most that is copied out of a packet: TCP and IPv4 options are 40 bytes, extension headers hardly ever more than
/// this. A power of two, so that the verifier sees the bound.
pub(crate) const SCRATCH_BYTES: u32 = 128;

/// Bytes copied out of a packet, for functions that the verifier looks at by themselves: pointers into packets cannot
/// be handed to them.
#[repr(C)]
pub(crate) struct Scratch {
    /// How many.
    pub(crate) length: u32,
    cursor: u32,
    bytes: [u8; SCRATCH_BYTES as usize],
}

impl Scratch {
    /// A byte; some byte beyond the length.
    #[inline(always)]
    pub(crate) fn at(&self, index: u32) -> u32 {
        self.bytes[(index % SCRATCH_BYTES) as usize].into()
    }

    /// The same number. Kept in memory for a moment, so that the verifier forgets what it was made of, and does not
    /// follow a loop once more for each value that it might have.
    #[inline(always)]
    pub(crate) fn forget(&mut self, number: u32) -> u32 {
        let cursor = &raw mut self.cursor;
        // SAFETY: a field of this value.
        unsafe {
            ptr::write_volatile(cursor, number);
            ptr::read_volatile(cursor)
        }
    }

    /// Where the bytes go.
    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
}

/// This CPU's place for bytes.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a per-CPU value; the programs are not interrupted by each other on one CPU, and what one step copied is
    // not looked at in the next.
    unsafe { SCRATCH.get_ptr_mut(0)?.as_mut() }
}

/// This CPU's counter of a verdict.
#[inline(always)]
pub(crate) fn bump(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict.index()) {
        // SAFETY: a per-CPU value; the programs are not interrupted by each other on one CPU.
        unsafe { *counter += 1 };
    }
}

/// Names the licence that the kernel checks before it lends helpers. An exact spelling it knows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
