//! When an opaque connection is handed over to the kernel plane. That costs less than to relay a single byte each way
//! (`cargo xtask bench sni --measures brief`), so it is done before anything is relayed. But the plane's tables are of a
//! given size: once they are filling up, what room there is goes to connections that have carried much, or have been quiet
//! for a while, or go to a cluster whose connections have mostly been long ones.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::Ends;
use super::worker::Shared;
use crate::datapath::Targets;
use crate::datapath::handoff::{self, Entry, Refusal, Settling};
use crate::datapath::stats;
use crate::datapath::targets::SourcePort;
use crate::datapath::view::Tuple;
use crate::model::{Ascent, Below, ClusterName, lengths};
use crate::net::drain::DrainWatch;
use crate::net::relay::{Carried, Outcome, Parts, Relay, RelayEnd};
use crate::net::repair;

/// A connection that says nothing for so long may last for days.
const QUIET: Duration = Duration::from_secs(1);
/// Pause after an attempt that failed for a reason that may pass.
const AGAIN: Duration = Duration::from_millis(20);
/// Random numbers of bytes are below this power of two.
const LARGEST_POWER: u32 = 22;
/// Attempts altogether.
const MOST_ATTEMPTS: u32 = 16;

/// What handing a connection over needs.
pub(super) struct Climb<'a> {
    shared: &'a Shared,
    ends: Ends,
    idle: Duration,
    /// Monotonic clock when the client connected, in ns.
    created: u64,
    /// What the backend's socket is bound to; held as long as that lives.
    port: Option<SourcePort>,
    entry: Entry,
    /// A connection that the kernel has need not be waited for.
    drain: DrainWatch,
    /// Bytes that it carries before.
    after: u64,
    attempts: u32,
    /// No attempt before.
    next: Instant,
    /// Whether it was relayed before.
    is_relayed: bool,
    /// Whether the kernel cannot have it, ever.
    is_refused: bool,
    /// The latest reason against.
    below: Option<Below>,
}

/// How a connection that might be handed over went on.
pub(super) enum End {
    /// Relayed to its end.
    Relayed(RelayEnd),
    /// The kernel plane has it.
    HandedOver(Settling),
}

impl<'a> Climb<'a> {
    /// For a connection whose backend's socket is bound to a port of the kernel plane's, or is not, for a reason.
    pub(super) fn new(
        shared: &'a Shared,
        ends: Ends,
        (idle, since): (Duration, Instant),
        port: Result<SourcePort, Below>,
        entry: Entry,
        drain: DrainWatch,
    ) -> Self {
        let (below, is_refused) = (port.as_ref().err().copied(), port.is_err());
        let port = port.ok();
        let after = match shared.ascent {
            Ascent::AtOnce => 0,
            Ascent::WithRoom | Ascent::WhenLasting => lengths::LONG,
            Ascent::AtRandom => 1 << fastrand::u32(..LARGEST_POWER),
        };
        let created = stats::monotonic_at(since);
        let (attempts, next, is_relayed) = (0, since, false);
        Self {
            shared,
            ends,
            idle,
            created,
            port,
            entry,
            drain,
            after,
            attempts,
            next,
            is_relayed,
            is_refused,
            below,
        }
    }

    /// Whether there is nothing more to try.
    fn is_over(&self) -> bool {
        self.is_refused || self.attempts >= MOST_ATTEMPTS
    }

    /// Relays, and hands over when it is time. `build` makes the relay, which shows why it is one.
    pub(super) async fn carry(
        &mut self,
        mut parts: Parts,
        build: impl Fn(Parts, Option<Below>) -> Relay,
        mut answered: impl FnMut(),
    ) -> (Carried, End) {
        let mut is_due = self.is_early();
        loop {
            if is_due {
                let carried = parts.carried;
                match self.attempt(parts) {
                    Ok(settling) => return (carried, End::HandedOver(settling)),
                    Err(kept) => parts = *kept,
                }
            }
            self.is_relayed = true;
            let mut relay = build(parts, self.below);
            match self.relay(&mut relay, &mut answered).await {
                Outcome::Ended(end) => return (relay.carried(), End::Relayed(end)),
                Outcome::Paused => parts = relay.into_parts(),
            }
            is_due = true;
        }
    }

    /// Whether the connection is handed over before it has carried anything.
    fn is_early(&self) -> bool {
        let are_long = |cluster: &ClusterName| self.shared.counts.lengths.are_mostly_long(cluster);
        let is_long = || self.entry.cluster.as_ref().is_some_and(are_long);
        !self.is_over() && (self.after == 0 || self.is_free_for_all() || is_long())
    }

