//! The thread that drives the kernel plane: applies snapshots in order, ages flows every second, reports what became
//! of it. Its system calls never hold up the agent or a worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::datapath::{Applied, DatapathError, KernelPlane, Placement, Stopped};
use crate::model::{KernelPlaneState, Outliers, Snapshot};
use crate::settings::KernelArgs;

const TICK: Duration = Duration::from_secs(1);

enum Command {
    Apply(Arc<Snapshot>),
    Stop,
}

/// Gives snapshots to the thread.
pub(super) struct Handle {
    commands: Sender<Command>,
}

impl Handle {
    /// Puts a snapshot in force; what became of it is reported.
    pub(super) fn apply(&self, snapshot: Arc<Snapshot>) {
        // A thread that has ended said why.
        let _ = self.commands.send(Command::Apply(snapshot));
    }
}

/// The thread and its reports.
pub(super) struct KernelThread {
    commands: Sender<Command>,
    states: mpsc::UnboundedReceiver<KernelPlaneState>,
    thread: JoinHandle<()>,
}

impl KernelThread {
    /// Starts the thread, which starts the plane.
    pub(super) fn start(args: &KernelArgs, outliers: &Outliers) -> std::io::Result<Self> {
        let (commands, inbox) = channel();
        let (reports, states) = mpsc::unbounded_channel();
        let (args, outliers) = (args.clone(), outliers.clone());
        let thread = std::thread::Builder::new()
            .name("sluice-kernel".to_owned())
            .spawn(move || run(&args, &outliers, &inbox, &reports))?;
        Ok(Self { commands, states, thread })
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { commands: self.commands.clone() }
    }

    /// The next report.
    pub(super) async fn changed(&mut self) -> Option<KernelPlaneState> {
        self.states.recv().await
    }

    /// Steers no new flow any more, and waits until that is so.
    pub(super) fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the kernel plane's thread panicked");
        }
    }
}

fn run(
    args: &KernelArgs,
    outliers: &Outliers,
    inbox: &Receiver<Command>,
    reports: &mpsc::UnboundedSender<KernelPlaneState>,
) {
    match KernelPlane::start(args, outliers) {
        Ok(plane) => Driver { plane, reports, said: None }.drive(inbox),
        // The agent being gone ends everything anyway.
        Err(off) => {
            let _ =
                reports.send(KernelPlaneState { off: Some(off.to_string()), ..KernelPlaneState::default() });
        }
    }
}

struct Driver<'a> {
    plane: KernelPlane,
    reports: &'a mpsc::UnboundedSender<KernelPlaneState>,
    /// The last failure, said once until it changes.
    said: Option<String>,
}

impl Driver<'_> {
    fn drive(mut self, inbox: &Receiver<Command>) {
        let mut due = Instant::now() + TICK;
        loop {
            match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Command::Apply(snapshot)) => match self.plane.apply(snapshot) {
                    Ok(applied) => self.report(&applied),
                    Err(error) => self.fail(&error),
                },
                Err(RecvTimeoutError::Timeout) => {
                    due = Instant::now() + TICK;
                    match self.plane.tick() {
                        Ok(ticked) => ticked.changed.iter().for_each(|applied| self.report(applied)),
                        Err(error) => self.fail(&error),
                    }
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return self.stop(),
            }
        }
    }

    fn report(&mut self, applied: &Applied) {
        self.said = None;
        let refused = applied.placements.iter().filter(|(_, placement)| placement.steered.is_empty());
        let refused = refused.map(|(listener, placement)| (*listener, reasons(placement))).collect();
        let interfaces = match self.plane.status() {
            Ok(status) => status.interfaces.into_iter().map(|interface| interface.name).collect(),
            Err(error) => return self.fail(&error),
        };
        let _ = self.reports.send(KernelPlaneState { off: None, interfaces, refused });
    }

    fn fail(&mut self, error: &DatapathError) {
        let words = error.to_string();
        if self.said.as_ref() != Some(&words) {
            tracing::error!(%error, "kernel plane: goes on with what it had");
            self.said = Some(words);
        }
    }

    fn stop(self) {
        match self.plane.stop() {
            Ok(Stopped { flows: 0 }) => tracing::info!("kernel plane: no flow left, everything removed"),
            Ok(Stopped { flows }) => {
                tracing::info!(
                    flows,
                    "kernel plane: flows go on without the agent; `sluice cleanup` ends them"
                );
            }
            Err(error) => tracing::error!(%error, "kernel plane: stop"),
        }
    }
}

fn reasons(placement: &Placement) -> String {
    placement.refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
