//! Flows that the gateway gives up while their ends still believe in them: condemned ones, silent for too long or without
//! their backend. Each packet of theirs is answered by a reset, but an end that waits in silence sends none. So each end
//! is told, by a socket that is made for it in repair mode and says two things.
//!
//! First an empty segment that the end has had already: it answers with its numbers (RFC 9293 section 3.10.7.4), and the
//! programs answer that by a reset with the right one. Then a reset with the number that the record has. One alone would
//! not do: the record may lag behind or, where somebody forged an acknowledgement, be ahead. With the very number, which
//! a silent flow has, the reset is taken; ahead of it within the window the segment is no news, and the reset is asked
//! about (RFC 5961 section 3.2); anywhere else the reset is left out, and the segment is answered. And where segments
//! without timestamp are not (RFC 7323 section 3.2), resets are.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gateway_common::{Address, Config, Direction, Flow, Half, Seen, State, Translation};
use socket2::{Domain, Protocol, Socket, Type};

use super::ageing;
use super::flows::{Flows, Kind};
use super::tally::Ended;
use super::translations::Translations;
use super::view::Tuple;
use crate::net::repair::{self, Queue};

/// What a step may take, to which the agent's thread comes ten times a second. A flow takes 0.1 to 0.3 ms in a debug
/// build, most of it the kernel's for the packets.
const SLICE: Duration = Duration::from_millis(30);

/// For so long an answer may be on its way, and finds the record that resets its sender.
const LINGER: Duration = Duration::from_secs(5);

/// A condemned flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    number: u32,
    generation: u32,
}

/// The condemned flows of an address family.
#[derive(Debug, Default)]
pub struct Farewells {
    known: HashSet<u32>,
    waiting: VecDeque<Leaving>,
    /// Until when their records stay.
    said: VecDeque<(Instant, Leaving)>,
}

impl Farewells {
    /// Takes a condemned flow, by its record's number and state; one that has been taken before not again.
    pub fn add(&mut self, number: u32, state: State) {
        if self.known.insert(number) {
            self.waiting.push_back(Leaving { number, generation: state.generation() });
        }
    }

    /// Tells the ends of some flows, and takes those out of the table that were told a while ago. Returns the flows that
    /// nobody has told of yet. `now` is the monotonic clock in ns.
    pub fn step<A: Address>(
        &mut self,
        flows: &Flows<A>,
        translations: &Translations,
        config: &Config,
        now: u64,
    ) -> Vec<Ended> {
        let begun = Instant::now();
        while let Some((_, leaving)) = self.said.pop_front_if(|(due, _)| *due <= begun) {
            self.known.remove(&leaving.number);
            if let Some(flow) = leaving.flow(flows) {
                flows.retire(config, leaving.number, &flow);
            }
        }
        let mut ended = Vec::new();
        while begun.elapsed() < SLICE
            && let Some(leaving) = self.waiting.pop_front()
        {
            if let Some(flow) = leaving.flow(flows) {
                ended.extend(leaving.part(flows, translations, &flow, now));
                self.said.push_back((begun + LINGER, leaving));
            } else {
                self.known.remove(&leaving.number);
            }
        }
        ended
    }
}

impl Leaving {
    /// The flow, if its record is still its own.
    fn flow<A: Address>(self, flows: &Flows<A>) -> Option<Flow<A>> {
        let flow = flows.live(Kind::Established, self.number)?;
        (State(flow.state).generation() == self.generation).then_some(flow)
    }

    /// Tells both ends, unless they have closed. Returns the flow if nobody has told of it yet.
    fn part<A: Address>(
        self,
        flows: &Flows<A>,
        translations: &Translations,
        flow: &Flow<A>,
        now: u64,
    ) -> Option<Ended> {
        // From here on a SYN may open another flow on the tuple, as a client's may that is told; all else is answered as
        // before.
        let over = State::bits(Direction::ToClient, Seen::RST) | State::TOLD;
        flows.mark(Kind::Established, self.number, over);
        if !State(flow.state).phase().is_over() {
            tell(flow, translations.read(flow.translation));
        }
        ageing::news(flow, now)
    }
}

/// Lets both ends of a flow know that it is no more.
fn tell<A: Address>(flow: &Flow<A>, translation: Option<Translation>) {
    for direction in [Direction::ToClient, Direction::ToBackend] {
        let last_word = LastWord::of(flow, translation.as_ref(), direction);
        // Whoever cannot be reached learns of it by its own next packet.
        if let Err(error) = last_word.say() {
            tracing::debug!(?last_word, %error, "cannot tell an end that its flow is reset");
        }
    }
}

/// What the gateway says to an end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastWord {
    /// In whose name, and to whom.
    tuple: Tuple,
    /// By which interface; 0 if the record knows none.
    interface: u32,
    /// The number that the end expects next.
    sequence: u32,
    /// The number that is expected from it.
    expected: u32,
}

impl LastWord {
    fn of<A: Address>(flow: &Flow<A>, translation: Option<&Translation>, direction: Direction) -> Self {
        let expected = |of: Direction| flow.halves.get(of as usize).map_or(0, Half::expected);
        let shift = translation.map_or(0, |translation| translation.sequence(direction));
        Self {
            tuple: Tuple::of(&flow.leaving(direction)),
            interface: flow.oif.get(direction as usize).copied().unwrap_or(0),
            sequence: expected(direction).wrapping_add(shift),
            expected: expected(direction.reversed()),
        }
    }

    fn say(&self) -> io::Result<()> {
        let Tuple { source, destination } = self.tuple;
        let socket = Socket::new(Domain::for_address(source), Type::STREAM, Some(Protocol::TCP))?;
        repair::enter(&socket)?;
        // The source may be the client's own address, or one that has gone from this node.
        repair::make_transparent(&socket, source.is_ipv6())?;
        leave_by(&socket, source.ip(), self.interface)?;
        socket.bind(&source.into())?;
        repair::set_queue_sequence(&socket, Queue::Send, self.sequence)?;
        repair::set_queue_sequence(&socket, Queue::Receive, self.expected)?;
        socket.connect(&SocketAddr::into(destination))?;
        repair::leave(&socket, true)?;
        // Closing it resets the connection.
        socket.set_linger(Some(Duration::ZERO))
    }
}

/// Has a socket send by an interface, as the programs do, whatever the routing table prefers.
fn leave_by(socket: &Socket, source: IpAddr, interface: u32) -> io::Result<()> {
    let interface = NonZeroU32::new(interface);
    if source.is_ipv4() {
        socket.bind_device_by_index_v4(interface)
    } else {
        socket.bind_device_by_index_v6(interface)
    }
}
