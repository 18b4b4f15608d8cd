//! A stream with something that is to last as long as it does, whoever holds it: such as the port that its socket is
//! bound to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// See the module. The stream is closed first.
#[derive(Debug)]
pub struct Keeping<S, K> {
    inner: S,
    kept: K,
}

impl<S, K> Keeping<S, K> {
    /// Ties the two together.
    pub fn new(inner: S, kept: K) -> Self {
        Self { inner, kept }
    }

    /// Both again.
    pub fn into_parts(self) -> (S, K) {
        (self.inner, self.kept)
    }
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Keeping<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

super::writes_to_inner!(Keeping<S, K: Unpin>);
