//! HTTP/1 with a client: one request after the other, each read, served and answered in one future, without a task or a
//! channel between. Most connections that are kept alive are paused: what a conversation needs, several kilobytes, is there
//! only while one goes on.

mod answer;
mod aside;
mod ending;
mod exchange;
mod intake;
mod parked;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use self::aside::Aside;
use self::exchange::{After, Asked};
use super::serve::{Connection, MAX_HEAD, MAX_HEADERS};
use crate::http1::{HeadError, Limits, Looked, RequestHead};
use crate::net::rewind::Rewound;
use crate::proxy::connection::HTTP_IDLE;
use crate::wire::{Switched, Wire};

/// A client that asks for nothing for so long, and for twice as long at most, is paused.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How long a client that has closed its side may get nothing: nothing tells it from one that has left but its resets, and it may
/// still want the answer (RFC 9293, 3.6: half-closed). Then it counts as gone, so that its backend is free of it.
const SILENCE: Duration = Duration::from_secs(15);
/// Bytes that are read behind a request before it is answered, so that its client's leaving is heard.
const AHEAD: usize = 8 * 1024;
/// Bytes are read ahead up to twice what a head may have, so that a target that is too long can be told from headers that are.
const LIMITS: Limits = Limits { bytes: 2 * MAX_HEAD, lines: MAX_HEADERS };

/// Serves a client until it is done or idle, or a drain asks for an end. It is told to go by its next answer, as nothing else
/// tells it whether a request was served: closing an idle connection would lose what is just under way on it.
pub(super) fn serve<S>(connection: Rc<Connection>, stream: Rewound<S>) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut read, mut stream) = stream.into_parts();
    async move {
        while let Some(paused) = Box::pin(converse(&connection, stream, read)).await {
            stream = paused;
            match parked::next_words(&connection, &mut stream).await {
                Some(words) => read = words,
                None => return ending::shut(stream).await,
            }
        }
    }
}

/// Serves requests until the connection has ended, or the client pauses.
async fn converse<S>(connection: &Rc<Connection>, stream: S, read: Bytes) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let leaving = Cell::new(false);
    let (aside, pause) = (pin!(aside::watch(connection, &leaving)), pin!(sleep(PAUSE)));
    let mut talk = Conversation {
        connection,
        wire: Wire::new(stream, read),
        aside: Aside::new(aside, &leaving),
        reading: Reading { looked: Looked::default(), has_moved: true, halted: None, pause },
        closed: None,
        is_shut: false,
    };
    loop {
        let asked = match poll_fn(|cx| talk.poll_head(cx)).await {
            Next::Request(asked) => asked,
            Next::Refused(error) => {
                ending::refuse(&mut talk, error).await;
                return None;
            }
            Next::Pause => return Some(talk.wire.into_parts().0),
            Next::End => {
                ending::end(&mut talk, true).await;
                return None;
            }
            Next::Gone => return None,
        };
        match exchange::exchange(&mut talk, asked).await {
            After::Next => talk.reading.has_moved = true,
            After::End { is_read } => {
                ending::end(&mut talk, is_read).await;
                return None;
            }
            After::Cut => {
                ending::cut(&mut talk).await;
                return None;
            }
            After::Gone => return None,
            After::Switch(switch) => {
                let (stream, unread) = talk.wire.into_parts();
                switch.to(Switched::new(stream, unread));
                return None;
            }
        }
    }
}

/// See the module.
struct Conversation<'c, S> {
    connection: &'c Rc<Connection>,
    wire: Wire<S>,
    aside: Aside<'c>,
    reading: Reading<'c>,
    /// Since the client has closed its side: until when it may get nothing.
    closed: Option<Pin<Box<Sleep>>>,
    /// It was told that nothing follows.
    is_shut: bool,
}

/// What is known between two requests.
struct Reading<'c> {
    /// How much of a head that has begun is known to be no whole one.
    looked: Looked,
    /// Something has come to pass since the timer went off last.
    has_moved: bool,
    /// Since when it is known that a head has begun. There is no timer for each request.
    halted: Option<Instant>,
    pause: Pin<&'c mut Sleep>,
}

/// What a client does next.
enum Next {
    Request(Asked),
    /// It says something that is no request.
    Refused(HeadError),
    /// Nothing.
    Pause,
    /// It is to go, or has closed its side.
    End,
    /// There is nobody to talk to any more, or no time.
    Gone,
}

impl<S> Conversation<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            match self.reading.head(&mut self.wire) {
                Ok(Some(asked)) => return Poll::Ready(Next::Request(asked)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Next::Refused(error)),
            }
            match self.wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Next::End),
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Gone),
                Poll::Pending => break,
            }
        }
        if self.aside.poll_over(cx).is_ready() {
            return Poll::Ready(Next::Gone);
        }
        let read = self.wire.buffer();
        // Empty lines are no beginning, but whoever sends them has no more time than others.
        let has_begun = !read.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        let says_nothing = read.is_empty();
        // A head that has begun is waited for still, and no longer than others.
        if self.aside.is_leaving() && !has_begun {
            return Poll::Ready(Next::End);
        }
        self.reading.poll_pause(cx, !says_nothing)
    }

    /// Whether the client is gone, while it waits for an answer. What it says meanwhile waits; an end behind that is heard when it is
    /// its turn.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.closed.is_none() {
            let ahead = self.wire.buffer().len();
            if ahead >= AHEAD {
                return Poll::Pending;
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) if ahead > 0 => return Poll::Pending,
                Ok(0) => self.closed = Some(Box::pin(sleep(SILENCE))),
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        self.closed.as_mut().map_or(Poll::Pending, |silence| silence.as_mut().poll(cx))
    }

    /// Sends what there is. What goes out has the client's silence begin anew.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let before = self.wire.unsent();
        let sent = self.wire.poll_send(cx);
        if let Some(silence) = &mut self.closed
            && self.wire.unsent() < before
        {
            silence.as_mut().reset(Instant::now() + SILENCE);
        }
        sent
    }
}

impl Reading<'_> {
    /// What is asked next, if its head has come whole.
    fn head<S>(&mut self, wire: &mut Wire<S>) -> Result<Option<Asked>, HeadError> {
        let read = wire.buffer();
        if read.is_empty() {
            return Ok(None);
        }
        let Some(head) = RequestHead::read(read, &mut self.looked, LIMITS)? else { return Ok(None) };
        self.halted = None;
        Ok(Some(Asked::of(head, read)))
    }

    /// Ready when nothing has moved for as long as a client may take for a head.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.pause.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if std::mem::take(&mut self.has_moved) {
                self.halted = None;
            }
            if self.is_late(now) {
                return Poll::Ready(());
            }
            self.pause.as_mut().reset(now + PAUSE);
        }
        Poll::Pending
    }

    /// Whether what has begun has taken too long, as far as that is known.
    fn is_late(&mut self, now: Instant) -> bool {
        let since = *self.halted.get_or_insert(now);
        PAUSE + now.duration_since(since) >= HTTP_IDLE
    }

    /// Waits for the end of the client's time.
    fn poll_pause(&mut self, cx: &mut Context<'_>, has_begun: bool) -> Poll<Next> {
        while self.pause.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if has_begun {
                if self.is_late(now) {
                    return Poll::Ready(Next::Gone);
                }
            } else if !std::mem::take(&mut self.has_moved) {
                return Poll::Ready(Next::Pause);
            }
            self.pause.as_mut().reset(now + PAUSE);
        }
        Poll::Pending
    }
}
