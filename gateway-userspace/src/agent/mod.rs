//! The wiring: builds every part, joins them, and keeps the order of start and stop. The only module that sees
//! everything; it decides nothing about routing.
//!
//! Start: log → admin socket (which also finds a second agent) → documents → workers → first health checks → kernel plane → ready.
//! Stop: not ready → kernel steers nothing new → workers drain, and hand over what they can → kernel plane is left to itself
//! → workers have drained → socket gone. Flows in the kernel go on by their pins.
//! Succession: sockets of the agent before → documents → workers → admin socket in its place → it drains → kernel plane,
//! which steers all the time. The one that is relieved stops likewise, and leaves the plane as it is.

mod admission;
mod checks;
mod configuration;
mod flows;
mod kernel;
mod metering;
mod service;
mod steered;
mod succession;
mod successor;
mod watching;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::checks::Checks;
use self::configuration::{Configuration, Generation};
use self::kernel::{HandedOver, Inbox, KernelThread, Left};
use self::succession::{Predecessor, Sockets};
use crate::admin::dashboard::{AsRulesSee, keep_history};
use crate::admin::server::{self, AdminListener, AdminSocket, Scope};
use crate::admin::view::View;
use crate::admin::{Order, Orders, Reading};
use crate::datapath::handoff::Ledger;
use crate::datapath::{KernelPlane, Targets};
use crate::model::{Counts, Limits, Listener, ListenerKind, Published, SourceAddress, Subscription};
use crate::proxy::{
    Bounds, Meter, Overload, ProxySettings, Runtime, Spoken, WorkerReport, Workers, come_in_small_pages,
    raise_descriptors,
};
use crate::settings::{AfterHandOver, KernelMode, LimitArgs, RunArgs};
use crate::telemetry::{self, AccessLog, access};
use crate::tls::{ServerConfigs, TicketKeys};
use crate::{net, proxy, source};

/// How long an agent that starts waits for the first health checks before it serves.
const FIRST_CHECKS: Duration = Duration::from_secs(2);

/// How long connections that the kernel can carry may wait for the right moment when the agent stops. After that the next
/// agent may have the kernel plane.
const HANDING_OVER: Duration = Duration::from_secs(3);

