//! Every map, and the only code that touches one. The agent gives the maps their real sizes when it loads them.
#![expect(unsafe_code, reason = "map values are raw pointers, shared with other CPUs")]

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use gateway_common::{
    Addr4, Addr6, Address, Backend, BackendId, Config, Flow, FlowKey, ListenerKey, Table, Verdict, flow::Seen,
};

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
static LISTENERS4: HashMap<ListenerKey<Addr4>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
static LISTENERS6: HashMap<ListenerKey<Addr6>, Table> = HashMap::with_max_entries(4096, 0);
#[map]
static MAGLEV: Array<BackendId> = Array::with_max_entries(1, 0);
#[map]
static BACKENDS4: HashMap<BackendId, Backend<Addr4>> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
static BACKENDS6: HashMap<BackendId, Backend<Addr6>> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
// Not preallocated: memory follows the number of flows, and a removed element is not handed out again under the
// eyes of a program that still reads it.
#[map]
static FLOWS4: HashMap<FlowKey<Addr4>, Flow<Addr4>> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static FLOWS6: HashMap<FlowKey<Addr6>, Flow<Addr6>> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Errno of an insertion that found the key taken.
const EEXIST: i32 = -17;

/// The maps of an address family.
pub(crate) trait Maps: Address {
    fn flows() -> &'static HashMap<FlowKey<Self>, Flow<Self>>;
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table>;
    fn backends() -> &'static HashMap<BackendId, Backend<Self>>;
}

impl Maps for Addr4 {
    #[inline(always)]
    fn flows() -> &'static HashMap<FlowKey<Self>, Flow<Self>> {
        &FLOWS4
    }

    #[inline(always)]
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table> {
        &LISTENERS4
    }

    #[inline(always)]
    fn backends() -> &'static HashMap<BackendId, Backend<Self>> {
        &BACKENDS4
    }
}

impl Maps for Addr6 {
    #[inline(always)]
    fn flows() -> &'static HashMap<FlowKey<Self>, Flow<Self>> {
        &FLOWS6
    }

    #[inline(always)]
    fn listeners() -> &'static HashMap<ListenerKey<Self>, Table> {
        &LISTENERS6
    }

    #[inline(always)]
    fn backends() -> &'static HashMap<BackendId, Backend<Self>> {
        &BACKENDS6
    }
}

/// An entry of the flow table, alive until the program returns: the kernel frees elements only after that.
pub(crate) struct Entry<A: 'static> {
    flow: *mut Flow<A>,
}

impl<A: Maps> Entry<A> {
    /// Looks an entry up.
    #[inline(always)]
    pub(crate) fn find(key: &FlowKey<A>) -> Option<Self> {
        A::flows().get_ptr_mut(key).map(|flow| Self { flow })
    }

    /// The tuple and the interface that the packet leaves with. Written once, before the entry could be found.
    #[inline(always)]
    pub(crate) fn rewritten(&self) -> (FlowKey<A>, u32) {
        // SAFETY: a map value that the kernel keeps alive; these fields never change.
        unsafe { ((*self.flow).rewritten, (*self.flow).oif) }
    }

    /// Key of the entry of the other direction.
    #[inline(always)]
    pub(crate) fn other(&self) -> FlowKey<A> {
        self.rewritten().0.reversed()
    }

    /// What was seen in this direction so far.
    #[inline(always)]
    pub(crate) fn seen(&self) -> Seen {
        // SAFETY: a map value that the kernel keeps alive; volatile, as other CPUs may write it.
        Seen(unsafe { ptr::read_volatile(&raw const (*self.flow).seen) })
    }

    /// Adds bits to what was seen. Mostly there is nothing to add, and then nothing is written.
    #[inline(always)]
    pub(crate) fn mark(&self, bits: u32) {
        let seen = self.seen().0;
        if seen & bits != bits {
            // SAFETY: as in `seen`.
            unsafe { ptr::write_volatile(&raw mut (*self.flow).seen, seen | bits) };
        }
    }

    /// Counts a packet. Plain additions: the target has no atomic ones that Rust could name, and one direction of
    /// a flow is handled by one CPU at a time unless its packets are sprayed, when a count may get lost.
    #[inline(always)]
    pub(crate) fn count(&self, now: u64, packets: u32, bytes: u32) {
        // SAFETY: as in `seen`.
        unsafe {
            (*self.flow).last_seen = now;
            (*self.flow).packets += u64::from(packets);
            (*self.flow).bytes += u64::from(bytes);
        }
    }
}

/// Why an entry could not be made.
pub(crate) enum Refused {
    /// There is one with this key.
    Taken,
    /// No room.
    Full,
}

/// Makes an entry unless there is one.
#[inline(always)]
pub(crate) fn insert<A: Maps>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    A::flows().insert(key, flow, BPF_NOEXIST.into()).map_err(|errno| match errno {
        EEXIST => Refused::Taken,
        _ => Refused::Full,
    })
}

/// Removes an entry, if there is one.
#[inline(always)]
pub(crate) fn remove<A: Maps>(key: &FlowKey<A>) {
    let _ = A::flows().remove(key);
}

/// The backend table of a listener.
#[inline(always)]
pub(crate) fn table<A: Maps>(key: &ListenerKey<A>) -> Option<Table> {
    // SAFETY: the agent replaces values whole and waits before it uses a table's region again.
    unsafe { A::listeners().get(key) }.copied()
}

/// What the agent set.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// The backend in a slot of `MAGLEV`.
#[inline(always)]
pub(crate) fn slot(index: u32) -> Option<BackendId> {
    MAGLEV.get(index).copied()
}

/// A backend.
#[inline(always)]
pub(crate) fn backend<A: Maps>(id: BackendId) -> Option<&'static Backend<A>> {
    // SAFETY: ids are never used twice, so the value under one never changes.
    unsafe { A::backends().get(id) }
}

/// This CPU's counter of a verdict.
#[inline(always)]
pub(crate) fn bump(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict.index()) {
        // SAFETY: a per-CPU value; tc programs are not interrupted by each other on one CPU.
        unsafe { *counter += 1 };
    }
}

/// Names the licence that the kernel checks before it lends helpers. An exact spelling it knows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
