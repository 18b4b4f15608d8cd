//! What the flow tables are made of: the indexes, the records that are free, the ring of handshakes, and the bitmaps of
//! source ports.
#![expect(unsafe_code, reason = "exported functions, and words of map values")]

use core::num::NonZeroU32;

use gateway_common::{
    Addr4, Addr6, Be16, Config, Direction, Hash, Pair, Reference, Word as _,
    index::Refused,
    ports::{self, PORTS_PER_WORD, PROBES},
};

use crate::{
    maps::{HALFIDX4, HALFIDX6, INDEX4, INDEX6, Kind, Maps, POOLS, PORTS, config},
    packet::random,
    record::Record,
    shared::Shared,
};

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

/// The same record without taking it.
#[inline(always)]
pub(crate) fn peek_half<A: Maps>(config: &Config) -> Option<Record<A>> {
    let (_, _, half) = pool::<A>()?;
    let number = half.load().checked_rem(config.half_flows.into())? as u32;
    Record::at(Kind::Half, number)
}

/// Leaves that record out.
#[inline(always)]
pub(crate) fn skip_half<A: Maps>() {
    if let Some((_, _, half)) = pool::<A>() {
        half.add(1);
    }
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
