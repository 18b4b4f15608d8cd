//! Whether anything is asked on a connection: a client is not to stay for ever that asks for nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::proxy::connection::HTTP_IDLE;

/// How long a connection without streams is kept (Envoy's default). Until its first one it has [`HTTP_IDLE`].
const IDLE: Duration = Duration::from_hours(1);

/// The streams of a connection; clones share it.
#[derive(Debug, Clone)]
pub(in crate::proxy::http) struct Streams(Rc<State>);

#[derive(Debug)]
struct State {
    open: Cell<u32>,
    /// Whether there has been one.
    used: Cell<bool>,
    /// Since when there is none.
    since: Cell<Instant>,
    /// The last one has ended.
    emptied: Notify,
}

/// A stream until it has ended.
#[derive(Debug)]
pub(in crate::proxy::http) struct Stream(Rc<State>);

impl Streams {
    /// None yet.
    pub(in crate::proxy::http) fn new() -> Self {
        let (open, used, since) = (Cell::new(0), Cell::new(false), Cell::new(Instant::now()));
        Self(Rc::new(State { open, used, since, emptied: Notify::new() }))
    }

    /// One more.
    pub(in crate::proxy::http) fn begin(&self) -> Stream {
        self.0.open.set(self.0.open.get() + 1);
        self.0.used.set(true);
        Stream(self.0.clone())
    }

    /// Waits until there has been none for as long as a connection is kept.
    pub(super) async fn idle(&self) {
        self.none_for(|state| if state.used.get() { IDLE } else { HTTP_IDLE }).await;
    }

    /// Waits until there has been none for `time`, which begins now.
    pub(super) async fn none_within(&self, time: Duration) {
        let begin = Instant::now();
        self.none_for(|state| time + begin.saturating_duration_since(state.since.get())).await;
    }

    async fn none_for(&self, time: impl Fn(&State) -> Duration) {
        loop {
            let state = &self.0;
            if state.open.get() > 0 {
                state.emptied.notified().await;
                continue;
            }
            let end = state.since.get() + time(state);
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let State { open, since, emptied, .. } = &*self.0;
        open.set(open.get() - 1);
        if open.get() == 0 {
            since.set(Instant::now());
            emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    async fn passes_within(waiting: impl Future<Output = ()>, time: Duration) -> bool {
        timeout(time, waiting).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_stream() {
        let (streams, moment) = (Streams::new(), Duration::from_secs(1));
        assert!(!passes_within(streams.idle(), HTTP_IDLE.mul_f64(0.9)).await);
        let (first, second) = (streams.begin(), streams.begin());
        drop(first);
        assert!(!passes_within(streams.idle(), IDLE * 2).await, "one is open");
        drop(second);
        assert!(!passes_within(streams.idle(), IDLE.mul_f64(0.9)).await);
        assert!(passes_within(streams.idle(), IDLE.mul_f64(0.2)).await);
        assert!(!passes_within(streams.none_within(moment * 5), moment * 4).await, "begins now");
        advance(IDLE).await;
        assert!(passes_within(streams.none_within(moment * 5), moment * 6).await);
    }
}
