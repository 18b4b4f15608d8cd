//! What of a body is kept to be said again. Bytes are copied together: a piece that a client sends weighs what it has of
//! bytes, however small the pieces are, and none keeps the buffer alive that it was read into.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// Bytes of a body that are held for another try; a longer one is sent once (Envoy's `per_connection_buffer_limit_bytes`).
pub(super) const MAX_HELD: usize = 1024 * 1024;
/// Bytes that a worker holds of all bodies together. What has no room is sent once: clients choose how many bodies there are,
/// and whether they end.
const MAX_HELD_TOGETHER: usize = 128 * MAX_HELD;
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
}

/// What is left of a worker's room for bodies. Clones share it.
#[derive(Debug, Clone)]
pub struct Room(Rc<Cell<usize>>);

impl Default for Room {
    fn default() -> Self {
        Self(Rc::new(Cell::new(MAX_HELD_TOGETHER)))
    }
}

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        if let Some(left) = left {
            self.0.set(left);
        }
        left.is_some()
    }

    fn give_back(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }
}

/// The start of a body, up to what was read of it.
#[derive(Debug)]
pub(super) struct Held {
    /// Without it nothing can be held.
    room: Option<Room>,
    parts: Vec<Part>,
    /// The last part while it grows.
    open: BytesMut,
    bytes: usize,
}

/// A body that has come to its end, for those who send copies. It has room of its own, as a copy may outlive its original.
#[derive(Debug)]
pub(super) struct Whole {
    parts: Box<[Part]>,
    bytes: usize,
    room: Room,
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

impl Whole {
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of it.
    pub(super) fn length(&self) -> u64 {
        self.bytes as u64
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.give_back(self.bytes);
        }
    }
}

impl Held {
    /// Nothing yet.
    pub(super) fn new(room: Option<Room>) -> Self {
        Self { room, parts: Vec::new(), open: BytesMut::new(), bytes: 0 }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.room.clone());
    }

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

    fn takes_room(&self, bytes: usize) -> bool {
        self.room.as_ref().is_some_and(|room| room.take(bytes))
    }

    fn push_data(&mut self, data: &[u8]) -> bool {
        if self.bytes + data.len() > MAX_HELD || !self.takes_room(data.len()) {
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

    /// All of it, if there is room.
    pub(super) fn whole(&mut self) -> Option<Rc<Whole>> {
        self.close();
        let (parts, bytes, room) = (self.parts.as_slice().into(), self.bytes, self.room.clone()?);
        room.take(bytes).then(|| Rc::new(Whole { parts, bytes, room }))
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
        let mut held = Held::new(Some(Room::default()));
        for at in 0..MAX_HELD {
            let at = at % buffer.len();
            assert!(held.push(&Frame::data(buffer.slice(at..=at))));
        }
        assert!(!held.push(&Frame::data(buffer.slice(..1))), "not one more");
        held.close();
        assert_eq!(held.whole().map(|whole| whole.length()), Some(MAX_HELD as u64));
        assert!(held.parts().len() <= MAX_HELD / PART, "{}", held.parts().len());
        assert!(buffer.is_unique(), "no part keeps what it was read into");
    }

    #[test]
    fn bodies_share_their_room() {
        let room = Room(Rc::new(Cell::new(3)));
        let bytes = |count: usize| Frame::data(Bytes::from(vec![7; count]));
        let [mut one, mut other] = [(); 2].map(|()| Held::new(Some(room.clone())));
        assert!(one.push(&bytes(2)) && !other.push(&bytes(2)) && other.push(&bytes(1)));
        one.clear();
        assert!(other.push(&bytes(2)) && !one.push(&bytes(1)));
        drop(other);
        assert!(one.push(&bytes(2)) && one.whole().is_none());
        one.clear();
        assert!(one.push(&bytes(1)));
        let copy = one.whole().expect("room for a copy");
        assert_eq!((copy.length(), copy.parts().len()), (1, 1));
        drop(one);
        let mut other = Held::new(Some(room));
        assert!(!other.push(&bytes(3)), "the copy has its room still");
        drop(copy);
        assert!(other.push(&bytes(3)));
    }

    #[test]
    fn parts_are_in_order_and_trailers_last() {
        let mut held = Held::new(Some(Room::default()));
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
