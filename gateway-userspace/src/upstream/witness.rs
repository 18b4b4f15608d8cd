//! Whether the endpoint of a connection that ends had got everything that was sent to it. One that closes a connection that
//! it takes for idle may do so just as a request comes: that request nobody has seen, and TCP says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::stream::UpstreamStream;
use crate::net::repair;

/// A stream that looks as it ends.
#[derive(Debug)]
pub(super) struct Witnessed {
    inner: UpstreamStream,
    unheard: Unheard,
}

/// What it has seen; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Unheard(Arc<AtomicBool>);

impl Unheard {
    /// Whether the endpoint's end came before something that was sent.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Witnessed {
    /// Of a stream on which nothing has been said.
    pub(super) fn new(inner: UpstreamStream) -> (Self, Unheard) {
        let unheard = Unheard::default();
        (Self { inner, unheard: unheard.clone() }, unheard)
    }

    /// The connection ends.
    fn look(&self) {
        if repair::unacknowledged(self.inner.socket()).is_ok_and(|bytes| bytes > 0) {
            self.unheard.0.store(true, Ordering::Relaxed);
        }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Err(_))) {
            self.look();
        }
        written
    }
}

impl AsyncRead for Witnessed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let ends = match &read {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ends {
            self.look();
        }
        read
    }
}

crate::net::writes_to_inner!(Witnessed, wrote);
