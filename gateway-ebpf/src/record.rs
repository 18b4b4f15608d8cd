//! Records of flows, in the hands of a program while others change them.
#![expect(unsafe_code, reason = "map values are raw pointers, shared with other CPUs and with the agent")]

use core::ptr;

use gateway_common::{
    BackendId, Direction, Flow, FlowKey, Half, Reference, State, Word as _,
    flow::{NO_PORTS, NO_TRANSLATION, unrolled},
};

use crate::{
    handshake::Opening,
    maps::{Kind, Maps},
    shared::Shared,
};

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
            (*self.flow).translation = NO_TRANSLATION;
            (*self.flow).ends = [0; 2];
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
            (*to).translation = NO_TRANSLATION;
            (*to).ends = (*from).ends;
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

    /// Adds bits to a state that is still this one; false if it is not.
    #[inline(always)]
    pub(crate) fn mark_if(&self, state: State, bits: u64) -> bool {
        self.state_word().replace(state.0, state.0 | bits)
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
    pub(crate) fn count(&self, direction: Direction, now: u32, packets: u32) {
        let half = self.half(direction);
        // SAFETY: aligned words of a map value; `Shared` is a transparent `u64`.
        unsafe {
            (*half).last_seen = now;
            (*(&raw mut (*half).packets).cast::<Shared>()).add(packets.into());
        }
    }

    /// The next sequence number of the end that sends in a direction, as far as the other end has told.
    #[inline(always)]
    pub(crate) fn expected(&self, direction: Direction) -> u32 {
        self.next(direction) as u32
    }

    /// The same with the rounds that it has made.
    #[inline(always)]
    fn next(&self, direction: Direction) -> u64 {
        // SAFETY: an aligned word of a map value.
        unsafe { ptr::read_volatile(&raw const (*self.half(direction)).next) }
    }

    /// Keeps that number. Of two CPUs that do so at once either is right about the rounds.
    #[inline(always)]
    pub(crate) fn expect(&self, direction: Direction, sequence: u32) {
        let next = unrolled(sequence, self.next(direction));
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*self.half(direction)).next, next) };
    }

    /// The stream of the end that sends in a direction begins with this number.
    #[inline(always)]
    pub(crate) fn begin_stream(&self, direction: Direction, first: u32) {
        let half = self.half(direction);
        // SAFETY: as above.
        unsafe {
            ptr::write_volatile(&raw mut (*half).first, first);
            ptr::write_volatile(&raw mut (*half).next, first.into());
        }
    }

    /// It ends before this number.
    #[inline(always)]
    pub(crate) fn end_stream(&self, direction: Direction, end: u32) {
        // SAFETY: as above.
        unsafe {
            match direction {
                Direction::ToBackend => ptr::write_volatile(&raw mut (*self.flow).ends[0], end),
                Direction::ToClient => ptr::write_volatile(&raw mut (*self.flow).ends[1], end),
            }
        }
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

    /// One more than the flow's element of `TRANSLATIONS`, or [`NO_TRANSLATION`].
    #[inline(always)]
    pub(crate) fn translation(&self) -> u32 {
        // SAFETY: as in `leaving`.
        unsafe { (*self.flow).translation }
    }

    /// How the record is named in the index, for a direction.
    #[inline(always)]
    pub(crate) fn reference(&self, direction: Direction) -> Reference {
        Reference::new(self.number, direction)
    }
}
