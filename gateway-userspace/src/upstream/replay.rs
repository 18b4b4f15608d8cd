//! A request's body on its way from the client to a backend, and to another one if the first fails. What may have to be
//! said again is held, up to a bound; everything else streams through. The client is read by whoever sends the body:
//! nobody reads ahead, so that a slow backend slows the client down.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::client_body::ClientBody;
use super::held::{Held, Part, Room, Whole};
use super::progress::{Course, Flaw, Follower, Progress};
use super::trailers;
use crate::http1::InboundError;
use crate::http2::Broken;

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The client's connection of HTTP/1 failed, or its framing did.
    #[error(transparent)]
    Client(#[from] InboundError),
    /// The client's stream of HTTP/2 did.
    #[error(transparent)]
    Stream(#[from] Broken),
    /// It is no base64, which its client has said it is.
    #[error("the request's body is no base64")]
    NotBase64,
    /// It is longer than bodies may be.
    #[error("the request's body is too long")]
    TooLong,
    /// A later try has the body, or nobody can have it again.
    #[error("the request's body belongs to another try")]
    Superseded,
}

impl RequestBodyError {
    /// What is wrong with the body then.
    fn flaw(&self) -> Flaw {
        match self {
            Self::NotBase64 => Flaw::Base64,
            Self::TooLong => Flaw::TooLong,
            Self::Client(InboundError::Gone) => Flaw::Gone,
            Self::Stream(Broken::Gone) => Flaw::Gone,
            Self::Client(InboundError::Flawed(_)) | Self::Stream(Broken::Flawed) | Self::Superseded => {
                Flaw::Framing
            }
        }
    }
}

/// A client's body while it is read.
#[derive(Debug)]
struct Source {
    incoming: ClientBody,
    held: Held,
    holds: bool,
    /// Something was read that is not held.
    lost: bool,
    /// The try whose body reads; those before get nothing any more.
    turn: u32,
    /// Who reads now.
    reader: Option<Waker>,
    course: Course,
    pace: Rc<Pace>,
}

/// How a client's body comes.
#[derive(Debug, Default)]
pub struct Pace {
    received: Cell<u64>,
    whole: Cell<bool>,
    /// Since when whoever reads it waits for more.
    since: Cell<Option<std::time::Instant>>,
    /// How long it had been waited for before that.
    waited: Cell<Duration>,
}

impl Pace {
    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether all has come.
    pub fn is_whole(&self) -> bool {
        self.whole.get()
    }

    /// How long the client was waited for altogether: what a slow backend takes is not its fault.
    pub fn waited(&self, now: std::time::Instant) -> Duration {
        self.waited.get()
            + self.since.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// There is nothing to read.
    pub fn begin(&self, now: std::time::Instant) {
        if self.since.get().is_none() {
            self.since.set(Some(now));
        }
    }

    /// So much has come.
    pub fn add(&self, bytes: u64, now: std::time::Instant) {
        self.received.set(self.received.get() + bytes);
        if let Some(since) = self.since.take() {
            self.waited.set(self.waited.get() + now.saturating_duration_since(since));
        }
    }
}

impl Source {
    /// The next frame from the client itself.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        let Poll::Ready(mut frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            self.pace.begin(std::time::Instant::now());
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::strip(trailers);
        }
        self.pace.add(
            frame.as_ref().map_or(0, |frame| frame.as_ref().map_or(0, length)),
            std::time::Instant::now(),
        );
        match &frame {
            Some(Ok(frame)) => self.keep(frame),
            Some(Err(error)) => self.course.tell(Progress::Broken(error.flaw())),
            None => self.finish(),
        }
        // Nothing follows, and whoever sends the body may not ask again; or he does, before it is known that it is the end.
        let is_last = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        if is_last || self.incoming.is_end_stream() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    /// Somebody reads.
    fn begin(&self) {
        if self.course.now(|now| matches!(now, Progress::Unread(_))) {
            self.course.tell(Progress::Open);
        }
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.holds || !self.held.push(frame) {
            self.holds = false;
            self.held.clear();
            self.lost = true;
        }
    }

    fn finish(&mut self) {
        if self.course.now(Progress::is_over) {
            return;
        }
        self.pace.whole.set(true);
        let whole = if self.holds && !self.lost { self.held.whole() } else { None };
        self.course.tell(Progress::Whole(Instant::now(), whole));
    }

    /// The next try's turn. Those before get nothing any more.
    fn turn(&mut self) {
        self.turn += 1;
        self.held.close();
        if let Some(earlier) = self.reader.take() {
            earlier.wake();
        }
        if !self.course.now(Progress::is_over) {
            self.course.tell(Progress::Unread(Instant::now()));
        }
    }
}

/// A request's body as its tries see it: each takes one [`RequestBody`] after the other.
#[derive(Debug)]
pub struct Upload {
    /// `None` without a body.
    source: Option<Rc<RefCell<Source>>>,
    hint: SizeHint,
    since: Instant,
}

impl Upload {
    /// Of a client's body; one that may have to be sent again is held where there is room for it.
    pub fn new(incoming: ClientBody, room: Option<Room>) -> Self {
        let hint = incoming.size_hint();
        let source = (!incoming.is_end_stream()).then(|| {
            let course = Course::new(Progress::Unread(Instant::now()));
            let (holds, held) = (room.is_some(), Held::new(room));
            let (lost, turn, reader) = (false, 0, None);
            let pace = Rc::default();
            let source = Source { incoming, held, holds, lost, turn, reader, course, pace };
            Rc::new(RefCell::new(source))
        });
        Self { source, hint, since: Instant::now() }
    }

    /// How long the body is, as far as the client has told: exactly 0 where there is none.
    pub fn size_hint(&self) -> SizeHint {
        if self.source.is_some() { self.hint } else { SizeHint::with_exact(0) }
    }

    /// The body from its start on. Those handed out before break off.
    pub fn body(&self) -> RequestBody {
        let Some(source) = &self.source else { return RequestBody(Reader::Empty) };
        let mut now = source.borrow_mut();
        now.turn();
        let (turn, said, left) = (now.turn, now.held.parts().len(), self.hint.exact());
        RequestBody(Reader::Client { source: source.clone(), turn, at: 0, said, left })
    }

    /// Whether all that was read of it can be said again.
    pub fn is_repeatable(&self) -> bool {
        self.source.as_ref().is_none_or(|source| !source.borrow().lost) && self.flaw().is_none()
    }

    /// Why the client's part of it is not whole and will not be.
    pub fn flaw(&self) -> Option<Flaw> {
        self.source.as_ref()?.borrow().course.now(|now| match now {
            Progress::Broken(flaw) => Some(*flaw),
            _ => None,
        })
    }

    /// How it comes; `None` without a body.
    pub fn pace(&self) -> Option<Rc<Pace>> {
        self.source.as_ref().map(|source| source.borrow().pace.clone())
    }

    /// Holds nothing more: no try comes after the present one.
    pub fn let_go(&self) {
        if let Some(source) = &self.source {
            source.borrow_mut().holds = false;
        }
    }

    /// How long ago the last of the request had come, if it has.
    pub fn since_end(&self) -> Option<Duration> {
        match &self.source {
            None => Some(self.since.elapsed()),
            Some(source) => source.borrow().course.now(|now| match now {
                Progress::Whole(at, _) => Some(at.elapsed()),
                Progress::Unread(_) | Progress::Open | Progress::Broken(_) => None,
            }),
        }
    }

    /// Tells when the request has ended.
    pub fn ended(&self) -> Ended {
        match &self.source {
            None => Ended(When::Before(self.since)),
            Some(source) => Ended(When::Awaited(source.borrow().course.follow())),
        }
    }
}

/// The end of a request, waited for.
#[derive(Debug, Clone)]
pub struct Ended(When);

#[derive(Debug, Clone)]
enum When {
    /// It had no body.
    Before(Instant),
    Awaited(Follower),
}

impl Ended {
    /// The moment at which the last of the request had come. One that nobody reads any more ends now.
    pub async fn at(&mut self) -> Instant {
        match &mut self.0 {
            When::Before(at) => *at,
            When::Awaited(course) => {
                let end = |now: &Progress| match now {
                    Progress::Whole(at, _) => Some(*at),
                    Progress::Broken(_) => Some(Instant::now()),
                    Progress::Unread(_) | Progress::Open => None,
                };
                course.until(end).await.unwrap_or_else(Instant::now)
            }
        }
    }

    /// Whose time it is: waits while the client's request comes, and returns since when it is ours, be it that the request
    /// has ended, be it that nobody could be found yet who reads it.
    pub async fn ours_since(&mut self) -> Instant {
        match &mut self.0 {
            When::Before(at) => *at,
            When::Awaited(course) => {
                let since = |now: &Progress| match now {
                    Progress::Whole(at, _) | Progress::Unread(at) => Some(*at),
                    Progress::Broken(_) => Some(Instant::now()),
                    Progress::Open => None,
                };
                course.until(since).await.unwrap_or_else(Instant::now)
            }
        }
    }

    /// Waits until [`Ended::ours_since`] may say something else.
    pub async fn changed(&mut self) {
        match &mut self.0 {
            When::Before(_) => std::future::pending().await,
            When::Awaited(course) => course.changed().await,
        }
    }

    /// The whole body, once it has come, to be sent to somebody else; `None` if it did not come to its end, is too long
    /// to be held, or had no room.
    pub async fn copy(&mut self) -> Option<RequestBody> {
        match &mut self.0 {
            When::Before(_) => Some(RequestBody(Reader::Empty)),
            When::Awaited(course) => {
                let held = |now: &Progress| match now {
                    Progress::Whole(_, whole) => Some(whole.clone()),
                    Progress::Broken(_) => Some(None),
                    Progress::Unread(_) | Progress::Open => None,
                };
                let whole = course.until(held).await.flatten()?;
                let left = whole.length();
                Some(RequestBody(Reader::Copy { whole, at: 0, left }))
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct RequestBody(Reader);

#[derive(Debug)]
enum Reader {
    Empty,
    /// Of the client, behind the `said` parts that were held when the turn came, of which `at` were read; `left` bytes are
    /// to come, if that is known.
    Client {
        source: Rc<RefCell<Source>>,
        turn: u32,
        at: usize,
        said: usize,
        left: Option<u64>,
    },
    /// Of what was held.
    Copy {
        whole: Rc<Whole>,
        at: usize,
        left: u64,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut self.0 {
            Reader::Empty => Poll::Ready(None),
            Reader::Client { source, turn, at, said, left } => {
                let frame = std::task::ready!(poll_client(&mut source.borrow_mut(), *turn, (at, *said), cx));
                if let (Some(Ok(frame)), Some(left)) = (&frame, left) {
                    *left = left.saturating_sub(length(frame));
                }
                Poll::Ready(frame)
            }
            Reader::Copy { whole, at, left } => {
                let frame = whole.parts().get(*at).cloned().map(Part::frame);
                *at += 1;
                *left = left.saturating_sub(frame.as_ref().map_or(0, length));
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Reader::Empty => true,
            Reader::Client { source, turn, at, said, .. } => {
                let source = source.borrow();
                source.turn == *turn && at >= said && source.incoming.is_end_stream()
            }
            Reader::Copy { whole, at, .. } => *at >= whole.parts().len(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Reader::Empty => SizeHint::with_exact(0),
            Reader::Client { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Reader::Copy { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// The next frame of the try of a turn that has read up to `at` of what had been `said`.
fn poll_client(
    source: &mut Source,
    turn: u32,
    (at, said): (&mut usize, usize),
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
    if source.turn != turn {
        return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
    }
    if source.reader.is_none() {
        source.begin();
    }
    if *at < said
        && let Some(part) = source.held.parts().get(*at)
    {
        *at += 1;
        return Poll::Ready(Some(Ok(part.clone().frame())));
    }
    source.poll(cx)
}
