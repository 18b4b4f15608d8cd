//! A client, a gateway and backends, each in a network namespace of its own, joined by veth pairs.
//!
//! ```text
//! client 198.18.0.2, fd00:18::2 ── c0 gateway 198.18.0.1, fd00:18::1
//!                                   b0 198.18.1.1, fd00:18:1::1 ── backend 0 198.18.1.2, fd00:18:1::2
//!                                   b1 198.18.2.1, fd00:18:2::1 ── backend 1 198.18.2.2, fd00:18:2::2
//! ```
//! The addresses are those of RFC 2544 and RFC 4193: they mean nothing outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::namespace::Namespace;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Lab {
    /// Makes the namespaces and joins them.
    pub fn new(backends: usize) -> Result<Self> {
        let lab = Self {
            client: Namespace::new("client")?,
            gateway: Namespace::new("gateway")?,
            backends: (0..backends).map(|_| Namespace::new("backend")).collect::<Result<_>>()?,
        };
        lab.join("c0", &lab.client, 0)?;
        for (index, backend) in lab.backends.iter().enumerate() {
            lab.join(&format!("b{index}"), backend, index + 1)?;
        }
        Ok(lab)
    }

    fn join(&self, interface: &str, other: &Namespace, network: usize) -> Result<()> {
        let gateway = &self.gateway;
        gateway.ip(&[
            "link",
            "add",
            interface,
            "type",
            "veth",
            "peer",
            "name",
            "e0",
            "netns",
            other.name(),
        ])?;
        for (namespace, device, host) in [(gateway, interface, 1), (other, "e0", 2)] {
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

fn address(family: Family, network: usize, host: u8) -> IpAddr {
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
