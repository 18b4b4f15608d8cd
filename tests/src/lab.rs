//! A client, a gateway and backends, each in a network namespace of its own, joined by veth pairs.
//!
//! ```text
//! client 198.18.0.2, fd00:18::2 ── c0 gateway 198.18.0.1, fd00:18::1
//!                                   b0 198.18.1.1, fd00:18:1::1 ── backend 0 198.18.1.2, fd00:18:1::2
//!                                   b1 198.18.2.1, fd00:18:2::1 ── backend 1 198.18.2.2, fd00:18:2::2
//! ```
//! More networks can be put behind the client or a backend, which then routes, and a relay that loses packets between
//! client and gateway. The addresses are those of RFC 2544 and RFC 4193: they mean nothing outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::namespace::Namespace;
use crate::relay::Relay;

/// See the module. Fields are dropped in order; nothing depends on it.
#[derive(Debug)]
pub struct Lab {
    /// Where clients run.
    pub client: Namespace,
    /// Where the gateway runs.
    pub gateway: Namespace,
    /// Where backends run, one each.
    pub backends: Vec<Namespace>,
}

/// Which IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Lab {
    /// Makes the namespaces and joins them.
    pub fn new(backends: usize) -> Result<Self> {
        let lab = Self::apart(backends)?;
        link(&lab.gateway, "c0", &lab.client, "e0")?;
        address_ends(&lab.gateway, "c0", &lab.client, 0)?;
        Ok(lab)
    }

    /// Likewise, with a relay on the way between client and gateway, which is returned. No packet passes before it runs.
    pub fn relayed(backends: usize) -> Result<(Self, Relay)> {
        let lab = Self::apart(backends)?;
        let between = Namespace::new("relay")?;
        // Nothing but the relay is to speak in there.
        between.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        between.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        link(&lab.client, "e0", &between, "client")?;
        link(&lab.gateway, "c0", &between, "gateway")?;
        between.ip(&["link", "set", "client", "up"])?;
        between.ip(&["link", "set", "gateway", "up"])?;
        address_ends(&lab.gateway, "c0", &lab.client, 0)?;
        Ok((lab, Relay::new(between)))
    }

    /// Without a link to the client.
    fn apart(backends: usize) -> Result<Self> {
        let lab = Self {
            client: Namespace::new("client")?,
            gateway: Namespace::new("gateway")?,
            backends: (0..backends).map(|_| Namespace::new("backend")).collect::<Result<_>>()?,
        };
        for (index, backend) in lab.backends.iter().enumerate() {
            let interface = format!("b{index}");
            link(&lab.gateway, &interface, backend, "e0")?;
            address_ends(&lab.gateway, &interface, backend, index + 1)?;
        }
        Ok(lab)
    }

    /// A namespace in a network of its own behind the client (`at` 0) or a backend (`at` its index and 1), which routes
    /// to it packets of at most `mtu` bytes, though either of its links would carry more.
    pub fn behind(&self, at: usize, network: usize, mtu: u32) -> Result<Namespace> {
        let router = if at == 0 { &self.client } else { &self.backends[at - 1] };
        let far = Namespace::new("far")?;
        link(router, "f0", &far, "e0")?;
        address_ends(router, "f0", &far, network)?;
        for (family, setting) in
            [(Family::V4, "net/ipv4/ip_forward"), (Family::V6, "net/ipv6/conf/all/forwarding")]
        {
            router.sysctl(setting, "1")?;
            let (near, host) = (address(family, at, 2).to_string(), address(family, network, 2).to_string());
            self.gateway.ip(&["route", "add", &host, "via", &near])?;
            // Of the host alone, so that it wins over the link's own route. Locked: IPv6 routers heed no other.
            router.ip(&["route", "add", &host, "dev", "f0", "mtu", "lock", &mtu.to_string()])?;
        }
        Ok(far)
    }

    /// Another address of the client, in the network that it shares with the gateway.
    pub fn add_client(&self, family: Family, host: u8) -> Result<IpAddr> {
        let added = address(family, 0, host);
        let length = if family == Family::V4 { 24 } else { 64 };
        // Without duplicate address detection the address can be used at once; IPv4 has none, and does not mind.
        self.client.ip(&["addr", "add", &format!("{added}/{length}"), "dev", "e0", "nodad"])?;
        Ok(added)
    }

    /// The gateway's address towards clients.
    pub fn gateway_address(&self, family: Family) -> IpAddr {
        address(family, 0, 1)
    }

    /// A backend's address.
    pub fn backend_address(&self, family: Family, index: usize) -> IpAddr {
        address(family, index + 1, 2)
    }

    /// The client's address.
    pub fn client_address(&self, family: Family) -> IpAddr {
        address(family, 0, 2)
    }
}

/// A veth pair.
fn link(one: &Namespace, device: &str, other: &Namespace, peer: &str) -> Result<()> {
    one.ip(&["link", "add", device, "type", "veth", "peer", "name", peer, "netns", other.name()])?;
    Ok(())
}

/// Gives both ends of a network their addresses; `other` gets its way out through the first.
fn address_ends(first: &Namespace, device: &str, other: &Namespace, network: usize) -> Result<()> {
    for (namespace, device, host) in [(first, device, 1), (other, "e0", 2)] {
        let v4 = format!("{}/24", v4(network, host));
        let v6 = format!("{}/64", v6(network, host));
        namespace.ip(&["addr", "add", &v4, "dev", device])?;
        // Without duplicate address detection the address can be used at once.
        namespace.ip(&["addr", "add", &v6, "dev", device, "nodad"])?;
        namespace.ip(&["link", "set", device, "up"])?;
    }
    other.ip(&["route", "add", "default", "via", &v4(network, 1).to_string()])?;
    other.ip(&["-6", "route", "add", "default", "via", &v6(network, 1).to_string()])?;
    Ok(())
}

/// An address in a network: host 1 is nearer to the gateway, or is it; host 2 is the other end.
pub fn address(family: Family, network: usize, host: u8) -> IpAddr {
    match family {
        Family::V4 => v4(network, host).into(),
        Family::V6 => v6(network, host).into(),
    }
}

fn v4(network: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, network as u8, host)
}

fn v6(network: usize, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x18, network as u16, 0, 0, 0, 0, u16::from(host))
}
