//! The body of the request under way, as it is read while the request is served, and what is left of it behind the answer.

use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Conversation;
use crate::http1::{Inbound, Inlet, Length, inbound};
use crate::wire::Wire;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// See the module.
pub(super) struct Intake {
    inlet: Inlet,
    /// The client waits to be told to go on (RFC 9110, 10.1.1).
    owes_continue: bool,
}

impl Intake {
    /// Of a length, with what has come of it behind its head.
    pub(super) fn new(length: Length, owes_continue: bool, read: &mut BytesMut) -> (Self, Inbound) {
        let (mut inlet, body) = inbound(length);
        // Whoever waits to be told to go on has not said what it is to go on with.
        if !owes_continue {
            inlet.begin(read);
        }
        (Self { inlet, owes_continue }, body)
    }

    /// Whether the conversation is being polled.
    pub(super) fn attend(&self, is_attended: bool) {
        self.inlet.attend(is_attended);
    }

    /// Whether somebody waits for more of it.
    fn is_asked(&self) -> bool {
        self.inlet.is_asked()
    }

    /// Whether more of it comes, and somebody takes it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.inlet.is_whole() && !self.inlet.is_let_go()
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.inlet.is_whole()
    }

    /// Reads what is asked for, and before that tells the client to go on, if it waits for that and no answer has begun. True:
    /// whoever asked is to be polled.
    pub(super) fn poll_feed<S>(&mut self, wire: &mut Wire<S>, is_answered: bool, cx: &mut Context<'_>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.owes_continue && self.inlet.is_asked() {
            self.owes_continue = false;
            if !is_answered {
                wire.out().head().extend_from_slice(CONTINUE);
            }
        }
        self.inlet.poll_feed(wire, cx)
    }

    /// Whether another request may follow, as far as that is known before the answer: not behind a body that has broken off, or
    /// that nobody wants and that has not come whole.
    pub(super) fn poll_settle<S>(&mut self, wire: &mut Wire<S>, cx: &mut Context<'_>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.inlet.is_broken() {
            return false;
        }
        self.is_whole() || !self.inlet.is_let_go() || self.inlet.poll_skim(wire, cx)
    }
}

impl<S> Conversation<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Reads on behind an answer that came before the end of the request, as long as somebody wants the rest. Whether another
    /// request may follow; `None`: there is nobody to talk to any more.
    pub(super) fn poll_rest(&mut self, intake: &mut Intake, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        // Whoever asks is another task.
        let was_asked = intake.is_asked();
        intake.poll_feed(&mut self.wire, true, cx);
        self.reading.has_moved |= was_asked && !intake.is_asked();
        let goes_on = intake.poll_settle(&mut self.wire, cx);
        if intake.is_whole() || !goes_on {
            return Poll::Ready(Some(goes_on));
        }
        if self.aside.poll_over(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.reading.poll_stalled(cx).map(|()| None)
    }
}
