//! Where a stream is answered. What may be sent on it is bounded by its window, the connection's, and what the client has not taken yet;
//! streams that have much to say take turns.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{DATE, HeaderMap, HeaderValue};
use http::{StatusCode, response};

use super::fault::{Broken, Code};
use super::frame::{FrameHead, LONGEST, flag, kind, put_block};
use super::hpack::Encoder;
use super::session::Session;
use super::state::State;
use super::stream::Ended;
use crate::wire::date::with_date;

/// See the module. Dropped before the end is said, it has the stream break off (`CANCEL`).
#[derive(Debug)]
pub struct Outbound {
    session: Session,
    id: u32,
}

impl Outbound {
    pub(super) fn new(session: Session, id: u32) -> Self {
        Self { session, id }
    }

    /// Says an answer's head; nothing follows if it `ends` the stream. One without a date gets one (RFC 9110, 6.6.1).
    pub fn head(&self, head: &mut response::Parts, ends: bool) {
        if !head.headers.contains_key(DATE)
            && let Ok(date) = with_date(HeaderValue::from_bytes)
        {
            head.headers.insert(DATE, date);
        }
        self.session.0.borrow_mut().head(self.id, (head.status, &head.headers), ends);
    }

    /// Says data, as much of it as there is room for; it `ends` the stream, perhaps. Ready when all of it is said.
    pub fn poll_data(&self, data: &mut Bytes, ends: bool, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.session.0.borrow_mut().poll_data(self.id, data, ends, cx)
    }

    /// Says what stands behind the body, which ends the stream.
    pub fn trailers(&self, trailers: &HeaderMap) {
        self.session.0.borrow_mut().trailers(self.id, trailers);
    }

    /// Ready when there is nobody any more whom to answer.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.session.0.borrow_mut();
        match state.streams.get(self.id) {
            Some(stream) if stream.ended == Ended::No => {
                stream.wait(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Ends the stream before its time.
    pub fn reset(&self, code: Code) {
        let state = &mut *self.session.0.borrow_mut();
        if state.streams.get(self.id).is_some_and(|stream| stream.is_sending) {
            state.reset(self.id, code, Broken::Gone);
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.reset(Code::CANCEL);
        let state = &mut *self.session.0.borrow_mut();
        if let Some(stream) = state.streams.get(self.id) {
            stream.is_held = false;
            state.settle(self.id);
        }
    }
}

impl State {
    /// Tells a client to go on with its body.
    pub(super) fn go_on(&mut self, id: u32) {
        self.head(id, (StatusCode::CONTINUE, &HeaderMap::new()), false);
    }

    fn head(&mut self, id: u32, (status, headers): (StatusCode, &HeaderMap), ends: bool) {
        self.block(id, ends, |encoder, out| encoder.response(status, headers, out));
    }

    fn trailers(&mut self, id: u32, trailers: &HeaderMap) {
        self.block(id, true, |encoder, out| encoder.trailers(trailers, out));
    }

    /// Says headers, for which no room is asked.
    fn block(&mut self, id: u32, ends: bool, encode: impl FnOnce(&mut Encoder, &mut BytesMut)) {
        if !self.streams.get(id).is_some_and(|stream| stream.is_sending) {
            return;
        }
        let Self { encoder, writer, .. } = self;
        let before = writer.unsent();
        put_block(writer.out().head(), id, ends, LONGEST, |out| encode(encoder, out));
        self.owes(self.writer.unsent() - before);
        self.said(id, ends);
    }

    fn poll_data(
        &mut self,
        id: u32,
        data: &mut Bytes,
        ends: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let (has_room, window) = (self.has_room(), self.window);
            let Some(stream) = self.streams.get(id).filter(|stream| stream.is_sending) else {
                return Poll::Ready(Err(Broken::Gone));
            };
            let mut length = 0;
            if !data.is_empty() {
                let has_turn = std::mem::take(&mut stream.has_turn) && window > 0;
                if stream.is_queued || stream.window <= 0 || !has_room && !has_turn {
                    stream.wait(cx);
                    if stream.window > 0 {
                        self.queue(id);
                    }
                    return Poll::Pending;
                }
                length = data.len().min(LONGEST).min(stream.window.min(window) as usize);
                let counted = length.cast_signed() as i64;
                stream.window -= counted;
                self.window -= counted;
            }
            let is_last = length == data.len();
            if length > 0 || ends {
                self.put_data(id, data.split_to(length), ends && is_last);
            }
            if is_last {
                return Poll::Ready(Ok(()));
            }
            // Others may have as much to say.
            if !self.queue.is_empty() {
                self.queue(id);
            }
        }
    }

    fn queue(&mut self, id: u32) {
        if let Some(stream) = self.streams.get(id).filter(|stream| !stream.is_queued) {
            stream.is_queued = true;
            self.queue.push_back(id);
        }
    }

    fn put_data(&mut self, id: u32, data: Bytes, ends: bool) {
        let out = self.writer.out();
        let flags = if ends { flag::END_STREAM } else { 0 };
        FrameHead::new(data.len(), kind::DATA, flags, id).put(out.head());
        out.push(data);
        self.said(id, ends);
    }

    /// Something was said on a stream.
    fn said(&mut self, id: u32, ends: bool) {
        if ends && let Some(stream) = self.streams.get(id) {
            stream.is_sending = false;
            self.settle(id);
        }
        self.ring();
    }
}
