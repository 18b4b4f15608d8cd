//! The flow tables of an address family, as the agent works on them while the programs do: reading records, taking
//! flows out, giving records and source ports back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_common::flow::{NO_PORTS, NO_TRANSLATION};
use gateway_common::index::Refused;
use gateway_common::ports::{self, PORTS_PER_WORD, PROBES};
use gateway_common::{
    Address, Config, Direction, Flow, FlowKey, Half, Hash, ListenerId, Pair, Reference, State,
};

use super::ageing;
use super::memory::{Records, Words};

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Established flows.
    Established,
    /// Handshakes.
    Handshakes,
}

/// An index and its records.
#[derive(Debug)]
pub(super) struct Table<A> {
    pub(super) index: Words,
    pub(super) records: Records<A>,
}

/// The flow tables of an address family.
#[derive(Debug)]
pub struct Flows<A> {
    pub(super) established: Table<A>,
    pub(super) handshakes: Table<A>,
    /// Record numbers, two a word.
    pub(super) free: Words,
    /// Of both families; this one's is at `pool`.
    pub(super) pools: Arc<Words>,
    pub(super) pool: usize,
}

/// Words of a pool, and where its fields are.
pub(super) const POOL_WORDS: usize = 8;
/// What stays of a state word when its record is freed.
const GENERATION: u64 = !0 << State::GENERATION_SHIFT;

const HEAD: usize = 0;
const TAIL: usize = 1;
const LOST: usize = 3;

impl<A: Address> Flows<A> {
    fn table(&self, kind: Kind) -> &Table<A> {
        match kind {
            Kind::Established => &self.established,
            Kind::Handshakes => &self.handshakes,
        }
    }

    /// Number of records of a table.
    pub fn capacity(&self, kind: Kind) -> u32 {
        self.table(kind).records.len()
    }

    /// Buckets of a table's index.
    pub fn buckets(&self, kind: Kind) -> u32 {
        self.table(kind).index.buckets().len() as u32
    }

    /// Whether there is a flow, a record of one that has just ended, or a handshake that may become one.
    pub fn is_in_use(&self, now: u64) -> bool {
        self.free() < self.capacity(Kind::Established).into() || self.going_on(now) > 0
    }

    /// Number of flows that are not over, and of handshakes that may become one. A handshake that was given up keeps
    /// its place until another one needs it. `now` is the monotonic clock in ns.
    pub fn going_on(&self, now: u64) -> usize {
        let goes_on = |(kind, _, flow): &(Kind, u32, Flow<A>)| match kind {
            Kind::Established => !State(flow.state).phase().is_over(),
            Kind::Handshakes => !ageing::is_given_up(flow, now),
        };
        self.all().filter(goes_on).count()
    }

    /// Sends the packets of flows to these backend addresses out by these interfaces from now on. Returns the number of
    /// flows that went by others.
    pub fn reroute(&self, interfaces: &BTreeMap<IpAddr, u32>) -> usize {
        let turned = |(kind, number, flow): &(Kind, u32, Flow<A>)| {
            let interface = interfaces.get(&flow.backend.destination.ip());
            interface.is_some_and(|interface| {
                let [before, to_client] = flow.oif;
                let records = &self.table(*kind).records;
                before != *interface && records.turn(*number, flow.oif, [*interface, to_client])
            })
        };
        self.all().filter(turned).count()
    }

    /// Bytes of the kernel's memory for each flow that there is room for, both directions: record, place in the
    /// index, place in the list of free ones.
    pub fn bytes_per_flow(&self) -> f64 {
        let table = &self.established;
        let words = table.index.all().len() + self.free.all().len();
        size_of::<Flow<A>>() as f64
            + (words * size_of::<u64>()) as f64 / f64::from(table.records.len().max(1))
    }

    /// Bytes of the kernel's memory for both tables, however many flows there are.
    pub fn bytes(&self) -> usize {
        let table = |table: &Table<A>| {
            table.records.len() as usize * size_of::<Flow<A>>() + size_of_val(table.index.all())
        };
        table(&self.established) + table(&self.handshakes) + size_of_val(self.free.all())
    }

