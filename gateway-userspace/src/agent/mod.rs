//! The wiring: builds every part, joins them, and keeps the order of start and stop. The only module that sees
//! everything; it decides nothing about routing.
//!
//! Start: log → admin socket (which also finds a second agent) → documents → workers → kernel plane → ready.
//! Stop: not ready → kernel steers nothing new → workers drain, and hand over what they can → kernel plane is left to itself
//! → workers have drained → socket gone. Flows in the kernel go on by their pins.

mod configuration;
mod kernel;
mod steered;
mod watching;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::configuration::{Configuration, Generation};
use self::kernel::{HandedOver, Inbox, KernelThread, Left};
use crate::admin::server::{self, AdminSocket, Scope};
use crate::admin::view::View;
use crate::datapath::handoff::Ledger;
use crate::datapath::{KernelPlane, Targets};
use crate::model::{Counts, Listener, ListenerKind, Published, SourceAddress, Subscription};
use crate::proxy::{ProxySettings, Runtime, WorkerReport, Workers};
use crate::settings::{KernelMode, RunArgs};
use crate::source;
use crate::telemetry::{self, AccessLog, access};

/// How long connections that the kernel can carry may wait for the right moment when the agent stops. After that the next
/// agent may have the kernel plane.
const HANDING_OVER: Duration = Duration::from_secs(3);

/// Serves until a signal asks for the end.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    telemetry::log::start(&args.log).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let counts = Counts::default();
    let access_log = open_access_log(args)?;
    let inbox = Inbox::new();
    let ledger = Arc::new(Ledger::default());
    let view = Published::new(View {
        counts: counts.clone(),
        kernel_plane: inbox.asker(),
        tier: args.tier,
        access_log: Some(access_log.clone()),
        handed_over: ledger.clone(),
        ..View::default()
    });
    let _admin = Admin::open(args, &view).await?;
    let mut watcher = source::watch(&args.config);
    let mut signals = Signals::new()?;

    let mut configuration = Configuration::new(args);
    let first = configuration.next(&Runtime::default());
    let runtime = Published::new(Runtime::default());
    let targets = Published::default();
    let settings = proxy_settings(args, access_log.clone(), targets.subscribe(), ledger.clone());
    let (reports, mut worker_reports) = mpsc::channel(settings.workers * 4);
    let workers = Workers::start(&settings, &runtime.subscribe(), &counts, &reports)
        .context("cannot start the workers")?;
    let handed_over = HandedOver { ledger, lengths: counts.lengths.clone() };
    let mut kernel = KernelThread::start(
        inbox,
        &args.kernel,
        &counts.outliers,
        targets,
        handed_over,
        Some(access_log.clone()),
    )?;
    let mut agent = Agent {
        runtime,
        view,
        counts,
        access_log: access_log.clone(),
        kernel: kernel.handle(),
        progress: Progress::new(&settings, started),
    };
    if let Some(first) = first {
        agent.put_in_force(first);
    }

    loop {
        tokio::select! {
            () = watcher.changed() => agent.reload(&mut configuration),
            () = configuration.changed() => agent.reload(&mut configuration),
            Some(report) = worker_reports.recv() => agent.worker_reported(report),
            Some(state) = kernel.changed() => {
                if args.kernel.kernel == KernelMode::Require && let Some(reason) = &state.off {
                    anyhow::bail!("--kernel require: {reason}");
                }
                agent.kernel_reported(state);
            }
            _ = signals.hangup.recv() => {
                access_log.reopen();
                agent.reload(&mut configuration);
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }

    tracing::info!("stopping; a second signal ends at once");
    agent.update(|view| view.ready = false);
    kernel.drain();
    // Workers that report while they stop must not wait for a reader.
    drop(worker_reports);
    let mut stopped = tokio::task::spawn_blocking(move || workers.stop());
    let is_over = tokio::select! {
        _ = &mut stopped => true,
        () = signals.stop() => true,
        () = tokio::time::sleep(HANDING_OVER) => false,
    };
    let left = kernel.stop();
    if !is_over {
        tokio::select! {
            _ = stopped => {}
            () = signals.stop() => {}
        }
    }
    if left == Left::ForConnections
        && let Err(error) = KernelPlane::leave(&args.kernel)
    {
        tracing::error!(%error, "kernel plane: stop; `sluice cleanup` removes what is left");
    }
    access_log.flush();
    Ok(())
}

/// Starts the writer of access logs. A file of ours that takes nothing is told of at once.
fn open_access_log(args: &RunArgs) -> anyhow::Result<AccessLog> {
    if let Some(path) = &args.access_log {
        access::probe(path).with_context(|| format!("--access-log {}", path.display()))?;
    }
    Ok(AccessLog::start()?)
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
        highest_tier: args.tier.highest(),
        ascent: args.tier.ascent(),
        access_log: Some(access_log),
        targets,
        ledger,
    }
}

/// The admin sockets; closed when dropped.
struct Admin {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Admin {
    async fn open(args: &RunArgs, view: &Published<View>) -> anyhow::Result<Self> {
        let mut tasks = Vec::new();
        let socket = AdminSocket::open(&args.admin.admin_socket)?;
        let subscription = view.subscribe();
        tasks.push(tokio::spawn(async move { socket.serve(subscription).await }));
        for (address, scope) in
            [(args.admin.admin_address, Scope::Everything), (args.admin.ready_address, Scope::Readiness)]
        {
            if let Some(address) = address.0 {
                let listener = server::open(address).await.with_context(|| match scope {
                    Scope::Owner | Scope::Everything => "--admin-address (another one, or `none`)",
                    Scope::Readiness => "--ready-address (another one, or `none`)",
                })?;
                tasks.push(tokio::spawn(server::serve(listener, view.subscribe(), scope)));
            }
        }
        Ok(Self { tasks })
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
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
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
    started: Instant,
}

impl Progress {
    fn new(settings: &ProxySettings, started: Instant) -> Self {
        Self { workers: vec![false; settings.workers], kernel: false, started }
    }

    fn is_ready(&self) -> bool {
        self.kernel && self.workers.iter().all(|ready| *ready)
    }
}

struct Agent {
    runtime: Published<Runtime>,
    view: Published<View>,
    /// Shared by the workers, for the kernel plane to share.
    counts: Counts,
    access_log: AccessLog,
    kernel: kernel::Handle,
    progress: Progress,
}

impl Agent {
    fn reload(&mut self, configuration: &mut Configuration) {
        if let Some(next) = configuration.next(&self.runtime.current()) {
            self.put_in_force(next);
        }
    }

    fn put_in_force(&mut self, next: Generation) {
        let snapshot = next.runtime.snapshot.clone();
        let terminating = Arc::new(next.runtime.tls.chains());
        self.counts.warming.note(&snapshot, Instant::now());
        self.runtime.publish(Arc::new(next.runtime));
        self.counts.retain(&snapshot, Instant::now());
        self.kernel.apply(snapshot.clone());
        self.access_log.keep(snapshot.logging.clone());
        self.update(|view| {
            view.snapshot = snapshot;
            view.terminating = terminating;
            view.credential_faults = next.credential_faults;
            view.diagnostics = next.diagnostics;
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

    fn announce(&self) {
        if self.progress.is_ready() && !self.view.current().ready {
            self.update(|view| view.ready = true);
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
        self.view.publish(Arc::new(view));
    }
}
