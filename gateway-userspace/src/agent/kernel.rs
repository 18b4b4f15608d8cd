//! The thread that drives the kernel plane: applies snapshots in order, hears what the programs tell, ages flows every
//! second, reports what became of it. Its system calls never hold up the agent or a worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::flows::Flows;
use super::steered;
use super::watching::Tracing;
use crate::admin::Kernel;
use crate::admin::kernel::Question;
use crate::admin::trace::{Line, Wanted};
use crate::datapath::handoff::{Entry, Identity, Ledger};
use crate::datapath::tally::Ended;
use crate::datapath::{Applied, DatapathError, KernelPlane, Placement, Status, Stopped, Targets, stats};
use crate::model::{Fitness, KernelPlaneState, Lengths, Published, Snapshot};
use crate::settings::KernelArgs;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Registry;

const TICK: Duration = Duration::from_secs(1);

/// How long an agent before this one may have the plane still: until this one serves and for as long as it hands over.
const PREDECESSOR: Duration = Duration::from_mins(1);

/// How often the programs are listened to: so late may a flow's end be told.
const HEAR: Duration = Duration::from_millis(100);

enum Command {
    Apply(Arc<Snapshot>),
    Answer(Question),
    /// Answered when it is done.
    Drain(Sender<()>),
    Stop,
    /// To leave everything to another agent.
    HandOver,
}

/// Where the thread gets its commands.
pub(super) struct Inbox {
    commands: Sender<Command>,
    inbox: Receiver<Command>,
}

impl Inbox {
    /// For a thread that will be started.
    pub(super) fn new() -> Self {
        let (commands, inbox) = channel();
        Self { commands, inbox }
    }

    /// For those who ask about the plane; without one nobody answers.
    pub(super) fn asker(&self) -> Kernel {
        let commands = self.commands.clone();
        Kernel::over(move |question| drop(commands.send(Command::Answer(question))))
    }
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
    thread: JoinHandle<Left>,
}

/// What a stop has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, or flows that go on by themselves.
    Flows,
    /// What connections in user space need to their end.
    ForConnections,
}

impl KernelThread {
    /// Starts the thread, which starts the plane.
    pub(super) fn start(
        Inbox { commands, inbox }: Inbox,
        (args, is_successor): (&KernelArgs, bool),
        fitness: &Fitness,
        targets: Published<Targets>,
        handed_over: HandedOver,
        (access_log, metrics): (AccessLog, Option<Registry>),
    ) -> std::io::Result<Self> {
        let (reports, states) = mpsc::unbounded_channel();
        let (args, fitness) = (args.clone(), fitness.clone());
        let thread = std::thread::Builder::new().name("sluice-kernel".to_owned()).spawn(move || {
            let patience = if is_successor { PREDECESSOR } else { Duration::ZERO };
            match KernelPlane::start(&args, &fitness, targets, patience) {
                Ok(plane) => {
                    Driver::new(plane, &reports, handed_over, (access_log, metrics.as_ref())).drive(&inbox)
                }
                Err(off) => {
                    say_off(&reports, off.to_string());
                    KernelPlane::renounce(&args, patience);
                    Left::Flows
                }
            }
        })?;
        Ok(Self { commands, states, thread })
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { commands: self.commands.clone() }
    }

    /// The next report.
    pub(super) async fn changed(&mut self) -> Option<KernelPlaneState> {
        self.states.recv().await
    }

    /// Steers no new flow any more, and waits until that is so. Those that workers have can still be handed over.
    pub(super) fn drain(&self) {
        let (done, is_done) = channel();
        let _ = self.commands.send(Command::Drain(done));
        // A thread that has ended steers nothing.
        let _ = is_done.recv();
    }

    /// Leaves the flows to themselves, or to another agent, and the plane with them.
    pub(super) fn stop(self, is_succeeded: bool) -> Left {
        let _ = self.commands.send(if is_succeeded { Command::HandOver } else { Command::Stop });
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the kernel plane's thread panicked");
            Left::Flows
        })
    }
}

