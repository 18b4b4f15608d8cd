//! What of a request follows its head: read from the client as the connection takes it, and never further.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::fault::Fault;
use crate::http1::{Encoder, Length, WrongLength};
use crate::upstream::replay::RequestBody;
use crate::upstream::stream::UpstreamStream;
use crate::wire::{Outflow, Wire};

/// Bytes that are taken of a body before they are sent.
const MOST_UNSENT: usize = 64 * 1024;

/// Has the connection for a moment: a body is never asked while somebody holds it.
pub(in crate::upstream) trait Lend {
    /// Whatever is done with it; [`Fault::Closed`] where it is gone.
    fn lend<T>(&mut self, with: impl FnOnce(&mut Wire<UpstreamStream>) -> T) -> Result<T, Fault>;
}

/// See the module.
#[derive(Debug)]
pub(in crate::upstream) struct Sending {
    body: RequestBody,
    encoder: Encoder,
    /// Something of the body was taken.
    is_begun: bool,
    /// All of it was.
    is_taken: bool,
    /// Something of the request was sent.
    has_left: bool,
    /// All that was taken is sent.
    is_flushed: bool,
    /// Nothing more can be sent.
    is_given_up: bool,
}

impl Sending {
    /// Of a request with this head, whose body is so long; `None`: it has none.
    pub(super) fn new(body: RequestBody, length: Option<Length>, head: &HeaderMap) -> Self {
        let encoder = Encoder::new(length.unwrap_or(Length::NONE)).with_trailers_of(head);
        let (is_taken, [is_begun, has_left, is_flushed, is_given_up]) = (length.is_none(), [false; 4]);
        Self { body, encoder, is_begun, is_taken, has_left, is_flushed, is_given_up }
    }

    /// The body, if nothing of the request was sent, nor of the body taken: it may go out on another connection.
    pub(in crate::upstream) fn unsent(self) -> Option<RequestBody> {
        (!self.is_begun && !self.has_left).then_some(self.body)
    }

    /// Whether something of the request was sent.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// The connection takes nothing more.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Whether all is sent that can be: the body may have an end that nobody has seen.
    pub(in crate::upstream) fn is_sent(&self) -> bool {
        self.is_given_up || self.encoder.is_done() && self.is_flushed
    }

    /// Sends what there is, and waits for the end of it.
    pub(in crate::upstream) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut impl Lend,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let is_starved = self.take(cx, connection)?;
            self.is_flushed = false;
            ready!(connection.lend(|wire| self.flush(cx, wire))?)?;
            self.is_flushed = true;
            if self.is_taken {
                return Poll::Ready(Ok(()));
            }
            if is_starved {
                return Poll::Pending;
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>, wire: &mut Wire<UpstreamStream>) -> Poll<io::Result<()>> {
        let before = wire.unsent();
        let flushed = wire.poll_send(cx);
        self.has_left |= wire.unsent() < before;
        flushed
    }

    /// Takes what there is of the body, as far as there is room for it. Tells whether there is room, and nothing more for now.
    fn take(&mut self, cx: &mut Context<'_>, connection: &mut impl Lend) -> Result<bool, Fault> {
        while !self.is_taken {
            if connection.lend(|wire| wire.unsent())? >= MOST_UNSENT {
                return Ok(false);
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Ok(true) };
            // A body that broke off looks as if it had ended to whoever asks once more.
            self.is_begun = true;
            let frame = frame.transpose()?;
            self.is_taken = frame.as_ref().is_none_or(Frame::is_trailers) || self.body.is_end_stream();
            connection.lend(|wire| self.encode(frame, wire.out()))??;
        }
        Ok(false)
    }

    fn encode(&mut self, frame: Option<Frame<Bytes>>, out: &mut Outflow) -> Result<(), WrongLength> {
        let mut trailers = None;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.encoder.data(data, out)?,
            Some(Err(other)) => trailers = other.into_trailers().ok(),
            None => {}
        }
        if self.is_taken { self.encoder.end(trailers.as_ref(), out) } else { Ok(()) }
    }
}
