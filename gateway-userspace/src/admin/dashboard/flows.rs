//! The flows that the kernel steers and the opaque connections that user space carries, as `sluice flows -o wide` has them, with rates.
//! Rates are differences of two readings, of which the last one is kept here, in 16 bytes a flow, for as long as somebody looks.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::view::View;
use super::paging::Page;
use super::query::Query;
use super::{Refusal, apart};
use crate::datapath::handoff::EntryView;
use crate::datapath::view::Steered;
use crate::model::{Below, ConnectionView, Tier};

/// Flows of a plane that are looked at.
const MOST: usize = 100_000;
/// How old a reading may be that is answered from.
const FRESH: Duration = Duration::from_millis(900);
/// How long a reading is kept when nobody looks any more.
const KEPT: Duration = Duration::from_secs(30);

/// A flow or connection.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    client: SocketAddr,
    gateway: SocketAddr,
    source: SocketAddr,
    backend: SocketAddr,
    /// `kernel` or `user space`.
    plane: &'static str,
    tier: Tier,
    /// Why its tier is no better, if it might be.
    reason: Option<&'static str>,
    sni: Option<Box<str>>,
    state: &'static str,
    age_seconds: u64,
    idle_seconds: u64,
    bytes_to_backend: u64,
    bytes_to_client: u64,
    /// Of both directions; unknown at a first reading.
    bytes_per_second: Option<u64>,
    /// Tells it from a later one on the same tuple.
    #[serde(skip)]
    birth: u64,
}

