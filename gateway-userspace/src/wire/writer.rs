//! What was said on a stream, and when it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::outflow::Outflow;

/// Bytes that are worth a write of their own.
const ENOUGH: usize = 8 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Writer {
    out: Outflow,
    /// What is said has waited for its turn.
    has_waited: bool,
    /// The stream has something that it may not have sent.
    is_unflushed: bool,
}

impl Writer {
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

    /// Holds nothing, if all is sent.
    pub fn rest(&mut self) {
        if self.is_sent() {
            self.out = Outflow::default();
        }
    }

    /// Sends all that was said. What is short waits until the tasks that are ready by now have had their turn, so that what all of
    /// them say goes out together: a reader that sleeps is woken by the first of it, which is dearer than to write, and is awake
    /// for the rest.
    pub fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            if !self.has_waited && self.out.len() < ENOUGH {
                self.has_waited = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.is_unflushed = true;
            ready!(self.out.poll_write(stream, cx))?;
            self.has_waited = false;
        }
        if self.is_unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_short_goes_out_behind_the_turn_of_others() {
        let (mut stream, mut other) = tokio::io::duplex(1 << 20);
        let mut writer = Writer::default();
        let cx = &mut Context::from_waker(Waker::noop());
        for (length, waits) in [(1, true), (ENOUGH - 1, true), (ENOUGH, false)] {
            writer.out().push(vec![7; length].into());
            assert_eq!(writer.poll_send(&mut stream, cx).is_pending(), waits, "{length}");
            assert!(writer.poll_send(&mut stream, cx).is_ready() && writer.unsent() == 0);
            other.read_exact(&mut vec![0; length]).await.unwrap();
        }
    }
}
