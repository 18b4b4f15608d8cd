//! The interfaces of this network namespace and their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

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
    /// Largest IP packet, in bytes; `None` for one that has just gone or got another name.
    pub mtu: Option<u32>,
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
    let entries: Vec<InterfaceAddress> = getifaddrs()?.collect();
    // Numbers as of the listing itself: asked for by name afterwards, an interface that was just renamed would be gone.
    let numbers: BTreeMap<&str, u32> =
        entries.iter().filter_map(|entry| Some((&*entry.interface_name, number(entry)?))).collect();
    let mut interfaces = BTreeMap::new();
    for entry in &entries {
        // An address may carry a label, `eth0:web`, in place of its interface's name.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        if let Some(index) = numbers.get(name) {
            add(interfaces.entry(*index).or_insert_with(|| new(*index, name, entry)), entry);
        }
    }
    Ok(interfaces)
}

/// There is one entry of the link layer for each interface.
fn number(entry: &InterfaceAddress) -> Option<u32> {
    let link = entry.address.as_ref()?.as_link_addr()?;
    u32::try_from(link.ifindex()).ok()
}

fn new(index: u32, name: &str, entry: &InterfaceAddress) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        up: entry.flags.contains(InterfaceFlags::IFF_UP),
        loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        ethernet: false,
        mtu: sys::mtu(name).ok(),
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