/// Serves until a signal asks for the end.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    come_in_small_pages();
    telemetry::log::start(&args.log).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let counts = Counts::default();
    let access_log = open_access_log(args)?;
    let metrics = metering::registry(args);
    let inbox = Inbox::new();
    let ledger = Arc::new(Ledger::default());
    let (orders, mut ordered) = Orders::new();
    let mut configuration = Configuration::new(args).await?;
    configuration.answer(&args.kubernetes)?;
    let view = Published::new(View {
        cluster: configuration.link(),
        counts: counts.clone(),
        kernel_plane: inbox.asker(),
        orders,
        tier: args.tier,
        access_log: Some(access_log.clone()),
        handed_over: ledger.clone(),
        metrics: metrics.clone(),
        as_rules_see: AsRulesSee(proxy::as_rules_see),
        ..View::default()
    });
    tokio::spawn(keep_history(view.subscribe()));
    let mut predecessor =
        if args.take_over { Predecessor::find(&args.admin.admin_socket).await? } else { None };
    let is_successor = predecessor.is_some();
    // A successor answers once it serves; until then the one before it does.
    let mut admin = if is_successor { None } else { Some(Admin::open(args, &view).await?) };
    let mut watcher = source::watch(&args.config);
    let mut signals = Signals::new()?;

    let ticket_keys = Arc::new(TicketKeys::default());
    if let Some(before) = &mut predecessor {
        ticket_keys.inherit(std::mem::take(&mut before.ticket_keys));
    }
    let clearing = ticket_keys.clone();
    tokio::spawn(async move { clearing.clear().await });
    let runtime = Published::new(Runtime {
        tls: Arc::new(ServerConfigs::sharing(ticket_keys.clone())),
        ..Runtime::default()
    });
    if let Some(registry) = metrics.clone() {
        tokio::spawn(metering::tidy(registry, runtime.subscribe()));
    }
    let first = configuration.next(&runtime.current());
    let targets = Published::default();
    let settings = ProxySettings {
        is_successor,
        metrics: metrics.clone(),
        ..proxy_settings(args, access_log.clone(), targets.subscribe(), ledger.clone())
    };
    tokio::spawn(settings.overload.clone().measure());
    let overload = settings.overload.clone();
    let overload = Reading::over(move || overload.level() as u32);
    view.publish(Arc::new(View { overload, ..(*view.current()).clone() }));
    let (reports, mut worker_reports) = mpsc::channel(settings.workers * 4);
    let inherited = predecessor.as_mut().map(|it| std::mem::take(&mut it.sockets.listeners));
    let inherited = inherited.unwrap_or_default();
    let workers = Workers::start(&settings, inherited, &runtime.subscribe(), &counts, &reports)
        .context("cannot start the workers")?;
    let handed_over = HandedOver { ledger, lengths: counts.lengths.clone() };
    let mut kernel = KernelThread::start(
        inbox,
        (&args.kernel, is_successor),
        &counts.fitness,
        targets,
        handed_over,
        (access_log.clone(), metrics.clone()),
    )?;
    let mut agent = Agent {
        runtime,
        view,
        checks: Checks::new(counts.fitness.checks.clone()),
        counts,
        access_log: access_log.clone(),
        kernel: kernel.handle(),
        progress: Progress::new(&settings, started),
    };
    if let Some(first) = first {
        agent.take(first).await;
    }

    let (taken, mut is_taken) = mpsc::channel(1);
    let successor = loop {
        tokio::select! {
            () = watcher.changed() => agent.reload(&mut configuration).await,
            () = configuration.changed() => agent.reload(&mut configuration).await,
            Some(report) = worker_reports.recv() => agent.worker_reported(report),
            Some(state) = kernel.changed() => {
                if args.kernel.kernel == KernelMode::Require && let Some(reason) = &state.off {
                    anyhow::bail!("--kernel require: {reason}");
                }
                agent.kernel_reported(state);
            }
            Some(order) = ordered.recv() => match order {
                Order::Leave => {
                    tracing::info!("not ready any more; clients are told to go");
                    agent.leave();
                    workers.leave();
                }
                Order::HandOver(stream) => {
                    let admin = admin.as_ref().map(|admin| admin.listeners.clone()).unwrap_or_default();
                    let lending = workers.lend();
                    // On its own: workers that report meanwhile wait for this loop.
                    let sockets = async move { Sockets::of(lending.await, &admin) };
                    succession::offer(stream, sockets, ticket_keys.clone(), taken.clone());
                }
            },
            Some(successor) = is_taken.recv() => break Some(successor),
            _ = signals.hangup.recv() => {
                access_log.reopen();
                agent.reload(&mut configuration).await;
            }
            _ = signals.successor.recv() => successor::start(),
            _ = signals.terminate.recv() => break None,
            _ = signals.interrupt.recv() => break None,
        }
        if agent.progress.serves()
            && let Some(before) = predecessor.take()
        {
            admin = Some(take_place(args, &mut agent, before).await?);
        }
    };

    let is_succeeded = successor.is_some();
    if let Some(successor) = successor {
        tracing::info!("another agent has taken over; draining; a signal ends at once");
        // Nobody is to be told by this one any more.
        drop(admin.take());
        succession::confirm(successor).await;
    } else {
        tracing::info!("stopping; a second signal ends at once");
        service::stopping();
        kernel.drain();
    }
    agent.leave();
    // Workers that report while they stop must not wait for a reader.
    drop(worker_reports);
    let mut stopped = tokio::task::spawn_blocking(move || workers.stop(is_succeeded));
    let mut is_told = false;
    let is_over = tokio::select! {
        _ = &mut stopped => true,
        () = signals.stop() => {
            is_told = true;
            true
        }
        () = tokio::time::sleep(HANDING_OVER) => false,
    };
    let left = kernel.stop(is_succeeded);
    if !is_over {
        tokio::select! {
            _ = stopped => {}
            () = signals.stop() => is_told = true,
        }
    }
    if left == Left::ForConnections
        && let Err(error) = KernelPlane::leave(&args.kernel)
    {
        tracing::error!(%error, "kernel plane: stop; `sluice cleanup` removes what is left");
    }
    access_log.flush();
    if is_succeeded && !is_told && args.after_hand_over == AfterHandOver::Wait {
        tracing::info!("drained; waiting for a signal");
        signals.stop().await;
    }
    Ok(())
}

/// Takes the place of the agent before this one: answers where it did, and has it let go.
async fn take_place(args: &RunArgs, agent: &mut Agent, mut before: Predecessor) -> anyhow::Result<Admin> {
    let admin = Admin::replace(args, &agent.view, &mut before.sockets).await?;
    agent.update(|view| view.ready = true);
    before.relieve().await;
    Ok(admin)
}

/// Starts the writer of access logs. A file of ours that takes nothing is told of at once.
fn open_access_log(args: &RunArgs) -> anyhow::Result<AccessLog> {
    if let Some(path) = &args.access_log {
        access::probe(path).with_context(|| format!("--access-log {}", path.display()))?;
    }
    let size = args.access_log_max_size;
    let rotation = access::Rotation { size, keep: args.access_log_keep };
    let log = AccessLog::start((size > 0).then_some(rotation))?;
    Ok(log.telling_starts(args.access_log_connection_starts))
}

