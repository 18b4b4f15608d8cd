//! What the maps should hold, and the steps from what they hold to that. Pure: a snapshot and what is known of the
//! node go in, values come out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway_common::flow::LONGEST_IDLE;
use serde::Serialize;

use crate::model::{
    Affinity, Candidate, ChainAction, Cluster, ClusterName, Listener, ListenerKey, ListenerKind, Snapshot,
    SourceAddress, Steering, TcpRoute, WeightedCluster,
};

use super::maglev::Weights;
use super::routes::{NoRoute, Route};
use super::targets::NoTarget;

/// What integer weights are scaled by before they are split among endpoints.
const WEIGHT_SCALE: u64 = 1 << 20;

/// Backends that are planned only because HTTP requests to them may be upgraded: half of those whose source ports there
/// is room for. Most of them never see one, and a listener that is added later must find room.
const MOST_FOR_UPGRADES: usize = 512;

/// What the node looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Addresses of the interfaces that clients come in by, and loopback's that mean something outside.
    pub addresses: BTreeSet<IpAddr>,
    /// The way to each backend address.
    pub routes: BTreeMap<IpAddr, Result<Route, NoRoute>>,
    /// Interfaces that the programs cannot be attached to, and why, in words.
    pub unattachable: BTreeMap<u32, String>,
    /// Endpoints that get nothing new for now (DestinationRule outlierDetection, `sluice.dev/health-check`).
    pub unfit: BTreeSet<(ClusterName, SocketAddr)>,
}

/// A backend, and whether its flows keep the client's source address and port: two entries of the maps if some do and
/// others don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether they do.
    pub preserve: bool,
}

/// A backend with all that its flows need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendSpec {
    /// Which.
    pub key: BackendKey,
    /// The way there.
    pub route: Route,
}

/// A listener as the maps hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerSpec {
    /// The documents' listener that the address belongs to; `None` for one of an agent before this one.
    pub owner: Option<ListenerKey>,
    /// Backends and their weights; keys are in [`State::backends`].
    pub weights: Weights,
    /// Idle timeout of its flows, in whole seconds, at least 1.
    pub idle_timeout: u32,
    /// Whether backends see the client's own address.
    pub preserve: bool,
    /// Whether all flows of a client go to the same backend.
    pub by_client: bool,
    /// Flows at a time; 0 for no limit.
    pub max_flows: u32,
    /// New flows in each second; 0 for no limit.
    pub max_rate: u32,
}

impl ListenerSpec {
    /// Its backends.
    pub fn backends(&self) -> impl Iterator<Item = BackendKey> {
        self.weights.keys().map(|address| BackendKey { address: *address, preserve: self.preserve })
    }
}

/// What the maps hold, or should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Backends, of listeners and of opaque connections.
    pub backends: BTreeMap<BackendKey, BackendSpec>,
    /// By local address and port.
    pub listeners: BTreeMap<SocketAddr, ListenerSpec>,
}

/// A step on the way from one state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes a backend known, or gives it another way; no table names the new one yet.
    PutBackend(BackendSpec),
    /// Writes a table and lets a listener use it.
    PutListener(SocketAddr, ListenerSpec),
    /// Leaves new flows of a listener to user space.
    RemoveListener(SocketAddr),
    /// Forgets a backend that no table names any more.
    RemoveBackend(BackendKey),
}

/// Why a listener is not steered on this node, or not for an address family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// Its address is on no interface that clients come in by.
    #[error("no interface for clients has address {0}")]
    NotHere(IpAddr),
    /// No interface for clients has an address.
    #[error("no interface for clients has an address")]
    NoAddress,
    /// A destination of the route is no known service.
    #[error("no service `{0}`")]
    NoService(String),
    /// A destination of the route has nothing healthy to go to.
    #[error("no healthy backend of `{0}`")]
    NoBackend(String),
    /// A destination has backends, but none of the listener's address family.
    #[error("no healthy {family} backend of `{cluster}`")]
    NoBackendOfFamily {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Which destination.
        cluster: String,
    },
    /// A backend cannot be reached through the kernel plane.
    #[error("backend {address}: {reason}")]
    Unreachable {
        /// Which.
        address: SocketAddr,
        /// In words.
        reason: String,
    },
    /// The tables do not fit.
    #[error("no room for it in the kernel's tables (listeners, backends, source ports)")]
    NoRoom,
}

