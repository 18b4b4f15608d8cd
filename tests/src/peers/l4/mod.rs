//! Plain TCP: three listeners of the gateway's address, each before the backend's addresses in turns.

mod configuration;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Peer, Program, Setup};
use crate::arena::{Arena, REQUESTS, SILENT};
use crate::load::{ANSWER, REQUEST};
use crate::program::must;
use crate::{client, wait};

/// A way through the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// No gateway: the client reaches the backend by plain routing. The limit.
    Routed,
    /// Sluice's kernel plane.
    Sluice,
    /// Sluice's user-space plane.
    SluiceUser,
    /// The kernel's own DNAT and masquerade.
    Nftables,
    /// HAProxy in TCP mode.
    Haproxy,
    /// Envoy's tcp_proxy.
    Envoy,
    /// nginx's stream module.
    Nginx,
}

impl super::Contender for Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Sluice => "sluice",
            Self::SluiceUser => "sluice user space",
            Self::Nftables => "nftables",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Routed => Program::None,
            Self::Sluice | Self::SluiceUser => Program::Sluice,
            Self::Nftables => Program::Nftables,
            Self::Haproxy => Program::Haproxy,
            Self::Envoy => Program::Envoy,
            Self::Nginx => Program::Nginx,
        }
    }

    fn is_foremost(self) -> bool {
        self == Self::Sluice
    }
}

impl Contender {
    /// Whether packets pass without a socket of the gateway's.
    fn is_in_kernel(self) -> bool {
        matches!(self, Self::Routed | Self::Sluice | Self::Nftables)
    }

    /// Starts it and waits until a request passes through it.
    pub fn start(self, arena: &Arena) -> Result<Peer> {
        let flags: &[&str] = match self {
            Self::Sluice => &["--kernel", "require", "--interface", "c0"],
            Self::SluiceUser => &["--kernel", "off"],
            _ => &[],
        };
        let setup = Setup {
            program: super::Contender::program(self),
            configuration: configuration::of(self, arena),
            flags: flags.iter().map(|word| (*word).to_owned()).collect(),
            files: Vec::new(),
            pins: self == Self::Sluice,
        };
        let peer = Peer::start(setup, arena)?;
        self.wait_until_ready(&peer, arena)?;
        Ok(peer)
    }

    /// Where clients connect to reach a port of the backend.
    pub fn targets(self, arena: &Arena, port: u16) -> Vec<SocketAddr> {
        match self {
            Self::Routed if port == SILENT => arena.silent(),
            Self::Routed => arena.backends(port),
            _ => vec![arena.gateway(port)],
        }
    }

    /// Until a request is answered, and takes the plane that it is meant to take: a gateway may listen before it steers.
    fn wait_until_ready(self, peer: &Peer, arena: &Arena) -> Result<()> {
        let targets = self.targets(arena, REQUESTS);
        let mut plane = "no plane";
        let ready = wait::within(wait::PATIENCE, || {
            let target = targets[0];
            let held = arena.lab.client.enter(move || request(target)).ok()?;
            let said = must(arena.lab.gateway.command("ss").args(["-Htn", "state", "established"])).ok()?;
            plane = if said.trim().is_empty() { "the kernel's plane" } else { "user space's plane" };
            drop(held);
            (said.trim().is_empty() == self.is_in_kernel()).then_some(())
        });
        ready.with_context(|| peer.not_ready(plane))
    }
}

/// A request; the connection stays open.
fn request(target: SocketAddr) -> Result<std::net::TcpStream> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&target, client::LIMIT)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&[0; REQUEST])?;
    stream.read_exact(&mut [0; ANSWER])?;
    Ok(stream)
}
