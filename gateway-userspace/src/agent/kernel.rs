//! The thread that drives the kernel plane: applies snapshots in order, ages flows every second, reports what became
//! of it. Its system calls never hold up the agent or a worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::{KernelPlaneState, Snapshot};
use crate::settings::{KernelArgs, KernelMode};

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
    pub(super) fn start(args: &KernelArgs) -> std::io::Result<Self> {
        let (commands, inbox) = channel();
        let (reports, states) = mpsc::unbounded_channel();
        let args = args.clone();
        let thread = std::thread::Builder::new()
            .name("sluice-kernel".to_owned())
            .spawn(move || run(&args, &inbox, &reports))?;
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

fn run(args: &KernelArgs, inbox: &Receiver<Command>, reports: &mpsc::UnboundedSender<KernelPlaneState>) {
    let started: Result<(), String> = match args.kernel {
        KernelMode::Off => Err("switched off by --kernel off".to_owned()),
        KernelMode::Auto | KernelMode::Require => Err("built without it".to_owned()),
    };
    let _ = (started, TICK);
    drop(
        reports.send(KernelPlaneState {
            off: Some("built without it".to_owned()),
            ..KernelPlaneState::default()
        }),
    );
    while let Ok(Command::Apply(_)) = inbox.recv() {}
}
