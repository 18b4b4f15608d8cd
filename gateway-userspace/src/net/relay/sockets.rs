//! The relay between two plain sockets. It can be stopped whenever nothing of the connection is held in user space, so
//! that somebody else may carry it from then on.
//!
//! What is read and not sent on is lost if the process dies, and a stream without its end must not look like a whole one.
//! So both sockets are such that closing them says RST, until the connection has ended in order.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::direction::{Direction, Fault};
use super::{Carried, Lifetime, RelayEnd, Side};
use crate::net::{repair, socket};

/// Turns after which the worker's other connections are looked at.
const TURNS: u32 = 16;

/// For so long one side's last words are on their way to the other when it has failed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often it is looked whether they have come.
const LOOK: Duration = Duration::from_millis(20);

/// A connection's two sockets, and what is between them.
pub struct Relay {
    downstream: TcpStream,
    upstream: TcpStream,
    up: Direction,
    down: Direction,
    lifetime: Lifetime,
    watch: Option<Box<dyn Fn(Progress)>>,
}

/// Where a relay stands after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub carried: Carried,
    /// Whether splice(2) has moved some of them.
    pub spliced: bool,
}

/// Why [`Relay::run`] returned.
#[derive(Debug)]
pub enum Outcome {
    /// The connection is over.
    Ended(RelayEnd),
    /// The checkpoint wanted it; nothing is held, nothing is half-closed.
    Paused,
}

/// What a relay is made of.
#[derive(Debug)]
pub struct Parts {
    /// To the client.
    pub downstream: TcpStream,
    /// To the backend.
    pub upstream: TcpStream,
    /// Read from the client already, for the backend.
    pub prefix: Bytes,
    /// Read from the backend already, for the client.
    pub answer: Bytes,
    /// Bytes carried so far.
    pub carried: Carried,
}

impl Relay {
    /// A relay that sends the backend `prefix` first.
    pub fn new(
        downstream: TcpStream,
        upstream: TcpStream,
        prefix: Bytes,
        lifetime: impl Into<Lifetime>,
    ) -> Self {
        let carried = Carried::default();
        Self::from_parts(Parts { downstream, upstream, prefix, answer: Bytes::new(), carried }, lifetime)
    }

    /// A relay that goes on where something else has stopped.
    pub fn from_parts(parts: Parts, lifetime: impl Into<Lifetime>) -> Self {
        let Parts { downstream, upstream, prefix, answer, carried } = parts;
        let (up, down) = (Direction::new(prefix, carried.up), Direction::new(answer, carried.down));
        socket::reset_when_closed(&downstream, true);
        socket::reset_when_closed(&upstream, true);
        Self { downstream, upstream, up, down, lifetime: lifetime.into(), watch: None }
    }

    /// Copies, whatever the amount.
    pub fn without_splice(mut self) -> Self {
        self.up.never_splice();
        self.down.never_splice();
        self
    }

