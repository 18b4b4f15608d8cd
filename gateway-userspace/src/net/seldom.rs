//! A future that is seldom ready, beside one that often has news. A task polls all that it waits for whenever one of them wakes
//! it; this one looks only if it was woken itself.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// See the module.
#[derive(Debug)]
pub struct Seldom<F> {
    future: F,
    bell: Arc<Bell>,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    /// It was rung since somebody looked.
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F> Seldom<F> {
    /// Not polled before this one is.
    pub fn new(future: F) -> Self {
        let bell = Bell { rung: AtomicBool::new(true), task: Mutex::new(None) };
        Self { future, bell: Arc::new(bell), task: None }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, task } = &mut *self;
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
            bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        }
        // It may have rung for the task of before.
        if !bell.rung.load(Ordering::Relaxed) || !bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        Pin::new(future).poll(&mut Context::from_waker(&Waker::from(bell.clone())))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_is_not_woken_is_not_polled_and_what_is_is() {
        let (news, polls) = (Notify::new(), Cell::new(0));
        let mut notified = pin!(news.notified());
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            notified.as_mut().poll(cx)
        });
        let counted = pin!(counted);
        let mut seldom = Seldom::new(counted);
        for _ in 0..10 {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(polls.get(), 1);
        let woken = async {
            tokio::task::yield_now().await;
            news.notify_waiters();
        };
        tokio::join!(seldom, woken);
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn another_task_is_woken_if_it_asks_last() {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let mut seldom = Seldom::new(told);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await;
        assert!(polled.is_pending());
        let other = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        tell.send(()).unwrap();
        other.await.unwrap().unwrap();
    }
}
