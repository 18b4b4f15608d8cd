//! Finding the flow that a segment belongs to, or opening one, and following its TCP state.

use gateway_common::{
    Config, Direction, Event, EventKind, FlowKey, Hash, ListenerKey, Numbers, Seen, State, Verdict,
    flow::{NO_TRANSLATION, ticks},
};

use crate::{
    boundary::Steps,
    handshake, index, limit,
    maps::{self, Kind, Maps},
    packet::{self, Packet},
    parse::{Family, Segment},
    record::Record,
};

/// A flow's record, as a packet of one direction found it.
pub(crate) struct Found<A: 'static> {
    pub(crate) record: Record<A>,
    pub(crate) direction: Direction,
    /// As it was found; the generation tells whether the record is still this flow's.
    pub(crate) state: State,
}

impl<A: Maps> Found<A> {
    /// The tuple that the packet leaves with.
    #[inline(always)]
    pub(crate) fn leaving(&self) -> FlowKey<A> {
        self.record.leaving(self.direction)
    }

    /// Whether user space had the connection first.
    #[inline(always)]
    pub(crate) fn is_handed_over(&self) -> bool {
        self.record.translation() != NO_TRANSLATION
    }

    /// The interface that it leaves by.
    #[inline(always)]
    pub(crate) fn oif(&self) -> u32 {
        self.record.oif(self.direction)
    }
}

/// The flow of a tuple.
#[inline(always)]
pub(crate) fn find<A: Maps>(key: &FlowKey<A>, hash: Hash) -> Option<Found<A>> {
    match find_in(Kind::Flows, key, hash) {
        None => find_in(Kind::Half, key, hash),
        found => found,
    }
}

#[inline(always)]
fn find_in<A: Maps>(kind: Kind, key: &FlowKey<A>, hash: Hash) -> Option<Found<A>> {
    let reference = index::find::<A>(kind, hash)?;
    let record = Record::at(kind, reference.record())?;
    let direction = reference.direction();
    let state = record.state();
    let is_it = state.any(State::LIVE) && record.arriving(direction) == *key;
    is_it.then_some(Found { record, direction, state })
}

/// The flow of a segment, and the verdict if it can be sent on.
#[inline(always)]
pub(crate) fn find_or_open<A: Steps>(
    packet: &impl Packet,
    segment: &Segment<A>,
) -> Result<(Found<A>, Verdict), Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    limit::check_source(config, segment.key.source)?;
    let hash = Hash::new(config.index_key, &segment.key);
    let mut opened_as = Verdict::Steered;
    let outcome = A::find(segment, hash);
    if let Ok((found, verdict)) = outcome.found() {
        if !segment.opens() || !found.state.phase().is_over() {
            check(segment, &found)?;
            return if found.record.kind == Kind::Half && !found.state.any(State::CONDEMNED) {
                A::follow(segment, hash, outcome).found()
            } else if found.state.any(State::CONDEMNED) {
                Ok((found, Verdict::Reset))
            } else {
                Ok((found, verdict))
            };
        }
        // The old flow goes even if no new one can be opened: the stack's connection must not run into it.
        retire(config, &found.record);
        opened_as = Verdict::Replaced;
    }
    let listener = ListenerKey::new(segment.key.destination, segment.key.destination_port);
    let table = maps::table(&listener).ok_or(Verdict::NotSteered)?;
    if !segment.opens() {
        return Err(Verdict::Miss);
    }
    if segment.hops <= 1 {
        return Err(Verdict::HopLimit);
    }
    if segment.is_martian() {
        return Err(Verdict::Martian);
    }
    limit::check_rate(config, table, segment.key.source)?;
    let (found, _) = A::open(segment, hash, table, packet.interface()).found()?;
    Ok((found, opened_as))
}

/// The flow of a segment, if it is an established one that the segment changes nothing of. [`Verdict::Miss`] if there is
/// none at all.
#[inline(always)]
pub(crate) fn find_established<A: Steps>(segment: &Segment<A>) -> Result<(Found<A>, Verdict), Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    limit::check_source(config, segment.key.source)?;
    let hash = Hash::new(config.index_key, &segment.key);
    let (found, verdict) = A::find(segment, hash).found()?;
    // On the tuple of a flow that is over, or was handed over.
    let is_anew = segment.opens() && (found.state.phase().is_over() || found.is_handed_over());
    if found.record.kind == Kind::Half || is_anew || found.state.any(State::IN_TRANSIT) {
        return Err(Verdict::NoNeighbour);
    }
    if found.state.any(State::CONDEMNED) {
        return Ok((found, Verdict::Reset));
    }
    if segment.hops <= 1 { Err(Verdict::NoNeighbour) } else { Ok((found, verdict)) }
}

