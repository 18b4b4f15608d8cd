//! The requests that are under way on a worker, and whether anything moves in them. Nothing reads a clock for that but the
//! watchdog, a few times in the time that a request may be idle: what moves leaves a mark.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::record::Recorded;
use crate::model::Refusal;
use crate::proxy::overload::Overload;
use crate::upstream::Pace;
use crate::upstream::body::BodyError;
use crate::wire::Switching;

/// How long a body is waited for at least before its pace counts, where requests may be idle for ever.
const GRACE: Duration = Duration::from_mins(5);
/// While memory is short, a response that its client has not taken anything of for so long is given up.
const STALLED: Duration = Duration::from_secs(1);
/// Likewise, one of which nothing was read for the client meanwhile: whether it would take more nobody knows.
const PAUSED: Duration = Duration::from_secs(3);

/// All of a worker's.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Exchanges(RefCell<Vec<Rc<State>>>);

/// What may take how long.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::proxy) struct Patience {
    /// Nothing moves.
    pub(in crate::proxy) idle: Option<Duration>,
    /// Bytes a second of a body.
    pub(in crate::proxy) body_rate: Option<NonZeroU32>,
    /// What clients don't take is given up.
    pub(in crate::proxy) sheds: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Tells the connections of clients apart.
    client: usize,
    /// Its place in the list.
    at: Cell<usize>,
    /// Frames of the response, and parts of them.
    frames: Cell<u64>,
    /// The request's body, if it has one.
    pace: RefCell<Option<Rc<Pace>>>,
    /// gRPC, whose clients may have nothing to say for long.
    is_grpc: Cell<bool>,
    answered: Cell<bool>,
    /// Whoever sends the response has asked for more of it, and waits for the backend, or for memory.
    asked: Cell<bool>,
    /// For memory.
    paused: Cell<bool>,
    /// What had moved when the watchdog looked last and found a change, and when that was.
    seen: Cell<Option<(Marks, Instant)>>,
    given_up: Cell<Option<Refusal>>,
    /// Wakes the task of the request.
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    frames: u64,
    received: u64,
    answered: bool,
}

/// A request until its response has ended.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Rc<State>,
    all: Rc<Exchanges>,
    /// The client's side of the upgrade that it may ask for.
    switching: RefCell<Option<Switching>>,
}

/// What whoever sends the response knows of the request.
#[derive(Debug, Clone)]
pub(super) struct Watch(Rc<State>);

impl Exchanges {
    /// One more, of a client's connection, which has a number of its own as long as it lasts.
    pub(super) fn begin(self: &Rc<Self>, client: usize) -> Exchange {
        let state = Rc::new(State { client, ..State::default() });
        let mut all = self.0.borrow_mut();
        state.at.set(all.len());
        all.push(state.clone());
        Exchange { state, all: self.clone(), switching: RefCell::default() }
    }

    /// Whether nothing is under way.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Gives up what takes too long, and tells why of each.
    pub(in crate::proxy) fn look(&self, now: Instant, patience: Patience, mut tell: impl FnMut(Refusal)) {
        let all = self.0.borrow();
        let mut stalled = HashSet::new();
        let mut give_up = |state: &State, refusal| {
            state.given_up.set(Some(refusal));
            tell(refusal);
            // Its task ends later.
            state.wake();
        };
        for state in all.iter().filter(|state| state.given_up.get().is_none()) {
            if let Some(refusal) = state.look(now, patience) {
                if refusal == Refusal::StalledForMemory {
                    stalled.insert(state.client);
                }
                give_up(state, refusal);
            }
        }
        // Who takes nothing of one response will take nothing of the others.
        for state in all.iter().filter(|state| stalled.contains(&state.client)) {
            if state.given_up.get().is_none() && state.answered.get() {
                give_up(state, Refusal::StalledForMemory);
            }
        }
    }

    /// Wakes those that wait for memory.
    pub(in crate::proxy) fn wake(&self) {
        self.0.borrow().iter().for_each(|state| state.wake());
    }
}