/// Where a listener's flows go on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Addresses that the kernel steers new flows of.
    pub steered: Vec<SocketAddr>,
    /// Why not more of them.
    #[serde(serialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

fn words<S: serde::Serializer>(refusals: &[Refusal], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(refusals.iter().map(ToString::to_string))
}

/// What is known of opaque connections that user space accepts: passthrough by SNI, TCP that the kernel cannot steer from
/// the first packet on, and what HTTP requests are upgraded to. The kernel may carry them later, so their backends are in
/// the state like others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opaque {
    /// Listeners that have some.
    pub listeners: BTreeSet<ListenerKey>,
    /// Their backends: in the state, or why the kernel can send nothing there.
    pub backends: BTreeMap<BackendKey, Result<BackendSpec, NoTarget>>,
    /// There are more, left out not to take too much room for what may never come. They can be tens of thousands, and
    /// nothing is kept of them.
    pub is_crowded: bool,
}

/// The result of planning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the maps should hold.
    pub state: State,
    /// For each listener that the kernel may steer: where its flows go.
    pub placements: BTreeMap<ListenerKey, Placement>,
    /// For the others.
    pub opaque: Opaque,
}

impl Plan {
    /// The interfaces that backends answer by.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.state.backends.values().map(|backend| backend.route.oif).collect()
    }

    /// Puts the backends of opaque connections into the state.
    fn expect_opaque(&mut self, endpoints: &OpaqueEndpoints, surroundings: &Surroundings) {
        let reached = |key: &BackendKey| {
            (*key, reach(key.address, key.preserve, surroundings).map_err(NoTarget::Unreachable))
        };
        self.opaque.backends = endpoints.expected.iter().map(reached).collect();
        self.opaque.is_crowded = endpoints.is_crowded;
        let found = self.opaque.backends.values().filter_map(|backend| backend.as_ref().ok());
        self.state.backends.extend(found.map(|backend| (backend.key, *backend)));
    }

    /// Notes that an address could not be steered after all.
    pub fn refuse(&mut self, address: SocketAddr, refusal: &Refusal) {
        for placement in self.placements.values_mut().filter(|placement| placement.steered.contains(&address))
        {
            placement.steered.retain(|steered| *steered != address);
            placement.refusals.push(refusal.clone());
        }
    }
}

/// Every address that a plan of this snapshot needs a route to.
pub fn destinations(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let steered = kernel_listeners(snapshot).flat_map(|(_, route)| healthy(route.destinations.iter()));
    let opaque = opaque_endpoints(snapshot).expected.into_iter().map(|key| key.address);
    steered.chain(opaque).map(|address| address.ip()).collect()
}

/// Endpoints that connections to some destinations may go to. Each cluster is looked at once, however many routes lead
/// to it.
pub(super) fn healthy<'a>(
    destinations: impl Iterator<Item = &'a WeightedCluster>,
) -> impl Iterator<Item = SocketAddr> {
    let clusters = destinations.filter_map(|destination| destination.cluster.as_deref());
    let mut clusters: Vec<&Cluster> = clusters.collect();
    clusters.sort_unstable_by_key(|cluster| std::ptr::from_ref(*cluster));
    clusters.dedup_by_key(|cluster| std::ptr::from_ref(*cluster));
    clusters.into_iter().flat_map(Cluster::healthy).map(|endpoint| endpoint.address)
}

fn kernel_listeners(snapshot: &Snapshot) -> impl Iterator<Item = (&Listener, &TcpRoute)> {
    snapshot.listeners.iter().filter_map(|listener| match (&listener.kind, &listener.steering) {
        (ListenerKind::Tcp(route), Steering::Kernel) => Some((listener.as_ref(), route.as_ref())),
        _ => None,
    })
}

