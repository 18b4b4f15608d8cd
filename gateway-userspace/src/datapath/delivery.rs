//! Delivering to this node what is addressed to its clients and meant for sockets of ours that speak under their addresses:
//! the programs mark such packets, and routing does the rest, by a rule for each interface that they come in by and a table
//! that has every address be one of this node's. As `ip` would install it for `b0`:
//!
//! ```text
//! ip rule add pref 60 iif b0 fwmark 0x1000/0xffff lookup 21356 proto 83
//! ip route add local default dev lo table 21356 proto 83
//! ```
//! By interface, so that no rule is of any meaning for what the node itself sends, nor for the question whether a packet's
//! source is on the way back (`rp_filter`), whichever mark it is asked with (`src_valid_mark`).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::netlink::{CREATE, EXCLUSIVE, Netlink, RTA_OIF, RTM_NEWROUTE, RTN_LOCAL, attribute};
use crate::settings::Mark;

const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

const RTA_TABLE: u16 = 15;
const RT_SCOPE_HOST: u8 = 254;

/// Loopback, in every network namespace.
const LOOPBACK: u32 = 1;

/// Before the rules of others that tell where packets to some address go, behind none but the local table's.
const PREFERENCE: u32 = 60;
/// `Sl`. The first 255 are what people and programs number their own by.
const TABLE: u32 = 0x536c;
/// Whose rules and routes they are, as `ip` shows it: a number that no routing daemon has.
const PROTOCOL: u8 = 83;

/// Rules that are removed of one family. There is one for each interface; the bound is against a kernel that removes none.
const MOST_RULES: usize = 4096;

/// Which IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn number(self) -> u8 {
        (match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }) as u8
    }
}

/// The rules that this agent upholds.
#[derive(Debug)]
pub(super) struct Delivery {
    mark: Mark,
    upheld: BTreeSet<(Family, String)>,
}

impl Delivery {
    /// None yet.
    pub(super) fn new(mark: Mark) -> Self {
        Self { mark, upheld: BTreeSet::new() }
    }

    /// Makes these rules be there, and no others of an earlier call. Those of an agent before this one, or of another
    /// gateway, are the same; whatever somebody has removed comes back with the next call.
    pub(super) fn uphold(&mut self, wanted: BTreeSet<(Family, String)>) -> io::Result<()> {
        let mut netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
        for family in [Family::V4, Family::V6] {
            if wanted.iter().any(|(of, _)| *of == family) {
                existing_is_fine(netlink.tell(RTM_NEWROUTE, CREATE | EXCLUSIVE, &route(family)))?;
            }
        }
        for (family, interface) in &wanted {
            let rule = rule(*family, Some((interface, self.mark)));
            existing_is_fine(netlink.tell(RTM_NEWRULE, CREATE | EXCLUSIVE, &rule))?;
        }
        for (family, interface) in self.upheld.difference(&wanted) {
            let rule = rule(*family, Some((interface, self.mark)));
            absent_is_fine(netlink.tell(RTM_DELRULE, 0, &rule))?;
        }
        self.upheld = wanted;
        Ok(())
    }
}

/// Removes every rule and the table, whoever installed them.
pub fn remove() -> io::Result<()> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
    for family in [Family::V4, Family::V6] {
        for _ in 0..MOST_RULES {
            if absent_is_fine(netlink.tell(RTM_DELRULE, 0, &rule(family, None)))?.is_none() {
                break;
            }
        }
        absent_is_fine(netlink.tell(RTM_DELROUTE, 0, &route(family)))?;
    }
    Ok(())
}

fn existing_is_fine(told: io::Result<()>) -> io::Result<()> {
    match told {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        told => told,
    }
}

/// `None` if there was none, or cannot be any: without IPv6, or without rules of routing.
fn absent_is_fine(told: io::Result<()>) -> io::Result<Option<()>> {
    const ABSENT: [i32; 4] = [libc::ENOENT, libc::ESRCH, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
    match told {
        Err(error) if error.raw_os_error().is_some_and(|number| ABSENT.contains(&number)) => Ok(None),
        told => told.map(Some),
    }
}

/// `fib_rule_hdr` and its attributes: the rule of an interface, or whichever of ours, to remove it.
fn rule(family: Family, of: Option<(&str, Mark)>) -> Vec<u8> {
    let mut message = vec![family.number(), 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    attribute(&mut message, FRA_PRIORITY, &PREFERENCE.to_ne_bytes());
    attribute(&mut message, FRA_TABLE, &TABLE.to_ne_bytes());
    attribute(&mut message, FRA_PROTOCOL, &[PROTOCOL]);
    if let Some((interface, Mark { value, mask })) = of {
        attribute(&mut message, FRA_IIFNAME, &[interface.as_bytes(), &[0]].concat());
        attribute(&mut message, FRA_FWMARK, &value.to_ne_bytes());
        attribute(&mut message, FRA_FWMASK, &mask.to_ne_bytes());
    }
    message
}

/// `rtmsg` and its attributes: every address is one of this node's.
fn route(family: Family) -> Vec<u8> {
    let mut message = vec![family.number(), 0, 0, 0, 0, PROTOCOL, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
    attribute(&mut message, RTA_TABLE, &TABLE.to_ne_bytes());
    attribute(&mut message, RTA_OIF, &LOOPBACK.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_words_and_say_their_own_length() {
        let message = rule(Family::V6, Some(("b0", Mark { value: 0x1000, mask: 0xffff })));
        assert_eq!(message[..12], [10, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(message[12..20], [8, 0, 6, 0, 60, 0, 0, 0]);
        assert_eq!(message[28..36], [5, 0, 21, 0, 83, 0, 0, 0]);
        assert_eq!(message[36..44], [7, 0, 3, 0, b'b', b'0', 0, 0]);
        assert_eq!(message.len() % 4, 0);
        let message = route(Family::V4);
        assert_eq!(message[..12], [2, 0, 0, 0, 0, 83, 254, 2, 0, 0, 0, 0]);
        assert_eq!(message[12..20], [8, 0, 15, 0, 0x6c, 0x53, 0, 0]);
    }
}
