//! How far a request has come, told to whoever waits for it, on one thread. Mostly nobody does, and then nothing is woken.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::held::Whole;

/// How far it is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// Nobody reads it: there is no connection to send it on yet. Since then.
    Unread(Instant),
    /// It is read as it comes.
    Open,
    /// Whole, with its parts if they were held.
    Whole(Instant, Option<Rc<Whole>>),
    Broken(Flaw),
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The client's framing failed.
    Framing,
    /// The client's connection ended, or its stream did.
    Gone,
    /// It is no base64, which its client has said it is.
    Base64,
    /// It is longer than bodies may be.
    TooLong,
}

impl Progress {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Whole(..) | Self::Broken(_))
    }
}

/// Where it is told. Dropped, it tells nothing more.
#[derive(Debug)]
pub(super) struct Course(Rc<Shared>);

/// Hears of it.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    course: Rc<Shared>,
    /// Changes that it has heard of.
    heard: u64,
}

#[derive(Debug)]
struct Shared {
    now: RefCell<Progress>,
    changes: Cell<u64>,
    is_left: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Course {
    pub(super) fn new(now: Progress) -> Self {
        let (changes, is_left, waiting) = Default::default();
        Self(Rc::new(Shared { now: RefCell::new(now), changes, is_left, waiting }))
    }

    /// What `look` makes of it.
    pub(super) fn now<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.0.now.borrow())
    }

    pub(super) fn tell(&self, now: Progress) {
        *self.0.now.borrow_mut() = now;
        self.0.changes.set(self.0.changes.get() + 1);
        self.0.wake();
    }

    pub(super) fn follow(&self) -> Follower {
        Follower { course: self.0.clone(), heard: self.0.changes.get() }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.0.is_left.set(true);
        self.0.wake();
    }
}

impl Shared {
    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Follower {
    /// Waits until `look` makes something of it; `None` where nothing more is told.
    pub(super) async fn until<T>(&mut self, mut look: impl FnMut(&Progress) -> Option<T>) -> Option<T> {
        let Self { course, heard } = self;
        poll_fn(|cx| {
            *heard = course.changes.get();
            match look(&course.now.borrow()) {
                Some(found) => Poll::Ready(Some(found)),
                None if course.is_left.get() => Poll::Ready(None),
                None => course.wait(cx),
            }
        })
        .await
    }

    /// Waits for a change since it was looked at last, for ever where there will be none.
    pub(super) async fn changed(&mut self) {
        let Self { course, heard } = self;
        poll_fn(|cx| if course.changes.get() == *heard { course.wait(cx) } else { Poll::Ready(()) }).await;
        *heard = course.changes.get();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(std::sync::atomic::AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn over(progress: &Progress) -> Option<bool> {
        progress.is_over().then_some(matches!(progress, Progress::Whole(..)))
    }

    #[test]
    fn whoever_waits_is_woken_once_a_change() {
        let bell = Arc::new(Bell::default());
        let (waker, rings) = (bell.clone().into(), || bell.0.load(std::sync::atomic::Ordering::Relaxed));
        let mut cx = Context::from_waker(&waker);
        let course = Course::new(Progress::Open);
        let (mut one, mut other) = (course.follow(), course.follow());
        let (mut whole, mut changed) = (pin!(one.until(over)), pin!(other.changed()));
        for _ in 0..3 {
            assert!(whole.as_mut().poll(&mut cx).is_pending() && changed.as_mut().poll(&mut cx).is_pending());
        }
        course.tell(Progress::Unread(Instant::now()));
        assert_eq!(rings(), 1, "both are of one task");
        assert!(whole.as_mut().poll(&mut cx).is_pending() && changed.as_mut().poll(&mut cx).is_ready());
        course.tell(Progress::Whole(Instant::now(), None));
        assert_eq!(rings(), 2);
        assert_eq!(whole.as_mut().poll(&mut cx), Poll::Ready(Some(true)));
    }

    #[tokio::test]
    async fn nothing_is_waited_for_that_nobody_will_tell() {
        let course = Course::new(Progress::Open);
        let (mut open, mut late) = (course.follow(), course.follow());
        drop(course);
        assert_eq!(open.until(over).await, None);
        let ever = tokio::time::timeout(std::time::Duration::ZERO, late.changed()).await;
        assert!(ever.is_err(), "it changes no more");
        let course = Course::new(Progress::Broken(Flaw::Base64));
        let mut broken = course.follow();
        drop(course);
        assert_eq!(broken.until(over).await, Some(false), "what was told last stays so");
    }
}
