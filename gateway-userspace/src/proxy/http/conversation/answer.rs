//! An answer on its way: its head is written at once, its body as it comes and as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap};
use http::{Response, StatusCode, Version};
use http_body::{Body as _, Frame};

use super::exchange::About;
use crate::http1::{Answering, Encoder, Length, write_response};
use crate::proxy::http::exchange::{Exchange, Moving};
use crate::proxy::http::headers;
use crate::wire::Outflow;

/// Bytes that may wait for a client to take them: then no more is asked for.
const AHEAD: usize = 64 * 1024;

/// The answer breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// There is no more of it, though there should be.
    Answer,
    /// Nobody takes it.
    Client,
}

/// See the module.
pub(super) struct Answer {
    body: Body,
    encoder: Encoder,
    is_sent: bool,
    ends_with_connection: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them, and most of its time it is the large one"
)]
enum Body {
    Open(Moving),
    /// All of it was written; the request is over when that was sent.
    Over(#[expect(dead_code, reason = "held for its end alone")] Exchange),
    Broken,
}

impl Answer {
    /// Writes the head. `goes_on`: another request may follow, as far as the client is concerned. Returns whether one may, as far
    /// as the answer is.
    pub(super) fn begin(
        response: Response<Moving>,
        about: About,
        goes_on: bool,
        out: &mut Outflow,
    ) -> (Self, bool) {
        let (head, body) = response.into_parts();
        let has_body = !about.is_head && may_have_body(head.status) && !body.is_end_stream();
        let length = if has_body { length(&head.headers, &body, about.version) } else { Length::Exact(0) };
        let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let ends = length == Length::UntilClose || headers::lists(&head.headers, CONNECTION, b"close");
        let keeps_alive = is_switch || about.keeps_alive && goes_on && !ends;
        let answering =
            Answering { head: &head, version: about.version, length, is_head: about.is_head, keeps_alive };
        write_response(out.head(), answering);
        let encoder = Encoder::new(length);
        // Nobody expects others.
        let encoder = if about.takes_trailers { encoder.with_trailers_of(&head.headers) } else { encoder };
        let body = if has_body { Body::Open(body) } else { Body::Over(body.ended()) };
        let ends_with_connection = length == Length::UntilClose;
        (Self { body, encoder, is_sent: false, ends_with_connection }, keeps_alive)
    }

    /// Whether nothing but the connection's end tells the client that it is over.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.ends_with_connection
    }

    /// Whether nothing more is to be written.
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.body, Body::Open(_))
    }

    /// Whether all that was written was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// All that was written was sent.
    pub(super) fn sent(&mut self) {
        self.is_sent = true;
    }

    /// Writes what has come, up to its end, or as much as may wait.
    pub(super) fn poll_more(&mut self, out: &mut Outflow, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let Body::Open(body) = &mut self.body {
            if out.len() >= AHEAD {
                break;
            }
            let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(_)) => return Poll::Ready(Err(Broken::Answer)),
                None => None,
            };
            let is_last = frame.as_ref().is_none_or(Frame::is_trailers) || body.is_end_stream();
            self.is_sent = false;
            self.write(frame, is_last, out)?;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, frame: Option<Frame<Bytes>>, is_last: bool, out: &mut Outflow) -> Result<(), Broken> {
        let mut trailers = None;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => self.encoder.data(data, out).map_err(|_| Broken::Answer)?,
            Some(Err(frame)) => trailers = frame.into_trailers().ok(),
            None => {}
        }
        if is_last {
            self.encoder.end(trailers.as_ref(), out).map_err(|_| Broken::Answer)?;
            if let Body::Open(body) = std::mem::replace(&mut self.body, Body::Broken) {
                self.body = Body::Over(body.ended());
            }
        }
        Ok(())
    }
}

/// Neither 1xx nor these have one (RFC 9110, 15.3.5 and 15.4.5).
fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// How the client is told where the body ends.
fn length(headers: &HeaderMap, body: &Moving, version: Version) -> Length {
    let said = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    match body.size_hint().exact().or_else(said) {
        Some(length) => Length::Exact(length),
        None if version == Version::HTTP_10 => Length::UntilClose,
        None => Length::Chunked,
    }
}
