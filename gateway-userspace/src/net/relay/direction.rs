//! One direction of a relay between sockets: what it holds, and its turns. It begins by copying; once it has carried
//! enough, reads that fill a buffer are followed by splice(2).

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffer::Buffer;
use super::pipe::Pipe;

/// Bytes that a direction copies before it may splice.
const SPLICE_FROM: u64 = 64 * 1024;

/// Bytes that a turn must have brought for the next one to splice: as many as a buffer holds. Messages of 32 KiB cost an
/// eighth more by splice(2) than by copying, those of 64 KiB the same, those of 256 KiB two fifths less; a stream costs
/// 0.17 CPU seconds for each GiB instead of 0.46 (`benches/relay.rs`, loopback).
const WORTH_SPLICING: usize = 64 * 1024;

/// Who is to blame for the end of a direction.
#[derive(Debug)]
pub(super) enum Fault {
    /// Where the bytes come from.
    Source(io::Error),
    /// Where they go.
    Sink(io::Error),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Direction {
    held: Held,
    /// Bytes that the sink has taken.
    carried: u64,
    /// Bytes that the last turn brought.
    last: usize,
    /// Whether splicing is allowed, and has not turned out to be impossible.
    may_splice: bool,
    spliced: bool,
    answered: bool,
    ended: bool,
}

/// Bytes that were read and not written yet.
#[derive(Debug)]
enum Held {
    Nothing,
    /// Read before the relay began.
    Ahead(Bytes),
    /// Those of a buffer from `begin` to `end`.
    Copied {
        buffer: Buffer,
        begin: usize,
        end: usize,
    },
    Piped(Pipe),
}

impl Direction {
    /// One that has carried so much already and sends `ahead` first.
    pub(super) fn new(ahead: Bytes, carried: u64) -> Self {
        let answered = carried > 0 || !ahead.is_empty();
        let held = if ahead.is_empty() { Held::Nothing } else { Held::Ahead(ahead) };
        Self { held, carried, last: 0, may_splice: true, spliced: false, answered, ended: false }
    }

    /// Copies whatever comes.
    pub(super) fn never_splice(&mut self) {
        self.may_splice = false;
    }

    /// Bytes that the sink has taken.
    pub(super) fn carried(&self) -> u64 {
        self.carried
    }

    /// Whether its bytes have been moved by splice(2).
    pub(super) fn has_spliced(&self) -> bool {
        self.spliced
    }

    /// Whether the source has sent anything.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether the source's end has been passed on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// Writes what is held, then reads and writes once more. Ready: something was done.
    pub(super) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<(), Fault>> {
        let before = self.carried;
        let flushed = self.poll_flush(cx, to).map_err(Fault::Sink)?.is_ready();
        if flushed && !self.ended {
            match self.poll_fill(cx, from, to)? {
                Poll::Ready(0) => return Poll::Ready(self.end(to).map_err(Fault::Sink)),
                Poll::Ready(count) => {
                    (self.last, self.answered) = (count, true);
                    // What the sink does not take now is held.
                    let _ = self.poll_flush(cx, to).map_err(Fault::Sink)?;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
        }
        if self.carried > before { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Passes the end of the source on.
    fn end(&mut self, to: &TcpStream) -> io::Result<()> {
        self.ended = true;
        match SockRef::from(to).shutdown(Shutdown::Write) {
            // The sink has closed already, which its own direction tells.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Reads while nothing is held, and returns how many bytes are held then; 0 is the end of the source.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<usize, Fault>> {
        if self.splices_now() {
            // A pipe is filled only when the sink takes some of it at once: it holds more than a buffer.
            ready!(to.poll_write_ready(cx)).map_err(Fault::Sink)?;
            if let Some(count) = ready!(self.poll_splice(cx, from)).map_err(Fault::Source)? {
                return Poll::Ready(Ok(count));
            }
        }
        self.poll_copy(cx, from).map_err(Fault::Source)
    }

    fn splices_now(&self) -> bool {
        self.may_splice && self.carried >= SPLICE_FROM && self.last >= WORTH_SPLICING
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take();
        let end = ready!(poll_io(cx, from, Interest::READABLE, || from.try_read(&mut buffer)))?;
        if end > 0 {
            self.held = Held::Copied { buffer, begin: 0, end };
        }
        Poll::Ready(Ok(end))
    }

    /// Fills a pipe. `None`: only reading tells more, or is all that can be done. splice(2) says the same at the mark of
    /// an urgent byte, over which it never gets, as when there is nothing.
    fn poll_splice(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<Option<usize>>> {
        ready!(from.poll_read_ready(cx))?;
        let Some(mut pipe) = Pipe::take() else { return Poll::Ready(Ok(None)) };
        match pipe.fill(from) {
            Ok(count @ 1..) => {
                (self.held, self.spliced) = (Held::Piped(pipe), true);
                Poll::Ready(Ok(Some(count)))
            }
            Ok(0) => {
                pipe.give_back();
                Poll::Ready(Ok(None))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.give_back();
                Poll::Ready(Ok(None))
            }
            // This socket or machine has no splice(2).
            Err(error) if is_impossible(&error) => {
                self.may_splice = false;
                Poll::Ready(Ok(None))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes until nothing is held. An error loses what is held, and with it the connection.
    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        loop {
            let written = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Ahead(bytes) => {
                    let written = ready!(write(cx, to, bytes))?;
                    bytes.advance(written);
                    written
                }
                Held::Copied { buffer, begin, end } => {
                    let written = ready!(write(cx, to, &buffer[*begin..*end]))?;
                    *begin += written;
                    written
                }
                Held::Piped(pipe) => ready!(drain(cx, to, pipe))?,
            };
            self.carried += written as u64;
            self.held = std::mem::replace(&mut self.held, Held::Nothing).rest();
        }
    }
}

impl Held {
    /// Nothing, if nothing is left.
    fn rest(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Ahead(bytes) if bytes.is_empty() => Self::Nothing,
            Self::Copied { begin, end, .. } if begin == end => Self::Nothing,
            Self::Piped(pipe) if pipe.is_empty() => {
                pipe.give_back();
                Self::Nothing
            }
            rest => rest,
        }
    }
}

fn write(cx: &mut Context<'_>, to: &TcpStream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(poll_io(cx, to, Interest::WRITABLE, || to.try_write(bytes)))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

fn drain(cx: &mut Context<'_>, to: &TcpStream, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
    poll_io(cx, to, Interest::WRITABLE, || to.try_io(Interest::WRITABLE, || pipe.drain(to)))
}

/// Tries until it is done or `WouldBlock` has been said. That fewer bytes came than there was room for is no sign that
/// there are no more: recv(2) stops at the mark of an urgent byte, and no event would tell of those behind it.
fn poll_io<T>(
    cx: &mut Context<'_>,
    stream: &TcpStream,
    interest: Interest,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => return Poll::Ready(result),
        }
        ready!(if interest.is_readable() {
            stream.poll_read_ready(cx)
        } else {
            stream.poll_write_ready(cx)
        })?;
    }
}

fn is_impossible(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}
