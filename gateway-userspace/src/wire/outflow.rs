//! What was said and not sent. Small pieces are copied together, so that a head and a short body are one write; large ones are sent
//! from where they lie.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Bytes from which on a piece is not copied: two parts of a write cost the kernel more than to copy less.
const LARGE: usize = 4 * 1024;
/// Parts of a write.
const PARTS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Outflow {
    /// Pieces before what grows.
    queue: VecDeque<Bytes>,
    /// Of the queue.
    queued: usize,
    /// The end of it, which grows.
    tail: BytesMut,
}

impl Outflow {
    /// The end of what is said, for heads and the lines between chunks.
    pub fn head(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Says a piece of a body.
    pub fn push(&mut self, data: Bytes) {
        if data.len() < LARGE {
            return self.tail.extend_from_slice(&data);
        }
        self.close();
        self.queued += data.len();
        self.queue.push_back(data);
    }

    /// Bytes that are not sent.
    pub fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing more may grow where something follows.
    fn close(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.queued += tail.len();
            self.queue.push_back(tail);
        }
    }

    /// Writes all of it.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let written = ready!(self.poll_write_parts(stream, cx))?;
            self.advance(written)?;
        }
        while !self.tail.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.tail))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.tail.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_parts<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !stream.is_write_vectored() {
            return Pin::new(stream).poll_write(cx, self.queue.front().map_or(&[], |first| first));
        }
        let mut parts = [IoSlice::new(&[]); PARTS];
        let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (part, piece) in parts.iter_mut().zip(pieces) {
            *part = IoSlice::new(piece);
            count += 1;
        }
        Pin::new(stream).poll_write_vectored(cx, &parts[..count])
    }

    fn advance(&mut self, mut written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = self.queue.front_mut() {
            let count = written.min(first.len());
            first.advance(count);
            self.queued -= count;
            written -= count;
            if !first.is_empty() {
                return Ok(());
            }
            self.queue.pop_front();
        }
        self.tail.advance(written);
        Ok(())
    }

    /// All that was said.
    #[cfg(test)]
    pub(crate) fn collected(mut self) -> Vec<u8> {
        self.close();
        self.queue.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn all_is_sent_in_its_order_however_little_is_taken() {
        let large = Bytes::from(vec![7; 3 * LARGE]);
        for room in [1, 100, LARGE, 1 << 20] {
            let (mut stream, mut other) = tokio::io::duplex(room);
            let mut out = Outflow::default();
            let mut want = Vec::new();
            for piece in [Bytes::from_static(b"head"), large.clone(), large.slice(..10), large.slice(..LARGE)]
            {
                want.extend_from_slice(&piece);
                out.push(piece);
            }
            out.head().extend_from_slice(b"tail");
            want.extend_from_slice(b"tail");
            assert_eq!(out.len(), want.len());
            let sending = async {
                poll_fn(|cx| out.poll_write(&mut stream, cx)).await.unwrap();
                assert!(out.is_empty());
            };
            let mut got = vec![0; want.len()];
            let ((), read) = tokio::join!(sending, other.read_exact(&mut got));
            assert!(read.is_ok() && got == want, "{room}");
        }
    }
}