    /// The state of a record.
    pub fn state(&self, kind: Kind, number: u32) -> State {
        self.table(kind).records.state(number)
    }

    /// A record of a flow that is in the index.
    pub fn live(&self, kind: Kind, number: u32) -> Option<Flow<A>> {
        if !self.state(kind, number).any(State::LIVE) {
            return None;
        }
        self.table(kind).records.copy(number).filter(|flow| State(flow.state).any(State::LIVE))
    }

    /// A record, whatever it is of.
    pub fn record(&self, number: u32) -> Option<Flow<A>> {
        self.established.records.copy(number)
    }

    /// Records to look at: none of established flows while all are free. Each page that is looked at counts as memory
    /// of the agent's.
    fn numbers(&self, kind: Kind) -> std::ops::Range<u32> {
        let is_empty = kind == Kind::Established && self.free() == u64::from(self.capacity(kind));
        0..if is_empty { 0 } else { self.capacity(kind) }
    }

    /// Every flow that is in an index.
    pub fn all(&self) -> impl Iterator<Item = (Kind, u32, Flow<A>)> + '_ {
        [Kind::Established, Kind::Handshakes].into_iter().flat_map(move |kind| {
            self.numbers(kind).filter_map(move |number| Some((kind, number, self.live(kind, number)?)))
        })
    }

    /// Every established flow, by its record's number.
    pub fn established(&self) -> impl Iterator<Item = (u32, Flow<A>)> + '_ {
        let kind = Kind::Established;
        self.numbers(kind).filter_map(move |number| Some((number, self.live(kind, number)?)))
    }

    /// Records of flows that were taken out of the index and not freed yet.
    pub fn retired(&self) -> impl Iterator<Item = Flow<A>> + '_ {
        self.numbers(Kind::Established)
            .filter(|number| self.state(Kind::Established, *number).any(State::RETIRED))
            .filter_map(|number| self.record(number))
    }

    /// The flow of a tuple.
    pub fn find(&self, config: &Config, key: &FlowKey<A>) -> Option<(Kind, u32, Direction)> {
        [Kind::Established, Kind::Handshakes].into_iter().find_map(|kind| {
            let reference = self.pair(config, kind, key)?.find()?;
            let flow = self.live(kind, reference.record())?;
            let is_it = flow.arriving(reference.direction()) == *key;
            is_it.then(|| (kind, reference.record(), reference.direction()))
        })
    }

    /// Adds bits to the state of a record.
    pub fn mark(&self, kind: Kind, number: u32, bits: u64) {
        if let Some(word) = self.table(kind).records.state_word(number) {
            word.fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Takes bits out of the state of a record.
    pub fn unmark(&self, kind: Kind, number: u32, bits: u64) {
        if let Some(word) = self.table(kind).records.state_word(number) {
            word.fetch_and(!bits, Ordering::AcqRel);
        }
    }

    /// Takes an established flow out of the index; false if somebody else has. Its record and its port are freed
    /// later, see [`Flows::release`].
    pub fn retire(&self, config: &Config, number: u32, flow: &Flow<A>) -> bool {
        let Some(word) = self.established.records.state_word(number) else { return false };
        let live = State(word.fetch_and(!State::LIVE, Ordering::AcqRel)).any(State::LIVE);
        if live {
            self.unlist(config, Kind::Established, number, flow);
            word.fetch_or(State::RETIRED, Ordering::AcqRel);
        }
        live
    }

    /// Frees a handshake's record and its port, unless a packet has changed it since `flow` was read. Until it is done
    /// the programs let the record be; one marked so by an agent that died meanwhile needs [`Flows::unmark`] alone.
    pub fn give_up(&self, config: &Config, ports: &PortsInUse, number: u32, flow: &Flow<A>) {
        let Some(word) = self.handshakes.records.state_word(number) else { return };
        let gone = flow.state & !State::LIVE | State::RETIRED;
        if word.compare_exchange(flow.state, gone, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.unlist(config, Kind::Handshakes, number, flow);
            ports.release(config, flow);
            word.fetch_and(!State::RETIRED, Ordering::AcqRel);
        }
    }

    fn unlist(&self, config: &Config, kind: Kind, number: u32, flow: &Flow<A>) {
        for direction in [Direction::ToBackend, Direction::ToClient] {
            if let Some(pair) = self.pair(config, kind, &flow.arriving(direction)) {
                pair.remove(Reference::new(number, direction));
            }
        }
    }

    /// Frees a retired record and its port, when no packet can be looking at them any more. Returns what else the flow
    /// had.
    pub fn release(&self, config: &Config, ports: &PortsInUse, number: u32) -> Option<Released> {
        let flow = self.established.records.copy(number)?;
        ports.release(config, &flow);
        let word = self.established.records.state_word(number)?;
        let old = State(word.fetch_and(GENERATION, Ordering::AcqRel));
        self.put_back(number);
        let listener = old.any(State::COUNTED).then_some(flow.listener);
        Some(Released { listener, translation: flow.translation })
    }

    /// Records that flows have, or had until a moment ago.
    pub fn taken(&self) -> u64 {
        u64::from(self.capacity(Kind::Established)) - self.free()
    }

    /// Records that nothing holds.
    pub fn free(&self) -> u64 {
        self.counter(TAIL).wrapping_sub(self.counter(HEAD)).min(self.capacity(Kind::Established).into())
    }

    /// Events that the programs had no room for in the ring buffer, since the maps were made.
    pub fn lost_events(&self) -> u64 {
        self.counter(LOST)
    }

    fn counter(&self, field: usize) -> u64 {
        self.counter_word(field).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn counter_word(&self, field: usize) -> Option<&AtomicU64> {
        self.pools.all().get(self.pool * POOL_WORDS + field)
    }

    /// Puts a record number behind the last free one. Only the agent does, so the ring has one writer.
    fn put_back(&self, number: u32) {
        let (Some(tail), capacity) = (self.counter_word(TAIL), u64::from(self.capacity(Kind::Established)))
        else {
            return;
        };
        let next = tail.load(Ordering::SeqCst);
        let Some(place) = next.checked_rem(capacity) else { return };
        self.set_free(place as usize, number);
        tail.store(next + 1, Ordering::SeqCst);
    }

    fn set_free(&self, place: usize, number: u32) {
        let Some(word) = self.free.all().get(place / 2) else { return };
        let shift = place % 2 * 32;
        let kept = word.load(Ordering::Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(kept | u64::from(number) << shift, Ordering::SeqCst);
    }

    /// Puts every record into the list of free ones.
    pub fn fill_free(&self) {
        for number in 0..self.capacity(Kind::Established) {
            self.set_free(number as usize, number);
        }
        if let Some(tail) = self.counter_word(TAIL) {
            tail.store(self.capacity(Kind::Established).into(), Ordering::SeqCst);
        }
    }

    /// Records that are neither in use nor in the list of free ones: lost by an agent that died between the two, or
    /// just being taken by a packet.
    pub fn lost(&self) -> BTreeSet<u32> {
        let capacity = self.capacity(Kind::Established);
        let is_idle =
            |number: &u32| !self.state(Kind::Established, *number).any(State::LIVE | State::RETIRED);
        let mut is_lost: Vec<bool> = self.numbers(Kind::Established).map(|number| is_idle(&number)).collect();
        let (head, tail) = (self.counter(HEAD), self.counter(TAIL));
        for place in (head..tail).filter_map(|count| count.checked_rem(capacity.into())) {
            let word = self.free.all().get(place as usize / 2).map_or(0, |word| word.load(Ordering::SeqCst));
            if let Some(is_lost) = is_lost.get_mut((word >> (place % 2 * 32)) as u32 as usize) {
                *is_lost = false;
            }
        }
        (0..capacity).zip(is_lost).filter(|(_, is_lost)| *is_lost).map(|(number, _)| number).collect()
    }

    /// Puts lost records back.
    pub fn put_back_lost(&self, lost: impl IntoIterator<Item = u32>) {
        lost.into_iter().for_each(|number| self.put_back(number));
    }

    fn pair(&self, config: &Config, kind: Kind, key: &FlowKey<A>) -> Option<Pair<'_, AtomicU64>> {
        let hash = Hash::new(config.index_key, key);
        let buckets = self.table(kind).index.buckets();
        let count = buckets.len() as u32;
        Some(Pair::new(
            hash,
            buckets.get(hash.home(count) as usize)?,
            buckets.get(hash.other(count) as usize)?,
        ))
    }

    /// Puts an established flow into a record of its own, as the programs do and while they do, from any thread. `None`
    /// if there is no room, or if there is a flow with one of its tuples; its port and its translation are the caller's then
    /// as before.
    pub fn put(&self, config: &Config, flow: &Flow<A>) -> Option<u32> {
        let number = self.take_free()?;
        let state = self.state(Kind::Established, number).next(flow.state | State::LIVE);
        self.established.records.put(number, &Flow { state: state.0, ..*flow });
        if self.enter(config, number, flow).is_err() {
            self.discard(config, number, &Flow { translation: NO_TRANSLATION, ..*flow });
            return None;
        }
        Some(number)
    }

    /// Takes a free record, against the programs and other threads.
    fn take_free(&self) -> Option<u32> {
        let (head, capacity) = (self.counter_word(HEAD)?, u64::from(self.capacity(Kind::Established)));
        let mut next = head.load(Ordering::SeqCst);
        while next != self.counter(TAIL) {
            let place = next.checked_rem(capacity)? as usize;
            let number = (self.free.all().get(place / 2)?.load(Ordering::SeqCst) >> (place % 2 * 32)) as u32;
            match head.compare_exchange(next, next + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(number),
                Err(taken) => next = taken,
            }
        }
        None
    }

    fn enter(&self, config: &Config, number: u32, flow: &Flow<A>) -> Result<(), Refused> {
        for direction in [Direction::ToBackend, Direction::ToClient] {
            let pair =
                self.pair(config, Kind::Established, &flow.arriving(direction)).ok_or(Refused::Full)?;
            pair.insert(Reference::new(number, direction))?;
        }
        Ok(())
    }

    /// Takes back what [`Flows::put`] put in. The port is the caller's again; a translation goes with the record.
    pub fn withdraw(&self, config: &Config, number: u32, flow: &Flow<A>) {
        self.unmark(Kind::Established, number, State::LIVE);
        self.discard(config, number, flow);
    }

    /// Sets how far the streams of a frozen flow, which no packet changes, have got, and when it was active.
    pub fn resume(&self, number: u32, halves: [Half; 2]) {
        self.established.records.resume(number, halves);
    }

    /// Changes a record's state if it is as it was; else returns what it is.
    pub fn change(&self, number: u32, from: State, to: State) -> Result<(), State> {
        let Some(word) = self.established.records.state_word(number) else { return Err(State::default()) };
        let done = word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire);
        done.map(drop).map_err(State)
    }

    /// Leaves a record that never came into use to the walk, which alone puts records back: without a port that it could
    /// free, and without a listener whose load has it. What translation it has is freed with it.
    fn discard(&self, config: &Config, number: u32, flow: &Flow<A>) {
        self.unlist(config, Kind::Established, number, flow);
        let generation = self.state(Kind::Established, number).0 & GENERATION;
        let discarded = Flow { state: generation | State::RETIRED, ports: NO_PORTS, ..*flow };
        self.established.records.put(number, &discarded);
    }
}

/// What a flow had besides its record and its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The listener whose load has it.
    pub listener: Option<ListenerId>,
    /// Its translation, see [`Flow::translation`].
    pub translation: u32,
}

