//! The kernel plane as the agent drives it: start, apply a snapshot, tick, stop.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aya::Pod;
use gateway_common::flow::TICKS_PER_SECOND;
use gateway_common::{Address, Config, Event, Link, ListenerId};
use serde::Serialize;

use crate::model::{Cluster, ClusterName, Fitness, ListenerKey, Outcome, Published, Snapshot};
use crate::settings::{Datapath, KernelArgs, KernelMode, Prefix};

use super::ageing::Sweep;
use super::attach::{self, AttachError, Attached, Programs};
use super::departed::{self, Departed};
use super::events::{Failure, Heard};
use super::flows::Kind;
use super::handoff::Tallied;
use super::install::{InstallError, Installed};
use super::interfaces::{self, Interface};
use super::load::{self, LoadError, Loaded, Sizes, TABLE_SLOTS};
use super::maps::{self, FamilyMaps, Maps, MapsError};
use super::orphans::{Estate, Orphans};
use super::pin::{Lock, PinError, Pins};
use super::plan::{self, BackendKey, Opaque, Placement, Plan, Refusal, Surroundings};
use super::ports::{self, PortRange};
use super::routes::{NoRoute, Route, Routes};
use super::speaking::Speaking;
use super::stats::{self, FlowCounts, InUse, InterfaceStatus, Memory, Status};
use super::takeover;
use super::tally::{Ended, Lasting, Started};
use super::targets::{NoTarget, Tables, Target, Targets};
use super::trace;
use super::view::{self, Steered};

/// The same on every node: a flow meets the same backend whichever node it lands on.
const BALANCE_KEY: u64 = 0x736c_7569_6365_2031;

/// A handshake this young is not given up for another one: one second.
const HANDSHAKE_TICKS: u32 = TICKS_PER_SECOND;

/// Why this machine has no kernel plane. The words are shown to people.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// `--kernel off` or `--datapath off`.
    #[error("switched off by --kernel off or --datapath off")]
    Off,
    /// Loading programs needs it.
    #[error("needs root")]
    NotRoot,
    /// No programs in the binary.
    #[error(transparent)]
    NoObject(LoadError),
    /// No place for pins.
    #[error(transparent)]
    NoPins(#[from] PinError),
    /// Two agents would undo each other's work.
    #[error("another agent is running at {pins}; stop it first", pins = .0.display())]
    InUse(PathBuf),
    /// A gateway of another namespace shares the directory.
    #[error(
        "{pins} belongs to a gateway in another network namespace; give each its own --pin-dir, or remove what is left \
         of that one with `sluice cleanup`",
        pins = .0.display()
    )]
    OtherNamespace(PathBuf),
    /// Pinned maps that this version cannot take over.
    #[error("{pins} holds objects that cannot be taken over ({reason}); `sluice cleanup` removes them", pins = pins.display())]
    ForeignPins {
        /// Where.
        pins: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refused the programs.
    #[error(transparent)]
    Refused(LoadError),
    /// `--interface` names one that is not there.
    #[error("--interface {wanted}: there is no such interface; there are {}", .there.join(", "))]
    NoSuchInterface {
        /// The one that is not there.
        wanted: String,
        /// Those that are.
        there: Vec<String>,
    },
    /// None that clients could come in by.
    #[error(
        "no interface is up, carries Ethernet and has an address; --interface names one that is to get one"
    )]
    NoInterface,
    /// None that the programs could be attached to.
    #[error(transparent)]
    NotAttached(#[from] AttachError),
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A map cannot be read or written.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Unavailable {
    move |source| Unavailable::System { what, source }
}

/// What went wrong in a running kernel plane. It goes on with what it had.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A map cannot be read or written.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The programs are gone from our hands.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Interfaces(io::Error),
    /// The routing table does not answer.
    #[error("cannot ask for routes: {0}")]
    Routes(io::Error),
    /// Pins cannot be removed.
    #[error(transparent)]
    Pins(#[from] PinError),
}

/// Where the flows of the kernel's listeners go now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Generation of the snapshot.
    pub generation: u64,
    /// For each listener that asks for the kernel plane.
    #[serde(serialize_with = "by_name")]
    pub placements: BTreeMap<ListenerKey, Placement>,
    /// Listeners whose connections in user space do not come from their clients' addresses, against their documents, and
    /// why, in words.
    #[serde(skip)]
    pub unpreserved: BTreeMap<ListenerKey, String>,
}

fn by_name<S: serde::Serializer>(
    placements: &BTreeMap<ListenerKey, Placement>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(placements.iter().map(|(key, placement)| (key.to_string(), placement)))
}

