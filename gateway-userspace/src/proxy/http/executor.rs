//! Runs the tasks of an HTTP/2 connection's streams, and breaks off those that were given up: hyper asks nobody while a client
//! takes nothing. A stream whose task ends is reset (`CANCEL`).

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::exchange::Watch;

/// hyper asks the service for a future, and hands it on at once: whoever was begun last is whose task comes.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamExecutor(Rc<RefCell<Option<Watch>>>);

impl StreamExecutor {
    /// The next task is that of this request.
    pub(super) fn begins(&self, watch: Watch) {
        *self.0.borrow_mut() = Some(watch);
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let watch = self.0.borrow_mut().take();
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Pending if watch.as_ref().is_some_and(|watch| watch.is_given_up(cx)) => Poll::Ready(()),
                other => other,
            })
            .await;
        });
    }
}