/// The bitmaps of source ports in use.
#[derive(Debug)]
pub struct PortsInUse {
    words: Words,
    /// Bits that nobody known has: of an agent before this one, unless they are claimed again.
    suspected: Mutex<HashSet<u64>>,
}

impl PortsInUse {
    /// None suspected.
    pub(super) fn over(words: Words) -> Self {
        Self { words, suspected: Mutex::default() }
    }

    /// Claims a port in the bitmap that begins at a word, as the programs do and while they do. `None` if none was found
    /// free.
    pub fn claim(&self, config: &Config, base: u32) -> Option<u16> {
        let words = config.port_count / PORTS_PER_WORD;
        let probe = |_| {
            let index = fastrand::u32(..).checked_rem(words)?;
            let bit = ports::claim(self.word(base, index)?, fastrand::u32(..))?;
            self.suspects().remove(&place(base + index, bit));
            u16::try_from(config.first_port + index * PORTS_PER_WORD + bit).ok()
        };
        (0..PROBES).find_map(probe)
    }

    /// Gives a port of a bitmap back.
    pub fn release_port(&self, config: &Config, base: u32, port: u16) {
        let place = u32::from(port).wrapping_sub(config.first_port);
        if place < config.port_count
            && let Some(word) = self.word(base, place / PORTS_PER_WORD)
        {
            ports::release(word, place % PORTS_PER_WORD);
        }
    }

