//! Hears of idle connections that their backends close, so that none of them lingers: one task for all of a worker's.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::sleep;

use super::http1::Channel;
use super::pool::Inner;

/// Connections that are closed within this time are looked for together: that is to look at all of them.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module. Its task begins with the first connection, and ends with the pool.
#[derive(Debug, Default)]
pub(super) struct Watch {
    has_begun: Cell<bool>,
    /// The task's, once it runs: it looks at all connections then.
    waker: RefCell<Option<Waker>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Watch {
    /// Whether nothing has come on an idle connection of the pool, as far as the reactor has heard. The task hears of what comes.
    pub(super) fn listens(&self, pool: &Rc<Inner>, channel: &mut Channel) -> bool {
        if !self.has_begun.replace(true) {
            // All connections are looked at at once, however many they are.
            tokio::task::spawn_local(unconstrained(watch(Rc::downgrade(pool))));
        }
        let waker = self.waker.borrow();
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        let news = channel.poll_news(&mut cx);
        channel.rest();
        news.is_pending()
    }
}

async fn watch(pool: Weak<Inner>) {
    while look(&pool).await {
        sleep(PAUSE).await;
        if !look(&pool).await {
            return;
        }
        woken().await;
    }
}

/// Closes the connections that have ended, and is woken by the others; false if the pool is gone.
async fn look(pool: &Weak<Inner>) -> bool {
    poll_fn(|cx| {
        let Some(pool) = pool.upgrade() else { return Poll::Ready(false) };
        pool.watch().waker.replace(Some(cx.waker().clone()));
        pool.close_ended(cx);
        Poll::Ready(true)
    })
    .await
}

async fn woken() {
    let mut is_asleep = false;
    poll_fn(|_| if std::mem::replace(&mut is_asleep, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