/// What a tick found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Set when addresses, interfaces or routes changed where flows go.
    pub changed: Option<Applied>,
    /// Flows that are over and were not told of by [`KernelPlane::hear`].
    pub ended: Vec<Ended>,
    /// Flows in the tables.
    pub flows: FlowCounts,
    /// Flows that last and have moved, every few seconds, if [`KernelPlane::note_lasting`] was called.
    pub lasting: Vec<Lasting>,
}

/// How a stop left the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Flows that go on by the pinned programs. With none, everything was removed.
    pub flows: usize,
    /// Whether connections in user space have backends that answer to their clients' addresses. Then nothing was
    /// removed: [`KernelPlane::leave`] does, once they are over.
    pub is_answered: bool,
}

/// The programs in the kernel and what they were told.
pub struct KernelPlane {
    pins: Pins,
    /// Held, not read.
    _lock: Lock,
    loaded: Loaded,
    attached: Attached,
    installed: Installed,
    routes: Routes,
    /// `--interface`; empty for the default choice.
    wanted: Vec<String>,
    interfaces: BTreeMap<u32, Interface>,
    /// What the programs were told of them.
    links: BTreeMap<u32, Link>,
    /// `None` until the first is applied: an agent's listeners stay as the one before it left them.
    snapshot: Option<Arc<Snapshot>>,
    /// Whether the snapshot has been put in force as a whole.
    is_settled: bool,
    /// The interfaces that backends were reached by when all flows were last sent there.
    ways: BTreeMap<IpAddr, u32>,
    applied: Applied,
    sweep4: Sweep,
    sweep6: Sweep,
    orphans: Orphans,
    /// Shared with user space.
    fitness: Fitness,
    /// For those who hand connections over.
    tables: Arc<Tables>,
    targets: Published<Targets>,
    /// What the plan in force says of them.
    opaque: Opaque,
    speaking: Speaking,
    departed: Departed,
    heard: Heard,
    max_flows: u32,
}

// It is made on one thread and may be driven from another in the same network namespace.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<KernelPlane>();
};

impl KernelPlane {
    /// Loads and attaches the programs, or takes over those of an agent before this one with all their flows. Must
    /// be called in the network namespace that traffic comes in by, and the plane used by the same thread. Publishes
    /// where connections can be handed over to for as long as it lives. Another agent's is waited for, as long as `patience`.
    pub fn start(
        args: &KernelArgs,
        fitness: &Fitness,
        targets: Published<Targets>,
        patience: Duration,
    ) -> Result<Self, Unavailable> {
        let started = Self::try_start(args, fitness, targets, patience);
        if started.is_err() && rustix::process::geteuid().is_root() {
            takeover::leave(&Pins::below(&args.pin_dir), Duration::ZERO);
        }
        started
    }

