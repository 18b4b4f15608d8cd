//! Handing an established connection over to the kernel: its two sockets are withdrawn, and the programs tell each end's
//! segments in the other's terms from then on. `gateway_common::handover` has what the programs do meanwhile.
//!
//! In this order, because of what each step protects the next from:
//! 1. The flow is entered *frozen*. Nothing that has a place in either stream comes in, nothing leaves.
//! 2. What the sockets have received is read, to be sent on by the other socket.
//! 3. Their numbers are read (`TCP_REPAIR`). A segment that had passed the programs before they were frozen may come still:
//!    it is never acknowledged, so that its sender sends it again.
//! 4. The translation is written, and the flow *goes on*: data of both ends by the kernel from here on.
//! 5. The sockets send what was read, and live until their peers have acknowledged all that they ever sent; then they
//!    are closed without a word.
//!
//! Up to the end of step 3 everything can be taken back.

mod fault;
mod frozen;
mod ledger;
mod refusal;
mod settling;
mod socket;
mod tally;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_common::translation::End;
use tokio::net::TcpStream;

use self::fault::Step;
use self::frozen::Frozen;
pub use self::ledger::{Entry, EntryView, Identity, Ledger, Standing};
pub use self::refusal::Refusal;
pub use self::settling::Settling;
use self::socket::Numbers;
pub use self::tally::{Tallied, Tally};
use super::routes::Routes;
use super::targets::{HEADERS4, HEADERS6, SourcePort, Tables, Target, Targets};
use super::view::Tuple;
use crate::model::ListenerKey;
use crate::net::repair::TcpInfo;

/// How long the way to a client is taken for known.
const WAY_IS_FRESH: Duration = Duration::from_secs(1);
/// Ways that are remembered.
const MOST_WAYS: usize = 4096;

/// A connection that user space serves so far.
#[derive(Debug)]
pub struct Connection {
    /// The client's address, and the one that it connected to.
    pub client_side: Tuple,
    /// To the client.
    pub client: TcpStream,
    /// To the backend.
    pub backend: TcpStream,
    /// The port that `backend` was bound to.
    pub port: SourcePort,
    /// Where the client connected to.
    pub listener: ListenerKey,
    /// So long may both ends be silent.
    pub idle_timeout: Duration,
    /// Monotonic clock when the client connected, in ns.
    pub created: u64,
    /// Bytes that were brought from client and backend to the other one before.
    pub carried: [u64; 2],
    /// What was read from the client and not sent on yet.
    pub to_backend: Vec<u8>,
    /// What was read from the backend and not sent on yet.
    pub to_client: Vec<u8>,
    /// Whether its sockets say RST when they are closed, as a relay's do.
    pub say_rst: bool,
    /// What goes into the ledger with it.
    pub entry: Entry,
}

/// A connection that stays as it was. What was read on the way is behind what was there.
#[derive(Debug)]
pub struct Kept {
    /// The connection.
    pub connection: Connection,
    /// Why.
    pub refusal: Refusal,
}

/// Hands connections over; each worker has its own.
#[derive(Debug)]
pub struct Handoff {
    routes: Routes,
    ways: HashMap<IpAddr, (Option<u32>, Instant)>,
    ledger: Arc<Ledger>,
}

/// What the two ends agreed on with the gateway, and may go on with.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    client: TcpInfo,
    backend: TcpInfo,
}

impl Handoff {
    /// Must be called in the network namespace that the connections are of.
    pub fn open(ledger: Arc<Ledger>) -> io::Result<Self> {
        Ok(Self { routes: Routes::open()?, ways: HashMap::new(), ledger })
    }

    /// Hands a connection over, in some ten µs. What is returned still has to be seen to its end.
    pub fn hand_over(
        &mut self,
        targets: &Targets,
        mut connection: Connection,
    ) -> Result<Settling, Box<Kept>> {
        let begun = Instant::now();
        let identity = Identity { client_side: connection.client_side, created: connection.created };
        self.ledger.enter(identity, std::mem::take(&mut connection.entry));
        let mut result = self.attempt(targets, connection);
        match &mut result {
            Ok(_) => self.ledger.tally.succeeded(begun.elapsed()),
            Err(kept) => {
                self.ledger.tally.refused(&kept.refusal);
                kept.connection.entry = self.ledger.take(identity).unwrap_or_default();
            }
        }
        result
    }

