//! How this node reaches a backend: the routing table's own answer (`RTM_GETROUTE`), which respects rules, tables
//! and metrics.

use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::netlink::{
    self, HEADER, NLMSG_ERROR, Netlink, RTA_OIF, RTM_NEWROUTE, RTN_LOCAL, attribute, bytes,
};

const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_PREFSRC: u16 = 7;
const RTN_UNICAST: u8 = 1;

/// Length of `rtmsg`.
const ROUTE: usize = 12;

/// The way to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// The address that this node speaks from.
    pub source: IpAddr,
    /// The interface that leads there.
    pub oif: u32,
}

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum NoRoute {
    /// The routing table has none, or one that refuses.
    #[error("no route")]
    Unreachable,
    /// The address is one of this node's own: packets to it never pass a device.
    #[error("address of this node itself")]
    Local,
    /// Multicast, broadcast and the like.
    #[error("not a unicast address")]
    NotUnicast,
}

/// Asks the routing table.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// Opens the netlink socket, in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Netlink::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// The way to an address. The outer error is the socket's.
    pub fn to(&mut self, destination: IpAddr) -> io::Result<Result<Route, NoRoute>> {
        self.0.ask(RTM_GETROUTE, &request(destination), parse)
    }
}

fn request(destination: IpAddr) -> Vec<u8> {
    let (family, address) = match destination {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut message = vec![family as u8, (address.len() * 8) as u8];
    message.resize(ROUTE, 0);
    attribute(&mut message, RTA_DST, &address);
    message
}

/// Reads the answer to a question; `None` for any other message.
fn parse(message: &[u8], sequence: u32) -> Option<Result<Route, NoRoute>> {
    let kind = netlink::kind(message, sequence)?;
    if kind == NLMSG_ERROR {
        return Some(Err(NoRoute::Unreachable));
    }
    if kind != RTM_NEWROUTE {
        return None;
    }
    match *message.get(HEADER + 7)? {
        RTN_UNICAST => {}
        RTN_LOCAL => return Some(Err(NoRoute::Local)),
        6..=8 => return Some(Err(NoRoute::Unreachable)),
        _ => return Some(Err(NoRoute::NotUnicast)),
    }
    let (mut oif, mut source) = (None, None);
    let mut rest = message.get(HEADER + ROUTE..)?;
    while let (Some(length), Some(kind)) = (bytes(rest, 0), bytes(rest, 2)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let Some(value) = rest.get(4..length) else { break };
        match u16::from_ne_bytes(kind) {
            RTA_OIF => oif = bytes(value, 0).map(u32::from_ne_bytes),
            RTA_PREFSRC => source = address(value),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(source.zip(oif).map(|(source, oif)| Route { source, oif }).ok_or(NoRoute::Unreachable))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(value) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, route_kind: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; HEADER + ROUTE];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        message[HEADER + 7] = route_kind;
        for (kind, value) in attributes {
            message.extend(((value.len() + 4) as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn answers_are_read() {
        let oif = 3_u32.to_ne_bytes();
        let full: &[(u16, &[u8])] = &[(15, &[1]), (RTA_OIF, &oif), (RTA_PREFSRC, &[10, 0, 0, 1])];
        let way = Route { source: IpAddr::from([10, 0, 0, 1]), oif: 3 };
        for (message, want) in [
            (answer(RTM_NEWROUTE, RTN_UNICAST, full), Some(Ok(way))),
            (answer(RTM_NEWROUTE, RTN_LOCAL, full), Some(Err(NoRoute::Local))),
            (answer(RTM_NEWROUTE, 7, full), Some(Err(NoRoute::Unreachable))),
            (answer(RTM_NEWROUTE, 5, full), Some(Err(NoRoute::NotUnicast))),
            (answer(RTM_NEWROUTE, RTN_UNICAST, &[]), Some(Err(NoRoute::Unreachable))),
            (answer(NLMSG_ERROR, 0, &[]), Some(Err(NoRoute::Unreachable))),
            (answer(99, 0, &[]), None),
        ] {
            assert_eq!(parse(&message, 7), want);
            assert_eq!(parse(&message, 8), None);
        }
    }

    #[test]
    fn no_prefix_of_an_answer_is_a_panic() {
        let oif = 3_u32.to_ne_bytes();
        let message = answer(RTM_NEWROUTE, RTN_UNICAST, &[(RTA_OIF, &oif), (RTA_PREFSRC, &[10, 0, 0, 1])]);
        for length in 0..message.len() {
            assert_ne!(parse(&message[..length], 7).map(|answer| answer.is_ok()), Some(true));
        }
    }

    #[test]
    fn loopback_is_local() {
        assert_eq!(Routes::open().unwrap().to(IpAddr::from([127, 0, 0, 1])).unwrap(), Err(NoRoute::Local));
    }
}
