//! A backend's response body. When it has ended, its connection goes back to the pool; when it is dropped before,
//! the connection is closed, as bytes of it may still be on their way.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::balance::Lease;
use super::duplex::{self, Reading};
use super::ending::{Ending, ExchangeError};
use super::http1::Sending;
use super::loan::{Loan, Own};
use super::origin::Stream;
use super::stream::UpstreamStream;
use super::trailers;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The backend's connection failed, or its framing did.
    #[error(transparent)]
    Upstream(#[from] ExchangeError),
    /// The route's timeout ran out.
    #[error("the route's timeout ran out")]
    Timeout,
}

impl BodyError {
    /// How the exchange ended; `None`: by the route's timeout.
    pub fn ending(&self) -> Option<Ending> {
        match self {
            Self::Upstream(error) => Some(Ending::amid_body(error)),
            Self::Timeout => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Inner,
    expiry: Option<Expiry>,
    lease: Lease,
}

/// Where it is read.
#[derive(Debug)]
enum Inner {
    /// Nowhere: it has ended, or there was none.
    Ended,
    /// HTTP/1.1, whose request is sent.
    Lent(Loan),
    /// HTTP/1.1, whose request is still being sent.
    Duplex(Reading),
    /// HTTP/2.
    Stream(Box<(Incoming, Stream)>),
    /// Nowhere: both ends speak another protocol from now on.
    Switched(Box<Own>),
}

/// A backend's connection on which both ends speak another protocol from now on.
pub struct Switched {
    /// The connection.
    pub stream: UpstreamStream,
    /// What the backend said right behind its answer.
    pub unread: Bytes,
    /// What was to be kept as long as the connection is there.
    pub kept: Box<dyn Any>,
}

/// The end of the body's time.
struct Expiry(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expiry")
    }
}

impl UpstreamBody {
    fn new(inner: Inner, lease: Lease) -> Self {
        let mut body = Self { inner, expiry: None, lease };
        body.end_if_read();
        body
    }

    /// Of HTTP/1.1: what its connection is told to expect. The request may have to be sent further.
    pub(super) fn lent(loan: Loan, sending: Sending, lease: Lease) -> Self {
        let inner =
            if sending.is_sent() { Inner::Lent(loan) } else { Inner::Duplex(duplex::split(loan, sending)) };
        Self::new(inner, lease)
    }

    /// Of HTTP/2.
    pub(super) fn stream(incoming: Incoming, stream: Stream, lease: Lease) -> Self {
        Self::new(Inner::Stream(Box::new((incoming, stream))), lease)
    }

    /// None: its backend says that both ends switch protocols. That changes nothing but for a connection that is the request's own.
    pub(super) fn switching(loan: Loan, lease: Lease) -> Self {
        let inner = match loan {
            Loan::Pooled(_) => Inner::Ended,
            Loan::Own(own) => Inner::Switched(own),
        };
        Self { inner, expiry: None, lease }
    }

    /// The connection, if the backend has switched and nobody has taken it yet.
    pub fn switched(&mut self) -> Option<Switched> {
        match std::mem::replace(&mut self.inner, Inner::Ended) {
            Inner::Switched(own) => {
                let Own { channel, kept } = *own;
                let (stream, unread) = channel.into_parts();
                Some(Switched { stream, unread, kept })
            }
            other => {
                self.inner = other;
                None
            }
        }
    }

    /// Where it comes from.
    pub fn endpoint(&self) -> SocketAddr {
        self.lease.address
    }

    /// Breaks the body off as soon as something has come to pass.
    pub fn until(mut self, expiry: impl Future<Output = ()> + 'static) -> Self {
        if !self.is_end_stream() {
            self.expiry = Some(Expiry(Box::pin(expiry)));
        }
        self
    }

    fn end_if_read(&mut self) {
        if self.is_end_stream() {
            self.end();
        }
    }

    /// It was read to its end.
    fn end(&mut self) {
        match std::mem::replace(&mut self.inner, Inner::Ended) {
            Inner::Lent(loan) => loan.give_back(),
            Inner::Duplex(reading) => reading.leave(),
            // A stream has nothing to be given back but itself.
            Inner::Stream(_) | Inner::Ended => {}
            switched @ Inner::Switched(_) => self.inner = switched,
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match &mut self.inner {
            Inner::Ended | Inner::Switched(_) => Poll::Ready(None),
            Inner::Lent(loan) => loan.channel_mut().poll_body(cx).map_err(ExchangeError::Http1),
            Inner::Duplex(reading) => reading.poll_body(cx).map_err(ExchangeError::Http1),
            Inner::Stream(stream) => Pin::new(&mut stream.0).poll_frame(cx).map_err(ExchangeError::Http2),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(Expiry(expiry)) = &mut self.expiry
            && expiry.as_mut().poll(cx).is_ready()
        {
            (self.inner, self.expiry) = (Inner::Ended, None);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let mut frame = std::task::ready!(self.poll_inner(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::strip(trailers);
        }
        match &frame {
            Some(Ok(_)) => self.end_if_read(),
            Some(Err(_)) => self.inner = Inner::Ended,
            None => self.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Ended | Inner::Switched(_) => true,
            Inner::Lent(loan) => loan.channel().is_read(),
            Inner::Duplex(reading) => reading.is_read(),
            Inner::Stream(stream) => stream.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Ended | Inner::Switched(_) => SizeHint::with_exact(0),
            Inner::Lent(loan) => loan.channel().hint(),
            Inner::Duplex(reading) => reading.hint(),
            Inner::Stream(stream) => stream.0.size_hint(),
        }
    }
}
