//! A flow while it is frozen: the only time in which its sockets' numbers mean the same to everybody.

use std::sync::Arc;

use gateway_common::flow::ticks;
use gateway_common::translation::End;
use gateway_common::{Address, Direction, Flow, FlowKey, Half, ListenerId, Seen, State, Translation};

use super::super::flows::{Flows, Kind};
use super::super::stats;
use super::super::targets::Tables;
use super::super::view::Tuple;
use super::fault::{self, Step};
use super::refusal::Refusal;
use super::settling::HandedOver;
use super::socket::{self, Numbers};
use super::{Agreed, Connection};

const NS_PER_MS: u64 = 1_000_000;

/// What is known of a connection before it is frozen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Interfaces towards backend and client.
    pub(super) oif: [u32; 2],
    pub(super) listener: ListenerId,
    /// What packets may have towards client and backend: the largest segment, in bytes.
    pub(super) segments: [u32; 2],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Frozen<A> {
    flows: Arc<Flows<A>>,
    tables: Arc<Tables>,
    number: u32,
    flow: Flow<A>,
}

impl<A: Address> Frozen<A> {
    /// Enters a connection's flow: from now on it is frozen.
    pub(super) fn enter(
        flows: Arc<Flows<A>>,
        tables: &Arc<Tables>,
        way: Way,
        connection: &Connection,
    ) -> Result<Self, Refusal> {
        let translation = tables.translations.take().ok_or(Refusal::NoTranslation)?;
        let entered = flow(connection, way, translation).and_then(|flow| {
            let number = flows.put(&tables.config, &flow).ok_or(Refusal::NoRecord)?;
            Ok((number, flow))
        });
        match entered {
            Ok((number, flow)) => Ok(Self { flows, tables: tables.clone(), number, flow }),
            Err(refusal) => {
                tables.translations.give_back(translation);
                Err(refusal)
            }
        }
    }

    /// Takes the flow out again, as if it had never been there. If the programs have given it up, it is returned.
    pub(super) fn thaw(self) -> Option<HandedOver> {
        let state = self.flows.state(Kind::Established, self.number);
        if state.any(State::CONDEMNED) {
            return Some(HandedOver::new(self.flows, self.tables, self.number, state.generation()));
        }
        self.flows.withdraw(&self.tables.config, self.number, &self.flow);
        None
    }

    /// Lets the flow go on by the programs; an error if they have given it up.
    pub(super) fn activate(
        self,
        numbers: [Numbers; 2],
        connection: &Connection,
    ) -> Result<HandedOver, HandedOver> {
        let unsent = [&connection.to_client, &connection.to_backend].map(Vec::len);
        let translation = translation(numbers, unsent);
        self.tables.translations.write(self.flow.translation, &translation);
        fault::reached(Step::Translated);
        self.flows.resume(self.number, halves(connection, translation.ends.map(|end| end.taken)));
        let mut bits = 0;
        for (direction, (numbers, unsent)) in
            [Direction::ToBackend, Direction::ToClient].into_iter().zip(numbers.into_iter().zip(unsent))
        {
            if numbers.in_flight > 0 || unsent > 0 {
                bits |= State::held(direction);
            }
            if unsent > 0 {
                bits |= State::UNSENT;
            }
        }
        let frozen = self.flows.state(Kind::Established, self.number);
        let going_on = State(frozen.0 & !State::FROZEN | bits);
        // Nobody changes the state of a frozen flow but to give it up.
        let changed = frozen.any(State::FROZEN)
            && !frozen.any(State::CONDEMNED)
            && self.flows.change(self.number, frozen, going_on).is_ok();
        fault::reached(Step::Activated);
        let handed_over = HandedOver::new(self.flows, self.tables, self.number, frozen.generation());
        if changed { Ok(handed_over) } else { Err(handed_over) }
    }
}

/// Reads what the sockets of a connection that is frozen have received, and their numbers. An error if both ends cannot go
/// on with what each agreed on.
pub(super) fn read(connection: &mut Connection, way: Way) -> Result<[Numbers; 2], Refusal> {
    socket::drain(&connection.client, &mut connection.to_backend)?;
    socket::drain(&connection.backend, &mut connection.to_client)?;
    fault::reached(Step::Drained);
    let now_ms = || (stats::monotonic() / NS_PER_MS) as u32;
    let client = socket::numbers(&connection.client, now_ms)?;
    let backend = socket::numbers(&connection.backend, now_ms)?;
    Agreed::of(&[client, backend]).check(way.segments)?;
    // What an end has no room for it may not acknowledge before it has been heard itself; but what the other end has
    // acknowledged meanwhile would be beyond its window, and be nothing to it.
    if client.has_room(connection.to_client.len()) && backend.has_room(connection.to_backend.len()) {
        Ok([client, backend])
    } else {
        Err(Refusal::Busy)
    }
}

/// The record of a connection that is frozen.
fn flow<A: Address>(connection: &Connection, way: Way, translation: u32) -> Result<Flow<A>, Refusal> {
    let target = connection.port.target();
    let backend = Tuple { source: connection.port.address(), destination: target.address };
    let open = Seen::SYN | Seen::ACK;
    Ok(Flow {
        client: key(connection.client_side)?,
        backend: key(backend)?,
        oif: way.oif,
        backend_id: target.id,
        listener: way.listener,
        ports: target.ports,
        idle_timeout: u32::try_from(connection.idle_timeout.as_secs()).unwrap_or(u32::MAX).max(1),
        attempts: 0,
        translation,
        ends: [0; 2],
        created: connection.created,
        state: State::FROZEN
            | State::START_TOLD
            | State::bits(Direction::ToBackend, open)
            | State::bits(Direction::ToClient, open),
        halves: halves(connection, [0; 2]),
    })
}

/// How far the streams of both ends have got, when `next` are the numbers behind all that was taken from them.
fn halves(connection: &Connection, next: [u32; 2]) -> [Half; 2] {
    let last_seen = ticks(stats::monotonic());
    let half = |next: u32, carried: u64, held: &[u8]| Half {
        last_seen,
        ..Half::resumed(next, carried + held.len() as u64)
    };
    let ([client, backend], [from_client, from_backend]) = (next, connection.carried);
    [half(client, from_client, &connection.to_backend), half(backend, from_backend, &connection.to_client)]
}

fn key<A: Address>(tuple: Tuple) -> Result<FlowKey<A>, Refusal> {
    tuple.key().ok_or(Refusal::Families)
}

/// How each end's segments are told to the other. `unsent` is what the socket to each end has still to be given.
fn translation(numbers: [Numbers; 2], unsent: [usize; 2]) -> Translation {
    let agreed = Agreed::of(&numbers);
    let [client_shift, backend_shift] = agreed.shifts();
    let [client_flags, backend_flags] = agreed.marks();
    let end = |numbers: Numbers, unsent: usize, (shift, flags)| End {
        taken: numbers.next_in,
        owed: numbers.next_out.wrapping_add(unsent as u32),
        shift,
        flags,
        clock: numbers.clock,
        stamps: 0,
    };
    let ([client, backend], [to_client, to_backend]) = (numbers, unsent);
    let client = end(client, to_client, (client_shift, client_flags));
    let backend = end(backend, to_backend, (backend_shift, backend_flags));
    Translation { ends: [client, backend], ..Translation::default() }
}
