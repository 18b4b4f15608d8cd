//! Backends that have gone from the documents, and their flows: these go on for the drain time, and then each packet of
//! theirs is answered by a reset. Flows that are silent are made to speak: an ACK out of the blue is answered by one
//! (RFC 9293 section 3.10.7.4), which the programs then answer by the reset, with the right numbers in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aya::Pod;
use gateway_common::{Address, Direction, State, Sum};
use socket2::{Domain, Protocol, Socket, Type};

use super::flows::Kind;
use super::maps::{FamilyMaps, Maps};
use super::view::Tuple;

/// Backends that no document names any more, but flows still have.
#[derive(Debug)]
pub struct Departed {
    drain_time: Duration,
    since: BTreeMap<SocketAddr, Instant>,
}

impl Departed {
    /// None yet.
    pub fn new(drain_time: Duration) -> Self {
        Self { drain_time, since: BTreeMap::new() }
    }

    /// Notes who is gone. `old` are backends that new flows no longer go to, `known` the endpoints of all services.
    /// Returns those whose time is over.
    pub fn due(
        &mut self,
        old: impl IntoIterator<Item = SocketAddr>,
        known: &BTreeSet<SocketAddr>,
        now: Instant,
    ) -> BTreeSet<SocketAddr> {
        let gone: BTreeSet<SocketAddr> = old.into_iter().filter(|address| !known.contains(address)).collect();
        self.since.retain(|address, _| gone.contains(address));
        for address in gone {
            self.since.entry(address).or_insert(now);
        }
        let is_due = |since: Instant| now.saturating_duration_since(since) >= self.drain_time;
        self.since.iter().filter(|(_, since)| is_due(**since)).map(|(address, _)| *address).collect()
    }
}

/// Has every flow of these backends reset. Returns the number of flows that were not yet.
pub fn condemn(maps: &Maps, backends: &BTreeSet<SocketAddr>) -> usize {
    let mut probes = condemn_family(&maps.v4, backends);
    probes.extend(condemn_family(&maps.v6, backends));
    for probe in &probes {
        // Whoever cannot be reached learns of it by its own next packet.
        if let Err(error) = wake(*probe) {
            tracing::debug!(client = %probe.source, %error, "cannot wake the client of a flow to be reset");
        }
    }
    probes.len()
}

fn condemn_family<A: Address + Pod>(maps: &FamilyMaps<A>, backends: &BTreeSet<SocketAddr>) -> Vec<Tuple> {
    let mut condemned = Vec::new();
    for (kind, number, flow) in maps.flows.all() {
        let tuple = Tuple::of(&flow.leaving(Direction::ToBackend));
        if backends.contains(&tuple.destination) && !State(flow.state).any(State::CONDEMNED) {
            maps.flows.mark(kind, number, State::CONDEMNED);
            if kind == Kind::Established {
                condemned.push(Tuple::of(&flow.arriving(Direction::ToBackend)));
            }
        }
    }
    condemned
}

/// Sends a client an acknowledgement of nothing, in the name of the gateway's end of its connection.
fn wake(flow: Tuple) -> io::Result<()> {
    let (client, gateway) = (flow.source, flow.destination);
    let socket = Socket::new(Domain::for_address(client), Type::RAW, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(gateway.ip(), 0).into())?;
    // A raw socket takes no port: it is in the header.
    socket.send_to(&acknowledgement(gateway, client), &SocketAddr::new(client.ip(), 0).into())?;
    Ok(())
}

/// A TCP header with ACK set and all numbers 0.
fn acknowledgement(source: SocketAddr, destination: SocketAddr) -> [u8; 20] {
    let mut header = [0; 20];
    let [from, to] = [source, destination].map(|end| end.port().to_be_bytes());
    header[0..2].copy_from_slice(&from);
    header[2..4].copy_from_slice(&to);
    header[12] = 5 << 4;
    header[13] = 0x10;
    let checksum = checksum(source, destination, &header);
    header[16..18].copy_from_slice(&checksum);
    header
}

/// Over the pseudo header (RFC 9293 section 3.1) and the segment.
fn checksum(source: SocketAddr, destination: SocketAddr, segment: &[u8]) -> [u8; 2] {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let mut sum = Sum::default();
    let octets = |end: SocketAddr| match end.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words =
        [octets(source), octets(destination), vec![0, 6], length.to_be_bytes().to_vec(), segment.to_vec()];
    for pair in words.concat().chunks(2) {
        let word = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
        sum = sum.add16(gateway_common::Be16::new(u16::from_be_bytes(word)));
    }
    sum.checksum().get().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_backend_is_due_when_it_has_been_gone_for_the_drain_time() {
        let (one, two) = (address("10.0.0.1:80"), address("10.0.0.2:80"));
        let mut departed = Departed::new(Duration::from_secs(30));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(departed.due([one, two], &[two].into(), start).is_empty());
        assert!(departed.due([one, two], &[two].into(), after(29)).is_empty());
        assert_eq!(departed.due([one, two], &[two].into(), after(30)), [one].into());
        // Come back and gone again: the time begins anew.
        assert!(departed.due([one, two], &[one, two].into(), after(31)).is_empty());
        assert!(departed.due([one, two], &[two].into(), after(32)).is_empty());
        assert_eq!(departed.due([one, two], &[two].into(), after(62)), [one].into());
    }

    #[test]
    fn the_acknowledgement_checks_out() {
        for (source, destination) in
            [("198.18.0.1:443", "198.18.0.2:40001"), ("[fd18::1]:443", "[fd18::2]:40001")]
        {
            let (source, destination) = (address(source), address(destination));
            let header = acknowledgement(source, destination);
            // With its own checksum in it, the sum is all ones.
            assert_eq!(checksum(source, destination, &header), [0, 0]);
        }
    }
}