    fn try_start(
        args: &KernelArgs,
        fitness: &Fitness,
        targets: Published<Targets>,
        patience: Duration,
    ) -> Result<Self, Unavailable> {
        if args.kernel == KernelMode::Off || args.datapath == Datapath::Off {
            return Err(Unavailable::Off);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable::NotRoot);
        }
        if !load::has_object() {
            return Err(Unavailable::NoObject(LoadError::NoObject));
        }
        let interfaces = interfaces::list().map_err(system("cannot list the interfaces"))?;
        check_wanted(&args.interfaces, &interfaces)?;
        let routes = Routes::open().map_err(system("cannot open a netlink socket"))?;
        let pins = Pins::below(&args.pin_dir);
        pins.prepare()?;
        let lock = takeover::take(&pins, patience)?;
        let ports = ports::choose().map_err(system("cannot choose source ports"))?;
        takeover::renew(&pins, args, ports)?;
        let mut loaded = load(&pins, args.max_flows)?;
        configure(&mut loaded.maps, &pins, args, ports)?;
        forget_links(&mut loaded.maps, &interfaces)?;
        let max_flows = maps::capacity(&pins.maps(), "FLOWS4")?;
        let installed = Installed::adopt(&loaded.maps)?;
        loaded.maps.translations.adopt(&loaded.maps.v4.flows);
        loaded.maps.translations.adopt(&loaded.maps.v6.flows);
        let tables = Arc::new(loaded.maps.tables(pins.attend()?)?);
        let speaking = Speaking::adopt(&loaded.maps, args.mark)?;
        let orphans = Orphans::find(&loaded.maps, &tables.config, &installed);
        let attached = Attached::adopt(&pins, args.datapath, &mut programs(&mut loaded)?, &interfaces)?;
        let mut plane = Self {
            pins,
            _lock: lock,
            loaded,
            attached,
            installed,
            routes,
            wanted: args.interfaces.clone(),
            interfaces,
            links: BTreeMap::new(),
            snapshot: None,
            is_settled: true,
            ways: BTreeMap::new(),
            applied: Applied::default(),
            sweep4: Sweep::default(),
            sweep6: Sweep::default(),
            orphans,
            fitness: fitness.clone(),
            tables,
            targets,
            opaque: Opaque::default(),
            speaking,
            departed: Departed::new(Duration::from_secs(args.backend_drain_time)),
            heard: Heard::default(),
            max_flows,
        };
        plane.attach_to_clients()?;
        plane.tend_orphans();
        Ok(plane)
    }

    /// Makes the maps hold what a snapshot asks for. Flows that there are go on as they were. Until the first call
    /// an agent before this one is in force; so the first snapshot must not be the empty one that an agent has
    /// before it has read any document. After an error every tick tries again.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<Applied, DatapathError> {
        self.snapshot = Some(snapshot.clone());
        self.is_settled = false;
        let refreshed = self.refresh(&snapshot);
        // Whatever it has come to: connections wait for the first.
        self.publish_targets();
        refreshed?;
        // The time of backends that have gone begins now, not at the next tick.
        self.condemn();
        Ok(self.applied.clone())
    }

    /// What is to be done every second: removing flows that are over, following addresses and routes, and freeing
    /// what no packet looks at any more.
    pub fn tick(&mut self) -> Result<Ticked, DatapathError> {
        // What cannot fail for reasons of the network first: flows must age whatever the routing table says.
        self.installed.bury(&mut self.loaded.maps, Instant::now())?;
        let now = stats::monotonic();
        // Before ageing takes the records.
        let mut ended = self.hear();
        let maps = &self.loaded.maps;
        let config = maps.config()?;
        ended.extend(self.sweep4.step(&maps.v4, maps, &config, now));
        ended.extend(self.sweep6.step(&maps.v6, maps, &config, now));
        let mut lasting = self.sweep4.take_lasting();
        lasting.append(&mut self.sweep6.take_lasting());
        for (backend, outcome) in self.heard.outcomes(|v6, id| self.installed.backend_address(v6, id)) {
            self.judge(backend, outcome);
        }
        self.forget();
        self.tend_orphans();
        if self.snapshot.is_some() {
            self.speaking.forget(&mut self.loaded.maps, self.tables.presence.as_ref())?;
        }
        self.condemn();
        ended.extend(self.bid_farewell());
        let before = self.applied.clone();
        if let Some(snapshot) = self.snapshot.clone() {
            self.refresh(&snapshot)?;
            self.publish_targets();
        }
        let changed = (self.applied != before).then(|| self.applied.clone());
        Ok(Ticked { changed, ended, flows: self.flows(), lasting })
    }

    /// Reads what the programs told since the last call, and returns the flows that have ended. To be called many times
    /// a second, so that ends are told when they come.
    pub fn hear(&mut self) -> Vec<Ended> {
        let mut ended = self.heard.hear(&mut self.loaded.maps, stats::monotonic());
        ended.extend(self.bid_farewell());
        ended
    }

    /// From now on flows that last are told of by each tick.
    pub fn note_lasting(&mut self) {
        self.sweep4.note_lasting();
        self.sweep6.note_lasting();
    }

    /// From now on flows that start are noted.
    pub fn note_starts(&mut self) {
        self.heard.note_starts();
        self.sweep4.note_starts();
        self.sweep6.note_starts();
    }

    /// Flows that [`KernelPlane::hear`] and [`KernelPlane::tick`] found since the last call and whose start nobody has told
    /// of yet, each once, before it is among those that have ended. Handed-over ones are not: user space has told of them.
    pub fn take_started(&mut self) -> Vec<Started> {
        let mut started = self.heard.take_started();
        started.append(&mut self.sweep4.take_started());
        started.append(&mut self.sweep6.take_started());
        started
    }

    /// Tells the ends of flows that are condemned.
    fn bid_farewell(&mut self) -> Vec<Ended> {
        let (now, config, maps) = (stats::monotonic(), &self.tables.config, &self.loaded.maps);
        let mut ended = self.sweep4.farewells().step(&maps.v4.flows, &maps.translations, config, now);
        ended.extend(self.sweep6.farewells().step(&maps.v6.flows, &maps.translations, config, now));
        ended
    }

    /// Has the packets of a client's flows told of, or nobody's any more.
    pub fn trace(&mut self, client: Option<IpAddr>) -> Result<(), DatapathError> {
        self.heard.trace(client.is_some());
        trace::left_out(&self.loaded.maps);
        Ok(trace::set(&mut self.loaded.maps, client)?)
    }

    /// The packets that [`KernelPlane::hear`] heard of since the last call, of a client that is traced, and how many
    /// more there were.
    pub fn traced(&mut self, client: IpAddr) -> (Vec<trace::Packet>, u64) {
        let now = (SystemTime::now(), stats::monotonic());
        let packet = |event: Event| {
            let name = self.interfaces.get(&event.interface).map(|interface| interface.name.clone());
            let packet = trace::Packet::of(&event, client, now);
            trace::Packet {
                interface: name.unwrap_or(packet.interface),
                backend: self.installed.backend_address(event.family == 6, event.backend),
                ..packet
            }
        };
        (self.heard.packets().into_iter().map(packet).collect(), trace::left_out(&self.loaded.maps))
    }

    /// For people and metrics.
    pub fn status(&self) -> Result<Status, DatapathError> {
        let clients = self.clients();
        let interface = |(index, hook): (u32, attach::Hook)| InterfaceStatus {
            name: self.interfaces.get(&index).map_or_else(|| index.to_string(), |found| found.name.clone()),
            index,
            hook: hook.to_string(),
            clients: clients.contains(&index),
        };
        let (maps, sweeps) = (&self.loaded.maps, [&self.sweep4, &self.sweep6]);
        let ports = self.tables.config.port_count;
        Ok(Status {
            interfaces: self.attached.hooks().map(interface).collect(),
            listeners: self.installed.listeners(),
            flows: self.flows(),
            max_flows: self.max_flows,
            handshakes: stats::handshakes(maps),
            max_handshakes: maps.v4.flows.capacity(Kind::Handshakes),
            memory: Memory::of(maps),
            in_use: InUse::of(maps, ports, self.installed.bitmaps().map(|(_, _, base)| base)),
            max_source_ports: u64::from(ports) * self.installed.bitmaps().count() as u64,
            events_lost: maps.v4.flows.lost_events() + maps.v6.flows.lost_events(),
            verdicts: stats::verdicts(maps)?,
            // The workers' account: whoever has the ledger fills it in.
            handoff: Tallied::default(),
            listener_traffic: stats::by_listener(sweeps, self.installed.owners()),
            backend_traffic: stats::by_backend(
                sweeps,
                self.installed.backends().map(|(key, _)| key.address),
                self.heard.failed(),
            ),
        })
    }

    /// The established flows, so many at most.
    pub fn steered(&self, most: usize) -> Vec<Steered> {
        view::steered(&self.loaded.maps, stats::monotonic()).take(most).collect()
    }

    /// Steers no new flow any more. Connections that workers have may still be handed over, until the stop.
    pub fn drain(&mut self) -> Result<(), DatapathError> {
        // What was published stays: its backends keep their numbers and ports for as long as it does.
        self.snapshot = None;
        self.refresh(&Snapshot::default())
    }

    /// Steers no new flow any more. Flows that there are go on without an agent; if there are none, every trace is
    /// removed.
    pub fn stop(mut self) -> Result<Stopped, DatapathError> {
        // First, so that no worker puts a flow into tables that are counted, or gone.
        self.targets.publish(Arc::default());
        self.refresh(&Snapshot::default())?;
        let flows = self.loaded.maps.going_on(stats::monotonic());
        let is_answered = self.tables.speakers.is_shared();
        match (is_answered, flows) {
            (true, _) => {}
            (false, 0) => takeover::remove(&self.pins)?,
            (false, _) => self.speaking.end(&mut self.loaded.maps)?,
        }
        Ok(Stopped { flows, is_answered })
    }

    /// Leaves everything as it is to an agent that waits for it: new flows are steered on meanwhile.
    pub fn hand_over(self) {
        // No worker may put a flow into tables that are another agent's.
        self.targets.publish(Arc::default());
    }

    /// For an agent that serves without a kernel plane, in the place of one that may have one still: new flows are its own as
    /// soon as that has let go, which is waited for as long as `patience`.
    pub fn renounce(args: &KernelArgs, patience: Duration) {
        if rustix::process::geteuid().is_root() {
            takeover::leave(&Pins::below(&args.pin_dir), patience);
        }
    }

    /// Removes what a stop has left for the sake of connections in user space, which are over. Another agent that has
    /// begun meanwhile is left alone.
    pub fn leave(args: &KernelArgs) -> Result<(), Unavailable> {
        takeover::finish(&Pins::below(&args.pin_dir), args)
    }

    /// Resets the flows of backends that have been gone for the drain time.
    fn condemn(&mut self) {
        if self.snapshot.is_none() {
            return;
        }
        let known = self.endpoints().collect();
        let due = self.departed.due(self.installed.old_backends(), &known, Instant::now());
        if !due.is_empty() {
            let maps = &self.loaded.maps;
            let flows = departed::condemn(&maps.v4.flows, &due, self.sweep4.farewells())
                + departed::condemn(&maps.v6.flows, &due, self.sweep6.farewells());
            if flows > 0 {
                tracing::info!(flows, backends = ?due, "resetting the flows of backends that are gone");
            }
        }
    }

    /// Every endpoint that the documents name, whether new flows may go to it or not.
    fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        let clusters = self.snapshot.iter().flat_map(|snapshot| snapshot.clusters.values());
        clusters.flat_map(|cluster| &cluster.endpoints).map(|endpoint| endpoint.address)
    }

    /// Forgets the counts of what is gone. An endpoint that is ejected is not: its failures are why.
    fn forget(&mut self) {
        let backends = self.installed.backends().map(|(key, _)| key.address);
        let backends = backends.chain(self.installed.old_backends()).chain(self.endpoints());
        let backends: HashSet<SocketAddr> = backends.collect();
        let mut listeners: HashSet<ListenerId> = self.installed.owners().map(|(_, id)| id).collect();
        for sweep in [&self.sweep4, &self.sweep6] {
            listeners.extend(sweep.current().listeners().map(|(id, _)| id));
        }
        for sweep in [&mut self.sweep4, &mut self.sweep6] {
            sweep.forget(|backend| backends.contains(&backend), |listener| listeners.contains(&listener));
        }
        self.heard.forget(|backend| backends.contains(&backend));
    }

    /// Deals with what an agent before this one left unfinished.
    fn tend_orphans(&mut self) {
        self.orphans.step(&mut Estate {
            maps: &self.loaded.maps,
            config: &self.tables.config,
            presence: self.tables.presence.as_ref(),
            farewells: [self.sweep4.farewells(), self.sweep6.farewells()],
        });
    }

    fn flows(&self) -> FlowCounts {
        FlowCounts { ipv4: self.sweep4.live(), ipv6: self.sweep6.live() }
    }

    /// The interfaces that clients come in by.
    fn clients(&self) -> BTreeSet<u32> {
        let chosen = |interface: &&Interface| {
            if self.wanted.is_empty() {
                interface.is_for_clients()
            } else {
                self.wanted.contains(&interface.name)
            }
        };
        self.interfaces.values().filter(chosen).map(|interface| interface.index).collect()
    }

    /// At start: at least one interface must take the programs.
    fn attach_to_clients(&mut self) -> Result<(), Unavailable> {
        let mut problem = None;
        let mut attached = 0;
        for index in self.clients() {
            match self.attach(index) {
                Ok(()) => attached += 1,
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            _ if attached > 0 => Ok(()),
            Some(error) => Err(error),
            None => Err(Unavailable::NoInterface),
        }
    }

    fn attach(&mut self, index: u32) -> Result<(), Unavailable> {
        let interface = self.interfaces.get(&index).ok_or(AttachError::NoInterface(index))?;
        Ok(self.attached.attach(&mut programs(&mut self.loaded)?, interface)?)
    }

    /// Looks at the node again and makes the maps follow.
    fn refresh(&mut self, snapshot: &Snapshot) -> Result<(), DatapathError> {
        self.interfaces = interfaces::list().map_err(DatapathError::Interfaces)?;
        let gone: Vec<u32> =
            self.attached.indices().filter(|index| !self.interfaces.contains_key(index)).collect();
        for index in gone {
            self.attached.forget(index);
            self.links.remove(&index);
            self.loaded.maps.remove_link(index)?;
        }
        let routes = self.routes(snapshot)?;
        let ways = self.ways(&routes);
        let mut plan = self.plan(snapshot, routes);
        self.tell_links()?;
        self.installed.number(&plan.opaque.listeners);
        self.opaque = std::mem::take(&mut plan.opaque);
        self.carry_out(plan, snapshot.generation)?;
        self.hear_answers()?;
        self.applied.unpreserved = self.unpreserved(snapshot);
        if !std::mem::replace(&mut self.is_settled, true) {
            self.installed.settle();
        }
        self.reroute(ways);
        Ok(())
    }

    /// Has answers to clients' addresses come to this node, if there are backends that may give some.
    fn hear_answers(&mut self) -> Result<(), DatapathError> {
        let backends: BTreeSet<SocketAddr> = self.installed.preserving().collect();
        let name = |index| self.interfaces.get(&index).map(|interface| interface.name.clone());
        let interfaces: Vec<String> = self.attached.indices().filter_map(name).collect();
        Ok(self.speaking.hear(&mut self.loaded.maps, &backends, &interfaces)?)
    }

    /// Listeners whose backends are to see their clients' addresses and do not, as far as user space serves them, and why.
    fn unpreserved(&self, snapshot: &Snapshot) -> BTreeMap<ListenerKey, String> {
        let problem = |key: BackendKey| {
            let problem = self.opaque.backends.get(&key).and_then(|backend| backend.as_ref().err());
            let problem =
                problem.map(ToString::to_string).or_else(|| self.speaking.problem().map(str::to_owned));
            problem.map(|problem| format!("backend {}: {problem}", key.address))
        };
        plan::opaque_listeners(snapshot)
            .filter(|listener| plan::preserves(listener))
            .filter_map(|listener| Some((listener.key, plan::backends(listener).find_map(problem)?)))
            .collect()
    }

    /// Tells those who hand connections over, if there is news for them.
    fn publish_targets(&self) {
        let mtus: HashMap<u32, u32> = self.links.iter().map(|(index, link)| (*index, link.mtu)).collect();
        let planned =
            self.opaque.backends.iter().map(|(key, backend)| {
                (*key, Err(backend.as_ref().err().cloned().unwrap_or(NoTarget::NoRoom)))
            });
        let mut backends: HashMap<BackendKey, Result<Target, NoTarget>> = planned.collect();
        backends.extend(self.installed.targets(&mtus).map(|(key, target)| (key, Ok(target))));
        if let Some(problem) = self.speaking.problem() {
            let unheard = backends.iter_mut().filter(|(key, _)| key.preserve);
            unheard.for_each(|(_, target)| *target = Err(NoTarget::Unreachable(problem.to_owned())));
        }
        let listeners = self.installed.owners().collect();
        let generation = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.generation);
        let targets = Targets {
            generation,
            tables: Some(self.tables.clone()),
            backends,
            is_crowded: self.opaque.is_crowded,
            listeners,
            mtus,
        };
        if !targets.says_the_same(&self.targets.current()) {
            self.targets.publish(Arc::new(targets));
        }
    }

    /// The way to each backend that a snapshot names, or that there may be flows of. Each is asked for once.
    fn routes(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<BTreeMap<IpAddr, Result<Route, NoRoute>>, DatapathError> {
        let mut destinations = plan::destinations(snapshot);
        destinations.extend(self.installed.all_backends().map(|backend| backend.ip()));
        let ask = |destination| Ok((destination, self.routes.to(destination)?));
        destinations.into_iter().map(ask).collect::<io::Result<_>>().map_err(DatapathError::Routes)
    }

    /// The interface to each backend that there may be flows of, with the programs on it, for the answers.
    fn ways(&mut self, routes: &BTreeMap<IpAddr, Result<Route, NoRoute>>) -> BTreeMap<IpAddr, u32> {
        let backends: BTreeSet<IpAddr> = self.installed.all_backends().map(|backend| backend.ip()).collect();
        let way = |backend: IpAddr| Some((backend, routes.get(&backend)?.ok()?.oif));
        let mut ways: BTreeMap<IpAddr, u32> = backends.into_iter().filter_map(way).collect();
        let interfaces: BTreeSet<u32> = ways.values().copied().collect();
        let useless: Vec<u32> = interfaces.into_iter().filter(|index| self.attach(*index).is_err()).collect();
        ways.retain(|_, index| !useless.contains(index));
        ways
    }

    /// Flows follow the routing table, as those of sockets do.
    fn reroute(&mut self, ways: BTreeMap<IpAddr, u32>) {
        if ways == self.ways {
            return;
        }
        let maps = &self.loaded.maps;
        let flows = maps.v4.flows.reroute(&ways) + maps.v6.flows.reroute(&ways);
        if flows > 0 {
            tracing::info!(flows, "sent to their backends by another interface");
        }
        self.ways = ways;
    }

    /// Plans, with the programs on every interface that the plan needs. What they cannot be attached to is planned
    /// around.
    fn plan(&mut self, snapshot: &Snapshot, routes: BTreeMap<IpAddr, Result<Route, NoRoute>>) -> Plan {
        let mut surroundings = Surroundings { routes, ..Surroundings::default() };
        for index in self.clients() {
            match self.attach(index) {
                Ok(()) => surroundings.addresses.extend(self.addresses(index)),
                Err(error) => drop(surroundings.unattachable.insert(index, error.to_string())),
            }
        }
        if !surroundings.addresses.is_empty() {
            surroundings.addresses.extend(self.addresses_of_loopback());
        }
        surroundings.unfit = self.unfit(snapshot);
        loop {
            let plan = plan::plan(snapshot, &surroundings);
            let failed: BTreeMap<u32, String> = plan
                .interfaces()
                .into_iter()
                .filter_map(|index| Some((index, self.attach(index).err()?.to_string())))
                .collect();
            if failed.is_empty() {
                return plan;
            }
            // Each turn takes interfaces out of the next plan, so there is a last one.
            surroundings.unattachable.extend(failed);
        }
    }

    fn unfit(&self, snapshot: &Snapshot) -> BTreeSet<(ClusterName, SocketAddr)> {
        let now = Instant::now();
        let of_cluster = |cluster: &Arc<Cluster>| {
            let unfit = self.fitness.unfit(cluster, now);
            let cluster = cluster.clone();
            unfit.into_iter().flat_map(move |unfit| {
                let endpoints = cluster.endpoints.iter().map(|endpoint| endpoint.address);
                let gone: Vec<_> = endpoints.filter(|address| unfit.contains(*address)).collect();
                gone.into_iter().map(|address| (cluster.name.clone(), address)).collect::<Vec<_>>()
            })
        };
        snapshot.clusters.values().flat_map(of_cluster).collect()
    }

    /// Tells how a new flow went with a backend, for every cluster that it is in.
    fn judge(&self, backend: SocketAddr, failure: Option<Failure>) {
        let Some(snapshot) = &self.snapshot else { return };
        let now = Instant::now();
        let outcome = if failure.is_some() { Outcome::LocalOriginFailure } else { Outcome::Connected };
        for cluster in snapshot.clusters.values() {
            if cluster.endpoint(backend).is_some()
                && let Some(ejection) = self.fitness.outliers.report(cluster, backend, outcome, now)
            {
                tracing::warn!(cluster = %ejection.cluster, endpoint = %backend, "endpoint ejected");
            }
        }
    }

    /// Tells the programs of the interfaces that they are on.
    fn tell_links(&mut self) -> Result<(), DatapathError> {
        for index in self.attached.indices() {
            let Some(mtu) = self.interfaces.get(&index).and_then(|interface| interface.mtu) else { continue };
            let link = Link { mtu, flags: if self.attached.takes_xdp(index) { Link::XDP } else { 0 } };
            if self.links.get(&index) != Some(&link) {
                self.loaded.maps.put_link(index, link)?;
                self.links.insert(index, link);
            }
        }
        Ok(())
    }

    /// Packets to these come in by the interfaces for clients, too: loopback is where nodes have what routers lead to several.
    fn addresses_of_loopback(&self) -> impl Iterator<Item = IpAddr> {
        let loopback = self.interfaces.values().filter(|interface| interface.loopback && interface.up);
        loopback.flat_map(|interface| &interface.addresses).copied().filter(|ip| !ip.is_loopback())
    }

    fn addresses(&self, index: u32) -> Vec<IpAddr> {
        self.interfaces.get(&index).map(|interface| interface.addresses.clone()).unwrap_or_default()
    }

    fn carry_out(&mut self, mut plan: Plan, generation: u64) -> Result<(), DatapathError> {
        for step in plan::diff(self.installed.state(), &plan.state) {
            match self.installed.take(&mut self.loaded.maps, &step, generation) {
                Ok(()) => {}
                Err(InstallError::Maps(error)) => return Err(error.into()),
                Err(InstallError::NoRoom(address)) => {
                    // Its old table, if any, names backends that may be on their way out.
                    self.installed.unsteer(&mut self.loaded.maps, address)?;
                    plan.refuse(address, &Refusal::NoRoom);
                }
            }
        }
        self.applied = Applied { generation, placements: plan.placements, ..Applied::default() };
        Ok(())
    }
}

