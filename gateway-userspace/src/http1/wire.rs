//! A connection as both ends of it are used: what was read and not taken, and what was said and not sent.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::outflow::Outflow;

/// Bytes that are read at once, at first. Who sends more gets more room.
const LITTLE: usize = 8 * 1024;
/// Likewise at most.
const MUCH: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    read: BytesMut,
    /// Bytes that are read next.
    room: usize,
    out: Outflow,
    /// What is said has waited for its turn.
    has_waited: bool,
    /// The stream has something that it may not have sent.
    is_unflushed: bool,
}

impl<S> Wire<S> {
    /// Of a stream of which something was read already, perhaps.
    pub fn new(stream: S, read: Bytes) -> Self {
        Self {
            stream,
            read: read.into(),
            room: LITTLE,
            out: Outflow::default(),
            has_waited: false,
            is_unflushed: false,
        }
    }

    /// What was read and not taken.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.read
    }

    /// What is said is put there.
    pub fn out(&mut self) -> &mut Outflow {
        &mut self.out
    }

    /// Bytes that were said and not sent.
    pub fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Whether all that was said is sent.
    pub fn is_sent(&self) -> bool {
        self.out.is_empty() && !self.is_unflushed
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Likewise.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream, and what was read of it and not taken.
    pub fn into_parts(self) -> (S, Bytes) {
        // Nothing would hold the buffer that it is the end of.
        let read = if self.read.is_empty() { Bytes::new() } else { self.read.freeze() };
        (self.stream, read)
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads more, behind what is there: how many bytes; 0 at the end of file.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // What is left of a buffer serves many short messages.
        if self.read.capacity() - self.read.len() < self.room / 4 {
            self.read.reserve(self.room);
        }
        let spare = self.read.capacity() - self.read.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.read)).poll(cx))?;
        if count == spare {
            self.room = (2 * self.room).min(MUCH);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(LITTLE);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Sends all that was said. What is short waits until the tasks that are ready by now have had their turn, so that what all of
    /// them say goes out together: a reader that sleeps is woken by the first of it, which is dearer than to write, and is awake
    /// for the rest.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            if !self.has_waited && self.out.len() < LITTLE {
                self.has_waited = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.is_unflushed = true;
            ready!(self.out.poll_write(&mut self.stream, cx))?;
            self.has_waited = false;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is said, behind what was.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_short_goes_out_behind_the_turn_of_others() {
        let (stream, mut other) = tokio::io::duplex(1 << 20);
        let mut wire = Wire::new(stream, Bytes::new());
        let cx = &mut Context::from_waker(Waker::noop());
        for (length, waits) in [(1, true), (LITTLE - 1, true), (LITTLE, false)] {
            wire.out().push(vec![7; length].into());
            assert_eq!(wire.poll_send(cx).is_pending(), waits, "{length}");
            assert!(wire.poll_send(cx).is_ready() && wire.unsent() == 0);
            other.read_exact(&mut vec![0; length]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_read_stands_behind_what_was_and_more_is_read_of_who_sends_more() {
        let (stream, mut other) = tokio::io::duplex(1 << 20);
        let mut wire = Wire::new(stream, Bytes::from_static(b"before "));
        other.write_all(b"behind").await.unwrap();
        assert_eq!(poll_fn(|cx| wire.poll_fill(cx)).await.unwrap(), 6);
        assert_eq!(wire.buffer().split(), "before behind");
        other.write_all(&vec![7; 1 << 20]).await.unwrap();
        let (mut most, mut all) = (0, 0);
        while all < 1 << 20 {
            let count = poll_fn(|cx| wire.poll_fill(cx)).await.unwrap();
            all += count;
            most = most.max(count);
            wire.buffer().clear();
        }
        assert!((MUCH / 2..=2 * MUCH).contains(&most), "{most}");
        drop(other);
        assert_eq!(poll_fn(|cx| wire.poll_fill(cx)).await.unwrap(), 0);
        assert!(wire.into_parts().1.is_empty());
    }
}