impl State {
    fn look(&self, now: Instant, patience: Patience) -> Option<Refusal> {
        let pace = self.pace.borrow();
        let received = pace.as_ref().map_or(0, |pace| pace.received());
        let marks = Marks { frames: self.frames.get(), received, answered: self.answered.get() };
        let since = match self.seen.get() {
            Some((seen, since)) if seen == marks => since,
            _ => {
                self.seen.set(Some((marks, now)));
                now
            }
        };
        let still = now.saturating_duration_since(since);
        let is_stalled = !self.asked.get() && still >= STALLED || self.paused.get() && still >= PAUSED;
        if patience.sheds && marks.answered && is_stalled {
            return Some(Refusal::StalledForMemory);
        }
        if patience.idle.is_some_and(|idle| still >= idle) {
            return Some(Refusal::Idle);
        }
        let rate = patience.body_rate.filter(|_| !marks.answered && !self.is_grpc.get())?;
        let waited = pace.as_ref()?.waited(now);
        // Where nothing comes any more, it is idle soon, and not slow.
        let is_judged = still.is_zero() || patience.idle.is_none();
        let is_slow = is_judged
            && waited > patience.idle.unwrap_or(GRACE)
            && received < waited.as_secs().saturating_mul(u64::from(rate.get()));
        is_slow.then_some(Refusal::SlowBody)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Exchange {
    /// For the task that serves it.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.state.clone())
    }

    /// Its client speaks gRPC.
    pub(super) fn is_grpc(&self) {
        self.state.is_grpc.set(true);
    }

    /// It may ask for an upgrade.
    pub(super) fn may_switch(&self, switching: Option<Switching>) {
        *self.switching.borrow_mut() = switching;
    }

    /// The client's side of the upgrade that it asks for.
    pub(super) fn switching(&self) -> Option<Switching> {
        self.switching.take()
    }

    /// Its body.
    pub(super) fn reads(&self, pace: Option<Rc<Pace>>) {
        *self.state.pace.borrow_mut() = pace;
    }

    /// Waits until it is given up: why, and whether the whole request has come.
    pub(super) async fn given_up(&self) -> (Refusal, bool) {
        let state = &self.state;
        std::future::poll_fn(|cx| {
            let Some(refusal) = state.given_up.get() else {
                state.wait(cx);
                return Poll::Pending;
            };
            let is_whole = state.pace.borrow().as_ref().is_none_or(|pace| pace.is_whole());
            Poll::Ready((refusal, is_whole))
        })
        .await
    }

    /// Goes on to the end of the response.
    pub(super) fn with(self, body: Recorded, overload: &Overload) -> Moving {
        self.state.answered.set(true);
        // One that was given up is answered with that, and the answer has time of its own.
        self.state.given_up.set(None);
        let overload = (!body.is_ours()).then(|| overload.clone());
        Moving { body, exchange: self, overload }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        let at = self.state.at.get();
        all.swap_remove(at);
        if let Some(moved) = all.get(at) {
            moved.at.set(at);
        }
    }
}

impl Watch {
    /// Whether its response is to be broken off; if not, `cx` is woken when it may be.
    pub(super) fn is_given_up(&self, cx: &Context<'_>) -> bool {
        let is_over = self.0.answered.get() && self.0.given_up.get().is_some();
        if !is_over {
            self.0.wait(cx);
        }
        is_over
    }
}

impl Moving {
    /// The client has taken some of what was read.
    pub(super) fn moved(&self) {
        let frames = &self.exchange.state.frames;
        frames.set(frames.get() + 1);
    }

