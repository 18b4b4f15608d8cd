//! One connection of HTTP/1.1: a request's head and what follows it go out, a response's head comes, and then its body.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use socket2::SockRef;
use tokio::io::{AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::sending::{Lend, Sending};
use crate::http1::{Decoder, Length, Limits, Looked, ResponseHead, write_request};
use crate::net::repair;
use crate::upstream::replay::RequestBody;
use crate::upstream::stream::UpstreamStream;
use crate::wire::{Wire, lists};

/// What a response's head may be: Envoy takes 60 KiB, and 100 lines.
const HEAD: Limits = Limits { bytes: 64 * 1024, lines: 100 };
/// Interim responses before the one that is waited for.
const MOST_INTERIM: u32 = 10_000;

/// See the module.
#[derive(Debug)]
pub(in crate::upstream) struct Channel {
    wire: Wire<UpstreamStream>,
    decoder: Decoder,
    /// Another request may follow.
    is_kept_alive: bool,
}

/// How the head of a response is waited for.
#[derive(Default)]
struct Awaiting {
    /// It is the first on its connection.
    is_first: bool,
    looked: Looked,
    interim: u32,
    /// Why nothing more can be sent. What the endpoint has said before is read still.
    unsendable: Option<io::Error>,
}

impl Channel {
    /// On a stream on which nothing has been said.
    pub(in crate::upstream) fn new(stream: UpstreamStream) -> Self {
        Self {
            wire: Wire::new(stream, Bytes::new()),
            decoder: Decoder::new(Length::NONE),
            is_kept_alive: true,
        }
    }

    /// The socket.
    pub(in crate::upstream) fn socket(&self) -> &TcpStream {
        self.wire.stream().socket()
    }

    /// Says a request's head, of which nothing is sent yet.
    pub(in crate::upstream) fn begin(&mut self, head: &Parts, body: RequestBody) -> Sending {
        // Only rules ask for its end: what clients say of their connection ends at the gateway.
        self.is_kept_alive = !lists(&head.headers, CONNECTION, b"close");
        let length = || body.size_hint().exact().map_or(Length::Chunked, Length::Exact);
        let length = (!body.is_end_stream()).then(length);
        write_request(self.wire.out().head(), head, length);
        Sending::new(body, length, &head.headers)
    }

    /// Sends a request that has begun, and waits for the head of the response to its method. What follows the request's head may
    /// not be sent whole by then. Where there were others before, nothing is sent on a connection on which something has come that
    /// none of them has asked for: it is as good as closed.
    pub(in crate::upstream) async fn exchange(
        &mut self,
        asked: &Method,
        sending: &mut Sending,
        is_first: bool,
    ) -> Result<ResponseHead, Fault> {
        let mut awaiting = Awaiting { is_first, ..Awaiting::default() };
        let head = poll_fn(|cx| self.poll_exchange(cx, asked, sending, &mut awaiting)).await?;
        if awaiting.unsendable.is_some() {
            sending.give_up();
            self.is_kept_alive = false;
        }
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS && !sending.is_sent() {
            // The other protocol begins behind the request (RFC 9110, 7.8).
            poll_fn(|cx| sending.poll(cx, self)).await?;
        }
        Ok(head)
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
        sending: &mut Sending,
        awaiting: &mut Awaiting,
    ) -> Poll<Result<ResponseHead, Fault>> {
        if !awaiting.is_first && !sending.has_left() && self.poll_news(cx).is_ready() {
            return Poll::Ready(Err(Fault::Closed));
        }
        if awaiting.unsendable.is_none() {
            match sending.poll(cx, self) {
                Poll::Ready(Err(Fault::Io(error))) if sending.has_left() => awaiting.unsendable = Some(error),
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        // What comes before is no answer to it.
        if !sending.has_left() {
            return Poll::Pending;
        }
        let read = ready!(self.poll_head(cx, asked, awaiting));
        Poll::Ready(match read {
            // What came first says more.
            Err(Fault::Closed | Fault::Io(_)) if awaiting.unsendable.is_some() => {
                Err(awaiting.unsendable.take().map_or(Fault::Closed, Fault::Io))
            }
            read => read,
        })
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
        awaiting: &mut Awaiting,
    ) -> Poll<Result<ResponseHead, Fault>> {
        loop {
            while !self.wire.buffer().is_empty() {
                let read = ResponseHead::read(self.wire.buffer(), &mut awaiting.looked, asked, HEAD)?;
                match read {
                    None => break,
                    Some(head) if is_interim(head.response.status()) => {
                        awaiting.interim += 1;
                        if awaiting.interim > MOST_INTERIM {
                            return Poll::Ready(Err(Fault::Interim));
                        }
                    }
                    Some(head) => return Poll::Ready(Ok(head)),
                }
            }
            if ready!(self.wire.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(Fault::Closed));
            }
        }
    }

    /// The body of the response that has begun is so long.
    pub(in crate::upstream) fn expect(&mut self, length: Length, is_kept_alive: bool) {
        self.decoder = Decoder::new(length);
        self.is_kept_alive &= is_kept_alive;
    }

    /// The next of the response's body.
    pub(in crate::upstream) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            match self.decoder.decode(self.wire.buffer()) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(flawed) => return Poll::Ready(Some(Err(flawed.into()))),
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) => {
                    self.is_kept_alive = false;
                    return Poll::Ready(self.decoder.end().err().map(|flawed| Err(flawed.into())));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Whether the response's body was read to its end.
    pub(in crate::upstream) fn is_read(&self) -> bool {
        self.decoder.is_done()
    }

    /// What is left of the response's body.
    pub(in crate::upstream) fn hint(&self) -> SizeHint {
        self.decoder.hint()
    }

    /// No other request may follow.
    pub(in crate::upstream) fn spoil(&mut self) {
        self.is_kept_alive = false;
    }

    /// Whether another request may follow a response that was read to its end. Nobody has asked for what stands behind it.
    pub(in crate::upstream) fn is_free(&mut self) -> bool {
        self.is_kept_alive && self.wire.buffer().is_empty() && self.wire.unsent() == 0
    }

    /// Whether nothing came that nobody has asked for, nor the end, as far as the reactor has heard: pending as long as that is
    /// so. It costs no system call then.
    pub(in crate::upstream) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let UpstreamStream::Plain(socket) = self.wire.stream() {
            return socket.poll_peek(cx, &mut ReadBuf::new(&mut [0])).map(drop);
        }
        // Records of TLS may be none of HTTP: session tickets, new keys.
        self.wire.poll_fill(cx).map(drop)
    }

    /// Holds no memory of what was read.
    pub(in crate::upstream) fn rest(&mut self) {
        if self.wire.buffer().is_empty() {
            *self.wire.buffer() = BytesMut::new();
        }
    }

    /// Asks the kernel, which knows more than the reactor has heard: whether something has come, or the end.
    pub(in crate::upstream) fn has_news(&self) -> bool {
        match SockRef::from(self.socket()).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            Ok(_) => true,
        }
    }

    /// Whether what comes has to be read to know what it is.
    pub(in crate::upstream) fn is_sealed(&self) -> bool {
        matches!(self.wire.stream(), UpstreamStream::Sealed(_))
    }

    /// Whether the endpoint has not got all that was sent to it. One that closes a connection that it takes for idle may do so
    /// just as a request comes: that request nobody has seen, and TCP says so.
    pub(in crate::upstream) fn is_unheard(&self) -> bool {
        repair::unacknowledged(self.socket()).is_ok_and(|bytes| bytes > 0)
    }

    /// Says within TLS that this is the end, if that can be said at once (RFC 8446, 6.1).
    pub(in crate::upstream) fn take_leave(&mut self) {
        if self.is_sealed() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(self.wire.stream_mut()).poll_shutdown(&mut cx);
        }
    }

    /// The stream, and what was read beyond the response: both ends speak something else now.
    pub(in crate::upstream) fn into_parts(self) -> (UpstreamStream, Bytes) {
        self.wire.into_parts()
    }
}

impl Lend for Channel {
    fn lend<T>(&mut self, with: impl FnOnce(&mut Wire<UpstreamStream>) -> T) -> Result<T, Fault> {
        Ok(with(&mut self.wire))
    }
}

/// One that announces another.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
