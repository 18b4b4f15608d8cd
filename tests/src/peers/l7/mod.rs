//! HTTP and TLS: a cleartext port and one with TLS, on which paths choose between backends.

mod configuration;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::{Peer, Program, Setup};
use crate::arena::Arena;
use crate::authority::Identity;
use crate::load::connections::Ports;
use crate::load::http::{Work, drive};
use crate::wait;

/// A way through the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// No gateway: the client reaches the backend by plain routing. The limit.
    Routed,
    /// Sluice as it comes.
    Sluice,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// nginx.
    Nginx,
}

impl super::Contender for Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Sluice => "sluice",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Routed => Program::None,
            Self::Sluice => Program::Sluice,
            Self::Haproxy => Program::Haproxy,
            Self::Envoy => Program::Envoy,
            Self::Nginx => Program::Nginx,
        }
    }

    fn is_foremost(self) -> bool {
        self == Self::Sluice
    }
}

/// What all of them are given.
#[derive(Debug, Clone)]
pub struct Common {
    /// Certificate and key.
    pub identity: Identity,
    /// Whether each request gets a line in an access log.
    pub logs: bool,
    /// Whether Sluice counts requests for Prometheus.
    pub metrics: bool,
}

impl Contender {
    /// Starts it and waits until requests pass through it, in TLS and without.
    pub fn start(self, arena: &Arena, common: &Common) -> Result<Peer> {
        let Common { identity, logs, metrics } = common;
        let is_ours = self == Self::Sluice;
        let kernel = ["--kernel", "require", "--interface", "c0"].iter().filter(|_| is_ours);
        let log = ["--access-log", configuration::ACCESS_LOG].iter().filter(|_| is_ours && *logs);
        let counted = ["--metrics-address", if *metrics { "127.0.0.1:0" } else { "none" }];
        let counted = counted.iter().filter(|_| is_ours);
        let setup = Setup {
            program: super::Contender::program(self),
            configuration: configuration::of(self, arena, common),
            flags: kernel.chain(log).chain(counted).map(|word| (*word).to_owned()).collect(),
            files: vec![
                (configuration::CERTIFICATE, identity.certificate.clone()),
                (configuration::KEY, identity.key.clone()),
                (configuration::BOTH, format!("{}{}", identity.certificate, identity.key)),
            ],
            pins: is_ours,
        };
        let peer = Peer::start(setup, arena)?;
        for work in [Work::Small, Work::Tls] {
            self.wait_until_ready(work, &peer, arena)?;
        }
        Ok(peer)
    }

    /// Where clients connect to for a kind of load.
    pub fn targets(self, arena: &Arena, work: Work) -> Vec<SocketAddr> {
        match self {
            Self::Routed => arena.backends(work.backend_port()),
            _ => vec![arena.gateway(work.gateway_port())],
        }
    }

    /// Where its access log is, beside its configuration.
    pub fn access_log(self) -> Option<&'static str> {
        match self {
            Self::Routed => None,
            Self::Haproxy => Some(super::LOG),
            _ => Some(configuration::ACCESS_LOG),
        }
    }

    fn wait_until_ready(self, work: Work, peer: &Peer, arena: &Arena) -> Result<()> {
        let (mut failure, mut ports) = (String::new(), Ports::default());
        let ready = wait::within(wait::PATIENCE, || {
            let (targets, own) = (self.targets(arena, work), ports);
            // The next attempt is from another port.
            ports.take();
            let asked = arena.lab.client.enter(move || drive::once(work, &targets, own));
            asked.map_err(|error| failure = format!("{error:#}")).ok()
        });
        ready.map(drop).with_context(|| peer.not_ready(&failure))
    }
}
