//! What both versions of HTTP have in common on a connection: what was read and not taken, what was said and not sent, how a stream is
//! handed on to another protocol, and what some headers mean.

pub mod date;
pub mod fields;
pub mod outflow;
pub mod reader;
pub mod switched;
pub mod writer;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

pub use fields::{expects_continue, lists, number, tokens};
pub use outflow::Outflow;
pub use reader::{Reader, poll_forget};
pub use switched::{AnyStream, NotSwitched, Switch, Switched, Switching, switching};
pub use writer::Writer;

/// Remembers whom to wake.
pub fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(known) => known.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// A connection as both ends of it are used.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    reader: Reader,
    writer: Writer,
}

impl<S> Wire<S> {
    /// Of a stream of which something was read already, perhaps.
    pub fn new(stream: S, read: Bytes) -> Self {
        Self { stream, reader: Reader::new(read), writer: Writer::default() }
    }

    /// What was read and not taken.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.reader.buffer()
    }

    /// What is said is put there.
    pub fn out(&mut self) -> &mut Outflow {
        self.writer.out()
    }

    /// Bytes that were said and not sent.
    pub fn unsent(&self) -> usize {
        self.writer.unsent()
    }

    /// Whether all that was said is sent.
    pub fn is_sent(&self) -> bool {
        self.writer.is_sent()
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
        (self.stream, self.reader.into_rest())
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads more, behind what is there: how many bytes; 0 at the end of file.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.reader.poll_fill(&mut self.stream, cx)
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Sends all that was said, see [`Writer::poll_send`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_send(&mut self.stream, cx)
    }

    /// Says that nothing more is said, behind what was.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
