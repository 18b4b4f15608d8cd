//! A worker: one thread that owns its sockets and connections, and keeps its listeners as the snapshot says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::Runtime;
use super::drains::Drains;
use super::http::{Exchanges, Patience};
use super::listening::{BindFailure, Inherited, Lent, Open};
use super::memory;
use super::metering::Metering;
use super::overload::{Level, Overload};
use crate::datapath::Targets;
use crate::datapath::handoff::{Handoff, Ledger};
use crate::model::{Ascent, Counts, Limits, ListenerKey, Subscription, Tier};
use crate::telemetry::{AccessLog, metrics};
use crate::upstream::{Balancer, Pool};

/// How often a worker tidies its pool and tries again to open listeners that failed.
const SWEEP: Duration = Duration::from_secs(5);
/// How often it looks at the requests under way while memory is short.
const PRESSED: Duration = Duration::from_millis(100);

/// What does not come from documents.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Worker threads.
    pub workers: usize,
    /// How long a stop waits for connections, and those of listeners that are gone last.
    pub drain_time: Duration,
    /// Value of the `server` response header; empty sends none of ours.
    pub server_header: String,
    /// What clients may ask of us.
    pub bounds: Bounds,
    /// How short memory and descriptors are.
    pub overload: Overload,
    /// What clients may speak besides HTTP/1.1 and HTTP/2.
    pub spoken: Spoken,
    /// The best tier that opaque connections may reach.
    pub highest_tier: Tier,
    /// When those that may reach it are handed over to the kernel plane.
    pub ascent: Ascent,
    /// Where TCP connections are told of.
    pub access_log: Option<AccessLog>,
    /// Where requests and connections are counted.
    pub metrics: Option<metrics::Registry>,
    /// Where connections can be handed over to; empty without a kernel plane.
    pub targets: Subscription<Targets>,
    /// Where those that were handed over are kept account of.
    pub ledger: Arc<Ledger>,
    /// Whether the sockets of another agent are taken over, which has the kernel plane for some time still.
    pub is_successor: bool,
}

/// What clients may ask of the user-space plane, as flags say it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Streams that an HTTP/2 client may have open.
    pub streams: u32,
    /// How long nothing may move in a request.
    pub stream_idle: Option<Duration>,
    /// Bytes a second that a body has to come at, in the long run.
    pub body_rate: Option<NonZeroU32>,
    /// Bytes of a request's body.
    pub body: Option<u64>,
    /// How long an HTTP connection takes new requests.
    pub age: Option<Duration>,
    /// Connections of a source address.
    pub source: Limits,
}

/// What clients may speak besides HTTP/1.1 and HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spoken {
    /// HTTP/1.0.
    pub http10: bool,
    /// WebSockets over HTTP/2 (RFC 8441).
    pub http2_websockets: bool,
}

/// Sent by a worker when it has put a generation in force.
#[derive(Debug)]
pub struct WorkerReport {
    /// Which worker.
    pub worker: usize,
    /// The snapshot's generation.
    pub generation: u64,
    /// Listeners of it that are not open.
    pub failures: Vec<BindFailure>,
}

/// What a worker is told to do.
enum Order {
    /// To give copies of its listening sockets to another process.
    Lend(oneshot::Sender<Vec<Lent>>),
    /// To have clients told to go.
    Leave,
    /// To stop; its sockets stay open where another process has them.
    Stop { is_succeeded: bool },
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
}

impl Workers {
    /// Starts the threads; each reports every generation it has put in force. Listeners that there are `inherited` sockets
    /// for accept from those.
    pub fn start(
        settings: &ProxySettings,
        inherited: Vec<(ListenerKey, OwnedFd)>,
        runtime: &Subscription<Runtime>,
        counts: &Counts,
        reports: &mpsc::Sender<WorkerReport>,
    ) -> io::Result<Self> {
        let mut shares = Inherited::share(inherited, settings.workers).into_iter();
        let mut all = Self { threads: Vec::new(), orders: Vec::new() };
        for index in 0..settings.workers {
            let (settings, runtime, reports) = (settings.clone(), runtime.clone(), reports.clone());
            let (counts, inherited) = (counts.clone(), shares.next().unwrap_or_default());
            let (order, orders) = mpsc::unbounded_channel();
            let thread = std::thread::Builder::new()
                .name(format!("sluice-worker-{index}"))
                .spawn(move || run(index, settings, inherited, runtime, counts, (&reports, orders)))?;
            all.threads.push(thread);
            all.orders.push(order);
        }
        Ok(all)
    }

