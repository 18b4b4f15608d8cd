//! HTTP/1.1 on a connection to an endpoint, and what moves its bytes. A task for that would be woken for each message, and wake
//! in its turn whoever waits for it; so a request that has no body moves its connection itself, until it has its response.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::ConnectError;
use super::replay::RequestBody;

/// Bytes of a response that are read at once, its head among them: so much of it waits here for a client that is slower. Envoy
/// takes heads of 60 KiB.
const READ_BUFFER: usize = 64 * 1024;

/// See the module. Dropped, it closes the connection, unless a task moves it that has something to end.
pub(super) struct Conversation {
    sender: SendRequest<RequestBody>,
    /// Absent once a task moves it, or nothing is to be moved any more.
    mover: Option<Mover>,
}

type Mover = Pin<Box<dyn Future<Output = ()>>>;

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Begins to speak HTTP/1.1 with the endpoint at an address.
    pub(super) async fn begin<S>(stream: S, address: SocketAddr) -> Result<Self, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Failed { address, source: io::Error::other(error) })?;
        let mover = async move {
            // Whoever waits for a response on this connection hears of the failure itself.
            let _ = connection.with_upgrades().await;
        };
        Ok(Self { sender, mover: Some(Box::pin(mover)) })
    }

    /// Has a task move it: nobody else may for some time.
    pub(super) fn detach(&mut self) {
        if let Some(mover) = self.mover.take() {
            tokio::task::spawn_local(mover);
        }
    }

    /// Moves what can be moved.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if self.mover.as_mut().is_some_and(|mover| mover.as_mut().poll(cx).is_ready()) {
            self.mover = None;
        }
    }

    /// Polls what only moving brings forward: the waker of whoever does both is with the connection.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.mover.is_some()
            && let Poll::Ready(done) = poll(&mut Context::from_waker(Waker::noop()))
        {
            return Poll::Ready(done);
        }
        self.advance(cx);
        match self.mover {
            Some(_) => poll(&mut Context::from_waker(Waker::noop())),
            None => poll(cx),
        }
    }

    /// Sends a request and waits for the head of its response. One with a body goes on beside its response, and leaves the moving
    /// to a task.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        if !request.body().is_end_stream() {
            self.detach();
        }
        let mut sending = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| self.poll(cx, |cx| sending.as_mut().poll(cx))).await
    }

    /// More of the response's body.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.poll(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// Whether it is over, as far as is known without anybody waiting for it.
    pub(super) fn is_closed(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.sender.is_closed()
    }

    /// Whether the next request may come at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the next request may come. False: none may.
    pub(super) async fn ready(&mut self) -> bool {
        self.detach();
        self.sender.ready().await.is_ok()
    }
}
