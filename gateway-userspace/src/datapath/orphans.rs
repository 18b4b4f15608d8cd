//! What an agent before this one had in its hands when it ended: connections that it was handing over, ports that it had
//! claimed for others, records that it was about to use or to put back. One that has been told to stop may still have
//! them, while it waits for its connections; so nothing is touched before it is gone.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aya::Pod;
use gateway_common::flow::NO_PORTS;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{Address, Config, Direction, Flow, Phase, State};

use super::farewell::Farewells;
use super::flows::{Flows, Kind, PortsInUse};
use super::install::Installed;
use super::maps::{FamilyMaps, Maps};
use super::pin::Presence;
use super::sockets::Sockets;
use super::view::Tuple;

/// What nobody has at the beginning and at the end of so long a time, nobody has: a packet that was just taking it is
/// through by then.
const CERTAIN: Duration = Duration::from_secs(5);

/// Where the kernel cannot be asked for a socket, none is taken for alive any more after so long: it keeps a TIME-WAIT for
/// one minute, and gives up sending for a process that is gone after about two (`tcp_orphan_retries`).
const UNSEEN: Duration = Duration::from_mins(2);

/// Looked at by one step; asking for a socket takes some µs.
const AT_A_TIME: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Orphans {
    /// Since when nobody of the agent before is left.
    alone: Option<Instant>,
    /// From then on, until it is known for sure.
    lost: Option<Lost>,
    v4: VecDeque<Taken>,
    v6: VecDeque<Taken>,
    claims: Claims,
    witness: Witness,
}

/// The maps, and what else is needed to deal with orphans.
pub(super) struct Estate<'a> {
    pub(super) maps: &'a Maps,
    pub(super) config: &'a Config,
    pub(super) presence: Option<&'a Presence>,
    pub(super) farewells: [&'a mut Farewells; 2],
}

impl Orphans {
    /// Finds them. To be called before anybody of this process puts a flow into the tables or claims a port.
    pub(super) fn find(maps: &Maps, config: &Config, installed: &Installed) -> Self {
        let mut claims = Claims::default();
        let has_ports = claims.find(maps, config, installed);
        let (v4, v6) = (Taken::find(&maps.v4.flows), Taken::find(&maps.v6.flows));
        let needs_witness = has_ports || !v4.is_empty() || !v6.is_empty();
        Self {
            alone: None,
            lost: None,
            v4,
            v6,
            claims,
            witness: if needs_witness { Witness::call() } else { Witness::default() },
        }
    }

    /// Deals with what can be dealt with by now. To be called again and again: some of it takes as long as the kernel
    /// still sends for a process that is gone.
    pub(super) fn step(&mut self, estate: &mut Estate<'_>) {
        let Some(alone) = self.alone.or_else(|| self.take_possession(estate)) else { return };
        let [farewells4, farewells6] = &mut estate.farewells;
        let witness = &mut self.witness;
        witness.is_late = alone.elapsed() > UNSEEN;
        condemn_lost(&mut self.v4, &estate.maps.v4, farewells4, witness);
        condemn_lost(&mut self.v6, &estate.maps.v6, farewells6, witness);
        if alone.elapsed() < CERTAIN {
            return;
        }
        if let Some(lost) = self.lost.take() {
            lost.put_back(estate.maps);
            self.claims.confirm(estate.maps, estate.config);
        }
        self.claims.release(&estate.maps.ports, witness);
    }

    /// Looks again once nobody else can have anything, or give anything back. Returns when that was.
    fn take_possession(&mut self, estate: &Estate<'_>) -> Option<Instant> {
        if estate.presence.is_some_and(|presence| !presence.is_alone()) {
            return None;
        }
        self.claims.keep_set(&estate.maps.ports);
        self.lost = Some(Lost::find(estate.maps));
        self.alone = Some(Instant::now());
        self.alone
    }
}

/// Who knows whether a socket is still there.
#[derive(Debug, Default)]
struct Witness {
    sockets: Option<Sockets>,
    /// Whether none can be there any more, whoever cannot tell.
    is_late: bool,
}

impl Witness {
    fn call() -> Self {
        let sockets = Sockets::open().inspect_err(|error| {
            tracing::debug!(%error, "cannot ask for sockets; those of an agent before this one are waited for");
        });
        Self { sockets: sockets.ok(), is_late: false }
    }

    fn is_gone(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        match self.sockets.as_mut().map(|sockets| sockets.has(local, remote)) {
            Some(Ok(is_there)) => !is_there,
            Some(Err(_)) | None => self.is_late,
        }
    }
}

/// A flow whose connection was being handed over.
#[derive(Debug, Clone, Copy)]
struct Taken {
    number: u32,
    generation: u32,
}

/// What becomes of it.
enum Fate {
    /// It is over, or carried by the programs alone.
    Settled,
    /// What nobody sends any more is missing from it.
    Broken,
    /// The kernel still sends for the process that is gone.
    Open,
}

impl Taken {
    const UNSETTLED: u64 = State::IN_TRANSIT | State::UNSENT;

    fn find<A: Address>(flows: &Flows<A>) -> VecDeque<Self> {
        let is_unsettled = |flow: &Flow<A>| State(flow.state).any(Self::UNSETTLED);
        flows
            .established()
            .filter(|(_, flow)| is_unsettled(flow))
            .map(|(number, flow)| Self { number, generation: State(flow.state).generation() })
            .collect()
    }

    fn state<A: Address>(self, flows: &Flows<A>) -> Option<State> {
        let state = flows.state(Kind::Established, self.number);
        let is_it = state.any(State::LIVE) && state.generation() == self.generation;
        is_it.then_some(state)
    }