    fn attempt(&mut self, targets: &Targets, connection: Connection) -> Result<Settling, Box<Kept>> {
        let checked = self.check(targets, &connection);
        let (tables, way) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return Err(Box::new(Kept { connection, refusal })),
        };
        if connection.client_side.source.is_ipv4() {
            proceed(tables.v4.clone(), &tables, way, connection)
        } else {
            proceed(tables.v6.clone(), &tables, way, connection)
        }
    }

    /// What can be told without freezing the flow, which costs the more of the two.
    fn check(
        &mut self,
        targets: &Targets,
        connection: &Connection,
    ) -> Result<(Arc<Tables>, frozen::Way), Refusal> {
        let tables = targets.tables().ok_or(Refusal::NoPlane)?;
        let listener = targets.listener(connection.listener).ok_or(Refusal::NoListener)?;
        let client = connection.client_side.source.ip();
        let target = connection.port.target();
        if client.is_ipv4() != target.source.is_ipv4() {
            return Err(Refusal::Families);
        }
        let to_client = self.way(client).ok_or(Refusal::ClientInterface)?;
        let client_mtu = targets.mtu(to_client).ok_or(Refusal::ClientInterface)?;
        if socket::is_translated(&connection.client, connection.client_side.destination) {
            return Err(Refusal::Translated);
        }
        let segments = [client_mtu, target.mtu].map(|mtu| mtu.saturating_sub(headers(target.source)));
        Ok((tables.clone(), frozen::Way { oif: [target.oif, to_client], listener, segments }))
    }

    /// The largest segment that a backend may be told to send, so that what it sends fits the way to a client; `None` if
    /// the way to the backend is no wider.
    pub fn segment_size(&mut self, targets: &Targets, client: IpAddr, target: &Target) -> Option<u32> {
        let mtu = targets.mtu(self.way(client)?)?;
        (mtu < target.mtu).then(|| mtu.saturating_sub(headers(client)))
    }

    /// The interface that leads to a client.
    fn way(&mut self, client: IpAddr) -> Option<u32> {
        let now = Instant::now();
        if let Some((way, asked)) = self.ways.get(&client)
            && now.duration_since(*asked) < WAY_IS_FRESH
        {
            return *way;
        }
        if self.ways.len() >= MOST_WAYS {
            self.ways.clear();
        }
        let way = self.routes.to(client).ok()?.ok().map(|route| route.oif);
        self.ways.insert(client, (way, now));
        way
    }
}

fn proceed<A: gateway_common::Address>(
    flows: Arc<super::flows::Flows<A>>,
    tables: &Arc<Tables>,
    way: frozen::Way,
    mut connection: Connection,
) -> Result<Settling, Box<Kept>> {
    fault::await_rest(&connection);
    let frozen = match Frozen::enter(flows, tables, way, &connection) {
        Ok(frozen) => frozen,
        Err(refusal) => return Err(Box::new(Kept { connection, refusal })),
    };
    fault::reached(Step::Entered);
    let numbers = match frozen::read(&mut connection, way) {
        Ok(numbers) => numbers,
        Err(refusal) => {
            // Unless the programs have given the connection up, because this thread was held up for too long.
            return match frozen.thaw() {
                None => Err(Box::new(Kept { connection, refusal })),
                Some(flow) => Ok(Settling::broken(flow, connection)),
            };
        }
    };
    match frozen.activate(numbers, &connection) {
        Ok(flow) => Ok(Settling::begin(flow, connection)),
        Err(flow) => Ok(Settling::broken(flow, connection)),
    }
}

impl Agreed {
    fn of([client, backend]: &[Numbers; 2]) -> Self {
        Self { client: client.info, backend: backend.info }
    }

    /// An error if they cannot go on with each other, on ways to client and backend that carry segments of so many bytes.
    fn check(self, [to_client, to_backend]: [u32; 2]) -> Result<(), Refusal> {
        let differ = |option: u8| (self.client.options ^ self.backend.options) & option != 0;
        for (option, refusal) in [
            (TcpInfo::TIMESTAMPS, Refusal::Timestamps),
            (TcpInfo::SACK, Refusal::Sack),
            (TcpInfo::SCALED, Refusal::WindowScale),
        ] {
            if differ(option) {
                return Err(refusal);
            }
        }
        if (self.client.options | self.backend.options) & TcpInfo::MICROSECONDS != 0 {
            return Err(Refusal::FineTimestamps);
        }
        if self.client.advertised_mss > to_backend || self.backend.advertised_mss > to_client {
            return Err(Refusal::SegmentSize);
        }
        Ok(())
    }