/// Listeners with opaque connections that user space accepts from elsewhere.
pub(super) fn opaque_listeners(snapshot: &Snapshot) -> impl Iterator<Item = &Listener> {
    let is_reachable = |listener: &&Listener| !listener.key.bind.is_some_and(|ip| ip.is_loopback());
    let has_some = |listener: &&Listener| {
        let is_steered =
            matches!((&listener.kind, &listener.steering), (ListenerKind::Tcp(_), Steering::Kernel));
        !is_steered && expected(listener).next().is_some()
    };
    snapshot.listeners.iter().map(Arc::as_ref).filter(is_reachable).filter(has_some)
}

/// Backends of a listener's opaque connections.
pub(super) fn backends(listener: &Listener) -> impl Iterator<Item = BackendKey> {
    let preserve = preserves(listener);
    healthy(expected(listener)).map(move |address| BackendKey { address, preserve })
}

/// Where connections go whose bytes the kernel may carry later, or whose backends must at least be known to answer their
/// clients.
fn expected(listener: &Listener) -> impl Iterator<Item = &WeightedCluster> {
    let chains = match &listener.kind {
        ListenerKind::Tls(tls) if preserves(listener) => tls.chains.as_slice(),
        _ => &[],
    };
    let terminated = chains.iter().filter_map(|chain| match &chain.action {
        ChainAction::TerminateTcp { route, .. } => Some(route),
        ChainAction::TerminateHttp { .. } | ChainAction::Passthrough(_) => None,
    });
    listener.opaque_destinations().chain(terminated.flat_map(|route| &route.destinations))
}

/// Endpoints that opaque connections may go to which user space accepts.
struct OpaqueEndpoints {
    expected: BTreeSet<BackendKey>,
    /// Others are left out.
    is_crowded: bool,
}

fn opaque_endpoints(snapshot: &Snapshot) -> OpaqueEndpoints {
    let (upgrades, carried): (Vec<_>, Vec<_>) =
        opaque_listeners(snapshot).partition(|listener| matches!(listener.kind, ListenerKind::Http(_)));
    let mut expected: BTreeSet<BackendKey> = carried.into_iter().flat_map(backends).collect();
    let upgrades = upgrades.into_iter().flat_map(backends).filter(|key| !expected.contains(key));
    let (more, is_crowded) = least(upgrades, MOST_FOR_UPGRADES);
    expected.extend(more);
    OpaqueEndpoints { expected, is_crowded }
}

/// The least of some keys, each once, and whether there are others: a change that adds some displaces few.
fn least(keys: impl Iterator<Item = BackendKey>, most: usize) -> (BTreeSet<BackendKey>, bool) {
    let (mut least, mut are_more) = (BTreeSet::new(), false);
    for key in keys {
        if least.len() < most {
            least.insert(key);
        } else if !least.contains(&key) {
            are_more = true;
            if least.last().is_some_and(|last| key < *last) {
                least.insert(key);
                least.pop_last();
            }
        }
    }
    (least, are_more)
}

/// Whether a listener's backends are to see the client's own address. Those of HTTP do not, whatever is upgraded.
pub(super) fn preserves(listener: &Listener) -> bool {
    listener.source_address == SourceAddress::Preserve && !matches!(listener.kind, ListenerKind::Http(_))
}

/// Plans what the maps should hold.
pub fn plan(snapshot: &Snapshot, surroundings: &Surroundings) -> Plan {
    let claimed: BTreeSet<SocketAddr> = snapshot
        .listeners
        .iter()
        .filter_map(|listener| Some(SocketAddr::new(listener.key.bind?, listener.key.port)))
        .collect();
    let mut plan = Plan::default();
    for (listener, route) in kernel_listeners(snapshot) {
        let placement = place(listener, route, surroundings, &claimed, &mut plan.state);
        plan.placements.insert(listener.key, placement);
    }
    plan.opaque.listeners = opaque_listeners(snapshot).map(|listener| listener.key).collect();
    plan.expect_opaque(&opaque_endpoints(snapshot), surroundings);
    plan
}