    /// Gives a flow's source port back, if it has one of ours.
    fn release<A: Address>(&self, config: &Config, flow: &Flow<A>) {
        if flow.ports != NO_PORTS {
            self.release_port(config, flow.ports, flow.backend.source_port.get());
        }
    }

    /// Ports in use of a bitmap, each by its place: the number of its bit.
    pub(super) fn places(&self, base: u32, words: u32) -> impl Iterator<Item = u64> {
        (base..base + words).flat_map(move |index| {
            let word = self.word(index, 0).map_or(0, |word| word.load(Ordering::Acquire));
            (0..PORTS_PER_WORD).filter(move |bit| word >> bit & 1 != 0).map(move |bit| place(index, bit))
        })
    }

    /// Whether a port is in use.
    pub(super) fn is_set(&self, place: u64) -> bool {
        let (index, bit) = (place / u64::from(PORTS_PER_WORD), place % u64::from(PORTS_PER_WORD));
        let word = self.words.all().get(index as usize).map_or(0, |word| word.load(Ordering::Acquire));
        word >> bit & 1 != 0
    }

    /// Notes ports in use that nobody known has. They are suspected until they are claimed through this.
    pub(super) fn suspect(&self, places: impl IntoIterator<Item = u64>) {
        self.suspects().extend(places);
    }