impl Drop for KernelPlane {
    fn drop(&mut self) {
        // Nobody ages the flows any more, or gives their ports back.
        self.targets.publish(Arc::default());
    }
}

fn check_wanted(wanted: &[String], interfaces: &BTreeMap<u32, Interface>) -> Result<(), Unavailable> {
    let exists = |name: &&String| interfaces.values().any(|interface| interface.name == **name);
    match wanted.iter().find(|name| !exists(name)) {
        Some(missing) => {
            let there = interfaces.values().map(|interface| interface.name.clone()).collect();
            Err(Unavailable::NoSuchInterface { wanted: missing.clone(), there })
        }
        None => Ok(()),
    }
}

fn load(pins: &Pins, flows: u32) -> Result<Loaded, Unavailable> {
    load::load(Sizes { flows, slots: TABLE_SLOTS }, Some(&pins.maps())).map_err(|error| match error {
        LoadError::NoObject => Unavailable::NoObject(error),
        LoadError::Maps(reason) => Unavailable::ForeignPins { pins: pins.maps(), reason: reason.to_string() },
        LoadError::Ebpf(_) | LoadError::Program(_) => Unavailable::Refused(error),
    })
}

fn programs(loaded: &mut Loaded) -> Result<Programs<'_>, Unavailable> {
    loaded.programs().map_err(Unavailable::Refused)
}

