//! Whether the endpoint of a connection that ends had got everything that was sent to it. One that closes a connection that
//! it takes for idle may do so just as a request comes: that request nobody has seen, and TCP says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
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

impl AsyncWrite for Witnessed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
