//! Runs hyper's tasks on the worker's own thread.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use tokio::io::AsyncWrite;

use crate::net::gather::Outflow;

/// Spawns onto the worker's runtime; futures need not be `Send`.
#[derive(Debug, Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Likewise for an HTTP/2 connection whose writes are gathered, which hyper hands on first: they go out behind its turns.
pub(super) struct TurnExecutor<S>(Rc<RefCell<Option<Outflow<S>>>>);

impl<S> TurnExecutor<S> {
    /// Of a connection that writes there.
    pub(super) fn new(outflow: Outflow<S>) -> Self {
        Self(Rc::new(RefCell::new(Some(outflow))))
    }
}

impl<S> Clone for TurnExecutor<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for TurnExecutor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnExecutor")
    }
}

impl<F, S> hyper::rt::Executor<F> for TurnExecutor<S>
where
    F: Future + 'static,
    S: AsyncWrite + Unpin + 'static,
{
    fn execute(&self, future: F) {
        let outflow = self.0.borrow_mut().take();
        let Some(outflow) = outflow else { return LocalExecutor.execute(future) };
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| outflow.poll_turn(cx, |cx| future.as_mut().poll(cx))).await;
        });
    }
}
