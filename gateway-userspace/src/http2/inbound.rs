//! What comes on a stream, for whoever takes it: nothing more may come than its window allows before it is taken, so that who is slow slows
//! the client down.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::fault::Broken;
use super::session::Session;

/// See the module.
#[derive(Debug)]
pub struct Inbound {
    session: Session,
    id: u32,
    /// To be said before anything is waited for (RFC 9110, 10.1.1).
    owes_continue: bool,
}

impl Inbound {
    pub(super) fn new(session: Session, id: u32) -> Self {
        Self { session, id, owes_continue: false }
    }

    /// The client waits to be told to go on.
    pub fn owes_continue(&mut self) {
        self.owes_continue = true;
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let owes_continue = std::mem::take(&mut self.owes_continue);
        let state = &mut *self.session.0.borrow_mut();
        let Some(stream) = state.streams.get(self.id) else { return Poll::Ready(None) };
        let next = stream.inflow.poll_take(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                state.taken(self.id, length as u32);
            }
            Poll::Pending if owes_continue => state.go_on(self.id),
            _ => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        let mut state = self.session.0.borrow_mut();
        state.streams.get(self.id).is_none_or(|stream| stream.inflow.is_taken())
    }

    fn size_hint(&self) -> SizeHint {
        let mut state = self.session.0.borrow_mut();
        let left = state.streams.get(self.id).and_then(|stream| stream.inflow.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let state = &mut *self.session.0.borrow_mut();
        if let Some(stream) = state.streams.get(self.id) {
            let untaken = stream.inflow.let_go();
            state.take(untaken);
            state.settle(self.id);
        }
    }
}
