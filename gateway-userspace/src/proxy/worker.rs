//! A worker: one thread that owns its sockets and connections, and keeps its listeners as the snapshot says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::MissedTickBehavior;

use super::{Runtime, connection};
use crate::datapath::Targets;
use crate::datapath::handoff::{Handoff, Ledger};
use crate::model::{Ascent, Counts, ListenerKey, Subscription, Tier};
use crate::net::drain::{DrainTrigger, DrainWatch, drain};
use crate::net::socket;
use crate::telemetry::AccessLog;
use crate::upstream::{Balancer, Pool};

/// How often a worker tidies its pool and tries again to open listeners that failed.
const SWEEP: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What does not come from documents.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Worker threads.
    pub workers: usize,
    /// How long a stop waits for connections.
    pub drain_time: Duration,
    /// Value of the `server` response header; empty sends none of ours.
    pub server_header: String,
    /// The best tier that opaque connections may reach.
    pub highest_tier: Tier,
    /// When those that may reach it are handed over to the kernel plane.
    pub ascent: Ascent,
    /// Where TCP connections are told of.
    pub access_log: Option<AccessLog>,
    /// Where connections can be handed over to; empty without a kernel plane.
    pub targets: Subscription<Targets>,
    /// Where those that were handed over are kept account of.
    pub ledger: Arc<Ledger>,
}

/// A listener that could not be opened; it is tried again every few seconds.
#[derive(Debug, Clone)]
pub struct BindFailure {
    /// Where.
    pub listener: ListenerKey,
    /// Why.
    pub reason: String,
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

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Starts the threads; each reports every generation it has put in force.
    pub fn start(
        settings: &ProxySettings,
        runtime: &Subscription<Runtime>,
        counts: &Counts,
        reports: &mpsc::Sender<WorkerReport>,
    ) -> io::Result<Self> {
        let stop = watch::Sender::new(false);
        let start = |index| {
            let (settings, runtime, reports) = (settings.clone(), runtime.clone(), reports.clone());
            let counts = counts.clone();
            let stopped = stop.subscribe();
            std::thread::Builder::new()
                .name(format!("sluice-worker-{index}"))
                .spawn(move || run(index, settings, runtime, counts, &reports, stopped))
        };
        let threads = (0..settings.workers).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, stop })
    }

    /// Closes the listeners, lets connections finish within the drain time, and waits for the threads.
    pub fn stop(self) {
        self.stop.send_replace(true);
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
    pub(super) highest_tier: Tier,
    pub(super) ascent: Ascent,
    /// `None` where the routing table cannot be asked.
    pub(super) handoff: RefCell<Option<Handoff>>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) targets: Subscription<Targets>,
    /// Copies of requests that are under way.
    pub(super) copies: Cell<usize>,
}

fn run(
    index: usize,
    settings: ProxySettings,
    runtime: Subscription<Runtime>,
    counts: Counts,
    reports: &mpsc::Sender<WorkerReport>,
    stopped: watch::Receiver<bool>,
) {
    let tokio = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(tokio) => tokio,
        Err(error) => return tracing::error!(worker = index, %error, "cannot start"),
    };
    let server_header = Some(settings.server_header.as_str())
        .filter(|value| !value.is_empty())
        .and_then(|value| ::http::HeaderValue::from_str(value).ok());
    let ProxySettings { highest_tier, ascent, access_log, targets, .. } = settings;
    let handoff = Handoff::open(settings.ledger)
        .inspect_err(|error| tracing::warn!(worker = index, %error, "hands no connection over"));
    let handoff = RefCell::new(handoff.ok());
    let balancer = Balancer::new(counts.outliers.clone()).with_warming(counts.warming.clone());
    let pool = Pool::new(counts.clone());
    let shared = Rc::new(Shared {
        runtime,
        pool,
        balancer,
        server_header,
        counts,
        highest_tier,
        ascent,
        handoff,
        access_log,
        targets,
        copies: Cell::new(0),
    });
    LocalSet::new().block_on(&tokio, Worker::new(index, shared).serve(reports, stopped, settings.drain_time));
}