    /// All of it was read, and has yet to be sent.
    pub(super) fn ended(self) -> Exchange {
        self.exchange
    }
}

/// A response's body. Of one that comes from a backend nothing is read while memory is short.
pub(super) struct Moving {
    body: Recorded,
    exchange: Exchange,
    overload: Option<Overload>,
}

impl Body for Moving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, exchange, overload } = &mut *self;
        let state = &exchange.state;
        let pauses = overload.as_ref().is_some_and(Overload::is_short);
        state.asked.set(true);
        state.paused.set(pauses);
        if pauses {
            state.wait(cx);
            return Poll::Pending;
        }
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        state.asked.set(false);
        state.frames.set(state.frames.get() + 1);
        if let (Some(overload), Some(Ok(frame))) = (overload, &frame) {
            overload.takes(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(idle: u64, rate: u32) -> Patience {
        Patience { idle: Some(SECOND * idle as u32), body_rate: NonZeroU32::new(rate), sheds: false }
    }

    fn looked(all: &Exchanges, now: Instant, patience: Patience) -> Vec<Refusal> {
        let mut told = Vec::new();
        all.look(now, patience, |refusal| told.push(refusal));
        told
    }

    #[test]
    fn what_does_not_move_is_given_up_once() {
        let (all, start) = (Rc::new(Exchanges::default()), Instant::now());
        let (still, moves) = (all.begin(1), all.begin(2));
        for second in 0..10 {
            moves.state.frames.set(u64::from(second));
            assert!(looked(&all, start + SECOND * second, patience(10, 0)).is_empty());
        }
        moves.state.frames.set(100);
        assert_eq!(looked(&all, start + SECOND * 10, patience(10, 0)), [Refusal::Idle]);
        assert!(still.state.given_up.get().is_some() && moves.state.given_up.get().is_none());
        assert!(looked(&all, start + SECOND * 11, patience(10, 0)).is_empty());
        drop(still);
        assert_eq!(moves.state.at.get(), 0, "takes the place of the one that went");
        drop(moves);
        assert!(all.0.borrow().is_empty());
    }

    #[test]
    fn bodies_have_a_pace_unless_they_are_answered_or_of_grpc() {
        let start = Instant::now();
        for (received, seconds, answered, grpc, want) in [
            (1_000, 9, false, false, None),
            (1_000, 21, false, false, Some(Refusal::SlowBody)),
            (3_000, 21, false, false, None),
            (1_000, 21, true, false, None),
            (1_000, 21, false, true, None),
        ] {
            let all = Rc::new(Exchanges::default());
            let exchange = all.begin(1);
            let pace = Rc::new(Pace::default());
            pace.begin(start);
            exchange.reads(Some(pace.clone()));
            if grpc {
                exchange.is_grpc();
            }
            exchange.state.answered.set(answered);
            looked(&all, start, patience(10, 100));
            let mut told = Vec::new();
            for second in 1..=seconds {
                // Something moves all the time.
                pace.add(received * second / seconds - pace.received(), start + SECOND * second as u32);
                pace.begin(start + SECOND * second as u32);
                told.extend(looked(&all, start + SECOND * second as u32, patience(10, 100)));
            }
            assert_eq!(told.first().copied(), want, "{received} {seconds} {answered} {grpc}");
        }
    }

    #[test]
    fn what_clients_do_not_take_goes_first_when_memory_is_short() {
        let (all, start) = (Rc::new(Exchanges::default()), Instant::now());
        let short = Patience { sheds: true, ..Patience::default() };
        let [stalled, waits, paused, asks] = [1, 2, 3, 4].map(|client| all.begin(client));
        for exchange in [&stalled, &waits, &paused] {
            exchange.state.answered.set(true);
        }
        waits.state.asked.set(true);
        paused.state.asked.set(true);
        paused.state.paused.set(true);
        assert!(looked(&all, start, short).is_empty());
        assert_eq!(looked(&all, start + SECOND * 2, short), [Refusal::StalledForMemory]);
        assert_eq!(stalled.state.given_up.get(), Some(Refusal::StalledForMemory));
        assert_eq!(looked(&all, start + SECOND * 4, short), [Refusal::StalledForMemory]);
        assert!(paused.state.given_up.get().is_some());
        let [one, other] = [5, 5].map(|client| all.begin(client));
        for exchange in [&one, &other] {
            exchange.state.answered.set(true);
        }
        other.state.asked.set(true);
        assert!(looked(&all, start + SECOND * 5, short).is_empty());
        let both = looked(&all, start + SECOND * 6, short);
        assert_eq!(both, [Refusal::StalledForMemory; 2], "all of a client that takes nothing of one");
        assert!(asks.state.given_up.get().is_none() && waits.state.given_up.get().is_none());
    }
}
