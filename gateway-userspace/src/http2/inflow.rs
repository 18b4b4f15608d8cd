//! What comes on a stream: as much as its window allows is held for whoever takes it (RFC 9113, 5.2).

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::fault::{Broken, Code};
use crate::wire::remember;

/// Pieces below this are joined: each by itself would hold what it was read into, which may be eight times as much.
const SMALL: usize = 8 * 1024;

/// What is behind that which is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More, which has not come.
    Open,
    /// Nothing.
    Over,
    /// More that will not come.
    Broken(Broken),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inflow {
    queue: VecDeque<Bytes>,
    /// Behind the queue.
    small: BytesMut,
    trailers: Option<HeaderMap>,
    end: End,
    /// Bytes that the head has announced, and that have not come.
    missing: Option<u64>,
    /// Likewise, and that were not taken.
    left: Option<u64>,
    /// Bytes that may come.
    window: u32,
    /// Bytes that were taken since the client was told how many may come.
    taken: u32,
    /// Whoever takes it is there.
    pub(super) is_held: bool,
    pub(super) reader: Option<Waker>,
}

impl Inflow {
    /// Nothing.
    pub(super) fn empty() -> Self {
        Self {
            queue: VecDeque::new(),
            small: BytesMut::new(),
            trailers: None,
            end: End::Over,
            missing: None,
            left: Some(0),
            window: 0,
            taken: 0,
            is_held: false,
            reader: None,
        }
    }

    /// Of so many bytes, if that is known.
    pub(super) fn new(length: Option<u64>, window: u32) -> Self {
        Self { end: End::Open, missing: length, left: length, window, is_held: true, ..Self::empty() }
    }

    /// Whether more may come.
    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Whether all of it was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.end == End::Over && self.queue.is_empty() && self.small.is_empty() && self.trailers.is_none()
    }

    /// Bytes that were not taken, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Takes a piece that has come, which counts for so many bytes with what pads it. Returns how many of them nobody will take.
    pub(super) fn receive(&mut self, data: BytesMut, counted: u32) -> Result<u32, Code> {
        self.window = self.window.checked_sub(counted).ok_or(Code::FLOW_CONTROL)?;
        if let Some(missing) = &mut self.missing {
            *missing = missing.checked_sub(data.len() as u64).ok_or(Code::PROTOCOL)?;
        }
        if !self.is_held {
            return Ok(counted);
        }
        let padding = counted - data.len() as u32;
        self.taken += padding;
        if data.len() < SMALL {
            self.small.extend_from_slice(&data);
        } else {
            if !self.small.is_empty() {
                self.queue.push_back(std::mem::take(&mut self.small).freeze());
            }
            self.queue.push_back(data.freeze());
        }
        self.wake();
        Ok(padding)
    }

    /// The end has come.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Code> {
        if self.missing.is_some_and(|missing| missing > 0) {
            return Err(Code::PROTOCOL);
        }
        self.end = End::Over;
        self.trailers = trailers.filter(|_| self.is_held);
        self.wake();
        Ok(())
    }

    /// What is missing will not come. Returns the bytes that nobody will take.
    pub(super) fn break_off(&mut self, broken: Broken) -> u32 {
        if self.end != End::Open {
            return 0;
        }
        self.end = End::Broken(broken);
        self.wake();
        self.forget()
    }

    /// Nobody takes any more of it. Returns the bytes that nobody has taken.
    pub(super) fn let_go(&mut self) -> u32 {
        (self.is_held, self.trailers, self.reader) = (false, None, None);
        self.forget()
    }

    fn forget(&mut self) -> u32 {
        let bytes = self.queue.iter().map(Bytes::len).sum::<usize>() + self.small.len();
        (self.queue, self.small) = (VecDeque::new(), BytesMut::new());
        bytes as u32
    }

    /// The next piece, or the trailers; or the end.
    pub(super) fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = self.queue.pop_front();
        let data =
            data.or_else(|| (!self.small.is_empty()).then(|| std::mem::take(&mut self.small).freeze()));
        if let Some(data) = data {
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            self.taken += data.len() as u32;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.end {
            End::Over => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            End::Broken(broken) => {
                self.end = End::Over;
                Poll::Ready(Some(Err(broken)))
            }
            End::Open => {
                remember(&mut self.reader, cx);
                Poll::Pending
            }
        }
    }

    /// Bytes that the client is to be told may come again, once they are worth a frame.
    pub(super) fn regained(&mut self, window: u32) -> Option<u32> {
        if self.end != End::Open || self.taken < window / 2 {
            return None;
        }
        self.window += self.taken;
        Some(std::mem::take(&mut self.taken))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(inflow: &mut Inflow) -> Poll<Option<Result<usize, Broken>>> {
        let next = inflow.poll_take(&Context::from_waker(Waker::noop()));
        next.map_ok(|frame| frame.into_data().map_or(0, |data| data.len()))
    }

    fn zeros(length: usize) -> BytesMut {
        BytesMut::zeroed(length)
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_stay() {
        let mut inflow = Inflow::new(None, 100_000);
        for length in [1, 2, SMALL, 3, SMALL - 1, 10_000] {
            assert_eq!(inflow.receive(zeros(length), length as u32), Ok(0));
        }
        let mut found = Vec::new();
        while let Poll::Ready(Some(Ok(length))) = taken(&mut inflow) {
            found.push(length);
        }
        assert_eq!(found, [3, SMALL, SMALL + 2, 10_000]);
        assert!(inflow.is_open() && !inflow.is_taken());
        inflow.finish(None).unwrap();
        assert_eq!((taken(&mut inflow), inflow.is_taken()), (Poll::Ready(None), true));
    }

    #[test]
    fn the_window_is_what_may_come_and_grows_by_what_was_taken() {
        let mut inflow = Inflow::new(None, 100);
        assert_eq!(inflow.receive(zeros(40), 60), Ok(20), "what pads is taken at once");
        assert_eq!(inflow.regained(100), None);
        assert_eq!(inflow.receive(zeros(41), 41), Err(Code::FLOW_CONTROL));
        let mut inflow = Inflow::new(None, 100);
        inflow.receive(zeros(100), 100).unwrap();
        assert_eq!(taken(&mut inflow), Poll::Ready(Some(Ok(100))));
        assert_eq!((inflow.regained(100), inflow.regained(100)), (Some(100), None));
        assert_eq!(inflow.receive(zeros(100), 100), Ok(0));
        assert_eq!(inflow.let_go(), 100);
    }

    #[test]
    fn a_body_has_the_length_that_its_head_has_announced() {
        let mut inflow = Inflow::new(Some(5), 100);
        inflow.receive(zeros(3), 3).unwrap();
        assert_eq!(
            (inflow.left(), taken(&mut inflow), inflow.left()),
            (Some(5), Poll::Ready(Some(Ok(3))), Some(2))
        );
        assert_eq!(inflow.finish(None), Err(Code::PROTOCOL));
        assert_eq!(inflow.receive(zeros(3), 3), Err(Code::PROTOCOL));
        assert_eq!(inflow.break_off(Broken::Flawed), 0);
        assert_eq!(taken(&mut inflow), Poll::Ready(Some(Err(Broken::Flawed))));
        assert_eq!(taken(&mut inflow), Poll::Ready(None), "once");
    }
}