/// Tells the programs their keys, sizes and source ports. What flows depend on stays as it was in maps that are taken
/// over: the key of the index, and the ports, which the bitmaps are cut by.
fn configure(maps: &mut Maps, pins: &Pins, args: &KernelArgs, ports: PortRange) -> Result<(), Unavailable> {
    let namespace = namespace_now()?;
    let old = maps.config()?;
    let is_new = old.port_count == 0;
    if !is_new && old.namespace != namespace {
        return Err(Unavailable::OtherNamespace(pins.maps()));
    }
    if is_new {
        maps.v4.flows.fill_free();
        maps.v6.flows.fill_free();
    }
    let (first_port, port_count) =
        if is_new { (ports.first.into(), ports.count.into()) } else { (old.first_port, old.port_count) };
    let flags = deny(maps, &args.denied)?;
    maps.set_config(Config {
        index_key: if is_new { fastrand::u64(..) } else { old.index_key },
        balance_key: BALANCE_KEY,
        namespace,
        first_port,
        port_count,
        buckets: maps.v4.flows.buckets(Kind::Established),
        half_buckets: maps.v4.flows.buckets(Kind::Handshakes),
        flows: maps.v4.flows.capacity(Kind::Established),
        half_flows: maps.v4.flows.capacity(Kind::Handshakes),
        handshake_ticks: HANDSHAKE_TICKS,
        source_rate: args.max_new_flows_per_source,
        flags,
        trace4: 0,
        trace6: [0; 4],
        // The agent before may have sockets still, which it waits for.
        mark: old.mark,
        mark_mask: old.mark_mask,
    })?;
    Ok(())
}

