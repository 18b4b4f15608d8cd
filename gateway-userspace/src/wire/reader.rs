//! What was read of a stream, and not taken.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// Bytes that are read at once, at first. Who sends more gets more room.
const LITTLE: usize = 8 * 1024;
/// Likewise at most.
const MUCH: usize = 64 * 1024;

/// Bytes that are read at once to be forgotten.
const FORGOTTEN: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Reader {
    read: BytesMut,
    /// Bytes that are read next.
    room: usize,
}

impl Reader {
    /// Behind what was read already, perhaps.
    pub fn new(read: Bytes) -> Self {
        Self { read: read.into(), room: LITTLE }
    }

    /// What was read and not taken.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.read
    }

    /// What was read and not taken, for somebody else.
    pub fn into_rest(self) -> Bytes {
        // Nothing would hold the buffer that it is the end of.
        if self.read.is_empty() { Bytes::new() } else { self.read.freeze() }
    }

    /// Reads more, behind what is there: how many bytes; 0 at the end of file.
    pub fn poll_fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // What is left of a buffer serves many short messages.
        if self.read.capacity() - self.read.len() < self.room / 4 {
            self.read.reserve(self.room);
        }
        let spare = self.read.capacity() - self.read.len();
        let count = ready!(pin!(stream.read_buf(&mut self.read)).poll(cx))?;
        if count == spare {
            self.room = (2 * self.room).min(MUCH);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(LITTLE);
        }
        Poll::Ready(Ok(count))
    }

    /// Likewise, of a peer that is likely to say nothing for long: there is no buffer while it does not.
    pub fn poll_first(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.read.is_empty() {
            return self.poll_fill(stream, cx);
        }
        self.read = BytesMut::new();
        let mut room = [const { MaybeUninit::uninit() }; LITTLE];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let words = room.filled();
        self.read.reserve(LITTLE);
        self.read.extend_from_slice(words);
        Poll::Ready(Ok(words.len()))
    }
}

/// Reads what a peer says still, up to its end, and believes none of it.
pub fn poll_forget(stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut room = [const { MaybeUninit::uninit() }; FORGOTTEN];
    loop {
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_read_stands_behind_what_was_and_more_is_read_of_who_sends_more() {
        let (mut stream, mut other) = tokio::io::duplex(1 << 20);
        let mut reader = Reader::new(Bytes::from_static(b"before "));
        other.write_all(b"behind").await.unwrap();
        assert_eq!(poll_fn(|cx| reader.poll_fill(&mut stream, cx)).await.unwrap(), 6);
        assert_eq!(reader.buffer().split(), "before behind");
        other.write_all(&vec![7; 1 << 20]).await.unwrap();
        let (mut most, mut all) = (0, 0);
        while all < 1 << 20 {
            let count = poll_fn(|cx| reader.poll_fill(&mut stream, cx)).await.unwrap();
            all += count;
            most = most.max(count);
            reader.buffer().clear();
        }
        assert!((MUCH / 2..=2 * MUCH).contains(&most), "{most}");
        drop(other);
        assert_eq!(poll_fn(|cx| reader.poll_fill(&mut stream, cx)).await.unwrap(), 0);
        assert!(reader.into_rest().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_held_for_who_says_nothing() {
        let (mut stream, mut other) = tokio::io::duplex(1 << 20);
        let mut reader = Reader::new(Bytes::new());
        reader.buffer().reserve(LITTLE);
        let silent = poll_fn(|cx| Poll::Ready(reader.poll_first(&mut stream, cx).is_pending())).await;
        assert!(silent && reader.buffer().capacity() == 0);
        other.write_all(b"words").await.unwrap();
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| reader.poll_first(&mut stream, cx)).await.unwrap(), 5);
            other.write_all(b"again").await.unwrap();
        }
        assert_eq!(reader.buffer(), "wordsagain");
    }
}
