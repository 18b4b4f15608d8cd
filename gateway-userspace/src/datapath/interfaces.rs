//! The interfaces of this network namespace and their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use super::sys;

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Number in the namespace, never 0.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Loopback.
    pub loopback: bool,
    /// Carries Ethernet frames.
    pub ethernet: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its addresses, without link-local ones.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// Whether clients may come in by it when nobody says which interfaces they come in by.
    pub fn is_for_clients(&self) -> bool {
        self.up && !self.loopback && self.ethernet && !self.addresses.is_empty()
    }
}

/// Every interface, by number.
pub fn list() -> io::Result<BTreeMap<u32, Interface>> {
    let mut interfaces = BTreeMap::new();
    for entry in getifaddrs()? {
        // An interface that went away since is none of ours any more.
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
        add(interfaces.entry(index).or_insert_with(|| new(index, &entry)), &entry);
    }
    Ok(interfaces)
}

fn new(index: u32, entry: &InterfaceAddress) -> Interface {
    Interface {
        index,
        name: entry.interface_name.clone(),
        up: entry.flags.contains(InterfaceFlags::IFF_UP),
        loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        ethernet: false,
        // One that went away since sends nothing.
        mtu: sys::mtu(&entry.interface_name).unwrap_or(0),
        addresses: Vec::new(),
    }
}

fn add(interface: &mut Interface, entry: &InterfaceAddress) {
    let Some(address) = &entry.address else { return };
    if let Some(link) = address.as_link_addr() {
        interface.ethernet = link.hatype() == ETHERNET;
    } else if let Some(four) = address.as_sockaddr_in() {
        push(interface, four.ip().into(), four.ip().is_link_local());
    } else if let Some(six) = address.as_sockaddr_in6() {
        push(interface, six.ip().into(), six.ip().is_unicast_link_local());
    }
}

fn push(interface: &mut Interface, address: IpAddr, link_local: bool) {
    if !link_local && !interface.addresses.contains(&address) {
        interface.addresses.push(address);
    }
}
