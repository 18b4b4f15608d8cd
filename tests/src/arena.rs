//! The lab, made fit for measuring: many addresses, wide port ranges, and receive queues where they belong.
//!
//! Clients have [`ADDRESSES`] addresses beside the lab's own, 198.18.0.16 and up, and so has the backend, 198.18.1.16
//! and up. Clients bind to ports of their own choice, nearly 64,000 on each address, and none twice within a minute; a
//! gateway that connects has Linux's usual 28,232 towards each of the backend's addresses, and may use one again after a
//! second in TIME_WAIT. So nobody runs out of ports at the rates and times of a run.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};

use crate::cpu;
use crate::lab::{Family, Lab};
use crate::namespace::Namespace;
use crate::program::must;

/// Addresses of clients, and of the backend.
pub const ADDRESSES: u8 = 8;
/// Host part of the first of them.
const FIRST: u8 = 16;
/// Where gateways and backend listen for requests, see `load::backend`. Below every range of outgoing ports.
pub const REQUESTS: u16 = 700;
/// Where gateways and backend listen for who wants bytes in bulk.
pub const BULK: u16 = 701;
/// Where gateways listen for connections that they take to [`Arena::silent`].
pub const SILENT: u16 = 702;
/// Where gateways listen for TLS whose server name chooses the backend.
pub const SNI: u16 = 703;
/// Backends that are not there: what is sent to them goes to the second backend's namespace, which drops it.
const SILENT_NETWORK: &str = "198.18.3.0/24";
/// What the client sends to these addresses goes to the gateway's interface, but to another hardware address: the kernel
/// drops it as soon as it looks at it (`ip_rcv`, PACKET_OTHERHOST), before routing and netfilter.
const DROPPED: &str = "198.19.0.0/17";
/// The router that is not there.
const NOBODY: (&str, &str) = ("198.18.0.9", "02:00:00:00:00:09");
/// One of them.
pub const DROPPED_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// Sources that nobody has, reached by way of the client, which drops what comes for them.
const SPOOFED: &str = "198.19.128.0/17";
/// The gateway's interfaces.
const DEVICES: [&str; 3] = ["c0", "b0", "b1"];

/// Limits that are nobody's business here, widened in every namespace alike.
const SETTINGS: [(&str, &str); 5] = [
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/tcp_max_tw_buckets", "1000000"),
    ("net/ipv4/tcp_max_syn_backlog", "16384"),
    ("net/core/somaxconn", "16384"),
    // What a flood left half open is forgotten after a second, before it disturbs the next measurement.
    ("net/ipv4/tcp_synack_retries", "0"),
];

/// Client, gateway, a backend, and one that is silent.
#[derive(Debug)]
pub struct Arena {
    /// The namespaces.
    pub lab: Lab,
}

impl Arena {
    /// Makes it. What an interface receives is worked on by the processor of the sender, as virtual interfaces have it.
    pub fn new() -> Result<Self> {
        let lab = Lab::new(2)?;
        let backend = &lab.backends[0];
        for (namespace, network) in [(&lab.client, 0), (backend, 1)] {
            for host in FIRST..FIRST + ADDRESSES {
                namespace.ip(&["addr", "add", &format!("198.18.{network}.{host}/24"), "dev", "e0"])?;
            }
        }
        for namespace in [&lab.client, &lab.gateway, backend] {
            for (name, value) in SETTINGS {
                namespace.sysctl(name, value)?;
            }
        }
        lab.gateway.sysctl("net/ipv4/ip_forward", "1")?;
        let (nobody, hardware) = NOBODY;
        lab.client.ip(&["neigh", "add", nobody, "lladdr", hardware, "dev", "e0", "nud", "permanent"])?;
        lab.client.ip(&["route", "add", DROPPED, "via", nobody])?;
        let client = lab.client_address(Family::V4).to_string();
        lab.gateway.ip(&["route", "add", SPOOFED, "via", &client])?;
        let next = lab.backend_address(Family::V4, 1).to_string();
        lab.gateway.ip(&["route", "add", SILENT_NETWORK, "via", &next])?;
        Ok(Self { lab })
    }

