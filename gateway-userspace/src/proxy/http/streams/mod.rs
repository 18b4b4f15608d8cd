//! HTTP/2 with a client: one future reads the connection, serves all that is asked for on it, and sends what comes of that. Between
//! requests it holds no buffer.

mod answer;
mod idle;
mod ration;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use self::answer::answer;
pub(super) use self::idle::{Stream, Streams};
use self::ration::Ration;
use super::serve::{Connection, LAST_WORDS, MAX_HEAD, last_call};
use crate::http2::{Code, Fault, Heard, Session, Settings};
use crate::model::Refusal;
use crate::net::rewind::Rewound;
use crate::net::seldom::Seldom;
use crate::proxy::detect::HttpVersion;
use crate::proxy::overload::Level;
use crate::wire::{Reader, poll_forget};

/// Receive windows: large enough that one stream fills a fast path, small enough to bound what a stalled backend makes us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A request that was on its way when an idle connection was said to end comes within this, or not at all.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// How long a connection without requests may take to end while memory is short.
const UNREAD: Duration = Duration::from_secs(1);
/// Reads of one turn: then those have theirs who answer.
const READS: u32 = 8;

/// See the module.
struct Talk<'c, S> {
    connection: &'c Rc<Connection>,
    session: Session,
    streams: Streams,
    stream: S,
    reader: Reader,
    ration: Ration,
    /// What is under way.
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Nothing more is asked for, and nothing is under way.
    Over,
    /// There is nobody to talk to any more.
    Gone,
    /// Its client breaks the rules.
    Fault(Code),
    /// It asks for what costs us more than it costs itself.
    Refused(Refusal),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Connection(code) | Fault::Stream(_, code) => Self::Fault(code),
        }
    }
}

/// Serves a client until it is done, or idle for long. A drain is told to it by a word of its own (RFC 9113, 6.8).
pub(super) async fn serve<S>(connection: Rc<Connection>, stream: Rewound<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (read, stream) = stream.into_parts();
    let streams = connection.streams.get_or_init(Streams::new).clone();
    let session = Session::new(Settings {
        streams: connection.shared.bounds.streams,
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        head: MAX_HEAD as u32,
        connects: connection.shared.spoken.http2_websockets,
    });
    let aside = pin!(aside(&connection, session.clone(), &streams));
    let mut aside = Seldom::new(aside);
    let mut talk = Talk {
        connection: &connection,
        session,
        streams: streams.clone(),
        stream,
        reader: Reader::new(read),
        ration: Ration::new(Instant::now()),
        answers: FuturesUnordered::new(),
    };
    let end = poll_fn(|cx| talk.poll(Pin::new(&mut aside), cx)).await;
    talk.end(end).await;
}

/// What happens to a connection besides what its client says. Ready when it is to be given up.
async fn aside(connection: &Connection, session: Session, streams: &Streams) {
    let mut drain = connection.drain();
    let is_called = tokio::select! {
        () = last_call(connection, &mut drain, HttpVersion::Two) => true,
        () = streams.idle() => false,
    };
    session.leave();
    if is_called {
        holds_memory(connection, streams).await;
    } else {
        streams.none_within(LAST_REQUESTS).await;
    }
}

/// Waits until a connection that is to end has no requests for some time, while memory is short: its client does not read what ends it.
async fn holds_memory(connection: &Connection, streams: &Streams) {
    let mut steps = connection.shared.overload.steps();
    loop {
        if steps.wait_for(|level| *level >= Level::Refusing).await.is_err() {
            std::future::pending::<()>().await;
        }
        streams.none_within(UNREAD).await;
        if *steps.borrow() >= Level::Refusing {
            return;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    fn poll(&mut self, aside: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<End> {
        self.session.attend(true, cx);
        let end = if aside.poll(cx).is_ready() { Poll::Ready(End::Gone) } else { self.poll_talk(cx) };
        self.session.attend(false, cx);
        end
    }

    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Err(end) = self.read(cx) {
                return Poll::Ready(end);
            }
            self.answer(cx);
            let was_clogged = self.session.is_clogged();
            match self.poll_send(cx) {
                Poll::Ready(Ok(())) if self.session.is_over() => return Poll::Ready(End::Over),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            let goes_on = was_clogged && !self.session.is_clogged();
            if !self.session.rouse() && !goes_on {
                if self.session.is_idle() {
                    self.session.rest();
                }
                return Poll::Pending;
            }
        }
    }

    /// Takes what has come.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        for _ in 0..READS {
            while let Some(frame) = self.session.next(self.reader.buffer())? {
                self.ration.take(&frame.head, Instant::now).map_err(End::Refused)?;
                match self.session.receive(frame)? {
                    Heard::Nothing => {}
                    Heard::Asked(asked) => {
                        self.ration.asked();
                        let stream = self.streams.begin();
                        self.answers.push(Box::pin(answer(self.connection.clone(), stream, asked)));
                    }
                    Heard::Reset => self.ration.reset(Instant::now).map_err(End::Refused)?,
                }
            }
            if self.session.is_clogged() {
                return Ok(());
            }
            let Self { session, reader, stream, .. } = self;
            let filled =
                if session.is_idle() { reader.poll_first(stream, cx) } else { reader.poll_fill(stream, cx) };
            match filled {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Gone),
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Goes on with what is under way, as far as there is news and room.
    fn answer(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Poll::Ready(Some(())) = self.answers.poll_next_unpin(cx) {}
            if !self.session.rouse() {
                return;
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let (sent, bytes) = self.session.poll_send(&mut self.stream, cx);
        self.ration.wrote(bytes);
        sent
    }

    /// Ends the connection; what the client has done wrong is told to it, and not lost to a reset.
    async fn end(&mut self, end: End) {
        let code = match end {
            End::Gone => return,
            End::Over => None,
            End::Fault(code) => Some(code),
            End::Refused(_) => Some(Code::ENHANCE_YOUR_CALM),
        };
        if let Some(code) = code {
            tracing::trace!(peer = %self.connection.ends.peer, ?end, "connection ended");
            self.connection.shared.counts.refusals.count(match end {
                End::Refused(refusal) => refusal,
                _ if code == Code::ENHANCE_YOUR_CALM => Refusal::Flood,
                _ => Refusal::BrokenFrames,
            });
            self.session.fail(code);
            self.answers.clear();
        }
        let last_words = async {
            poll_fn(|cx| self.poll_send(cx)).await?;
            self.stream.shutdown().await?;
            poll_fn(|cx| poll_forget(&mut self.stream, cx)).await
        };
        let _ = timeout(LAST_WORDS, last_words).await;
    }
}

impl<S> Drop for Talk<'_, S> {
    /// Streams that have switched are somebody else's.
    fn drop(&mut self) {
        self.session.gone();
    }
}
