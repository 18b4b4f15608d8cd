//! Handshakes: opening a flow towards a backend, giving it another backend if that one is silent, and moving it
//! among the established flows when the client's ACK proves that it was not forged.

use gateway_common::{
    Backend, BackendId, Config, Direction, EventKind, FlowKey, Hash, ListenerKey, Seen, State, Table,
    Verdict, Word as _,
    backend::NO_BACKEND,
    flow::{NO_PORTS, ticks},
    hash,
    index::Refused,
};

use crate::{
    balance,
    flow::{self, Found},
    index,
    maps::{self, Maps},
    packet,
    parse::Segment,
    record::Record,
};

/// A client sends its SYN again after a second (RFC 6298); one that comes sooner was doubled on the way.
const SILENCE: u32 = 700;

/// Backends that are tried for a flow.
const ATTEMPTS: u32 = 4;

/// A first acknowledgement may be this far behind the backend's SYN: it may have sent data at once (RFC 7413).
const FIRST_WINDOW: u32 = 1 << 20;

/// What a record of a new flow is made of.
pub(crate) struct Opening<A> {
    pub(crate) client: FlowKey<A>,
    pub(crate) backend: FlowKey<A>,
    pub(crate) oif: [u32; 2],
    pub(crate) backend_id: BackendId,
    pub(crate) ports: u32,
    pub(crate) listener: u32,
    pub(crate) idle_timeout: u32,
    pub(crate) created: u64,
}

/// Opens a flow whose client is reached by `interface`.
#[inline(always)]
pub(crate) fn open<A: Maps>(
    segment: &Segment<A>,
    hash: Hash,
    table: &Table,
    interface: u32,
) -> Result<Found<A>, Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    let (id, backend) = balance::pick(config, table, &segment.key, 0)?;
    if !index::has_free::<A>() {
        return Err(Verdict::TableFull);
    }
    let created = packet::now();
    let record = room(config, created)?;
    let opening = Opening {
        client: segment.key,
        backend: towards(backend, &segment.key)?,
        oif: [backend.oif, interface],
        backend_id: id,
        ports: backend.ports,
        listener: table.listener,
        idle_timeout: table.idle_timeout,
        created,
    };
    let state = record.fill(&opening, State::LIVE);
    record.begin_stream(Direction::ToBackend, segment.sequence.wrapping_add(1));
    match list(config, &record, hash) {
        Ok(()) => Ok(Found { record, direction: Direction::ToBackend, state }),
        Err(verdict) => {
            record.unmark(State::LIVE);
            release_port(&record);
            Err(verdict)
        }
    }
}

/// The next record of the ring. Another handshake's is taken only if that is over, or has had its time.
#[inline(always)]
fn room<A: Maps>(config: &Config, now: u64) -> Result<Record<A>, Verdict> {
    let record = index::next_half::<A>(config).ok_or(Verdict::Unconfigured)?;
    if is_kept(config, &record, now) {
        return Err(Verdict::HandshakesFull);
    }
    if record.state().any(State::LIVE) {
        flow::retire(config, &record);
    }
    Ok(record)
}

/// Whether the next handshake would find no room. Reads and nothing else.
#[inline(always)]
pub(crate) fn is_full<A: Maps>(config: &Config) -> bool {
    index::peek_half::<A>(config).is_some_and(|record| is_kept(config, &record, packet::now()))
}

/// Whether a record is a handshake's that has not had its time, or one that the agent is just taking out of the index.
#[inline(always)]
fn is_kept<A: Maps>(config: &Config, record: &Record<A>, now: u64) -> bool {
    let state = record.state();
    let age = ticks(now).wrapping_sub(ticks(record.created()));
    let young = age < config.handshake_ticks && !state.phase().is_over();
    if state.any(State::LIVE) { young || state.any(State::WAITING) } else { state.any(State::RETIRED) }
}

/// Enters both directions of a new flow. The client's first: of two CPUs with the same SYN one must not get on.
#[inline(always)]
fn list<A: Maps>(config: &Config, record: &Record<A>, hash: Hash) -> Result<(), Verdict> {
    index::enter(record, hash, Direction::ToBackend).map_err(|refused| match refused {
        Refused::Taken => Verdict::Raced,
        Refused::Full => Verdict::HandshakesFull,
    })?;
    list_answers(config, record).inspect_err(|_| flow::unlist(config, record, Direction::ToBackend))
}