/// Puts one listener into the state, for each of its addresses where that can be done.
fn place(
    listener: &Listener,
    route: &TcpRoute,
    surroundings: &Surroundings,
    claimed: &BTreeSet<SocketAddr>,
    state: &mut State,
) -> Placement {
    let addresses = match addresses(listener.key, surroundings, claimed) {
        Ok(addresses) => addresses,
        Err(refusal) => return Placement { steered: Vec::new(), refusals: vec![refusal] },
    };
    let mut placement = Placement::default();
    for family in [Family::V4, Family::V6] {
        let mut mine = addresses.iter().filter(|address| family.has(address.ip())).peekable();
        if mine.peek().is_none() {
            continue;
        }
        let preserve = preserves(listener);
        match weigh(&route.destinations, family, preserve, surroundings) {
            Ok(backends) => {
                let spec = specify(listener, route, preserve, &backends);
                state.listeners.extend(mine.clone().map(|address| (*address, spec.clone())));
                state.backends.extend(backends.keys().map(|backend| (backend.key, *backend)));
                placement.steered.extend(mine);
            }
            // The same for both families is one reason.
            Err(refusal) if placement.refusals.contains(&refusal) => {}
            Err(refusal) => placement.refusals.push(refusal),
        }
    }
    placement
}

fn specify(
    listener: &Listener,
    route: &TcpRoute,
    preserve: bool,
    backends: &BTreeMap<BackendSpec, u64>,
) -> ListenerSpec {
    let clusters = || route.destinations.iter().filter_map(|destination| destination.cluster.as_deref());
    ListenerSpec {
        owner: Some(listener.key),
        weights: backends.iter().map(|(backend, weight)| (backend.key.address, *weight)).collect(),
        idle_timeout: whole_seconds(route.idle_timeout),
        preserve,
        by_client: clusters().any(|cluster| cluster.affinity == Affinity::SourceAddress),
        max_flows: listener.limits.connections.unwrap_or(0),
        max_rate: listener.limits.new_per_second.unwrap_or(0),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The local addresses of a listener. A listener on every address has none that another one binds on the same
/// port: to a socket, the exact address wins too.
fn addresses(
    key: ListenerKey,
    surroundings: &Surroundings,
    claimed: &BTreeSet<SocketAddr>,
) -> Result<Vec<SocketAddr>, Refusal> {
    let wildcard = |matches: fn(&IpAddr) -> bool| {
        let local = surroundings.addresses.iter().copied().filter(matches);
        let free: Vec<SocketAddr> = local
            .map(|ip| SocketAddr::new(ip, key.port))
            .filter(|address| !claimed.contains(address))
            .collect();
        if free.is_empty() { Err(Refusal::NoAddress) } else { Ok(free) }
    };
    match key.bind {
        None => wildcard(|_| true),
        Some(IpAddr::V4(ip)) if ip.is_unspecified() => wildcard(IpAddr::is_ipv4),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => wildcard(IpAddr::is_ipv6),
        Some(ip) if surroundings.addresses.contains(&ip) => Ok(vec![SocketAddr::new(ip, key.port)]),
        Some(ip) => Err(Refusal::NotHere(ip)),
    }
}

/// The backends of a route in one address family, with their weights: a destination's weight is shared out among
/// its eligible endpoints by theirs. All or nothing: steering around a destination would give its share to the others.
fn weigh(
    destinations: &[WeightedCluster],
    family: Family,
    preserve: bool,
    surroundings: &Surroundings,
) -> Result<BTreeMap<BackendSpec, u64>, Refusal> {
    let mut backends = BTreeMap::new();
    for destination in destinations {
        let name = destination.name.to_string();
        let Some(cluster) = &destination.cluster else { return Err(Refusal::NoService(name)) };
        let is_unfit = |address| surroundings.unfit.contains(&(cluster.name.clone(), address));
        let candidates: Vec<Candidate<'_>> = cluster
            .eligible(Some(is_unfit))
            .filter(|candidate| family.has(candidate.endpoint.address.ip()))
            .collect();
        if candidates.is_empty() {
            let has_others = cluster.healthy().any(|endpoint| !family.has(endpoint.address.ip()));
            return Err(if has_others {
                Refusal::NoBackendOfFamily { family: family.name(), cluster: name }
            } else {
                Refusal::NoBackend(name)
            });
        }
        let total: u128 = candidates.iter().map(|candidate| u128::from(candidate.weight)).sum();
        let scaled = u128::from(u64::from(destination.weight) * WEIGHT_SCALE);
        for Candidate { endpoint, weight } in candidates {
            let share = u64::try_from(scaled * u128::from(weight) / total).unwrap_or(u64::MAX);
            let backend = reach(endpoint.address, preserve, surroundings)
                .map_err(|reason| Refusal::Unreachable { address: endpoint.address, reason })?;
            *backends.entry(backend).or_default() += share.max(1);
        }
    }
    Ok(backends)
}

fn reach(address: SocketAddr, preserve: bool, surroundings: &Surroundings) -> Result<BackendSpec, String> {
    match address.ip() {
        ip if ip.is_loopback() => return Err("on loopback".to_owned()),
        // Every interface has such a network, and the document does not say which is meant.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => return Err("link-local address".to_owned()),
        _ => {}
    }
    let route = surroundings.routes.get(&address.ip()).copied().unwrap_or(Err(NoRoute::Unreachable));
    let route = route.map_err(|problem| problem.to_string())?;
    match surroundings.unattachable.get(&route.oif) {
        Some(problem) => Err(problem.clone()),
        None => Ok(BackendSpec { key: BackendKey { address, preserve }, route }),
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).clamp(1, LONGEST_IDLE)
}

/// The steps from one state to another, in an order in which no packet sees half: backends, then tables and
/// listeners; removals the other way round.
pub fn diff(from: &State, to: &State) -> Vec<Step> {
    // Where room is short, a listener without it is not steered at all; opaque connections are merely served by user
    // space, so their backends come last.
    let named: BTreeSet<BackendKey> = to.listeners.values().flat_map(ListenerSpec::backends).collect();
    let (first, last): (Vec<_>, Vec<_>) =
        changed(&from.backends, &to.backends).partition(|(key, _)| named.contains(key));
    let put_backends = first.into_iter().chain(last).map(|(_, backend)| Step::PutBackend(*backend));
    // A backend that goes another way has got a new number, which only a newly written table knows.
    let moved = |spec: &ListenerSpec| {
        spec.backends().any(|backend| from.backends.get(&backend) != to.backends.get(&backend))
    };
    let put_listeners = to
        .listeners
        .iter()
        .filter(|(address, spec)| from.listeners.get(address) != Some(*spec) || moved(spec))
        .map(|(address, spec)| Step::PutListener(*address, spec.clone()));
    let remove_listeners = gone(&from.listeners, &to.listeners).map(Step::RemoveListener);
    let remove_backends = gone(&from.backends, &to.backends).map(Step::RemoveBackend);
    put_backends.chain(put_listeners).chain(remove_listeners).chain(remove_backends).collect()
}

fn changed<'a, K: Ord, V: PartialEq>(
    from: &'a BTreeMap<K, V>,
    to: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    to.iter().filter(|(key, value)| from.get(key) != Some(*value))
}

fn gone<K: Ord + Copy, V>(from: &BTreeMap<K, V>, to: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    from.keys().copied().filter(|key| !to.contains_key(key))
}

impl State {
    /// Takes one step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::PutBackend(backend) => {
                self.backends.insert(backend.key, *backend);
            }
            Step::PutListener(address, spec) => {
                self.listeners.insert(*address, spec.clone());
            }
            Step::RemoveListener(address) => {
                self.listeners.remove(address);
            }
            Step::RemoveBackend(key) => {
                self.backends.remove(key);
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
