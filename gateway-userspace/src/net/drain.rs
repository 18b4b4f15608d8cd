//! Graceful ends as a pair: a trigger, and a watch that each connection holds until it is done. First clients are told to
//! go; some time later those that say nothing are let go; and when the time is over, whoever is still there.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// A client that has said nothing for so long since it could be told is let go, or for half of the drain's time if that is
/// less: what it sends at that very moment is lost, and in this time whoever talks at all has been told.
const QUIET: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Clients are told to go.
    Leaving,
    /// Likewise, and there is an end.
    Draining {
        quiet: Instant,
        over: Instant,
    },
}

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct DrainTrigger {
    phase: watch::Sender<Phase>,
    alive: mpsc::Receiver<()>,
    /// Until there is an end to wait for.
    guard: Option<mpsc::Sender<()>>,
}

/// Held by whatever must be waited for.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    phase: watch::Receiver<Phase>,
    _alive: Option<mpsc::Sender<()>>,
}

/// A connected pair; further watches are made by [`DrainTrigger::watch`] and by cloning.
pub fn drain() -> DrainTrigger {
    let (guard, alive) = mpsc::channel(1);
    DrainTrigger { phase: watch::Sender::new(Phase::Serving), alive, guard: Some(guard) }
}

impl DrainTrigger {
    /// One more watch. Of a drain that has begun nobody waits for it.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { phase: self.phase.subscribe(), _alive: self.guard.clone() }
    }

    /// Has clients told to go. Nobody is cut off, and nothing ends by itself.
    pub fn leave(&self) {
        self.phase.send_if_modified(|phase| {
            let is_first = *phase == Phase::Serving;
            if is_first {
                *phase = Phase::Leaving;
            }
            is_first
        });
    }

    /// Likewise, and everything ends within `limit`.
    pub fn begin(&mut self, limit: Duration) {
        let now = Instant::now();
        // A limit beyond what a clock has is none.
        let after = |time| now.checked_add(time).unwrap_or(now + Duration::from_hours(24 * 365));
        self.phase.send_replace(Phase::Draining { quiet: after(QUIET.min(limit / 2)), over: after(limit) });
        self.guard = None;
    }

    /// Whether all watches are dropped of a drain that has begun.
    pub fn is_over(&self) -> bool {
        self.alive.is_closed()
    }

    /// Waits for that.
    pub async fn ended(&mut self) {
        // Nobody sends anything.
        let _ = self.alive.recv().await;
    }

    /// Signals every watch and waits until all are dropped, at most `limit`. False: some were still there.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.begin(limit);
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }
}

impl DrainWatch {
    /// Waits until clients are to be told to go (or the trigger is gone).
    pub async fn signaled(&mut self) {
        // An error means that the trigger was dropped: nobody waits, and draining is right all the same.
        let _ = self.phase.wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Whether they are.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// When those that say nothing are to be let go, if that is known.
    pub fn quiet_at(&self) -> Option<Instant> {
        match *self.phase.borrow() {
            Phase::Draining { quiet, .. } => Some(quiet),
            Phase::Serving | Phase::Leaving => None,
        }
    }

    /// Waits until those that say nothing are to be let go.
    pub async fn quiet(&mut self) {
        if let Some((quiet, _)) = self.times().await {
            sleep_until(quiet).await;
        }
    }

    /// Waits until whoever is still there is to be cut off.
    pub async fn over(&mut self) {
        if let Some((_, over)) = self.times().await {
            sleep_until(over).await;
        }
    }

    /// When those that say nothing are let go, and everybody; `None` where the trigger is gone without a word.
    async fn times(&mut self) -> Option<(Instant, Instant)> {
        let phase = self.phase.wait_for(|phase| matches!(phase, Phase::Draining { .. })).await;
        match phase.as_deref() {
            Ok(Phase::Draining { quiet, over }) => Some((*quiet, *over)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_drain_ends_when_the_last_watch_is_dropped() {
        let trigger = drain();
        let mut watch = trigger.watch();
        let task = tokio::spawn(async move {
            watch.signaled().await;
            watch.is_draining()
        });
        assert!(trigger.drain(Duration::from_secs(5)).await);
        assert!(task.await.unwrap());
    }

    #[tokio::test]
    async fn a_watch_that_stays_is_reported() {
        let trigger = drain();
        let _watch = trigger.watch();
        assert!(!trigger.drain(Duration::from_millis(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_told_then_the_quiet_let_go_then_all() {
        for (limit, quiet) in [(4, 2), (10, 5), (600, 5)].map(|(a, b): (u64, u64)| (a, b)) {
            let mut trigger = drain();
            let mut watch = trigger.watch();
            let mut other = trigger.watch();
            trigger.leave();
            watch.signaled().await;
            assert!(watch.is_draining());
            let none = tokio::time::timeout(Duration::from_hours(1), watch.quiet()).await;
            assert!(none.is_err(), "nothing ends by itself");
            trigger.begin(Duration::from_secs(limit));
            trigger.leave();
            let begun = Instant::now();
            watch.quiet().await;
            assert_eq!(begun.elapsed().as_secs(), quiet);
            other.over().await;
            assert_eq!(begun.elapsed().as_secs(), limit);
            assert!(!trigger.is_over());
            drop((watch, other));
            trigger.ended().await;
            assert!(trigger.is_over());
        }
    }
}
