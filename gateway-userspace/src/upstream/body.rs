//! A backend's response body. When it has ended, its connection goes back to the pool; when it is dropped before,
//! the connection is closed, as bytes of it may still be on their way.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::balance::Lease;
use super::ending::Ending;
use super::origin::Stream;
use super::pool::Returnable;
use super::trailers;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The backend's connection failed, or its framing did.
    #[error(transparent)]
    Upstream(#[from] hyper::Error),
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

/// What the body holds until its end.
#[derive(Debug)]
pub(super) enum Loan {
    /// HTTP/1.1.
    Connection(Returnable),
    /// HTTP/2.
    Stream(#[expect(dead_code, reason = "held for its end alone")] Stream),
}

/// See the module.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Incoming,
    loan: Option<Loan>,
    expiry: Option<Expiry>,
    lease: Lease,
}

/// The end of the body's time.
struct Expiry(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expiry")
    }
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, loan: Option<Loan>, lease: Lease) -> Self {
        let mut body = Self { inner, loan, expiry: None, lease };
        body.return_if_ended();
        body
    }

    /// Where it comes from.
    pub fn endpoint(&self) -> SocketAddr {
        self.lease.address
    }

    /// Breaks the body off as soon as something has come to pass.
    pub fn until(mut self, expiry: impl Future<Output = ()> + 'static) -> Self {
        if !self.inner.is_end_stream() {
            self.expiry = Some(Expiry(Box::pin(expiry)));
        }
        self
    }

    fn return_if_ended(&mut self) {
        if self.inner.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        // A stream has nothing to be given back but itself.
        if let Some(Loan::Connection(connection)) = self.loan.take() {
            connection.give_back();
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
            self.loan = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let mut frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::strip(trailers);
        }
        match &frame {
            Some(Ok(_)) => self.return_if_ended(),
            Some(Err(_)) => self.loan = None,
            None => self.give_back(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
