//! TLS passthrough: one port, on which the server name chooses between backends.

mod configuration;

use anyhow::{Context as _, Result};

use super::{Peer, Program, Setup};
use crate::arena::Arena;
use crate::load::sni::Kind;
use crate::load::sni::client::Way;
use crate::wait;

/// A way through the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// No gateway: the client reaches the backend by plain routing. The limit.
    Routed,
    /// Sluice, handing over to the kernel whenever it can.
    Handoff,
    /// Sluice, relaying by splice(2).
    Splice,
    /// Sluice, relaying by copying.
    Copy,
    /// Sluice as it comes: a policy decides.
    Auto,
    /// HAProxy, `req.ssl_sni`.
    Haproxy,
    /// Envoy's tls_inspector and tcp_proxy.
    Envoy,
    /// nginx's ssl_preread.
    Nginx,
}

impl super::Contender for Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Handoff => "sluice handoff",
            Self::Splice => "sluice splice",
            Self::Copy => "sluice copy",
            Self::Auto => "sluice auto",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Routed => Program::None,
            Self::Handoff | Self::Splice | Self::Copy | Self::Auto => Program::Sluice,
            Self::Haproxy => Program::Haproxy,
            Self::Envoy => Program::Envoy,
            Self::Nginx => Program::Nginx,
        }
    }

    fn is_foremost(self) -> bool {
        self == Self::Handoff
    }
}

impl Contender {
    /// `--tier` of ours.
    pub fn tier(self) -> Option<&'static str> {
        match self {
            Self::Handoff => Some("handoff"),
            Self::Splice => Some("splice"),
            Self::Copy => Some("copy"),
            Self::Auto => Some("auto"),
            _ => None,
        }
    }

    /// Starts it and waits until a request passes through it to each of the backends.
    pub fn start(self, arena: &Arena) -> Result<Peer> {
        let flags = self.tier().map(|tier| ["--kernel", "require", "--interface", "c0", "--tier", tier]);
        let setup = Setup {
            program: super::Contender::program(self),
            configuration: configuration::of(self, arena),
            flags: flags.iter().flatten().map(|word| (*word).to_owned()).collect(),
            files: Vec::new(),
            pins: self.tier().is_some(),
        };
        let peer = Peer::start(setup, arena)?;
        let way = Way::new(self, arena, Kind::Answers);
        let mut failure = String::new();
        let ready = wait::within(wait::PATIENCE, || match way.open_all(&arena.lab.client, 2) {
            Ok(_) => Some(()),
            Err(error) => {
                failure = format!("{error:#}");
                None
            }
        });
        ready.with_context(|| peer.not_ready(&failure))?;
        Ok(peer)
    }
}