    /// What client's and backend's packets may not claim towards the other, see [`End::NO_MARKS`].
    fn marks(self) -> [u16; 2] {
        let has = |info: TcpInfo| info.options & TcpInfo::ECN != 0;
        let flags = |from, to| if has(from) && !has(to) { End::NO_MARKS } else { 0 };
        [flags(self.client, self.backend), flags(self.backend, self.client)]
    }

    /// By how much windows of client and backend are shifted for the other one.
    fn shifts(self) -> [i16; 2] {
        let scale = |info: TcpInfo, scale: u8| {
            if info.options & TcpInfo::SCALED == 0 { 0 } else { i16::from(scale) }
        };
        let (client, backend) = (self.client, self.backend);
        [
            scale(client, client.send_scale) - scale(backend, backend.receive_scale),
            scale(backend, backend.send_scale) - scale(client, client.receive_scale),
        ]
    }
}

fn headers(address: IpAddr) -> u32 {
    if address.is_ipv4() { HEADERS4 } else { HEADERS6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(options: u8, send_scale: u8, receive_scale: u8) -> TcpInfo {
        TcpInfo {
            state: TcpInfo::ESTABLISHED,
            options,
            send_scale,
            receive_scale,
            send_mss: 1448,
            advertised_mss: 1448,
            unacknowledged: 0,
            send_window: 65_535,
        }
    }

    #[test]
    fn what_only_one_side_agreed_on_is_refused_by_name() {
        let all = TcpInfo::TIMESTAMPS | TcpInfo::SACK | TcpInfo::SCALED;
        let check = |client, backend| {
            Agreed { client: info(client, 7, 7), backend: info(backend, 7, 7) }.check([1460; 2])
        };
        assert_eq!(check(all, all), Ok(()));
        assert_eq!(check(0, 0), Ok(()));
        for (option, refusal) in [
            (TcpInfo::TIMESTAMPS, Refusal::Timestamps),
            (TcpInfo::SACK, Refusal::Sack),
            (TcpInfo::SCALED, Refusal::WindowScale),
        ] {
            assert_eq!(check(all, all ^ option), Err(refusal.clone()));
            assert_eq!(check(all ^ option, all), Err(refusal));
        }
        let fine = all | TcpInfo::MICROSECONDS;
        assert_eq!(check(fine, fine), Err(Refusal::FineTimestamps));
    }

    #[test]
    fn segments_that_do_not_fit_the_other_way_are_refused() {
        let agreed = Agreed { client: info(0, 7, 7), backend: info(0, 7, 7) };
        assert_eq!(agreed.check([1448, 1448]), Ok(()));
        assert_eq!(agreed.check([1447, 1448]), Err(Refusal::SegmentSize));
        assert_eq!(agreed.check([1448, 1447]), Err(Refusal::SegmentSize));
    }

    #[test]
    fn packets_to_an_end_that_knows_no_marks_are_not_to_be_marked() {
        let marks =
            |client, backend| Agreed { client: info(client, 7, 7), backend: info(backend, 7, 7) }.marks();
        assert_eq!(marks(TcpInfo::ECN, TcpInfo::ECN), [0, 0]);
        assert_eq!(marks(0, 0), [0, 0]);
        assert_eq!(marks(TcpInfo::ECN, 0), [End::NO_MARKS, 0]);
        assert_eq!(marks(0, TcpInfo::ECN), [0, End::NO_MARKS]);
    }

    #[test]
    fn windows_are_shifted_from_an_ends_scale_to_the_one_its_peer_was_told() {
        let scaled = TcpInfo::SCALED;
        let shifts = |client, backend| Agreed { client, backend }.shifts();
        assert_eq!(shifts(info(scaled, 9, 7), info(scaled, 4, 6)), [3, -3]);
        assert_eq!(shifts(info(0, 9, 7), info(0, 4, 6)), [0, 0]);
    }
}