    fn fate<A: Address>(self, flows: &Flows<A>, witness: &mut Witness) -> Fate {
        let flow = flows.live(Kind::Established, self.number);
        let (Some(state), Some(flow)) = (self.state(flows), flow) else { return Fate::Settled };
        if state.any(State::CONDEMNED) || state.phase() == Phase::Reset || !state.any(Self::UNSETTLED) {
            return Fate::Settled;
        }
        // Only the process knew numbers and bytes.
        if state.any(State::FROZEN | State::UNSENT) {
            return Fate::Broken;
        }
        let is_missing = [Direction::ToBackend, Direction::ToClient].into_iter().any(|direction| {
            let held = State::held(direction);
            let Tuple { source: remote, destination: local } = Tuple::of(&flow.arriving(direction));
            state.any(held)
                && witness.is_gone(local, remote)
                // Not if the peer has acknowledged all in the meantime.
                && self.state(flows).is_some_and(|state| state.any(held))
        });
        if is_missing { Fate::Broken } else { Fate::Open }
    }
}

/// Condemns those of the connections that nobody can bring to their end.
fn condemn_lost<A: Address + Pod>(
    taken: &mut VecDeque<Taken>,
    family: &FamilyMaps<A>,
    farewells: &mut Farewells,
    witness: &mut Witness,
) {
    let flows = &family.flows;
    for _ in 0..taken.len().min(AT_A_TIME) {
        let Some(next) = taken.pop_front() else { return };
        match next.fate(flows, witness) {
            Fate::Settled => {}
            Fate::Open => taken.push_back(next),
            Fate::Broken => {
                flows.mark(Kind::Established, next.number, State::CONDEMNED);
                farewells.add(next.number, flows.state(Kind::Established, next.number));
                tracing::debug!(flow = next.number, "reset: the agent that was handing it over has died");
            }
        }
    }
}

/// A port that the agent before had claimed, or nobody has.
#[derive(Debug)]
struct Claim {
    /// Bit of `PORTS`.
    place: u64,
    /// What a socket would be bound to.
    source: SocketAddr,
    backend: SocketAddr,
}

#[derive(Debug, Default)]
struct Claims {
    claims: VecDeque<Claim>,
}

impl Claims {
    /// Whether there are any.
    fn find(&mut self, maps: &Maps, config: &Config, installed: &Installed) -> bool {
        let owned = owned(maps, config);
        let words = config.port_count / PORTS_PER_WORD;
        for (ip, backend, base) in installed.bitmaps() {
            let first = u64::from(base) * u64::from(PORTS_PER_WORD);
            for place in maps.ports.places(base, words).filter(|place| !owned.contains(place)) {
                let port = u16::try_from(u64::from(config.first_port) + place - first).unwrap_or_default();
                self.claims.push_back(Claim { place, source: SocketAddr::new(ip, port), backend });
            }
        }
        maps.ports.suspect(self.claims.iter().map(|claim| claim.place));
        !self.claims.is_empty()
    }

    /// Forgets those that were given back in the meantime: whoever has them now, it is not the agent before.
    fn keep_set(&mut self, ports: &PortsInUse) {
        self.claims.retain(|claim| ports.is_set(claim.place));
    }

    /// Forgets those that a packet was just claiming, or giving back.
    fn confirm(&mut self, maps: &Maps, config: &Config) {
        self.keep_set(&maps.ports);
        if !self.claims.is_empty() {
            let owned = owned(maps, config);
            self.claims.retain(|claim| !owned.contains(&claim.place));
        }
    }

    /// Gives back those whose sockets are gone.
    fn release(&mut self, ports: &PortsInUse, witness: &mut Witness) {
        for _ in 0..self.claims.len().min(AT_A_TIME) {
            let Some(claim) = self.claims.pop_front() else { return };
            if !ports.is_suspected(claim.place) {
                continue;
            }
            if witness.is_gone(claim.source, claim.backend) {
                ports.release_suspected(claim.place);
            } else {
                self.claims.push_back(claim);
            }
        }
    }
}

/// The ports that flows and handshakes have, as bits of `PORTS`.
fn owned(maps: &Maps, config: &Config) -> HashSet<u64> {
    let mut owned = HashSet::new();
    add_owned(&mut owned, &maps.v4.flows, config);
    add_owned(&mut owned, &maps.v6.flows, config);
    owned
}

fn add_owned<A: Address>(owned: &mut HashSet<u64>, flows: &Flows<A>, config: &Config) {
    let flows = flows.all().map(|(_, _, flow)| flow).chain(flows.retired());
    for flow in flows.filter(|flow| flow.ports != NO_PORTS) {
        let port = u32::from(flow.backend.source_port.get()).wrapping_sub(config.first_port);
        owned.insert(u64::from(flow.ports) * u64::from(PORTS_PER_WORD) + u64::from(port));
    }
}

/// Records that nothing holds; those that a packet is just taking are among them at first, and not any more later.
#[derive(Debug)]
struct Lost {
    v4: BTreeSet<u32>,
    v6: BTreeSet<u32>,
}

impl Lost {
    fn find(maps: &Maps) -> Self {
        Self { v4: maps.v4.flows.lost(), v6: maps.v6.flows.lost() }
    }

    fn put_back(self, maps: &Maps) {
        let still = Self::find(maps);
        maps.v4.flows.put_back_lost(self.v4.intersection(&still.v4).copied());
        maps.v6.flows.put_back_lost(self.v6.intersection(&still.v6).copied());
    }
}
