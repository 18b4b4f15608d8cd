//! Connections of user space that speak to backends under their clients' addresses, as far as the plane serves them: the
//! programs are told which backends may answer, and routing what to do with the answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aya::Pod;
use gateway_common::{Address, Be16, ListenerKey};

use super::delivery::{self, Delivery, Family};
use super::maps::{FamilyMaps, Maps, MapsError};
use super::pin::Presence;
use crate::settings::Mark;

/// See the module.
#[derive(Debug)]
pub(super) struct Speaking {
    mark: Mark,
    delivery: Delivery,
    /// Backends that the programs know. One is forgotten only for want of room: a connection to it may last.
    known: BTreeSet<SocketAddr>,
    /// Whether this agent has ever had such a backend: then there may be connections to one.
    is_on: bool,
    /// Whether what an agent before this one had left is gone, or in use by this one.
    is_settled: bool,
    /// Why answers would not come here.
    problem: Option<String>,
}

impl Speaking {
    /// Takes over what the programs were told by an agent before this one.
    pub(super) fn adopt(maps: &Maps, mark: Mark) -> Result<Self, MapsError> {
        let mut known: BTreeSet<SocketAddr> = addresses(&maps.v4)?.collect();
        known.extend(addresses(&maps.v6)?);
        let delivery = Delivery::new(mark);
        Ok(Self { mark, delivery, known, is_on: false, is_settled: false, problem: None })
    }

    /// Why no connection may speak under its client's address.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Has answers of these backends, by these interfaces, come to this node. Nothing is taken back while the agent lives.
    pub(super) fn hear(
        &mut self,
        maps: &mut Maps,
        backends: &BTreeSet<SocketAddr>,
        interfaces: &[String],
    ) -> Result<(), MapsError> {
        self.is_on |= !backends.is_empty();
        if !self.is_on {
            return Ok(());
        }
        self.is_settled = true;
        self.learn(maps, backends)?;
        set_mark(maps, self.mark.value, self.mark.mask)?;
        self.deliver(interfaces);
        Ok(())
    }

    fn learn(&mut self, maps: &mut Maps, backends: &BTreeSet<SocketAddr>) -> Result<(), MapsError> {
        for backend in backends.difference(&self.known.clone()) {
            match put(maps, *backend) {
                Err(error) if error.is_full() => {
                    self.make_room(maps, backends)?;
                    put(maps, *backend)?;
                }
                put => put?,
            }
            self.known.insert(*backend);
        }
        Ok(())
    }

    /// Forgets backends that no document names any more.
    fn make_room(&mut self, maps: &mut Maps, backends: &BTreeSet<SocketAddr>) -> Result<(), MapsError> {
        let old: Vec<SocketAddr> = self.known.difference(backends).copied().collect();
        for backend in old {
            remove(maps, backend)?;
            self.known.remove(&backend);
        }
        Ok(())
    }

    fn deliver(&mut self, interfaces: &[String]) {
        let families: BTreeSet<Family> = self.known.iter().map(|backend| Family::of(backend.ip())).collect();
        let rules = families.iter().flat_map(|family| interfaces.iter().map(|name| (*family, name.clone())));
        let problem = self.delivery.uphold(rules.collect()).err().map(|error| {
            format!(
                "answers to its clients' addresses cannot be delivered here by a rule of routing: {error}"
            )
        });
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(*problem)) {
            tracing::error!(%problem, "sluice.dev/source-address: preserve");
        }
        self.problem = problem;
    }

    /// Removes what an agent before this one has left, if this one has no use for it, once nobody of that agent is present.
    pub(super) fn forget(&mut self, maps: &mut Maps, presence: Option<&Presence>) -> Result<(), MapsError> {
        if self.is_settled || presence.is_some_and(|presence| !presence.is_alone()) {
            return Ok(());
        }
        self.is_settled = true;
        self.end(maps)
    }

    /// No connection speaks under its client's address any more.
    pub(super) fn end(&mut self, maps: &mut Maps) -> Result<(), MapsError> {
        remove_rules();
        set_mark(maps, 0, 0)?;
        self.make_room(maps, &BTreeSet::new())
    }
}

/// The same without the maps, which are gone.
pub(super) fn remove_rules() {
    if let Err(error) = delivery::remove() {
        tracing::warn!(%error, "cannot remove the rules for answers to clients' addresses; `sluice cleanup` does");
    }
}

fn set_mark(maps: &mut Maps, mark: u32, mask: u32) -> Result<(), MapsError> {
    let mut config = maps.config()?;
    if (config.mark, config.mark_mask) != (mark, mask) {
        (config.mark, config.mark_mask) = (mark, mask);
        maps.set_config(config)?;
    }
    Ok(())
}

fn addresses<A: Address + Pod>(maps: &FamilyMaps<A>) -> Result<impl Iterator<Item = SocketAddr>, MapsError> {
    let address = |key: ListenerKey<A>| SocketAddr::new(key.address.ip(), key.port.get());
    Ok(maps.answering()?.into_iter().map(address))
}

fn put(maps: &mut Maps, backend: SocketAddr) -> Result<(), MapsError> {
    match (key(backend), key(backend)) {
        (Some(key), _) => maps.v4.put_answering(key),
        (_, Some(key)) => maps.v6.put_answering(key),
        (None, None) => Ok(()),
    }
}

fn remove(maps: &mut Maps, backend: SocketAddr) -> Result<(), MapsError> {
    match (key(backend), key(backend)) {
        (Some(key), _) => maps.v4.remove_answering(&key),
        (_, Some(key)) => maps.v6.remove_answering(&key),
        (None, None) => Ok(()),
    }
}

fn key<A: Address>(backend: SocketAddr) -> Option<ListenerKey<A>> {
    Some(ListenerKey::new(A::from_ip(backend.ip())?, Be16::new(backend.port())))
}
