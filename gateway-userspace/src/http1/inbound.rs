//! A body between the conversation that reads it and whoever takes it, which may be another task. There is room for one frame,
//! and nothing is read before somebody asks for it but what came with the head: who is slow slows the peer down. Whoever asks
//! leaves his waker, and rings for the conversation unless that is being polled anyway.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::decode::{Decoder, Flawed};
use super::length::Length;
use super::wire::Wire;

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The peer has closed its side amid the body, its connection broke, or nobody reads from it any more.
    #[error("the connection ended amid a body")]
    Gone,
    /// What came is no such body.
    #[error(transparent)]
    Flawed(#[from] Flawed),
}

type Next = Result<Frame<Bytes>, InboundError>;

/// The body for whoever takes it.
#[derive(Debug)]
pub struct Inbound(Rc<Shared>);

/// Where the conversation puts what it reads of it. Dropped before the end, it has the body break off.
#[derive(Debug)]
pub struct Inlet {
    shared: Rc<Shared>,
    decoder: Decoder,
}

#[derive(Debug)]
struct Shared {
    next: RefCell<Option<Next>>,
    /// What is behind that.
    end: Cell<End>,
    /// Bytes that were not taken yet, if their number is known.
    left: Cell<Option<u64>>,
    is_asked: Cell<bool>,
    is_let_go: Cell<bool>,
    /// The conversation is being polled, and looks by itself.
    is_attended: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    conversation: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More, which has not come.
    Open,
    /// Nothing.
    Over,
    /// More that will not come.
    Gone,
}

/// Both ends of a body of a length.
pub fn inbound(length: Length) -> (Inlet, Inbound) {
    let decoder = Decoder::new(length);
    let shared = Rc::new(Shared {
        next: RefCell::default(),
        end: Cell::new(if decoder.is_done() { End::Over } else { End::Open }),
        left: Cell::new(decoder.hint().exact()),
        is_asked: Cell::default(),
        is_let_go: Cell::default(),
        is_attended: Cell::default(),
        reader: RefCell::default(),
        conversation: RefCell::default(),
    });
    (Inlet { shared: shared.clone(), decoder }, Inbound(shared))
}

/// Remembers whom to wake.
fn remember(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    if place.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

impl Shared {
    fn ring(&self) {
        if !self.is_attended.get()
            && let Some(conversation) = self.conversation.take()
        {
            conversation.wake();
        }
    }
}

impl Inlet {
    /// Whether the conversation is being polled: it need not be woken then.
    pub fn attend(&self, is_attended: bool) {
        self.shared.is_attended.set(is_attended);
    }

    /// Whether all of the body was read, be it taken or not.
    pub fn is_whole(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether it has broken off, or is in no form that can be read.
    pub fn is_broken(&self) -> bool {
        self.shared.end.get() == End::Gone || !self.is_whole() && self.shared.end.get() == End::Over
    }

    /// Whether nobody will take any more of it.
    pub fn is_let_go(&self) -> bool {
        self.shared.is_let_go.get()
    }

    /// Whether somebody waits for more.
    pub fn is_asked(&self) -> bool {
        self.shared.is_asked.get() && self.shared.end.get() == End::Open
    }

    /// Takes what has come with the head.
    pub fn begin(&mut self, read: &mut BytesMut) {
        if let Some(next) = self.decode(read) {
            self.put(next);
        }
    }

    /// Reads more if somebody waits for it. True: the task that polls this one waits, and is not woken for it. If not, the
    /// task is woken when there is something to do.
    pub fn poll_feed<S>(&mut self, wire: &mut Wire<S>, cx: &mut Context<'_>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        remember(&self.shared.conversation, cx);
        if !self.is_asked() {
            return false;
        }
        loop {
            if let Some(next) = self.decode(wire.buffer()) {
                self.put(next);
                break;
            }
            if self.is_whole() {
                self.shared.end.set(End::Over);
                break;
            }
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.decoder.end().is_ok() => {
                    self.shared.end.set(End::Over);
                    break;
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.shared.end.set(End::Gone);
                    break;
                }
                Poll::Pending => return false,
            }
        }
        self.shared.is_asked.set(false);
        let Some(reader) = self.shared.reader.take() else { return false };
        let is_this = reader.will_wake(cx.waker());
        if !is_this {
            reader.wake();
        }
        is_this
    }

    /// Takes what is there of a body that nobody wants any more, reading once at most. Whether that was all of it.
    pub fn poll_skim<S>(&mut self, wire: &mut Wire<S>, cx: &mut Context<'_>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut has_read = false;
        loop {
            match self.decode(wire.buffer()) {
                Some(Ok(_)) => continue,
                Some(Err(_)) => {
                    self.shared.end.set(End::Gone);
                    return false;
                }
                None if self.is_whole() => return true,
                None => {}
            }
            if has_read || !matches!(wire.poll_fill(cx), Poll::Ready(Ok(1..))) {
                return false;
            }
            has_read = true;
        }
    }

    fn decode(&mut self, read: &mut BytesMut) -> Option<Next> {
        self.decoder.decode(read).map_err(InboundError::Flawed).transpose()
    }

    fn put(&self, next: Next) {
        if next.is_err() || self.is_whole() {
            self.shared.end.set(End::Over);
        }
        self.shared.next.replace(Some(next));
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let Shared { end, reader, .. } = &*self.shared;
        if end.get() == End::Open {
            end.set(if self.decoder.is_done() { End::Over } else { End::Gone });
        }
        if let Some(reader) = reader.take() {
            reader.wake();
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        let shared = &*self.0;
        if let Some(next) = shared.next.take() {
            let length = next.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            shared.left.set(shared.left.get().map(|left| left.saturating_sub(length as u64)));
            return Poll::Ready(Some(next));
        }
        match shared.end.get() {
            End::Over => Poll::Ready(None),
            End::Gone => {
                shared.end.set(End::Over);
                Poll::Ready(Some(Err(InboundError::Gone)))
            }
            End::Open => {
                remember(&shared.reader, cx);
                shared.is_asked.set(true);
                shared.ring();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.end.get() == End::Over && self.0.next.borrow().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.left.get().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.0.is_let_go.set(true);
        self.0.ring();
    }
}
