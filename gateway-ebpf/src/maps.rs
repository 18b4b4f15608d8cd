//! Every map, and the only code that touches one. The agent gives the maps their real sizes when it loads them.
#![expect(unsafe_code, reason = "map values are raw pointers, shared with other CPUs and with the agent")]

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
};
use gateway_common::{
    Addr4, Addr6, Address, Backend, BackendId, Bucket, Config, Direction, Event, Flow, Link, ListenerKey,
    Load, Pool, Table, Translation, Verdict, Word as _, config::SOURCE_CELLS, flow::NO_TRANSLATION, offer,
};

use crate::{parse::Segment, shared::Shared};

/// Arrays that the agent maps into its memory.
const MAPPED: u32 = BPF_F_MMAPABLE;

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
pub(crate) static LINKS: HashMap<u32, Link> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static MAGLEV: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static PORTS: Array<Shared> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static POOLS: Array<Pool> = Array::with_max_entries(2, MAPPED);
#[map]
pub(crate) static LIMITS: Array<Load> = Array::with_max_entries(4096, MAPPED);
#[map]
pub(crate) static SOURCES: Array<Shared> = Array::with_max_entries(SOURCE_CELLS, 0);
#[map]
pub(crate) static DENY4: LpmTrie<Addr4, u32> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static DENY6: LpmTrie<Addr6, u32> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);

// The segment that a CPU is busy with: its place on the stack would leave too little for the functions called.
#[map]
pub(crate) static SEGMENT4: PerCpuArray<Segment<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static SEGMENT6: PerCpuArray<Segment<Addr6>> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of a packet that a CPU is looking at.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub(crate) static LISTENERS4: HashMap<ListenerKey<Addr4>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
pub(crate) static LISTENERS6: HashMap<ListenerKey<Addr6>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
pub(crate) static BACKENDS4: Array<Backend<Addr4>> = Array::with_max_entries(16_384, 0);
#[map]
pub(crate) static BACKENDS6: Array<Backend<Addr6>> = Array::with_max_entries(16_384, 0);
#[map]
pub(crate) static INDEX4: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static INDEX6: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static FLOWS4: Array<Flow<Addr4>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static FLOWS6: Array<Flow<Addr6>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static FREE4: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static FREE6: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static HALFIDX4: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static HALFIDX6: Array<Bucket<Shared>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static HALF4: Array<Flow<Addr4>> = Array::with_max_entries(1, MAPPED);
#[map]
pub(crate) static HALF6: Array<Flow<Addr6>> = Array::with_max_entries(1, MAPPED);

/// Of handed-over flows of both families.
#[map]
pub(crate) static TRANSLATIONS: Array<Translation> = Array::with_max_entries(1, MAPPED);

/// Backends that may answer a socket of the gateway's own under a client's address.
#[map]
pub(crate) static ANSWERS4: HashMap<ListenerKey<Addr4>, u32> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static ANSWERS6: HashMap<ListenerKey<Addr6>, u32> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// What SYNs of the gateway's own sockets do not offer, by source port.
#[map]
pub(crate) static OFFERS: Array<Shared> = Array::with_max_entries(offer::WORDS, MAPPED);

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
    fn answers() -> &'static HashMap<ListenerKey<Self>, u32>;
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
    fn answers() -> &'static HashMap<ListenerKey<Self>, u32> {
        &ANSWERS4
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
    fn answers() -> &'static HashMap<ListenerKey<Self>, u32> {
        &ANSWERS6
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

/// Whether a backend may answer a socket under a client's address.
#[inline(always)]
pub(crate) fn answers<A: Maps>(backend: &ListenerKey<A>) -> bool {
    // SAFETY: the value is not looked at.
    unsafe { A::answers().get(backend) }.is_some()
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

/// The translation of a flow that has one; `number` is [`gateway_common::Flow::translation`].
#[inline(always)]
pub(crate) fn translation(number: u32) -> Option<&'static Translation> {
    if number == NO_TRANSLATION { None } else { TRANSLATIONS.get(number - 1) }
}

/// The word of a translation that keeps how an end's timestamps are told.
#[inline(always)]
pub(crate) fn stamps(translation: &'static Translation, direction: Direction) -> &'static Shared {
    let stamps = &raw const translation.end(direction).stamps;
    // SAFETY: an aligned word of a map value; `Shared` is a transparent `u64`.
    unsafe { &*stamps.cast::<Shared>() }
}

/// The word of a translation that keeps what the socket to an end was heard to have taken.
#[inline(always)]
pub(crate) fn heard(translation: &'static Translation, direction: Direction) -> &'static Shared {
    let [client, backend] = &translation.heard;
    let heard = match direction {
        Direction::ToBackend => &raw const *client,
        Direction::ToClient => &raw const *backend,
    };
    // SAFETY: as above.
    unsafe { &*heard.cast::<Shared>() }
}

/// An interface.
#[inline(always)]
pub(crate) fn link(interface: u32) -> Option<Link> {
    // SAFETY: the agent replaces values whole.
    unsafe { LINKS.get(&interface) }.copied()
}

/// Tells the agent. What finds no room in the ring is lost, and counted.
#[inline(always)]
pub(crate) fn tell(event: &Event) {
    if EVENTS.output::<Event>(event, 0).is_err()
        && let Some(pool) = POOLS.get_ptr_mut(u32::from(event.family == 6))
    {
        // SAFETY: an aligned word of a map value; `Shared` is a transparent `u64`.
        unsafe { &*(&raw mut (*pool).lost).cast::<Shared>() }.add(1);
    }
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

    /// Writes a byte; some byte beyond the length changes nothing that is looked at.
    #[inline(always)]
    pub(crate) fn set(&mut self, index: u32, byte: u32) {
        self.bytes[(index % SCRATCH_BYTES) as usize] = byte as u8;
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
