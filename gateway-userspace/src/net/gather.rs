//! A stream whose small writes go out together. h2 writes each frame by itself, and each is a system call, and in TLS a record
//! with its own seal; what many requests' answers are within one turn of the worker can be one.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held at most.
const MOST: usize = 32 * 1024;
/// A write of so many bytes is worth a system call, and not worth copying.
const LARGE: usize = 8 * 1024;

/// What is written is held until [`Outflow::poll`], unless it is much. A flush is none.
#[derive(Debug)]
pub struct Gathered<S>(Rc<RefCell<Inner<S>>>);

/// Lets go what a [`Gathered`] holds.
#[derive(Debug)]
pub struct Outflow<S>(Rc<RefCell<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    held: BytesMut,
    /// Something was written since the stream was flushed.
    is_unflushed: bool,
    /// What is held has waited for the tasks that were ready with who wrote it.
    has_waited: bool,
}

/// A stream, and whoever lets go what it holds: after each turn of what writes.
pub fn gather<S>(stream: S) -> (Gathered<S>, Outflow<S>) {
    let inner = Rc::new(RefCell::new(Inner {
        stream,
        held: BytesMut::new(),
        is_unflushed: false,
        has_waited: false,
    }));
    (Gathered(inner.clone()), Outflow(inner))
}

impl<S: AsyncWrite + Unpin> Outflow<S> {
    /// Polls what writes, as often as it has news, and lets go what it has written once the tasks that are ready by then have had
    /// their turn: they may have more for it. That a write fails is heard in its next turn.
    pub fn poll_turn<T>(
        &self,
        cx: &mut Context<'_>,
        turn: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let turn = turn(cx);
        let mut inner = self.0.borrow_mut();
        if turn.is_pending() && inner.is_unflushed && !inner.has_waited {
            inner.has_waited = true;
            cx.waker().wake_by_ref();
        } else {
            let _ = inner.poll_flush(cx);
        }
        turn
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(count);
        }
        // A connection that has nothing to say holds nothing for it.
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        (self.is_unflushed, self.has_waited) = (false, false);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length >= LARGE || self.held.len() + length > MOST {
            ready!(self.poll_drain(cx))?;
        }
        self.is_unflushed = true;
        if length >= LARGE {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_flush(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    async fn written(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut buffer = vec![0; 2 * MOST];
        let read = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut buffer);
            Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => buf.filled().len(),
                _ => 0,
            })
        });
        let count = read.await;
        buffer.truncate(count);
        buffer
    }

    /// What writes has its turn, and the next one when all others have had theirs.
    async fn turn(outflow: &Outflow<DuplexStream>) {
        poll_fn(|cx| {
            let turn = outflow.poll_turn(cx, |_| Poll::<()>::Pending);
            if outflow.0.borrow().is_unflushed { turn } else { Poll::Ready(()) }
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_wait_and_large_ones_take_them_along() {
        let (near, mut far) = duplex(4 * MOST);
        let (mut stream, outflow) = gather(near);
        for word in ["a", "b", "c"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        let first = poll_fn(|cx| Poll::Ready(outflow.poll_turn(cx, |_| Poll::<()>::Pending))).await;
        assert!(first.is_pending() && written(&mut far).await.is_empty(), "others may have more");
        turn(&outflow).await;
        assert_eq!(written(&mut far).await, b"abc");
        stream.write_all(b"d").await.unwrap();
        stream.write_all(&[b'e'; LARGE]).await.unwrap();
        let all = written(&mut far).await;
        assert_eq!((all.len(), all[0], all[1]), (LARGE + 1, b'd', b'e'));
        for _ in 0..MOST {
            stream.write_all(b"f").await.unwrap();
        }
        assert!(written(&mut far).await.is_empty());
        stream.write_all(b"g").await.unwrap();
        assert_eq!(written(&mut far).await, vec![b'f'; MOST]);
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"g");
    }

    #[tokio::test]
    async fn a_stream_that_takes_little_holds_the_writer_up() {
        let (near, mut far) = duplex(1_000);
        let (mut stream, outflow) = gather(near);
        let sending = async {
            for byte in 0..=255 {
                stream.write_all(&[byte; 1_000]).await.unwrap();
            }
            turn(&outflow).await;
            drop((stream, outflow));
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(sending, far.read_to_end(&mut all));
        assert_eq!(read.unwrap(), 256_000);
        assert!(all.chunks(1_000).zip(0..=255).all(|(chunk, byte)| chunk == [byte; 1_000]));
    }
}