    /// Whether a port still is.
    pub(super) fn is_suspected(&self, place: u64) -> bool {
        self.suspects().contains(&place)
    }

    /// Gives a port back if it still is suspected.
    pub(super) fn release_suspected(&self, place: u64) {
        let (index, bit) = (place / u64::from(PORTS_PER_WORD), (place % u64::from(PORTS_PER_WORD)) as u32);
        if self.suspects().remove(&place)
            && let Some(word) = self.words.all().get(index as usize)
        {
            ports::release(word, bit);
        }
    }

    fn suspects(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word(&self, base: u32, index: u32) -> Option<&AtomicU64> {
        self.words.all().get(base as usize + index as usize)
    }

    /// Ports in use of a bitmap.
    pub fn count(&self, base: u32, words: u32) -> u32 {
        let range = base as usize..(base as usize + words as usize);
        self.words
            .all()
            .get(range)
            .unwrap_or_default()
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    /// Frees all ports of a bitmap that nobody uses.
    pub fn clear(&self, base: u32, words: u32) {
        let range = base as usize..(base as usize + words as usize);
        for word in self.words.all().get(range).unwrap_or_default() {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// Number of words.
    pub fn words(&self) -> u32 {
        self.words.all().len() as u32
    }
}

/// Number of a bit of `PORTS`.
fn place(word: u32, bit: u32) -> u64 {
    u64::from(word) * u64::from(PORTS_PER_WORD) + u64::from(bit)
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
