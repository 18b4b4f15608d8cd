//! A backend's response body. When it has ended, its connection goes back to the pool; when it is dropped before,
//! the connection is closed, as bytes of it may still be on their way.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::balance::Lease;
use super::pool::Returnable;

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

/// See the module.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Incoming,
    connection: Option<Returnable>,
    deadline: Option<Pin<Box<Sleep>>>,
    lease: Lease,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, connection: Option<Returnable>, lease: Lease) -> Self {
        let mut body = Self { inner, connection, deadline: None, lease };
        body.return_if_ended();
        body
    }

    /// Where it comes from.
    pub fn endpoint(&self) -> SocketAddr {
        self.lease.address
    }

    /// Breaks the body off at an instant.
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        if !self.inner.is_end_stream() {
            self.deadline = Some(Box::pin(tokio::time::sleep_until(deadline)));
        }
        self
    }

    fn return_if_ended(&mut self) {
        if self.inner.is_end_stream()
            && let Some(connection) = self.connection.take()
        {
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
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.return_if_ended(),
            Some(Err(_)) => self.connection = None,
            None => {
                if let Some(connection) = self.connection.take() {
                    connection.give_back();
                }
            }
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