fn say_off(reports: &mpsc::UnboundedSender<KernelPlaneState>, off: String) {
    // The agent being gone ends everything anyway.
    let _ = reports.send(KernelPlaneState { off: Some(off), ..KernelPlaneState::default() });
}

/// What is known of connections that workers have handed over.
pub(super) struct HandedOver {
    pub(super) ledger: Arc<Ledger>,
    pub(super) lengths: Lengths,
}

struct Driver<'a> {
    plane: KernelPlane,
    handed_over: HandedOver,
    reports: &'a mpsc::UnboundedSender<KernelPlaneState>,
    access_log: AccessLog,
    /// What metrics count of its flows, if they do.
    flows: Option<Flows>,
    /// Where the names of both come from.
    snapshot: Arc<Snapshot>,
    /// The last failure, said once until it changes.
    said: Option<String>,
    /// Whether the agent knows what became of the plane: it waits for that before it is ready.
    is_known: bool,
    /// The client that is traced, if one is.
    tracing: Option<Tracing>,
}

impl<'a> Driver<'a> {
    fn new(
        mut plane: KernelPlane,
        reports: &'a mpsc::UnboundedSender<KernelPlaneState>,
        handed_over: HandedOver,
        (access_log, metrics): (AccessLog, Option<&Registry>),
    ) -> Self {
        let flows = metrics.map(Flows::new);
        if flows.is_some() {
            plane.note_lasting();
        }
        if access_log.tells_starts() {
            plane.note_starts();
        }
        Self {
            flows,
            plane,
            handed_over,
            reports,
            access_log,
            snapshot: Arc::default(),
            said: None,
            is_known: false,
            tracing: None,
        }
    }