    /// From now on, what the gateway's interfaces receive is worked on by the gateway's processor and what client and
    /// backend receive by theirs, as if they were machines; or by the sender's again.
    pub fn steer(&self, to_receivers: bool) -> Result<()> {
        let mask = |processor: usize| if to_receivers { 1 << processor } else { 0 };
        let ends = [&self.lab.client, &self.lab.backends[0]];
        DEVICES
            .iter()
            .try_for_each(|device| steer_receiving(&self.lab.gateway, device, mask(cpu::GATEWAY)))?;
        ends.iter().try_for_each(|end| steer_receiving(end, "e0", mask(cpu::LOAD)))
    }

    /// Where the backend listens.
    pub fn backends(&self, port: u16) -> Vec<SocketAddr> {
        addresses(1, port)
    }

    /// Backends that never answer. What drops their packets is not steered: it runs where the gateway sent them, and so
    /// takes nothing from clients and backend.
    pub fn silent(&self) -> Vec<SocketAddr> {
        addresses(3, SILENT)
    }

    /// TCP sockets in the gateway's namespace, those that listen included.
    pub fn gateway_sockets(&self) -> Result<usize> {
        self.lab.gateway.enter(|| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            Ok(sockets(&read("sockstat")?) + sockets(&read("sockstat6")?))
        })
    }

    /// Where a gateway listens.
    pub fn gateway(&self, port: u16) -> SocketAddr {
        (self.lab.gateway_address(Family::V4), port).into()
    }
}

fn addresses(network: u8, port: u16) -> Vec<SocketAddr> {
    (FIRST..FIRST + ADDRESSES).map(|host| (Ipv4Addr::new(198, 18, network, host), port).into()).collect()
}

/// TCP sockets in use, by a namespace's `sockstat` or `sockstat6`: TIME-WAIT is none.
fn sockets(text: &str) -> usize {
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("TCP:" | "TCP6:")).then(|| words.nth(1)?.parse().ok()).flatten()
    };
    text.lines().find_map(of).unwrap_or(0)
}

/// A client's address and port: the `number`-th of nearly half a million, then from the beginning.
pub fn client(number: u64) -> SocketAddr {
    let addresses = u64::from(ADDRESSES);
    let host = FIRST + (number % addresses) as u8;
    let port = 1024 + (number / addresses % (65_536 - 1024)) as u16;
    (Ipv4Addr::new(198, 18, 0, host), port).into()
}

/// A source that nobody has; every number up to 2^15 is another.
pub fn spoofed(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 128 | (number >> 8 & 0x7f) as u8, number as u8)
}

/// Receive packet steering (Documentation/networking/scaling.rst): all of a device's packets to the processors of a
/// mask; 0 is the sender's. The files of a namespace's devices show in a /sys that is mounted within it only, so one is,
/// for as long as it takes.
fn steer_receiving(namespace: &Namespace, device: &str, mask: u64) -> Result<()> {
    let write =
        format!("mount -t sysfs sysfs /sys && echo {mask:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus");
    must(namespace.command("unshare").args(["--mount", "sh", "-c", &write]))
        .map(drop)
        .with_context(|| format!("receive packet steering of {device}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_not_used_twice_before_half_a_million() {
        let count = u64::from(ADDRESSES) * (65_536 - 1024);
        let clients: std::collections::HashSet<_> = (0..count).map(client).collect();
        assert_eq!(clients.len() as u64, count);
        assert_eq!(client(0), client(count));
    }

    #[test]
    fn sockets_of_both_families_are_told() {
        assert_eq!(
            sockets("sockets: used 9\nTCP: inuse 7 orphan 0 tw 4 alloc 8 mem 0\nUDP: inuse 3 mem 0\n"),
            7
        );
        assert_eq!(sockets("TCP6: inuse 2\nUDP6: inuse 1\n"), 2);
    }
}
