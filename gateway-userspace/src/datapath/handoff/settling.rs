//! A connection that the kernel carries, while the sockets that it had still owe something to their peers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_common::{Address, Direction, Phase, State};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::flows::{Flows, Kind};
use super::super::targets::{Hold, Tables};
use super::fault::{self, Step};
use super::{Connection, socket};
use crate::net::repair::TcpInfo;
use crate::net::{repair, socket as sockets};

/// How often it is looked whether a peer has acknowledged: mostly it has after one round trip.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// A flow that was handed over, by the use of its record.
pub(super) struct HandedOver {
    record: Box<dyn Record>,
    generation: u32,
}

impl fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedOver").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A record of either family.
trait Record {
    fn state(&self) -> State;
    fn change(&self, from: State, to: State) -> Result<(), State>;
}

struct Of<A> {
    flows: Arc<Flows<A>>,
    number: u32,
    /// Another agent leaves the flow to this one as long as it is held.
    _tables: Arc<Tables>,
}

impl<A: Address> Record for Of<A> {
    fn state(&self) -> State {
        self.flows.state(Kind::Established, self.number)
    }

    fn change(&self, from: State, to: State) -> Result<(), State> {
        self.flows.change(self.number, from, to)
    }
}

impl HandedOver {
    pub(super) fn new<A: Address>(
        flows: Arc<Flows<A>>,
        tables: Arc<Tables>,
        number: u32,
        generation: u32,
    ) -> Self {
        Self { record: Box::new(Of { flows, number, _tables: tables }), generation }
    }

    /// The state, as long as the record is this flow's.
    fn state(&self) -> Option<State> {
        let state = self.record.state();
        (state.any(State::LIVE) && state.generation() == self.generation).then_some(state)
    }

    /// Changes bits of the state.
    fn alter(&self, set: u64, clear: u64) {
        let mut state = self.record.state();
        while state.generation() == self.generation {
            match self.record.change(state, State(state.0 & !clear | set)) {
                Ok(()) => return,
                Err(now) => state = now,
            }
        }
    }
}

/// One socket, and what it owes.
#[derive(Debug)]
struct Owing {
    /// Of the segments of its peer.
    direction: Direction,
    stream: TcpStream,
    unsent: Vec<u8>,
}

/// See the module. Dropping it resets the connection if anything is still unsent.
#[derive(Debug)]
pub struct Settling {
    flow: HandedOver,
    owing: Vec<Owing>,
    /// Sockets that are no more.
    withdrawn: u32,
    /// If one of them speaks under the client's address.
    _speaker: Option<Hold>,
}

impl Settling {
    /// Sends what is to be sent as far as the sockets take it, and withdraws those that owe nothing.
    pub(super) fn begin(flow: HandedOver, connection: Connection) -> Self {
        let Connection { client, backend, port, to_backend, to_client, say_rst, .. } = connection;
        // It is the record's now.
        let speaker = port.keep();
        if say_rst {
            // What it still owes is the kernel's to bring, whatever becomes of this process; the guard knows what is lost.
            for stream in [&client, &backend] {
                sockets::reset_when_closed(stream, false);
            }
        }
        let mut owing = vec![
            Owing { direction: Direction::ToBackend, stream: client, unsent: to_client },
            Owing { direction: Direction::ToClient, stream: backend, unsent: to_backend },
        ];
        owing.iter_mut().for_each(Owing::send_now);
        let mut settling = Self { flow, owing, withdrawn: 0, _speaker: speaker };
        // Until then both sockets stay: by their closing, both ends learn of an agent's death.
        if settling.owing.iter().all(|end| end.unsent.is_empty()) {
            settling.all_sent();
            settling.withdraw_settled();
        }
        settling
    }

    /// Of a connection that is no more: both ends are reset.
    pub(super) fn broken(flow: HandedOver, connection: Connection) -> Self {
        flow.alter(State::CONDEMNED, State::FROZEN);
        let speaker = connection.port.keep();
        for stream in [connection.client, connection.backend] {
            sockets::reset(stream);
        }
        Self { flow, owing: Vec::new(), withdrawn: 2, _speaker: speaker }
    }

    /// Sends the rest, and waits until all is acknowledged.
    pub async fn finish(mut self) {
        let has_rest = self.owing.iter().any(|end| !end.unsent.is_empty());
        // Not in turn: an end may read nothing before the other has heard all.
        if let [one, other] = self.owing.as_mut_slice()
            && tokio::try_join!(one.send_all(), other.send_all()).is_err()
        {
            // Without these bytes the connection is worth nothing.
            return;
        }
        if has_rest {
            self.all_sent();
        }
        let mut pause = FIRST_LOOK;
        while !self.owing.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
            self.withdraw_settled();
        }
    }

    fn all_sent(&self) {
        fault::reached(Step::RestSent);
        self.flow.alter(0, State::UNSENT);
    }

    /// Withdraws the sockets that owe nothing.
    fn withdraw_settled(&mut self) {
        for end in std::mem::take(&mut self.owing) {
            if !self.is_settled(&end) {
                self.owing.push(end);
                continue;
            }
            socket::withdraw(end.stream);
            self.withdrawn += 1;
            fault::reached(if self.withdrawn == 1 { Step::OneWithdrawn } else { Step::BothWithdrawn });
        }
    }

    /// Whether a socket is of no use any more.
    fn is_settled(&self, end: &Owing) -> bool {
        let held = State::held(end.direction);
        let Some(state) = self.flow.state() else { return true };
        if !state.any(held) || state.any(State::CONDEMNED) || state.phase() == Phase::Reset {
            return true;
        }
        if repair::unacknowledged(&end.stream).is_ok_and(|bytes| bytes == 0) {
            // The acknowledgement came before the programs knew what to wait for.
            self.flow.alter(0, held);
            return true;
        }
        // A FIN that had passed the programs before the freeze may have come to the socket: its end sends it again.
        if !repair::info(&end.stream).is_ok_and(|info| info.state != TcpInfo::CLOSED) {
            // The kernel gave up sending.
            self.flow.alter(State::CONDEMNED, 0);
            return true;
        }
        false
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if self.owing.iter().any(|end| !end.unsent.is_empty()) {
            self.flow.alter(State::CONDEMNED, 0);
            for end in self.owing.drain(..) {
                sockets::reset(end.stream);
            }
        }
        // What was sent is the kernel's to bring: a socket that is closed goes on until it is acknowledged.
    }
}

impl Owing {
    /// Sends what the socket takes at once.
    fn send_now(&mut self) {
        while !self.unsent.is_empty() {
            match socket2::SockRef::from(&self.stream).send(fault::portion(&self.unsent)) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    fault::reached(Step::PartSent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A full buffer, or a socket that failed: whoever sends the rest finds out.
                Err(_) => return,
            }
        }
    }

    async fn send_all(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.stream.write_all(&self.unsent).await?;
            self.unsent = Vec::new();
        }
        Ok(())
    }
}
