//! One stream of a connection (RFC 9113, 5.1): what has come on it, and what may be sent.

use std::task::{Context, Waker};

use super::fault::{Broken, Code, Fault};
use super::inflow::Inflow;
use crate::wire::remember;

/// Who has ended a stream before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    No,
    ByClient,
    ByUs,
}

impl Ended {
    /// What it means that something comes on the stream still: what was under way when we ended it is no fault.
    pub(super) fn is_late(self, id: u32) -> Result<(), Fault> {
        if self == Self::ByUs { Ok(()) } else { Err(Fault::Stream(id, Code::STREAM_CLOSED)) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) inflow: Inflow,
    /// Bytes that may be sent.
    pub(super) window: i64,
    /// More is to be sent.
    pub(super) is_sending: bool,
    /// Before its time.
    pub(super) ended: Ended,
    /// Whoever sends on it is there.
    pub(super) is_held: bool,
    /// It stands in the queue of those that have something to send.
    pub(super) is_queued: bool,
    /// It is its turn to send a frame, however much waits to be sent by then.
    pub(super) has_turn: bool,
    sender: Option<Waker>,
}

impl Stream {
    /// One that was asked for just now.
    pub(super) fn new(id: u32, inflow: Inflow, window: i64) -> Self {
        Self {
            id,
            inflow,
            window,
            is_sending: true,
            ended: Ended::No,
            is_held: true,
            is_queued: false,
            has_turn: false,
            sender: None,
        }
    }

    /// Whether neither side has anything to say on it.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_sending && !self.inflow.is_open()
    }

    /// Whether nobody will ask for it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_closed() && !self.is_held && !self.inflow.is_held
    }

    /// Ends it before its time. Returns the bytes that nobody will take.
    pub(super) fn break_off(&mut self, ended: Ended, broken: Broken) -> u32 {
        self.is_sending = false;
        if self.ended == Ended::No {
            self.ended = ended;
        }
        self.wake();
        self.inflow.break_off(broken)
    }

    /// Has whoever sends wait for news.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        remember(&mut self.sender, cx);
    }

    /// Tells whoever sends that there are some.
    pub(super) fn wake(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }
}

/// The streams of a connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

impl Streams {
    fn place(&self, id: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |stream| stream.id)
    }

    /// One of them.
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        self.place(id).ok().map(|at| &mut self.0[at])
    }

    /// One more, whose number is higher than that of all others.
    pub(super) fn push(&mut self, stream: Stream) {
        debug_assert!(self.0.last().is_none_or(|last| last.id < stream.id));
        self.0.push(stream);
    }

    /// One less.
    pub(super) fn remove(&mut self, id: u32) {
        if let Ok(at) = self.place(id) {
            self.0.remove(at);
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Stream> {
        self.0.iter_mut()
    }

    /// How many have something to be said on them.
    pub(super) fn open(&self) -> usize {
        self.0.iter().filter(|stream| !stream.is_closed()).count()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
