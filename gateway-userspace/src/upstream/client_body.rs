//! A client's body in the bytes that its backend is to get: as it comes, or out of base64, as gRPC-Web's text has it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine as _};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::messages::Messages;
use super::replay::RequestBodyError;
use crate::{http1, http2};

/// Characters of base64 that stand for something only together.
const GROUP: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct ClientBody {
    source: Source,
    decoder: Option<Decoder>,
    /// Bytes that may come yet, as the client sends them.
    room: u64,
    /// Where messages of gRPC are counted.
    messages: Option<Rc<RefCell<Messages>>>,
}

/// Where it comes from.
#[derive(Debug)]
enum Source {
    /// There is none.
    Empty,
    Http1(http1::Inbound),
    Http2(http2::Inbound),
}

impl ClientBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self::of(Source::Empty)
    }

    /// Of a request of HTTP/1, as it comes.
    pub fn http1(body: http1::Inbound) -> Self {
        Self::of(Source::Http1(body))
    }

    /// Of a stream of HTTP/2, as it comes.
    pub fn http2(body: http2::Inbound) -> Self {
        Self::of(Source::Http2(body))
    }

    fn of(source: Source) -> Self {
        Self { source, decoder: None, room: u64::MAX, messages: None }
    }

    /// It comes in base64 with padding, pieces of which may follow each other.
    pub fn is_base64(&mut self) {
        self.decoder = Some(Decoder::default());
    }

    /// May have so many bytes at most, if that is said.
    pub fn stay_within(&mut self, most: Option<u64>) {
        self.room = most.unwrap_or(u64::MAX);
    }

    /// Its messages are counted there, if that is said.
    pub fn count(&mut self, messages: Option<Rc<RefCell<Messages>>>) {
        self.messages = messages;
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Self { source, decoder, room, messages } = &mut *self;
        let count = |frame: Option<Frame<Bytes>>| {
            if let (Some(messages), Some(data)) = (messages, frame.as_ref().and_then(Frame::data_ref)) {
                messages.borrow_mut().take(data);
            }
            Poll::Ready(frame.map(Ok))
        };
        loop {
            let frame = ready!(source.poll_frame(cx)).transpose()?;
            let length = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
            *room = room.checked_sub(length as u64).ok_or(RequestBodyError::TooLong)?;
            let Some(decoder) = decoder else { return count(frame) };
            let frame = match frame.map(Frame::into_data) {
                Some(Ok(data)) => Some(Frame::data(decoder.push(&data)?)),
                Some(Err(other)) => Some(other),
                None => None,
            };
            let is_over = source.is_end_stream() || frame.as_ref().is_none_or(Frame::is_trailers);
            if is_over && !decoder.left.is_empty() {
                return Poll::Ready(Some(Err(RequestBodyError::NotBase64)));
            }
            // What was too little to stand for anything is no news.
            if is_over || frame.as_ref().and_then(Frame::data_ref).is_none_or(|data| !data.is_empty()) {
                return count(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.decoder.is_none() { self.source.size_hint() } else { SizeHint::default() }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Client),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(RequestBodyError::Stream),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// Out of base64 piece by piece.
#[derive(Debug, Default)]
struct Decoder {
    /// The start of a group whose end has not come.
    left: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, data: &[u8]) -> Result<Bytes, RequestBodyError> {
        let mut text = std::mem::take(&mut self.left);
        text.extend_from_slice(data);
        self.left = text.split_off(text.len() / GROUP * GROUP);
        decoded(&text).map(Bytes::from).map_err(|_| RequestBodyError::NotBase64)
    }
}

/// Padding ends a piece, which is rare: all of it is tried first.
fn decoded(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if let Ok(whole) = STANDARD.decode(text) {
        return Ok(whole);
    }
    let mut out = Vec::with_capacity(text.len() / GROUP * 3);
    for group in text.chunks(GROUP) {
        STANDARD.decode_vec(group, &mut out)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a text that is cut at some byte, and what is left over.
    fn cut(text: &[u8], at: usize) -> Result<(Vec<u8>, usize), RequestBodyError> {
        let mut decoder = Decoder::default();
        let mut out = decoder.push(&text[..at])?.to_vec();
        out.extend(decoder.push(&text[at..])?);
        Ok((out, decoder.left.len()))
    }

    #[test]
    fn base64_is_undone_however_it_is_cut() {
        for (text, want, left) in [
            ("aGVsbG8gd29ybGQ=", "hello world", 0),
            ("aA==ZWxsbw==", "hello", 0),
            ("aGVs=GVs", "", 0),
            ("aGVsbG8", "hel", 3),
            ("", "", 0),
        ] {
            for at in 0..=text.len() {
                match cut(text.as_bytes(), at) {
                    Ok((out, rest)) => {
                        assert_eq!((out.as_slice(), rest), (want.as_bytes(), left), "{text} cut at {at}");
                    }
                    Err(error) => assert!(text.contains("=G"), "{text} cut at {at}: {error}"),
                }
            }
        }
        for text in ["a===", "====", "aGV\n", "aGV_", "aG=s", "\u{e4}\u{e4}"] {
            assert!(cut(text.as_bytes(), 2).is_err(), "{text:?}");
        }
    }
}