    /// Copies of the sockets that all of them listen on. Whoever has them shares what waits in them.
    pub fn lend(&self) -> impl Future<Output = Vec<Lent>> + use<> {
        let ask = |orders: &mpsc::UnboundedSender<Order>| {
            let (to, lent) = oneshot::channel();
            let _ = orders.send(Order::Lend(to));
            lent
        };
        let asked: Vec<_> = self.orders.iter().map(ask).collect();
        async {
            let mut all = Vec::new();
            for lent in asked {
                // A worker that has ended has none.
                all.extend(lent.await.unwrap_or_default());
            }
            all
        }
    }

    /// Has HTTP clients told to go, by each answer; all are served on.
    pub fn leave(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::Leave);
        }
    }

    /// Closes the listeners, lets connections finish within the drain time, and waits for the threads. Clients that wait in
    /// the listeners' queues are left to the process that has the sockets if there is one, and served if not.
    pub fn stop(self, is_succeeded: bool) {
        for orders in &self.orders {
            let _ = orders.send(Order::Stop { is_succeeded });
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// What every connection of a worker can reach.
pub(super) struct Shared {
    pub(super) runtime: Subscription<Runtime>,
    pub(super) pool: Pool,
    pub(super) balancer: Balancer,
    pub(super) server_header: Option<::http::HeaderValue>,
    pub(super) counts: Counts,
    pub(super) bounds: Bounds,
    pub(super) overload: Overload,
    pub(super) exchanges: Rc<Exchanges>,
    pub(super) spoken: Spoken,
    pub(super) highest_tier: Tier,
    pub(super) ascent: Ascent,
    /// `None` where the routing table cannot be asked.
    pub(super) handoff: RefCell<Option<Handoff>>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) metering: Metering,
    pub(super) targets: Subscription<Targets>,
    /// Copies of requests that are under way.
    pub(super) copies: Cell<usize>,
    pub(super) drains: Drains,
    /// Whether the kernel plane may still be with the agent before this one.
    pub(super) is_successor: bool,
}

fn run(
    index: usize,
    settings: ProxySettings,
    inherited: Inherited,
    runtime: Subscription<Runtime>,
    counts: Counts,
    (reports, orders): (&mpsc::Sender<WorkerReport>, mpsc::UnboundedReceiver<Order>),
) {
    // Its tasks are the thread's own: a `LocalSet` would queue each of them twice.
    let tokio = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let tokio = match tokio {
        Ok(tokio) => tokio,
        Err(error) => return tracing::error!(worker = index, %error, "cannot start"),
    };
    let server_header = Some(settings.server_header.as_str())
        .filter(|value| !value.is_empty())
        .and_then(|value| ::http::HeaderValue::from_str(value).ok());
    let ProxySettings { bounds, overload, spoken, highest_tier, ascent, access_log, targets, .. } = settings;
    let handoff = Handoff::open(settings.ledger)
        .inspect_err(|error| tracing::warn!(worker = index, %error, "hands no connection over"));
    let handoff = RefCell::new(handoff.ok());
    let balancer = Balancer::new(counts.fitness.clone()).with_warming(counts.warming.clone());
    let pool = Pool::new(counts.clone());
    let shared = Rc::new(Shared {
        runtime,
        pool,
        balancer,
        server_header,
        counts,
        bounds,
        overload,
        exchanges: Rc::default(),
        spoken,
        highest_tier,
        ascent,
        handoff,
        access_log,
        metering: Metering::new(settings.metrics.as_ref()),
        targets,
        copies: Cell::new(0),
        drains: Drains::new(settings.drain_time),
        is_successor: settings.is_successor,
    });
    tokio.block_on(Worker::new(index, shared, inherited).serve(reports, orders));
}

struct Worker {
    index: usize,
    shared: Rc<Shared>,
    listeners: HashMap<ListenerKey, Open>,
    inherited: Inherited,
}

impl Worker {
    fn new(index: usize, shared: Rc<Shared>, inherited: Inherited) -> Self {
        Self { index, shared, listeners: HashMap::new(), inherited }
    }

    async fn serve(
        mut self,
        reports: &mpsc::Sender<WorkerReport>,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let (mut runtime, mut targets) = (self.shared.runtime.clone(), self.shared.targets.clone());
        // Until the plane is gone.
        let mut is_known = true;
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = tokio::task::spawn_local(watch(self.shared.clone()));
        let is_succeeded = loop {
            let report = self.reconcile(&runtime.current());
            // The agent being gone is what its orders tell.
            let _ = reports.send(report).await;
            tokio::select! {
                published = runtime.changed() => if !published { break false },
                order = orders.recv() => match order {
                    Some(Order::Lend(to)) => drop(to.send(self.lend())),
                    Some(Order::Leave) => self.shared.drains.leave(),
                    Some(Order::Stop { is_succeeded }) => break is_succeeded,
                    None => break false,
                },
                known = targets.changed(), if is_known => is_known = known,
                _ = sweep.tick() => self.sweep(&runtime.current()),
            }
        };
        self.close(&runtime.current(), is_succeeded);
        if !self.shared.drains.end().await {
            tracing::info!(worker = self.index, "drain time is over; closing what is left");
        }
        watching.abort();
    }

    /// Opens what is new, closes what is gone; a listener that stays keeps its sockets and what waits in them. Connections of
    /// one that is gone are drained.
    fn reconcile(&mut self, runtime: &Runtime) -> WorkerReport {
        let snapshot = &runtime.snapshot;
        self.listeners.retain(|key, open| {
            let stays = snapshot.listener(*key).is_some() && open.is_accepting();
            if !stays {
                open.stop();
            }
            stays
        });
        self.shared.drains.keep(snapshot);
        let mut failures = Vec::new();
        for listener in &snapshot.listeners {
            if let Entry::Vacant(vacant) = self.listeners.entry(listener.key) {
                match Open::of(listener.key, &mut self.inherited, &self.shared) {
                    Ok(open) => drop(vacant.insert(open)),
                    Err(error) => failures.push(BindFailure::of(listener.key, &error)),
                }
            }
        }
        // What the first documents do not ask for nobody will.
        if snapshot.generation > 0 {
            self.inherited = Inherited::default();
        }
        self.fit(runtime);
        WorkerReport { worker: self.index, generation: snapshot.generation, failures }
    }

    /// Has clients of connections that may be handed over send no segments that the way to a backend does not carry.
    fn fit(&mut self, runtime: &Runtime) {
        let sizes = self.shared.targets.current().segment_sizes(&runtime.snapshot);
        for (key, open) in &mut self.listeners {
            open.fit(sizes.get(key).copied());
        }
    }

    fn lend(&self) -> Vec<Lent> {
        self.listeners.iter().flat_map(|(key, open)| open.lend(*key)).collect()
    }

    fn close(&mut self, runtime: &Runtime, is_succeeded: bool) {
        for (key, open) in self.listeners.drain() {
            open.stop();
            if !is_succeeded && let Some(listener) = runtime.snapshot.listener(key) {
                open.serve_waiting(listener, &self.shared);
            }
        }
    }

    fn sweep(&self, runtime: &Runtime) {
        let clusters = &runtime.snapshot.clusters;
        self.shared.pool.sweep(|name, address| {
            let cluster = clusters.get(name);
            cluster.is_some_and(|cluster| cluster.healthy().any(|endpoint| endpoint.address == address))
        });
        self.shared.balancer.sweep(|name| clusters.contains_key(name));
        self.shared.counts.sources.retain(|_| false);
        self.shared.metering.sweep(&runtime.snapshot);
    }
}

/// Looks after the requests under way: often enough that none is given up much later than it may be, and more often while
/// memory is short. Connections that are paused hear from here that something runs short.
async fn watch(shared: Rc<Shared>) {
    let Bounds { stream_idle, body_rate, .. } = shared.bounds;
    let calm = stream_idle.map_or(SWEEP, |idle| (idle / 4).min(SWEEP));
    let mut steps = shared.overload.steps();
    loop {
        let sheds = *steps.borrow_and_update() >= Level::Refusing;
        let is_getting_short = shared.overload.is_getting_short();
        // What a crowd has left behind, too, once nobody has to wait for that.
        if is_getting_short || shared.exchanges.is_empty() {
            memory::give_back();
        }
        let now = Instant::now();
        let patience = Patience { idle: stream_idle, body_rate, sheds };
        shared.exchanges.look(now, patience, |refusal| shared.counts.refusals.count(refusal));
        tokio::select! {
            () = tokio::time::sleep(if sheds || is_getting_short { PRESSED } else { calm }) => {}
            changed = steps.changed() => {
                if changed.is_err() {
                    return;
                }
                shared.drains.rouse();
                if !shared.overload.is_short() {
                    shared.exchanges.wake();
                }
            }
        }
    }
}

/// An IPv4 end of a dual-stack socket is shown by its IPv4 address.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), address.port()),
        IpAddr::V4(_) => address,
    }
}