/// Enters the direction of the answers. A tuple with a port of our own choice is nobody else's; one with the
/// client's port may be, if the client has a flow to the same backend through another listener.
#[inline(always)]
fn list_answers<A: Maps>(config: &Config, record: &Record<A>) -> Result<(), Verdict> {
    let key = record.arriving(Direction::ToClient);
    let hash = Hash::new(config.index_key, &key);
    if record.ports() == NO_PORTS && flow::find(&key, hash).is_some() {
        return Err(Verdict::PortTaken);
    }
    index::enter(record, hash, Direction::ToClient).map_err(|refused| match refused {
        Refused::Taken => Verdict::PortTaken,
        Refused::Full => Verdict::HandshakesFull,
    })
}

/// The tuple towards a backend, with a source port claimed.
#[inline(always)]
fn towards<A: Maps>(backend: &Backend<A>, client: &FlowKey<A>) -> Result<FlowKey<A>, Verdict> {
    let (source, source_port) = if backend.ports == NO_PORTS {
        (client.source, client.source_port)
    } else {
        (backend.source, index::claim_port(backend.ports).ok_or(Verdict::PortsExhausted)?)
    };
    Ok(FlowKey { source, destination: backend.address, source_port, destination_port: backend.port })
}

/// Gives the source port of a handshake back.
#[inline(always)]
pub(crate) fn release_port<A: Maps>(record: &Record<A>) {
    let base = record.ports();
    if base != NO_PORTS {
        index::release_port(base, record.leaving(Direction::ToBackend).source_port);
    }
}

/// What a packet of a handshake does to it.
#[inline(always)]
pub(crate) fn follow<A: Maps>(
    segment: &Segment<A>,
    hash: Hash,
    found: Found<A>,
) -> Result<(Found<A>, Verdict), Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    match found.direction {
        Direction::ToBackend => from_client(config, segment, hash, found),
        Direction::ToClient => from_backend(config, segment, found),
    }
}

#[inline(always)]
fn from_client<A: Maps>(
    config: &Config,
    segment: &Segment<A>,
    hash: Hash,
    found: Found<A>,
) -> Result<(Found<A>, Verdict), Verdict> {
    let answered = found.state.seen(Direction::ToClient).any(Seen::SYN);
    if segment.opens() && !answered {
        found.record.begin_stream(Direction::ToBackend, segment.sequence.wrapping_add(1));
        return Ok(retry(config, segment, found));
    }
    if answered && segment.flags & (Seen::SYN | Seen::RST | Seen::ACK) == Seen::ACK {
        let expected = found.record.expected(Direction::ToClient);
        if segment.acknowledgement.wrapping_sub(expected) < FIRST_WINDOW {
            // The client has proved that the segment is its own: both of its numbers can be relied on.
            found.record.expect(Direction::ToBackend, segment.sequence);
            found.record.expect(Direction::ToClient, segment.acknowledgement);
            return establish(config, hash, found);
        }
    }
    Ok((found, Verdict::Forwarded))
}

#[inline(always)]
fn from_backend<A: Maps>(
    config: &Config,
    segment: &Segment<A>,
    found: Found<A>,
) -> Result<(Found<A>, Verdict), Verdict> {
    let answered = found.state.seen(Direction::ToClient).any(Seen::SYN);
    if segment.flags & (Seen::SYN | Seen::RST) == Seen::SYN {
        found.record.begin_stream(Direction::ToClient, segment.sequence.wrapping_add(1));
    } else if segment.flags & Seen::RST != 0 && !answered {
        flow::tell(&found.record, EventKind::Refused);
        if other_backend(config, &found.record).is_some() {
            found.record.mark(State::REFUSED);
            return Err(Verdict::HeldBack);
        }
    }
    Ok((found, Verdict::Forwarded))
}