/// A listener that is open.
struct Open {
    accepting: AbortHandle,
    socket: Rc<TcpListener>,
    /// What clients are told; `None` for what the link carries.
    segment_size: Option<u32>,
}

struct Worker {
    index: usize,
    shared: Rc<Shared>,
    listeners: HashMap<ListenerKey, Open>,
    drain: DrainTrigger,
}

impl Worker {
    fn new(index: usize, shared: Rc<Shared>) -> Self {
        Self { index, shared, listeners: HashMap::new(), drain: drain() }
    }

    async fn serve(
        mut self,
        reports: &mpsc::Sender<WorkerReport>,
        mut stopped: watch::Receiver<bool>,
        drain_time: Duration,
    ) {
        let (mut runtime, mut targets) = (self.shared.runtime.clone(), self.shared.targets.clone());
        // Until the plane is gone.
        let mut is_known = true;
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let report = self.reconcile(&runtime.current());
            // The agent being gone is what `stopped` tells.
            let _ = reports.send(report).await;
            tokio::select! {
                published = runtime.changed() => if !published { break },
                _ = stopped.wait_for(|stop| *stop) => break,
                known = targets.changed(), if is_known => is_known = known,
                _ = sweep.tick() => self.sweep(&runtime.current()),
            }
        }
        for (_, listener) in self.listeners.drain() {
            listener.accepting.abort();
        }
        if !self.drain.drain(drain_time).await {
            tracing::info!(worker = self.index, "drain time is over; closing what is left");
        }
    }

    /// Opens what is new, closes what is gone; a listener that stays keeps its socket and its backlog.
    fn reconcile(&mut self, runtime: &Runtime) -> WorkerReport {
        self.listeners.retain(|key, Open { accepting, .. }| {
            let stays = runtime.snapshot.listener(*key).is_some() && !accepting.is_finished();
            if !stays {
                accepting.abort();
            }
            stays
        });
        let mut failures = Vec::new();
        for listener in &runtime.snapshot.listeners {
            if let Entry::Vacant(vacant) = self.listeners.entry(listener.key) {
                match socket::listen(listener.key.bind, listener.key.port) {
                    Ok(socket) => {
                        let socket = Rc::new(socket);
                        let accept =
                            accept(socket.clone(), listener.key, self.shared.clone(), self.drain.watch());
                        let accepting = tokio::task::spawn_local(accept).abort_handle();
                        vacant.insert(Open { accepting, socket, segment_size: None });
                    }
                    Err(error) => failures.push(failure(listener.key, &error)),
                }
            }
        }
        self.fit(runtime);
        WorkerReport { worker: self.index, generation: runtime.snapshot.generation, failures }
    }

    /// Has clients of connections that may be handed over send no segments that the way to a backend does not carry.
    fn fit(&mut self, runtime: &Runtime) {
        let sizes = self.shared.targets.current().segment_sizes(&runtime.snapshot);
        for (key, open) in &mut self.listeners {
            let size = sizes.get(key).copied();
            if open.segment_size != size {
                // A socket that refuses has clients whose connections stay in user space.
                let _ = SockRef::from(&*open.socket).set_tcp_mss(size.unwrap_or(0));
                open.segment_size = size;
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
    }
}

fn failure(listener: ListenerKey, error: &io::Error) -> BindFailure {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE, or a Service of the gateway that maps them to others"
        }
        io::ErrorKind::AddrInUse => "; another process listens there",
        io::ErrorKind::AddrNotAvailable => "; the address is not this machine's",
        _ => "",
    };
    BindFailure { listener, reason: format!("{error}{remedy}") }
}

async fn accept(socket: Rc<TcpListener>, key: ListenerKey, shared: Rc<Shared>, drain: DrainWatch) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let peer = unmapped(peer);
                tokio::task::spawn_local(connection::serve(shared.clone(), key, stream, peer, drain.clone()));
            }
            Err(error) => {
                tracing::warn!(listener = %key, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