    /// Tells after each turn where it stands.
    pub fn watched(mut self, watch: impl Fn(Progress) + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Bytes carried so far.
    pub fn carried(&self) -> Carried {
        Carried { up: self.up.carried(), down: self.down.carried() }
    }

    /// The client's socket and the backend's.
    pub fn sockets(&self) -> (&TcpStream, &TcpStream) {
        (&self.downstream, &self.upstream)
    }

    /// The sockets and the count. After [`Outcome::Paused`]: at other times, bytes that are held are lost. Closing the
    /// sockets still says RST.
    pub fn into_parts(self) -> Parts {
        let (carried, none) = (self.carried(), Bytes::new());
        let Self { downstream, upstream, .. } = self;
        Parts { downstream, upstream, prefix: none.clone(), answer: none, carried }
    }

    /// Relays until the end; a half-close is passed on and the other direction goes on. Calls `answered` when the first
    /// bytes come from the backend. After each turn that leaves nothing held, with neither side half-closed, it asks
    /// `checkpoint` whether to pause; then it may be run again. A side that fails is the other's to learn of: dropping the
    /// relay resets it.
    pub async fn run(&mut self, answered: impl FnMut(), checkpoint: impl FnMut(&Carried) -> bool) -> Outcome {
        let last = Instant::now();
        let silence = pin!(sleep_until(self.lifetime.end(last).0));
        let answered = (!self.down.has_answered()).then_some(answered);
        let mut run = Run { relay: self, silence, last, answered, checkpoint };
        let outcome = poll_fn(|cx| run.poll(cx)).await;
        match &outcome {
            Outcome::Ended(RelayEnd::Closed) => self.close_in_order(),
            // Unless bytes are lost.
            Outcome::Ended(RelayEnd::Idle | RelayEnd::Expired)
                if self.up.is_empty() && self.down.is_empty() =>
            {
                self.close_in_order();
            }
            Outcome::Ended(RelayEnd::Failed { side, .. }) => self.bring_last_words(*side).await,
            Outcome::Ended(RelayEnd::Idle | RelayEnd::Expired) | Outcome::Paused => {}
        }
        outcome
    }

    fn close_in_order(&self) {
        socket::reset_when_closed(&self.downstream, false);
        socket::reset_when_closed(&self.upstream, false);
    }

    /// A reset would take back what the other side has not got yet: mostly that is the answer to a request that the failed
    /// side did not care to read to its end.
    async fn bring_last_words(&self, failed: Side) {
        let other = if failed == Side::Downstream { &self.upstream } else { &self.downstream };
        let begun = Instant::now();
        while repair::unacknowledged(other).is_ok_and(|bytes| bytes > 0) && begun.elapsed() < LAST_WORDS {
            sleep(LOOK).await;
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        let up = self.up.poll_turn(cx, &self.downstream, &self.upstream);
        let up = up.map_err(|fault| failed(fault, Side::Downstream, Side::Upstream))?;
        let down = self.down.poll_turn(cx, &self.upstream, &self.downstream);
        let down = down.map_err(|fault| failed(fault, Side::Upstream, Side::Downstream))?;
        if up.is_pending() && down.is_pending() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn has_ended(&self) -> bool {
        self.up.has_ended() && self.down.has_ended()
    }

    /// Whether all that came has gone, and more may come either way.
    pub fn is_even(&self) -> bool {
        let is_even = |direction: &Direction| direction.is_empty() && !direction.has_ended();
        is_even(&self.up) && is_even(&self.down)
    }

    fn tell(&self) {
        if let Some(watch) = &self.watch {
            let spliced = self.up.has_spliced() || self.down.has_spliced();
            watch(Progress { carried: self.carried(), spliced });
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { downstream, upstream, up, down, lifetime, watch: _ } = self;
        let mut out = f.debug_struct("Relay");
        out.field("downstream", downstream).field("upstream", upstream).field("up", up).field("down", down);
        out.field("lifetime", lifetime).finish_non_exhaustive()
    }
}

fn failed(fault: Fault, from: Side, to: Side) -> RelayEnd {
    match fault {
        Fault::Source(error) => RelayEnd::Failed { side: from, error },
        Fault::Sink(error) => RelayEnd::Failed { side: to, error },
    }
}

/// A relay under way.
struct Run<'a, A, C> {
    relay: &'a mut Relay,
    silence: Pin<&'a mut Sleep>,
    /// When something was last done.
    last: Instant,
    /// Until it was called.
    answered: Option<A>,
    checkpoint: C,
}

impl<A: FnMut(), C: FnMut(&Carried) -> bool> Run<'_, A, C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        for _ in 0..TURNS {
            if self.relay.has_ended() {
                return Poll::Ready(Outcome::Ended(RelayEnd::Closed));
            }
            let turn = self.relay.poll_turn(cx);
            if self.relay.down.has_answered()
                && let Some(mut answered) = self.answered.take()
            {
                answered();
            }
            match turn {
                Poll::Ready(Ok(())) => self.relay.tell(),
                Poll::Ready(Err(end)) => return Poll::Ready(Outcome::Ended(end)),
                Poll::Pending => return self.poll_silence(cx),
            }
            self.last = Instant::now();
            if self.relay.is_even() && (self.checkpoint)(&self.relay.carried()) {
                return Poll::Ready(Outcome::Paused);
            }
        }
        // However busy it is, its time may be over.
        if let Poll::Ready(outcome) = self.poll_silence(cx) {
            return Poll::Ready(outcome);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The timer is set anew only when it has gone off, not for every turn.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        while self.silence.as_mut().poll(cx).is_ready() {
            let (at, end) = self.relay.lifetime.end(self.last);
            if at <= Instant::now() {
                return Poll::Ready(Outcome::Ended(end));
            }
            self.silence.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