/// A SYN sent again: if the backend refused or was silent, another one gets it, where there is another.
#[inline(always)]
fn retry<A: Maps>(config: &Config, segment: &Segment<A>, found: Found<A>) -> (Found<A>, Verdict) {
    let record = &found.record;
    let refused = found.state.any(State::REFUSED);
    let silence = ticks(packet::now_coarse()).wrapping_sub(record.last_seen(Direction::ToBackend));
    if !refused {
        if silence < SILENCE {
            return (found, Verdict::Forwarded);
        }
        flow::tell(record, EventKind::Unanswered);
    }
    let Some((id, backend)) = other_backend(config, record) else { return (found, Verdict::Forwarded) };
    let Ok(towards) = towards(backend, &segment.key) else { return (found, Verdict::Forwarded) };
    flow::unlist(config, record, Direction::ToClient);
    release_port(record);
    record.turn(&towards, backend.oif, id, backend.ports);
    record.unmark(State::REFUSED);
    // Refused only by one of the same tag, once in 10^9 cases: then the client tries again, with this backend.
    let _ = list_answers(config, record);
    (found, Verdict::Retried)
}

/// Another backend than a handshake has, if its listener still has one and not too many were tried.
#[inline(always)]
fn other_backend<A: Maps>(config: &Config, record: &Record<A>) -> Option<(BackendId, &'static Backend<A>)> {
    let id = other_id(config, record);
    Some((id, maps::backend(id)?))
}

/// [`NO_BACKEND`] if there is none. Functions that are not inlined neither take nor return an enum with values in it:
/// the linker's description of such types is one that the kernel refuses, and with it all others.
#[inline(never)]
fn other_id<A: Maps>(config: &Config, record: &Record<A>) -> BackendId {
    let key = record.arriving(Direction::ToBackend);
    let tried = record.attempts();
    if tried >= ATTEMPTS {
        return NO_BACKEND;
    }
    let Some(table) = maps::table(&ListenerKey::new(key.destination, key.destination_port)) else {
        return NO_BACKEND;
    };
    let chooser = hash::chooser(config.balance_key, table, &key, tried + 1);
    // The last answer is the one that counts, so the first choice is looked at last.
    let mut other = NO_BACKEND;
    for look in (0..hash::LOOKS).rev() {
        let place = hash::slot(hash::look(chooser, look), table.size);
        let id = maps::slot(table.base.wrapping_add(place)).unwrap_or(NO_BACKEND);
        other = if id == NO_BACKEND || id == record.backend_id() { other } else { id };
    }
    other
}

/// The client has acknowledged what only the backend could have told it: the flow moves among the established ones.
/// First it is entered there, then taken out here, so that every packet finds it.
#[inline(always)]
fn establish<A: Maps>(config: &Config, hash: Hash, found: Found<A>) -> Result<(Found<A>, Verdict), Verdict> {
    let old = &found.record;
    let Some(new) = index::take_free::<A>() else {
        // It goes on from here until there is room.
        old.mark(State::WAITING);
        return Ok((found, Verdict::Forwarded));
    };
    let state = new.fill_from(old);
    if enter_both(config, &new, hash).is_err() {
        // Another CPU is doing the same, or the index has no room just there.
        discard(&new);
        old.mark(State::WAITING);
        return Ok((found, Verdict::Forwarded));
    }
    if !old.unmark(State::LIVE).any(State::LIVE) {
        // Its time was over, and its port is gone.
        flow::unlist(config, &new, Direction::ToBackend);
        flow::unlist(config, &new, Direction::ToClient);
        discard(&new);
        return Err(Verdict::Miss);
    }
    flow::unlist(config, old, Direction::ToBackend);
    flow::unlist(config, old, Direction::ToClient);
    if let Some((flows, _)) = maps::load(new.listener()) {
        flows.add(1);
        new.mark(State::COUNTED);
    }
    flow::tell(&new, EventKind::Established);
    Ok((Found { record: new, direction: found.direction, state }, Verdict::Established))
}

#[inline(always)]
fn enter_both<A: Maps>(config: &Config, record: &Record<A>, hash: Hash) -> Result<(), Refused> {
    index::enter(record, hash, Direction::ToBackend)?;
    let answers = Hash::new(config.index_key, &record.arriving(Direction::ToClient));
    index::enter(record, answers, Direction::ToClient)
        .inspect_err(|_| flow::unlist(config, record, Direction::ToBackend))
}

/// Leaves a record that never came into use to the agent, without a port that it could free.
#[inline(always)]
fn discard<A: Maps>(record: &Record<A>) {
    record.forget_ports();
    record.unmark(State::LIVE);
    record.mark(State::RETIRED);
}
