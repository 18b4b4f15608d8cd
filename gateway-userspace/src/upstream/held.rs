//! What of a body is kept to be said again. Bytes are copied together: a piece that a client sends weighs what it has of
//! bytes, however small the pieces are, and none keeps the buffer alive that it was read into.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// Bytes of a body that are held for another try; a longer one is sent once (Envoy's `per_connection_buffer_limit_bytes`).
pub(super) const MAX_HELD: usize = 1024 * 1024;
/// Bytes that are kept in one part, at least: what comes is not cut.
const PART: usize = 16 * 1024;

/// A part of a body that is kept.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    pub(super) fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(bytes) => Frame::data(bytes),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    /// Bytes of it.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Trailers(_) => 0,
        }
    }
}

/// The start of a body, up to what was read of it.
#[derive(Debug, Default)]
pub(super) struct Held {
    parts: Vec<Part>,
    /// The last part while it grows.
    open: BytesMut,
    bytes: usize,
}

impl Held {
    /// Keeps a frame; false if there is no room for it.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            return self.push_data(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.close();
            self.parts.push(Part::Trailers(trailers.clone()));
        }
        true
    }

    fn push_data(&mut self, data: &[u8]) -> bool {
        if self.bytes + data.len() > MAX_HELD {
            return false;
        }
        self.bytes += data.len();
        self.open.extend_from_slice(data);
        if self.open.len() >= PART {
            self.close();
        }
        true
    }

    /// Ends the part that grows, so that all that is held is in [`Held::parts`].
    pub(super) fn close(&mut self) {
        if !self.open.is_empty() {
            self.parts.push(Part::Data(std::mem::take(&mut self.open).freeze()));
        }
    }

    /// What can be read.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_one_by_one_are_held_in_a_few_parts() {
        // A slice of a buffer, as a connection reads them.
        let buffer = Bytes::from(vec![7; 64 * 1024]);
        let mut held = Held::default();
        for at in 0..MAX_HELD {
            let at = at % buffer.len();
            assert!(held.push(&Frame::data(buffer.slice(at..=at))));
        }
        assert!(!held.push(&Frame::data(buffer.slice(..1))), "not one more");
        held.close();
        assert_eq!(held.parts().iter().map(Part::length).sum::<usize>(), MAX_HELD);
        assert!(held.parts().len() <= MAX_HELD / PART, "{}", held.parts().len());
        assert!(buffer.is_unique(), "no part keeps what it was read into");
    }

    #[test]
    fn parts_are_in_order_and_trailers_last() {
        let mut held = Held::default();
        let trailers: HeaderMap =
            [(http::header::TE, http::HeaderValue::from_static("x"))].into_iter().collect();
        assert!(held.push(&Frame::data(Bytes::from_static(b"a"))));
        held.close();
        held.close();
        assert!(held.push(&Frame::data(Bytes::from_static(b"b"))));
        assert!(held.push(&Frame::data(Bytes::from_static(b"c"))));
        assert!(held.push(&Frame::trailers(trailers.clone())));
        let found: Vec<Frame<Bytes>> = held.parts().iter().cloned().map(Part::frame).collect();
        let data: Vec<&[u8]> = found.iter().filter_map(|frame| frame.data_ref().map(AsRef::as_ref)).collect();
        assert_eq!(data, [&b"a"[..], b"bc"]);
        assert_eq!(found.last().and_then(Frame::trailers_ref), Some(&trailers));
    }
}
