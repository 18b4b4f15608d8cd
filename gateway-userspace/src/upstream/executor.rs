//! Runs hyper's tasks on the worker's own thread.

use std::future::Future;

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
