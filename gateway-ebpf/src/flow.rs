//! Finding the flow that a segment belongs to, or opening one, and following its TCP state.

use core::num::NonZeroU32;

use gateway_common::{
    Backend, Be16, Config, Direction, Flow, FlowKey, ListenerKey, Table, Verdict,
    config::PORT_PROBES,
    flow::{Seen, State},
};

use crate::{
    balance,
    maps::{self, Entry, Maps, Refused},
    packet::{self, Packet},
    parse::Segment,
};

/// The entry for a segment, and the verdict if it can be sent on.
#[inline(always)]
pub(crate) fn find_or_open<A: Maps>(
    packet: &Packet<'_>,
    segment: &Segment<A>,
) -> Result<(Entry<A>, Verdict), Verdict> {
    let mut verdict = Verdict::Steered;
    if let Some(entry) = Entry::find(&segment.key) {
        if !segment.opens() || !is_over(&entry) {
            check_hops(segment)?;
            return Ok((entry, Verdict::Forwarded));
        }
        // The old entries go even if no new flow can be opened: the stack's connection must not run into them.
        maps::remove(&entry.other());
        maps::remove(&segment.key);
        verdict = Verdict::Replaced;
    }
    let listener = ListenerKey::new(segment.key.destination, segment.key.destination_port);
    let table = maps::table(&listener).ok_or(Verdict::NotSteered)?;
    if !segment.opens() {
        return Err(Verdict::Miss);
    }
    check_hops(segment)?;
    Ok((open(packet, segment, &table)?, verdict))
}

/// Checked before anything is made or counted for the segment.
#[inline(always)]
fn check_hops<A>(segment: &Segment<A>) -> Result<(), Verdict> {
    if segment.hops <= 1 { Err(Verdict::HopLimit) } else { Ok(()) }
}

#[inline(always)]
fn is_over<A: Maps>(entry: &Entry<A>) -> bool {
    let other = Entry::find(&entry.other()).map_or(Seen::default(), |other| other.seen());
    State::of(entry.seen(), other).is_over()
}

/// Makes the two entries of a new flow.
#[inline(always)]
fn open<A: Maps>(packet: &Packet<'_>, segment: &Segment<A>, table: &Table) -> Result<Entry<A>, Verdict> {
    let config = maps::config().ok_or(Verdict::Unconfigured)?;
    let (id, backend) = balance::pick(config, table, &segment.key)?;
    let mut flow = Flow {
        created: packet::now(),
        last_seen: packet::now_coarse(),
        packets: 0,
        bytes: 0,
        rewritten: segment.key.reversed(),
        oif: packet.interface(),
        backend: id,
        idle_timeout: table.idle_timeout,
        seen: 0,
        direction: Direction::ToClient as u32,
    };
    let to_backend = claim_port(config, backend, &flow)?;
    flow.rewritten = to_backend;
    flow.oif = backend.oif;
    flow.direction = Direction::ToBackend as u32;
    match maps::insert(&segment.key, &flow) {
        Ok(()) => {}
        // Another CPU has just opened this flow, for the same SYN sent twice. Its entry holds.
        Err(Refused::Taken) => maps::remove(&to_backend.reversed()),
        Err(Refused::Full) => {
            maps::remove(&to_backend.reversed());
            return Err(Verdict::TableFull);
        }
    }
    Entry::find(&segment.key).ok_or(Verdict::TableFull)
}

/// Claims a source port towards the backend by making the entry for its answers: the table itself is the list of
/// the ports in use. Returns the tuple towards the backend.
#[inline(always)]
fn claim_port<A: Maps>(
    config: &Config,
    backend: &Backend<A>,
    to_client: &Flow<A>,
) -> Result<FlowKey<A>, Verdict> {
    let mut tuple = FlowKey {
        source: backend.source,
        destination: backend.address,
        source_port: backend.port,
        destination_port: backend.port,
    };
    let port_count = NonZeroU32::new(config.port_count).ok_or(Verdict::Unconfigured)?;
    // Each try is random: steps of any fixed length build clusters, which cost a third of the range.
    for _ in 0..PORT_PROBES {
        let port = config.first_port + packet::random() % port_count;
        tuple.source_port = Be16::new(port as u16);
        match maps::insert(&tuple.reversed(), to_client) {
            Ok(()) => return Ok(tuple),
            Err(Refused::Taken) => {}
            Err(Refused::Full) => return Err(Verdict::TableFull),
        }
    }
    Err(Verdict::PortsExhausted)
}

/// Counts a segment that is sent on, and follows the state.
#[inline(always)]
pub(crate) fn record<A: Maps>(entry: &Entry<A>, segment: &Segment<A>, now: u64, packet: &Packet<'_>) {
    entry.count(now, packet.segments(), packet.len());
    let mut bits = segment.flags;
    if bits & Seen::FIN != 0 && !entry.seen().any(Seen::FIN) {
        let other = Entry::find(&entry.other()).map_or(Seen::default(), |other| other.seen());
        if !other.any(Seen::FIN) {
            bits |= Seen::FIN_FIRST;
        }
    }
    entry.mark(bits);
}