/// What the last readings were.
#[derive(Debug, Default)]
pub(super) struct Memory {
    digests: RandomState,
    last: Mutex<Option<Reading>>,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    /// The fastest first.
    flows: Arc<[Flow]>,
    bytes: HashMap<u64, u64>,
    is_cut: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flows {
    kernel: usize,
    user_space: usize,
    /// Whether there are more than are looked at.
    is_cut: bool,
    #[serde(flatten)]
    page: Page<Flow>,
}

impl Memory {
    /// Forgets a reading that nobody has asked for in a while.
    pub(super) fn forget_old(&self) {
        let mut last = self.lock();
        if last.as_ref().is_some_and(|reading| reading.at.elapsed() > KEPT) {
            *last = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        // Nothing that holds it can leave it half changed.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<(Arc<[Flow]>, bool)> {
        let last = self.lock();
        let reading = last.as_ref().filter(|reading| reading.at.elapsed() < FRESH)?;
        Some((reading.flows.clone(), reading.is_cut))
    }

    /// Keeps a reading, and returns its flows with their rates since the one before.
    fn keep(&self, mut flows: Vec<Flow>, at: Instant, is_cut: bool) -> (Arc<[Flow]>, bool) {
        let digest =
            |flow: &Flow, plane: &str| self.digests.hash_one((plane, flow.client, flow.gateway, flow.birth));
        let mut last = self.lock();
        let mut bytes = HashMap::with_capacity(flows.len());
        for flow in &mut flows {
            let total = flow.bytes_to_backend.saturating_add(flow.bytes_to_client);
            let own = digest(flow, flow.plane);
            if let Some(before) = &*last {
                let seconds = at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
                let known = before.bytes.get(&own).copied();
                // One that is younger than the last reading has carried all of it since; of others nobody knows.
                let is_young = flow.age_seconds as f64 <= seconds && flow.tier != Tier::Handoff;
                let since = known.or(is_young.then_some(0));
                let rate = since.map(|since| total.saturating_sub(since) as f64 / seconds);
                flow.bytes_per_second = rate.map(|rate| rate as u64);
            }
            bytes.insert(own, total);
        }
        flows.sort_by_key(|flow| {
            let total = flow.bytes_to_backend.saturating_add(flow.bytes_to_client);
            std::cmp::Reverse((flow.bytes_per_second, total, flow.age_seconds))
        });
        let flows: Arc<[Flow]> = flows.into();
        *last = Some(Reading { at, flows: flows.clone(), bytes, is_cut });
        (flows, is_cut)
    }
}

/// `kind` is a plane, or a tier.
pub(super) async fn answer(view: &Arc<View>, query: Query) -> Result<Flows, Refusal> {
    let (flows, is_cut) = if let Some(known) = view.dashboard.flows.fresh() {
        known
    } else {
        let steered = view.kernel_plane.flows(MOST).await;
        apart(view, move |view| Ok(read(view, &steered))).await?
    };
    apart(view, move |_| Ok(page(&flows, is_cut, &query))).await
}

fn page(flows: &[Flow], is_cut: bool, query: &Query) -> Flows {
    let kernel = flows.iter().filter(|flow| flow.plane == KERNEL).count();
    let wanted = flows.iter().filter(|flow| {
        let of_kind = |kind: &str| kind == flow.plane || kind == flow.tier.words();
        query.kind.as_deref().is_none_or(of_kind) && (query.filter.is_empty() || fits(flow, query))
    });
    Flows { kernel, user_space: flows.len() - kernel, is_cut, page: Page::of(query, wanted, Flow::clone) }
}

fn fits(flow: &Flow, query: &Query) -> bool {
    let addresses = [flow.client, flow.gateway, flow.source, flow.backend].map(|address| address.to_string());
    let words = [flow.plane, flow.tier.words(), flow.state];
    let texts = addresses.iter().map(String::as_str).chain(words);
    query.fits(texts.chain(flow.reason).chain(flow.sni.as_deref()))
}

const KERNEL: &str = "kernel";
const USER_SPACE: &str = "user space";

fn read(view: &View, steered: &[Steered]) -> (Arc<[Flow]>, bool) {
    let at = Instant::now();
    let names: HashMap<_, _> = view
        .handed_over
        .view()
        .into_iter()
        .filter_map(|EntryView { client, listener, created, sni, .. }| {
            Some(((client, listener, created), sni?))
        })
        .collect();
    let connections = view.connections();
    let is_cut = steered.len() >= MOST || connections.len() > MOST;
    let in_kernel = steered.iter().map(|flow| {
        let key = (flow.client_side.source, flow.client_side.destination, flow.created);
        of_kernel(flow, names.get(&key).cloned())
    });
    let flows = in_kernel.chain(connections.into_iter().take(MOST).map(of_user_space)).collect();
    view.dashboard.flows.keep(flows, at, is_cut)
}

fn of_kernel(flow: &Steered, sni: Option<Box<str>>) -> Flow {
    Flow {
        client: flow.client_side.source,
        gateway: flow.client_side.destination,
        source: flow.backend_side.source,
        backend: flow.backend_side.destination,
        plane: KERNEL,
        tier: if flow.handed_over { Tier::Handoff } else { Tier::Kernel },
        reason: None,
        sni,
        state: flow.phase.words(),
        age_seconds: flow.age_seconds,
        idle_seconds: flow.idle_seconds,
        bytes_to_backend: flow.bytes_to_backend,
        bytes_to_client: flow.bytes_to_client,
        bytes_per_second: None,
        birth: flow.created,
    }
}

fn of_user_space(connection: ConnectionView) -> Flow {
    Flow {
        client: connection.client,
        gateway: connection.listener,
        source: connection.source,
        backend: connection.backend,
        plane: USER_SPACE,
        tier: connection.tier,
        reason: connection.below.map(Below::words),
        sni: connection.sni,
        state: "established",
        age_seconds: Duration::from_millis(connection.age_milliseconds).as_secs(),
        idle_seconds: Duration::from_millis(connection.idle_milliseconds).as_secs(),
        bytes_to_backend: connection.bytes_to_backend,
        bytes_to_client: connection.bytes_to_client,
        bytes_per_second: None,
        birth: connection.number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, bytes: u64, age_seconds: u64) -> Flow {
        let at = |port| SocketAddr::from(([198, 18, 0, 1], port));
        Flow {
            client: at(port),
            gateway: at(443),
            source: at(1),
            backend: at(2),
            plane: USER_SPACE,
            tier: Tier::Splice,
            reason: None,
            sni: None,
            state: "established",
            age_seconds,
            idle_seconds: 0,
            bytes_to_backend: bytes,
            bytes_to_client: 0,
            bytes_per_second: None,
            birth: 7,
        }
    }

    #[test]
    fn rates_are_of_what_has_come_since_the_reading_before() {
        let (memory, start) = (Memory::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let (first, _) = memory.keep(vec![flow(1, 100, 60), flow(2, 900, 60)], start, false);
        assert!(first.iter().all(|flow| flow.bytes_per_second.is_none()));
        assert_eq!(first[0].client.port(), 2, "with rates unknown the largest first");
        let (second, _) = memory.keep(
            vec![flow(1, 1100, 62), flow(2, 900, 62), flow(3, 40, 1), flow(4, 40, 60)],
            after(2),
            false,
        );
        let rates: Vec<_> = second.iter().map(|flow| (flow.client.port(), flow.bytes_per_second)).collect();
        assert_eq!(rates, [(1, Some(500)), (3, Some(20)), (2, Some(0)), (4, None)]);
    }

    #[test]
    fn a_page_is_of_those_that_are_wanted() {
        let flows: Vec<_> = (1..=5).map(|port| flow(port, u64::from(port), 60)).collect();
        let ask = |text: &str| page(&flows, false, &Query::parse(text).unwrap());
        assert_eq!(ask("limit=2&offset=1").page.rows.len(), 2);
        assert_eq!(ask("filter=198.18.0.1:3").page.total, 1);
        assert_eq!((ask("kind=splice").page.total, ask("kind=kernel").page.total), (5, 0));
        assert_eq!((ask("").kernel, ask("").user_space), (0, 5));
    }
}