    /// Whether the plane has room for connections of any length.
    fn is_free_for_all(&self) -> bool {
        let has_room =
            |targets: &Targets| targets.tables().is_some_and(|tables| tables.translations.are_plenty());
        self.shared.ascent == Ascent::WithRoom && has_room(&self.shared.targets.current())
    }

    fn is_due(&self, carried: Carried, is_draining: bool) -> bool {
        let is_worth_it = is_draining || carried.up + carried.down >= self.after;
        !self.is_over() && is_worth_it && Instant::now() >= self.next
    }

    /// Relays until the end, or until it is time for an attempt. When the agent is to stop it is time soon.
    async fn relay(&mut self, relay: &mut Relay, answered: &mut impl FnMut()) -> Outcome {
        let (mut drain, mut is_stalled) = (self.drain.clone(), false);
        loop {
            let (before, is_draining) = (relay.carried(), drain.is_draining());
            let (quiet, may_be_quiet) =
                (if is_draining { AGAIN } else { QUIET }, !self.is_over() && !is_stalled);
            tokio::select! {
                biased;
                outcome = relay.run(&mut *answered, |carried| self.is_due(*carried, is_draining)) => match outcome {
                    Outcome::Paused if is_saturated(relay) => self.next = Instant::now() + AGAIN,
                    outcome => return outcome,
                },
                () = drain.signaled(), if !is_draining => (self.attempts, is_stalled) = (0, false),
                () = tokio::time::sleep(quiet), if may_be_quiet => {
                    let is_quiet = relay.carried() == before;
                    if is_quiet && relay.is_even() {
                        return Outcome::Paused;
                    }
                    // With bytes that its receiver does not take it is for the idle timeout to end.
                    is_stalled = is_quiet;
                }
            }
        }
    }

    /// Hands the connection over, or gives it back with all that was read meanwhile.
    fn attempt(&mut self, parts: Parts) -> Result<Settling, Box<Parts>> {
        let mut handoff = self.shared.handoff.borrow_mut();
        let (Some(handoff), Some(port), false) = (handoff.as_mut(), self.port.take(), self.is_refused) else {
            self.is_refused = true;
            return Err(Box::new(parts));
        };
        let Parts { downstream, upstream, prefix, answer, carried } = parts;
        let metered = self.shared.metering.is_on().then_some([carried.up, carried.down]);
        let connection = handoff::Connection {
            client_side: Tuple { source: self.ends.peer, destination: self.ends.local },
            client: downstream,
            backend: upstream,
            port,
            listener: self.ends.listener,
            idle_timeout: self.idle,
            created: self.created,
            to_backend: prefix.into(),
            to_client: answer.into(),
            carried: [carried.up, carried.down],
            say_rst: self.is_relayed,
            entry: Entry { metered, ..std::mem::take(&mut self.entry) },
        };
        self.attempts += 1;
        let targets = self.shared.targets.current();
        handoff.hand_over(&targets, connection).map_err(|kept| {
            self.below = Some(below(&kept.refusal));
            self.is_refused = !kept.refusal.may_pass();
            self.next = Instant::now() + AGAIN;
            let connection = kept.connection;
            (self.port, self.entry) = (Some(connection.port), connection.entry);
            Box::new(Parts {
                downstream: connection.client,
                upstream: connection.backend,
                prefix: Bytes::from(connection.to_backend),
                answer: Bytes::from(connection.to_client),
                carried,
            })
        })
    }
}

/// Whether both ends have more under way than their peers have acknowledged. Each would then acknowledge with its own data
/// only, which the kernel would give to the other end, and the sockets would wait for it.
fn is_saturated(relay: &Relay) -> bool {
    let (downstream, upstream) = relay.sockets();
    let is_busy = |stream| repair::unacknowledged(stream).is_ok_and(|bytes| bytes > 0);
    is_busy(downstream) && is_busy(upstream)
}

/// As the list of connections shows it.
pub(super) fn below(refusal: &Refusal) -> Below {
    match refusal {
        Refusal::NoPlane => Below::NoKernelPlane,
        Refusal::NoListener | Refusal::Families => Below::Backend,
        Refusal::ClientInterface => Below::Client,
        Refusal::Translated => Below::Translated,
        Refusal::SegmentSize => Below::SegmentSize,
        Refusal::Timestamps | Refusal::FineTimestamps | Refusal::Sack | Refusal::WindowScale => {
            Below::Options
        }
        Refusal::Closed => Below::HalfClosed,
        Refusal::Missing | Refusal::Busy => Below::Busy,
        Refusal::NoTranslation | Refusal::NoRecord => Below::NoRoom,
        Refusal::System { .. } => Below::KernelRefused,
    }
}