fn proxy_settings(
    args: &RunArgs,
    access_log: AccessLog,
    targets: Subscription<Targets>,
    ledger: Arc<Ledger>,
) -> ProxySettings {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ProxySettings {
        workers: args.workers.map_or_else(cores, usize::from),
        drain_time: Duration::from_secs(args.drain_time),
        server_header: args.server_header.clone(),
        bounds: bounds(&args.limits),
        overload: Overload::new(raise_descriptors(), Meter::new(args.limits.max_memory)),
        spoken: Spoken { http10: args.http10, http2_websockets: args.http2_websockets },
        highest_tier: args.tier.highest(),
        ascent: args.tier.ascent(),
        access_log: Some(access_log),
        metrics: None,
        targets,
        ledger,
        is_successor: false,
    }
}

/// 0 stands for no bound.
fn bounds(limits: &LimitArgs) -> Bounds {
    let time = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    let source = limits.max_connections_per_source;
    Bounds {
        streams: limits.max_concurrent_streams,
        stream_idle: time(limits.stream_idle_timeout),
        body_rate: NonZeroU32::new(limits.min_body_rate),
        body: (limits.max_request_body > 0).then_some(limits.max_request_body),
        age: time(limits.max_connection_age),
        source: Limits { connections: (source > 0).then_some(source), new_per_second: None },
    }
}

