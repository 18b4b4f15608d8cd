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
use crate::wire::{Wire, remember};

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
        remember(&mut self.shared.conversation.borrow_mut(), cx);
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
                remember(&mut shared.reader.borrow_mut(), cx);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rings(&self) -> u32 {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn wire() -> (Wire<DuplexStream>, DuplexStream) {
        let (stream, other) = tokio::io::duplex(1024);
        (Wire::new(stream, Bytes::new()), other)
    }

    async fn next(body: &mut Inbound) -> Option<Result<Bytes, InboundError>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    #[tokio::test]
    async fn nothing_is_read_that_was_not_asked_for_and_each_is_woken_by_the_other() {
        let (mut wire, mut peer) = wire();
        peer.write_all(b"hello").await.unwrap();
        let (conversation, reader) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (waker, reads) = (Waker::from(conversation.clone()), Waker::from(reader.clone()));
        let (cx, reading) = (&mut Context::from_waker(&waker), &mut Context::from_waker(&reads));
        let (mut inlet, mut body) = inbound(Length::Exact(7));
        assert!(!inlet.poll_feed(&mut wire, cx) && wire.buffer().is_empty());
        assert!(Pin::new(&mut body).poll_frame(reading).is_pending());
        assert_eq!((conversation.rings(), reader.rings()), (1, 0));
        assert!(!inlet.poll_feed(&mut wire, cx), "another task waits");
        assert_eq!((conversation.rings(), reader.rings()), (0, 1));
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "hello");
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(2), false));
        // In the task of the conversation, while that is polled.
        inlet.attend(true);
        assert!(Pin::new(&mut body).poll_frame(cx).is_pending());
        peer.write_all(b"!!GET").await.unwrap();
        assert!(inlet.poll_feed(&mut wire, cx) && inlet.is_whole());
        assert_eq!((conversation.rings(), reader.rings()), (0, 0), "who is polled is not woken");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "!!");
        assert!(body.is_end_stream() && next(&mut body).await.is_none());
        assert_eq!(wire.buffer(), "GET");
    }

    #[tokio::test]
    async fn a_body_breaks_off_with_its_peer_its_form_or_its_conversation() {
        for (said, length, is_gone) in [
            (&b"he"[..], Length::Exact(5), true),
            (b"2\r\nhe\r\n", Length::Chunked, true),
            (b"2\r\nhe\n", Length::Chunked, false),
            (b"2\r\nhe\r\n0\r\nX\r\n\r\n", Length::Chunked, false),
        ] {
            let (mut wire, mut peer) = wire();
            peer.write_all(said).await.unwrap();
            drop(peer);
            let (mut inlet, mut body) = inbound(length);
            let broken = poll_fn(|cx| {
                loop {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => assert_eq!(frame.into_data().unwrap(), "he"),
                        Poll::Ready(other) => return Poll::Ready(other),
                        Poll::Pending => assert!(inlet.poll_feed(&mut wire, cx)),
                    }
                }
            });
            let error = broken.await.unwrap().unwrap_err();
            assert_eq!(matches!(error, InboundError::Gone), is_gone, "{said:?}: {error}");
            assert!(inlet.is_broken() && body.is_end_stream());
        }
        let (inlet, mut body) = inbound(Length::Exact(1));
        drop(inlet);
        assert!(matches!(next(&mut body).await, Some(Err(InboundError::Gone))));
        assert!(next(&mut body).await.is_none(), "once");
    }

    #[tokio::test]
    async fn what_nobody_wants_is_skimmed_if_it_is_there() {
        for (said, is_whole) in
            [(&b"2\r\nhe\r\n0\r\n\r\nGET"[..], true), (b"2\r\nhe\r\n", false), (b"x", false)]
        {
            let (mut wire, mut peer) = wire();
            peer.write_all(said).await.unwrap();
            let (mut inlet, body) = inbound(Length::Chunked);
            drop(body);
            assert!(inlet.is_let_go());
            assert_eq!(poll_fn(|cx| Poll::Ready(inlet.poll_skim(&mut wire, cx))).await, is_whole, "{said:?}");
        }
    }
}
