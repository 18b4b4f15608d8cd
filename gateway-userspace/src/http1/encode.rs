//! Bodies as they are written, in the length that the head has said.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, TRAILER};

use super::length::Length;
use super::write::put_line;
use crate::wire::{Outflow, tokens};

/// A body that has another length than its head has said: its connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a body of another length than was said")]
pub struct WrongLength;

/// Writes one body.
#[derive(Debug)]
pub struct Encoder {
    state: State,
    /// Trailers that the head has announced; no other is written.
    announced: Vec<HeaderName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Exact(u64),
    Chunked,
    UntilClose,
    Done,
}

impl Encoder {
    /// Of a body that is so long.
    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Exact(0) => State::Done,
            Length::Exact(left) => State::Exact(left),
            Length::Chunked => State::Chunked,
            Length::UntilClose => State::UntilClose,
        };
        Self { state, announced: Vec::new() }
    }

    /// Writes those trailers that the message's head names (`Trailer`; RFC 9110, 6.6.2).
    pub fn with_trailers_of(mut self, head: &HeaderMap) -> Self {
        if self.state == State::Chunked {
            let names = tokens(head, TRAILER);
            self.announced = names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
        }
        self
    }

    /// Whether it has come to its end.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Writes a piece.
    pub fn data(&mut self, data: Bytes, out: &mut Outflow) -> Result<(), WrongLength> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.state {
            State::Done => return Err(WrongLength),
            State::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                if *left == 0 {
                    self.state = State::Done;
                }
                out.push(data);
            }
            State::Chunked => {
                chunk_size(data.len(), out);
                out.push(data);
                out.head().extend_from_slice(b"\r\n");
            }
            State::UntilClose => out.push(data),
        }
        Ok(())
    }

    /// Writes what stands behind the last piece.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Outflow) -> Result<(), WrongLength> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Exact(_) => return Err(WrongLength),
            State::UntilClose | State::Done => {}
            State::Chunked => {
                let out = out.head();
                out.extend_from_slice(b"0\r\n");
                let trailers = trailers.into_iter().flatten();
                for (name, value) in trailers.filter(|(name, _)| self.announced.contains(name)) {
                    put_line(out, name, value);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// The line before a chunk.
fn chunk_size(bytes: usize, out: &mut Outflow) {
    let mut line = [0; 2 * size_of::<usize>() + 2];
    let [digits @ .., _, _] = &mut line;
    let (mut left, mut first) = (bytes, digits.len());
    while left > 0 {
        first -= 1;
        digits[first] = b"0123456789abcdef"[left % 16];
        left /= 16;
    }
    let [.., cr, lf] = &mut line;
    (*cr, *lf) = (b'\r', b'\n');
    out.head().extend_from_slice(&line[first..]);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn encoded(
        length: Length,
        pieces: &[&'static str],
        trailers: Option<&HeaderMap>,
    ) -> Result<String, WrongLength> {
        let head: HeaderMap = [(TRAILER, HeaderValue::from_static("x-a, X-B"))].into_iter().collect();
        let (mut encoder, mut out) = (Encoder::new(length).with_trailers_of(&head), Outflow::default());
        for piece in pieces {
            encoder.data(Bytes::from_static(piece.as_bytes()), &mut out)?;
        }
        encoder.end(trailers, &mut out)?;
        assert!(encoder.is_done());
        Ok(String::from_utf8(out.collected()).unwrap())
    }

    #[test]
    fn a_body_has_the_length_that_was_said() {
        let chunked = "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
        for (length, pieces, want) in [
            (Length::NONE, &[][..], Ok("")),
            (Length::NONE, &["", ""], Ok("")),
            (Length::NONE, &["a"], Err(WrongLength)),
            (Length::Exact(3), &["ab", "", "c"], Ok("abc")),
            (Length::Exact(3), &["ab"], Err(WrongLength)),
            (Length::Exact(3), &["ab", "cd"], Err(WrongLength)),
            (Length::Chunked, &["abc", "", "0123456789abcdef"], Ok(chunked)),
            (Length::Chunked, &[], Ok("0\r\n\r\n")),
            (Length::UntilClose, &["ab", "c"], Ok("abc")),
        ] {
            assert_eq!(encoded(length, pieces, None).as_deref(), want.as_ref().map(|it| *it), "{pieces:?}");
        }
    }

    #[test]
    fn trailers_are_written_that_were_announced() {
        let name = |name| HeaderName::from_static(name);
        let trailers = [name("x-a"), name("x-c"), name("x-b")].into_iter();
        let trailers: HeaderMap = trailers.map(|name| (name, HeaderValue::from_static("1"))).collect();
        let said = encoded(Length::Chunked, &["a"], Some(&trailers)).unwrap();
        assert_eq!(said, "1\r\na\r\n0\r\nx-a: 1\r\nx-b: 1\r\n\r\n");
        assert_eq!(encoded(Length::Exact(1), &["a"], Some(&trailers)).unwrap(), "a");
    }
}
