//! A traced client's packets, in the words of people: what came, where, and what became of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use gateway_common::config::TRACE;
use gateway_common::{Event, Seen, Verdict};
use serde::{Deserialize, Serialize};

use super::maps::{Maps, MapsError};
use crate::telemetry::clock;

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// The client sent it.
    FromClient,
    /// A backend sent it, for the client.
    ToClient,
}

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// When, as RFC 3339 has it, with microseconds.
    pub time: String,
    /// The interface that it came in by.
    pub interface: String,
    /// Which way it went.
    pub course: Course,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it was addressed to.
    pub destination: SocketAddr,
    /// Letters of SYN, ACK, FIN and RST, as tcpdump has them: `S`, `.`, `F`, `R`.
    pub flags: String,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// What became of it: a label of `gateway_common::Verdict`.
    pub verdict: String,
    /// The flow's backend, if it has a flow.
    pub backend: Option<SocketAddr>,
}

impl Packet {
    /// Of an event. `now` is the time when the monotonic clock, in ns, is at `monotonic`.
    pub fn of(event: &Event, client: IpAddr, (now, monotonic): (SystemTime, u64)) -> Self {
        let age = Duration::from_nanos(monotonic.saturating_sub(event.time));
        let source = SocketAddr::new(address(event.family, event.source), port(event.ports));
        Self {
            time: clock::microseconds(now.checked_sub(age).unwrap_or(now)),
            interface: event.interface.to_string(),
            course: if source.ip() == client { Course::FromClient } else { Course::ToClient },
            source,
            destination: SocketAddr::new(address(event.family, event.destination), port(event.ports >> 16)),
            flags: letters(event.flags),
            sequence: event.sequence,
            acknowledgement: event.acknowledgement,
            length: event.length,
            verdict: Verdict::at(event.verdict)
                .map_or_else(String::new, |verdict| verdict.label().to_owned()),
            backend: None,
        }
    }
}

/// From words in network order.
fn address(family: u32, words: [u32; 4]) -> IpAddr {
    if family == 6 {
        let mut bytes = [0; 16];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).into()
    } else {
        Ipv4Addr::from(words[0].to_ne_bytes()).into()
    }
}

/// From the low half, in network order.
fn port(ports: u32) -> u16 {
    u16::from_be(ports as u16)
}

fn letters(flags: u32) -> String {
    let letters = [(Seen::SYN, 'S'), (Seen::FIN, 'F'), (Seen::RST, 'R'), (Seen::ACK, '.')];
    letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect()
}

/// Has the programs tell of a client's packets, or of nobody's.
pub(super) fn set(maps: &mut Maps, client: Option<IpAddr>) -> Result<(), MapsError> {
    let mut config = maps.config()?;
    (config.trace4, config.trace6) = (0, [0; 4]);
    match client {
        Some(IpAddr::V4(ip)) => config.trace4 = u32::from_ne_bytes(ip.octets()),
        Some(IpAddr::V6(ip)) => {
            for (word, bytes) in config.trace6.iter_mut().zip(ip.octets().chunks_exact(4)) {
                *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
            }
        }
        None => {}
    }
    maps.set_config(config)
}

/// The address whose packets are told of.
pub fn client(config: &gateway_common::Config) -> Option<IpAddr> {
    match (config.trace4, config.trace6) {
        (0, [0, 0, 0, 0]) => None,
        (0, words) => Some(address(6, words)),
        (word, _) => Some(address(4, [word, 0, 0, 0])),
    }
}

/// Packets that the programs left out since the last call, because there were too many in a second.
pub(super) fn left_out(maps: &Maps) -> u64 {
    maps.listener_flows(TRACE).map_or(0, |left_out| left_out.swap(0, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_in_words() {
        let event = Event {
            time: 1_000,
            family: 4,
            verdict: Verdict::Steered.index(),
            length: 74,
            flags: Seen::SYN | Seen::ACK,
            sequence: 7,
            source: [u32::from_ne_bytes([198, 18, 0, 2]), 0, 0, 0],
            destination: [u32::from_ne_bytes([198, 18, 0, 1]), 0, 0, 0],
            ports: u32::from(40_000_u16.to_be()) | u32::from(80_u16.to_be()) << 16,
            interface: 3,
            ..Event::default()
        };
        let now = (SystemTime::UNIX_EPOCH + Duration::from_micros(2), 2_000);
        let packet = Packet::of(&event, "198.18.0.2".parse().unwrap(), now);
        assert_eq!(packet.time, "1970-01-01T00:00:00.000001Z");
        assert_eq!(
            (packet.source, packet.destination),
            (([198, 18, 0, 2], 40_000).into(), ([198, 18, 0, 1], 80).into())
        );
        assert_eq!((&*packet.flags, &*packet.verdict, packet.course), ("S.", "steered", Course::FromClient));
        let event = Event { family: 6, source: [0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])], ..event };
        let packet = Packet::of(&event, "198.18.0.2".parse().unwrap(), now);
        assert_eq!((packet.source.ip(), packet.course), (Ipv6Addr::LOCALHOST.into(), Course::ToClient));
    }
}