    fn drive(mut self, inbox: &Receiver<Command>) -> Left {
        let mut due = Instant::now() + TICK;
        let is_succeeded = loop {
            match inbox.recv_timeout(HEAR) {
                Ok(Command::Apply(snapshot)) => self.apply(snapshot),
                Ok(Command::Answer(question)) => self.answer(question),
                Ok(Command::Drain(done)) => self.drain(&done),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::HandOver) => break true,
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break false,
            }
            let ended = self.plane.hear();
            self.tell(&ended);
            self.trace();
            if Instant::now() >= due {
                due = Instant::now() + TICK;
                self.tick();
            }
        };
        let ended = self.plane.hear();
        self.tell(&ended);
        if is_succeeded {
            self.plane.hand_over();
            return Left::Flows;
        }
        self.stop()
    }

    fn apply(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot.clone();
        if let Some(flows) = &mut self.flows {
            flows.forget_ways();
        }
        match self.plane.apply(snapshot) {
            Ok(applied) => self.report(&applied),
            Err(error) => self.fail(&error),
        }
    }

    fn drain(&mut self, done: &Sender<()>) {
        if let Err(error) = self.plane.drain() {
            self.fail(&error);
        }
        // Whoever waits may be gone.
        let _ = done.send(());
    }

    fn tick(&mut self) {
        match self.plane.tick() {
            Ok(ticked) => {
                self.tell(&ticked.ended);
                if let Some(flows) = &mut self.flows {
                    flows.go_on(&ticked.lasting, &self.handed_over.ledger, &self.snapshot);
                }
                ticked.changed.iter().for_each(|applied| self.report(applied));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Status(asker) => match self.plane.status() {
                // Whoever asked may have lost patience.
                Ok(status) => {
                    let handoff = self.handed_over.ledger.tallied();
                    drop(asker.send(Status { handoff, ..status }));
                }
                Err(error) => self.fail(&error),
            },
            // Whoever asked may have lost patience.
            Question::Flows(most, asker) => drop(asker.send(self.plane.steered(most))),
            Question::Trace { wanted, lines, accepted } => {
                // Whoever asked may have gone.
                let _ = accepted.send(self.begin_trace(&wanted, lines));
            }
        }
    }

    fn begin_trace(&mut self, wanted: &Wanted, lines: mpsc::Sender<Line>) -> Result<(), String> {
        if let Some(tracing) = &self.tracing {
            return Err(format!("{} is being traced already", tracing.client));
        }
        self.plane.trace(Some(wanted.client)).map_err(|error| error.to_string())?;
        self.tracing = Some(Tracing::new(wanted, lines));
        Ok(())
    }

    /// Hands on the packets of the traced client; the programs stop telling of them when the trace is over.
    fn trace(&mut self) {
        let Some(tracing) = &mut self.tracing else { return };
        let (packets, left_out) = self.plane.traced(tracing.client);
        tracing.hand_on(packets, left_out);
        if tracing.is_over() {
            if let Some(tracing) = self.tracing.take() {
                tracing.end();
            }
            if let Err(error) = self.plane.trace(None) {
                self.fail(&error);
            }
        }
    }

    /// Writes the starts of flows to the access log, closes the accounts of those that have ended, counts these, and writes
    /// them to the access log.
    fn tell(&mut self, ended: &[Ended]) {
        let (now, monotonic) = (SystemTime::now(), stats::monotonic());
        let is_logged = self.access_log.is_wanted(&self.snapshot.logging);
        for flow in self.plane.take_started() {
            if is_logged {
                let record = steered::start(&flow, &self.snapshot, (now, monotonic));
                self.access_log.write(&self.snapshot.logging, record);
            }
        }
        for flow in ended {
            let identity = Identity { client_side: flow.client_side, created: flow.created };
            let entry = self.handed_over.ledger.take(identity);
            if let Some(Entry { cluster: Some(cluster), .. }) = &entry {
                let carried = flow.traffic.bytes_to_backend + flow.traffic.bytes_to_client;
                self.handed_over.lengths.record(cluster, carried);
            }
            if let Some(flows) = &mut self.flows {
                let standing = entry.as_ref().map(Entry::standing).unwrap_or_default();
                flows.end(flow, &standing, &self.snapshot);
            }
            if is_logged {
                let record = steered::connection(flow, entry, &self.snapshot, (now, monotonic));
                self.access_log.write(&self.snapshot.logging, record);
            }
        }
    }

    fn report(&mut self, applied: &Applied) {
        self.said = None;
        let refused = applied.placements.iter().filter(|(_, placement)| placement.steered.is_empty());
        let refused = refused.map(|(listener, placement)| (*listener, reasons(placement))).collect();
        let unpreserved = applied.unpreserved.clone();
        let interfaces = match self.plane.status() {
            Ok(status) => status.interfaces.into_iter().map(|interface| interface.name).collect(),
            Err(error) => return self.fail(&error),
        };
        self.is_known = true;
        let _ = self.reports.send(KernelPlaneState { off: None, interfaces, refused, unpreserved });
    }

    fn fail(&mut self, error: &DatapathError) {
        let words = error.to_string();
        if self.said.as_ref() != Some(&words) {
            tracing::error!(%error, "kernel plane: goes on with what it had, and tries again");
            self.said = Some(words.clone());
        }
        if !std::mem::replace(&mut self.is_known, true) {
            say_off(self.reports, words);
        }
    }

    fn stop(self) -> Left {
        match self.plane.stop() {
            Ok(Stopped { is_answered: true, .. }) => return Left::ForConnections,
            Ok(Stopped { flows: 0, .. }) => tracing::info!("kernel plane: no flow left, everything removed"),
            Ok(Stopped { flows, .. }) => {
                tracing::info!(
                    flows,
                    "kernel plane: flows go on without the agent; `sluice cleanup` ends them"
                );
            }
            Err(error) => tracing::error!(%error, "kernel plane: stop"),
        }
        Left::Flows
    }
}

fn reasons(placement: &Placement) -> String {
    placement.refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
