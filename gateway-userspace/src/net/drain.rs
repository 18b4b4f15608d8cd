//! Graceful stop as a pair: one trigger, and a watch that each connection holds until it is done.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct DrainTrigger {
    signal: watch::Sender<bool>,
    alive: mpsc::Receiver<()>,
    guard: mpsc::Sender<()>,
}

/// Held by whatever must be waited for.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    signal: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

/// A connected pair; further watches are made by [`DrainTrigger::watch`] and by cloning.
pub fn drain() -> DrainTrigger {
    let (guard, alive) = mpsc::channel(1);
    DrainTrigger { signal: watch::Sender::new(false), alive, guard }
}

impl DrainTrigger {
    /// One more watch.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { signal: self.signal.subscribe(), _alive: self.guard.clone() }
    }

    /// Signals every watch and waits until all are dropped, at most `limit`. False: some were still there.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.signal.send_replace(true);
        drop(self.guard);
        tokio::time::timeout(limit, self.alive.recv()).await.is_ok()
    }
}

impl DrainWatch {
    /// Waits until the drain starts (or the trigger is gone).
    pub async fn signaled(&mut self) {
        // An error means that the trigger was dropped: nobody waits, and draining is right all the same.
        let _ = self.signal.wait_for(|draining| *draining).await;
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        *self.signal.borrow()
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
}