/// Forgets interfaces that went away while there was no agent.
fn forget_links(maps: &mut Maps, interfaces: &BTreeMap<u32, Interface>) -> Result<(), MapsError> {
    for (index, _) in maps.links()? {
        if !interfaces.contains_key(&index) {
            maps.remove_link(index)?;
        }
    }
    Ok(())
}

/// Makes the deny lists hold these prefixes and no others. Returns the flags of the lists that are not empty.
fn deny(maps: &mut Maps, prefixes: &[Prefix]) -> Result<u32, MapsError> {
    let v4 = deny_family(&mut maps.v4, prefixes)?;
    let v6 = deny_family(&mut maps.v6, prefixes)?;
    let flag = |on, flag| if on { flag } else { 0 };
    Ok(flag(v4, Config::DENY4) | flag(v6, Config::DENY6))
}

fn deny_family<A: Address + Pod>(maps: &mut FamilyMaps<A>, prefixes: &[Prefix]) -> Result<bool, MapsError> {
    let prefix = |prefix: &Prefix| Some((u32::from(prefix.length), A::from_ip(prefix.address)?));
    let wanted: BTreeSet<(u32, A)> = prefixes.iter().filter_map(prefix).collect();
    for (length, address) in maps.denied()?.into_iter().filter(|old| !wanted.contains(old)) {
        maps.deny(length, address, false)?;
    }
    for (length, address) in &wanted {
        maps.deny(*length, *address, true)?;
    }
    Ok(!wanted.is_empty())
}

/// Inode of the calling thread's network namespace.
pub(super) fn namespace_now() -> Result<u64, Unavailable> {
    let found =
        fs::metadata("/proc/thread-self/ns/net").map_err(system("cannot tell the network namespace"))?;
    Ok(found.ino())
}
