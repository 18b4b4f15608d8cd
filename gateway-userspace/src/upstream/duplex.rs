//! A request that is not sent whole while its response is read already. The one must not wait for the other: a client may read
//! nothing until all it says has been heard. So a task of its own sends on; few requests need one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use super::http1::{Fault, Lend, Sending};
use super::loan::Loan;
use super::stream::UpstreamStream;
use crate::wire::Wire;

/// What both halves have.
#[derive(Debug)]
struct Shared {
    /// Until it is given back or closed.
    loan: RefCell<Option<Loan>>,
    is_sent: Cell<bool>,
    /// The response was read to its end.
    is_read: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    sender: RefCell<Option<Waker>>,
}

/// The half that reads the response. Dropped before its end, the connection is closed and the request goes no further.
#[derive(Debug)]
pub(super) struct Reading {
    shared: Rc<Shared>,
    sending: AbortHandle,
}

/// Sends on what is left of a request on its connection, and gives that back when both have ended.
pub(super) fn split(loan: Loan, sending: Sending) -> Reading {
    let (is_sent, is_read, reader, sender) = Default::default();
    let shared = Rc::new(Shared { loan: RefCell::new(Some(loan)), is_sent, is_read, reader, sender });
    let task = tokio::task::spawn_local(send(shared.clone(), sending));
    Reading { shared, sending: task.abort_handle() }
}

async fn send(shared: Rc<Shared>, mut sending: Sending) {
    let sent = poll_fn(|cx| shared.poll_send(cx, &mut sending)).await;
    match sent {
        Ok(()) => {}
        // What the endpoint has said before is read still.
        Err(Fault::Io(_)) => {
            if let Some(loan) = &mut *shared.loan.borrow_mut() {
                loan.channel_mut().spoil();
            }
        }
        Err(fault) => {
            tracing::debug!(%fault, "a request breaks off amid its response");
            drop(shared.loan.take());
        }
    }
    shared.is_sent.set(true);
    if shared.is_read.get() {
        shared.give_back();
    }
    wake(&shared.reader);
}

fn wake(waiting: &RefCell<Option<Waker>>) {
    let waker = waiting.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Shared {
    fn poll_send(&self, cx: &mut Context<'_>, sending: &mut Sending) -> Poll<Result<(), Fault>> {
        if let Poll::Ready(sent) = sending.poll(cx, &mut &self.loan) {
            return Poll::Ready(sent);
        }
        // Nobody else would hear that the endpoint hangs up.
        if self.is_read.get()
            && let Some(loan) = &mut *self.loan.borrow_mut()
        {
            ready!(loan.channel_mut().poll_news(cx));
            return Poll::Ready(Err(Fault::Closed));
        }
        self.sender.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn give_back(&self) {
        let loan = self.loan.take();
        if let Some(loan) = loan {
            loan.give_back();
        }
    }
}

impl Lend for &RefCell<Option<Loan>> {
    fn lend<T>(&mut self, with: impl FnOnce(&mut Wire<UpstreamStream>) -> T) -> Result<T, Fault> {
        match &mut *self.borrow_mut() {
            Some(loan) => loan.channel_mut().lend(with),
            None => Err(Fault::Closed),
        }
    }
}

impl Reading {
    /// The next of the response's body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = match &mut *self.shared.loan.borrow_mut() {
            Some(loan) => loan.channel_mut().poll_body(cx),
            None => Poll::Ready(Some(Err(Fault::Closed))),
        };
        if polled.is_pending() {
            self.shared.reader.replace(Some(cx.waker().clone()));
        }
        polled
    }

    /// Whether it was read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.shared.loan.borrow().as_ref().is_some_and(|loan| loan.channel().is_read())
    }

    /// What is left of it.
    pub(super) fn hint(&self) -> SizeHint {
        self.shared.loan.borrow().as_ref().map_or_else(SizeHint::default, |loan| loan.channel().hint())
    }

    /// It was read to its end: the connection goes back with the end of the request.
    pub(super) fn leave(self) {
        self.shared.is_read.set(true);
        if self.shared.is_sent.get() {
            self.shared.give_back();
        } else {
            wake(&self.shared.sender);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.shared.is_read.get() {
            self.sending.abort();
            drop(self.shared.loan.take());
        }
    }
}