/// The admin sockets; closed when dropped.
struct Admin {
    listeners: Vec<AdminListener>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Admin {
    async fn open(args: &RunArgs, view: &Published<View>) -> anyhow::Result<Self> {
        let socket = AdminSocket::open(&args.admin.admin_socket)?;
        Self::serve(args, view, socket, &mut Sockets::default()).await
    }

    /// In the place of another agent's, whose sockets there are.
    async fn replace(args: &RunArgs, view: &Published<View>, sockets: &mut Sockets) -> anyhow::Result<Self> {
        let socket = AdminSocket::replace(&args.admin.admin_socket)?;
        Self::serve(args, view, socket, sockets).await
    }

    async fn serve(
        args: &RunArgs,
        view: &Published<View>,
        socket: AdminSocket,
        sockets: &mut Sockets,
    ) -> anyhow::Result<Self> {
        let mut admin = Self { listeners: Vec::new(), tasks: Vec::new() };
        for (address, scope) in [
            (args.admin.admin_address, Scope::Everything),
            (args.admin.ready_address, Scope::Readiness),
            (args.admin.metrics_address, Scope::Metrics),
        ] {
            let Some(address) = address.0 else { continue };
            let opened = match sockets.take_admin(scope, address) {
                Some(socket) => net::socket::adopt(socket).map_err(anyhow::Error::from),
                None => server::open(address).await.map_err(anyhow::Error::from),
            };
            let listener = opened.with_context(|| match scope {
                Scope::Owner | Scope::Everything => "--admin-address (another one, or `none`)",
                Scope::Readiness => "--ready-address (another one, or `none`)",
                Scope::Metrics => "--metrics-address (another one, or `none`)",
            })?;
            let listener = AdminListener { scope, socket: Arc::new(listener) };
            admin.tasks.push(tokio::spawn(listener.clone().serve(view.subscribe())));
            admin.listeners.push(listener);
        }
        let subscription = view.subscribe();
        admin.tasks.push(tokio::spawn(async move { socket.serve(subscription).await }));
        Ok(admin)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Asks for a successor.
    successor: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            successor: signal(SignalKind::user_defined2())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What has to happen before the agent is ready.
struct Progress {
    workers: Vec<bool>,
    kernel: bool,
    is_announced: bool,
    started: Instant,
}

impl Progress {
    fn new(settings: &ProxySettings, started: Instant) -> Self {
        Self { workers: vec![false; settings.workers], kernel: false, is_announced: false, started }
    }

    /// Whether connections are accepted and served.
    fn serves(&self) -> bool {
        self.workers.iter().all(|ready| *ready)
    }

    /// Likewise, and it is known by which planes.
    fn is_ready(&self) -> bool {
        self.kernel && self.serves()
    }
}

struct Agent {
    runtime: Published<Runtime>,
    view: Published<View>,
    /// Shared by the workers, for the kernel plane to share.
    counts: Counts,
    checks: Checks,
    access_log: AccessLog,
    kernel: kernel::Handle,
    progress: Progress,
}

impl Agent {
    async fn reload(&mut self, configuration: &mut Configuration) {
        let began = Instant::now();
        if let Some(next) = configuration.next(&self.runtime.current()) {
            self.take(next).await;
            self.view.current().applies.observe(began.elapsed());
        }
    }

    async fn take(&mut self, next: Generation) {
        let is_first = self.runtime.current().snapshot.generation == 0;
        if is_first {
            self.check_first(&next).await;
        }
        self.put_in_force(next);
    }

    /// Learns how the endpoints are, so that the first requests do not go to those that are not well. One that keeps silent
    /// does not hold up the others for long.
    async fn check_first(&mut self, first: &Generation) {
        self.counts.fitness.checks.note(&first.runtime.snapshot);
        let mut checked = self.checks.apply(&first.runtime);
        // Nothing is ever sent: it closes.
        if tokio::time::timeout(FIRST_CHECKS, checked.recv()).await.is_err() {
            tracing::warn!("not every endpoint has been checked yet; serving all the same");
        }
    }

    fn put_in_force(&mut self, next: Generation) {
        let snapshot = next.runtime.snapshot.clone();
        let tls = next.runtime.tls.clone();
        self.counts.warming.note(&snapshot, Instant::now());
        self.counts.fitness.checks.note(&snapshot);
        self.checks.apply(&next.runtime);
        self.runtime.publish(next.runtime);
        self.counts.retain(&snapshot, Instant::now());
        self.kernel.apply(snapshot.clone());
        self.access_log.keep(snapshot.logging.clone());
        self.update(|view| {
            view.snapshot = snapshot;
            view.tls = tls;
            view.credential_faults = next.credential_faults;
            view.diagnostics = next.diagnostics;
            view.findings = next.findings;
            view.worst = next.worst;
            view.documents = next.documents;
            view.objects = next.objects;
            view.applied = Some(SystemTime::now());
            view.fingerprint = next.fingerprint.to_string();
        });
    }

    fn worker_reported(&mut self, report: WorkerReport) {
        if report.generation == 0 {
            return;
        }
        if let Some(ready) = self.progress.workers.get_mut(report.worker) {
            *ready = true;
        }
        // Workers open the same ports and fail alike; the first one speaks for all.
        if report.worker == 0 {
            let view = self.view.current();
            let failures: Vec<_> = report
                .failures
                .iter()
                .map(|failure| {
                    let listener = view.snapshot.listener(failure.listener);
                    let name =
                        listener.map_or_else(|| failure.listener.to_string(), |found| found.name.to_string());
                    (name, failure.reason.clone())
                })
                .collect();
            for (listener, reason) in failures.iter().filter(|failure| !view.bind_failures.contains(failure))
            {
                tracing::error!(%listener, %reason, "listener not open");
            }
            self.update(|view| view.bind_failures = failures);
        }
        self.announce();
    }

    fn kernel_reported(&mut self, state: crate::model::KernelPlaneState) {
        self.progress.kernel = true;
        let before = self.view.current();
        for (listener, reason) in &state.refused {
            if before.kernel.refused.get(listener) != Some(reason) {
                tracing::warn!(%listener, %reason, "flows not steered by the kernel");
            }
        }
        for (listener, reason) in &state.unpreserved {
            if before.kernel.unpreserved.get(listener) != Some(reason) {
                tracing::warn!(%listener, %reason, "backends see the gateway's address, not the client's");
            }
        }
        self.update(|view| view.kernel = state);
        self.announce();
    }

    /// Is ready no more. HTTP clients are another matter.
    fn leave(&mut self) {
        self.progress.is_announced = true;
        self.update(|view| view.ready = false);
    }

    fn announce(&mut self) {
        if self.progress.is_ready() && !std::mem::replace(&mut self.progress.is_announced, true) {
            self.update(|view| view.ready = true);
            service::serving();
            let view = self.view.current();
            let milliseconds = self.progress.started.elapsed().as_millis();
            // The failures may be those of a generation before, with more listeners.
            let listeners = view.snapshot.listeners.len().saturating_sub(view.bind_failures.len());
            let steered =
                view.snapshot.listeners.iter().filter(|listener| view.kernel.steers(listener)).count();
            match &view.kernel.off {
                None => {
                    let interfaces = view.kernel.interfaces.join(",");
                    tracing::info!(listeners, steered, %interfaces, milliseconds, "serving");
                }
                Some(reason) => {
                    tracing::info!(listeners, milliseconds, "serving in user space alone: {reason}");
                    let preserving = |listener: &&Arc<Listener>| {
                        listener.source_address == SourceAddress::Preserve
                            && !matches!(listener.kind, ListenerKind::Http(_))
                    };
                    for listener in view.snapshot.listeners.iter().filter(preserving) {
                        tracing::warn!(
                            listener = %listener.name,
                            "backends see the gateway's address, not the client's: sluice.dev/source-address: preserve \
                             needs the kernel plane"
                        );
                    }
                }
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut View)) {
        let mut view = (*self.view.current()).clone();
        change(&mut view);
        view.revision += 1;
        self.view.publish(Arc::new(view));
    }
}