#[inline(always)]
fn check<A: Maps>(segment: &Segment<A>, found: &Found<A>) -> Result<(), Verdict> {
    // A reset needs no hop.
    if segment.hops <= 1 && !found.state.any(State::CONDEMNED) { Err(Verdict::Expired) } else { Ok(()) }
}

/// Takes a flow out of its index. The agent frees the record, and the port, when no packet can be looking at them.
#[inline(always)]
pub(crate) fn retire<A: Maps>(config: &Config, record: &Record<A>) {
    if record.unmark(State::LIVE).any(State::LIVE) {
        unlist(config, record, Direction::ToBackend);
        unlist(config, record, Direction::ToClient);
        match record.kind {
            Kind::Flows => drop(record.mark(State::RETIRED)),
            Kind::Half => handshake::release_port(record),
        }
    }
}

/// Gives up a flow that has just been opened: a socket has its tuple towards the backend.
#[inline(always)]
pub(crate) fn give_up<A: Maps>(found: &Found<A>) -> Verdict {
    if let Some(config) = maps::config() {
        retire(config, &found.record);
    }
    Verdict::PortTaken
}

/// Takes one direction of a record out of its index.
#[inline(never)]
pub(crate) fn unlist<A: Maps>(config: &Config, record: &Record<A>, direction: Direction) {
    index::remove(record, Hash::new(config.index_key, &record.arriving(direction)), direction);
}

/// Counts a segment that is sent on, and follows the state.
#[inline(always)]
pub(crate) fn record<A: Family>(found: &Found<A>, segment: &Segment<A>, packet: &impl Packet) {
    let Found { record, direction, .. } = found;
    record.count(*direction, ticks(packet::now_coarse()), packet.segments());
    let before = record.state();
    // Nobody has told yet where the ends of a handshake begin.
    let is_open = record.kind == Kind::Flows || before.any(State::WAITING);
    let mut seen = if is_open { believe(found, segment) } else { segment.flags };
    if seen & Seen::FIN != 0 {
        record.end_stream(*direction, segment.sequence.wrapping_add(segment.payload));
        if !before.seen(*direction).any(Seen::FIN) && !before.seen(direction.reversed()).any(Seen::FIN) {
            seen |= Seen::FIN_FIRST;
        }
    }
    let bits = State::bits(*direction, seen);
    let before = record.mark(bits);
    if record.kind == Kind::Flows && State(before.0 | bits).phase().is_over() && !before.phase().is_over() {
        tell(record, EventKind::Closed);
    }
}

/// Those of a segment's flags that its numbers speak for. Keeps what the sender acknowledges, if they do: so a stranger
/// cannot shift the numbers, and with them what is believed next. What the two ends send at once may be kept in any order.
#[inline(always)]
fn believe<A: Family>(found: &Found<A>, segment: &Segment<A>) -> u32 {
    let Found { record, direction, .. } = found;
    let latest = Numbers {
        sequence: record.expected(*direction),
        acknowledgement: record.expected(direction.reversed()),
    };
    let numbers = Numbers { sequence: segment.sequence, acknowledgement: found.acknowledged(segment) };
    let has_news = numbers.acknowledgement != latest.acknowledgement;
    if segment.flags & Seen::ACK != 0 && has_news && numbers.fit(latest) {
        record.expect(direction.reversed(), numbers.acknowledgement);
    }
    numbers.believed(segment.flags, latest)
}

/// Tells the agent of a flow.
#[inline(never)]
pub(crate) fn tell<A: Maps>(record: &Record<A>, kind: EventKind) {
    maps::tell(&Event {
        time: packet::now(),
        kind: kind as u32,
        family: A::FAMILY,
        record: record.number,
        generation: record.state().generation(),
        backend: record.backend_id(),
        ..Event::default()
    });
}
