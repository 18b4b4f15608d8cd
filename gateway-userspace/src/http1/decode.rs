//! Bodies as they are read: by their length, in chunks (RFC 9112, 7.1), or to the end of the connection. Chunks are read to the
//! letter: lines between them end in CRLF, as others see other chunks where one of the two is missing.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use httparse::Status;
use memchr::memchr_iter;

use super::length::Length;

/// Bytes of all extensions of a body's chunks together, which nobody here understands.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;
/// Lines of them.
const MOST_TRAILERS: usize = 100;

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flawed {
    /// No chunk, where one has to be.
    #[error("no chunk where one has to be")]
    Chunk,
    /// The trailers cannot be read, or there are too many of them.
    #[error("trailers that cannot be read, or are too large")]
    Trailers,
    /// The connection ended before the body did.
    #[error("the connection ended before the body")]
    Incomplete,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of extensions that may come still.
    room: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes come.
    Exact(u64),
    /// The line that says how large the next chunk is.
    Size,
    /// So many bytes of a chunk come, and the end of its line.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

/// A line that says how large a chunk is.
struct Size {
    bytes: u64,
    extensions: usize,
    /// Of the line, with its end.
    length: usize,
}

impl Decoder {
    /// Of a body that is so long.
    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Exact(0) => State::Done,
            Length::Exact(left) => State::Exact(left),
            Length::Chunked => State::Size,
            Length::UntilClose => State::UntilClose,
        };
        Self { state, room: MAX_EXTENSIONS }
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is left of it.
    pub fn hint(&self) -> SizeHint {
        match self.state {
            State::Exact(left) => SizeHint::with_exact(left),
            State::Done => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// Takes the next piece out of what was read; `None`: more is needed, or it is done.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Flawed> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                _ if buffer.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(Frame::data(buffer.split().freeze()))),
                State::Exact(left) => {
                    let (data, left) = piece(buffer, left);
                    self.state = if left == 0 { State::Done } else { State::Exact(left) };
                    return Ok(Some(Frame::data(data)));
                }
                State::Chunk(left) => {
                    let (data, left) = piece(buffer, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Some(Frame::data(data)));
                }
                State::ChunkEnd => match buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    [b'\r'] => return Ok(None),
                    _ => return Err(Flawed::Chunk),
                },
                State::Size => {
                    let Some(size) = size(buffer, self.room)? else { return Ok(None) };
                    buffer.advance(size.length);
                    self.room -= size.extensions;
                    self.state = if size.bytes == 0 { State::Trailers } else { State::Chunk(size.bytes) };
                }
                State::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(None) };
                    self.state = State::Done;
                    return Ok(Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
                }
            }
        }
    }

    /// The connection has ended, and all that was read of it was decoded.
    pub fn end(&mut self) -> Result<(), Flawed> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Flawed::Incomplete),
        }
    }
}

/// As much as there is of so many bytes, and how many are left.
fn piece(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    (buffer.split_to(count).freeze(), left - count as u64)
}

/// `chunk-size [ chunk-ext ] CRLF`, refused as soon as it cannot become one.
fn size(line: &[u8], room: usize) -> Result<Option<Size>, Flawed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut bytes: u64 = 0;
    for digit in &line[..digits] {
        let value = (*digit as char).to_digit(16).map_or(0, u64::from);
        bytes = bytes.checked_mul(16).and_then(|bytes| bytes.checked_add(value)).ok_or(Flawed::Chunk)?;
    }
    let blanks = line[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let behind = &line[digits + blanks..];
    // Zeros and blanks cost who sends them as much as extensions do.
    let (extensions, end) = match behind.first() {
        Some(b';') => (extension(behind), behind),
        _ => (Some(0), behind),
    };
    let told = digits.saturating_sub(16) + blanks + extensions.unwrap_or(behind.len());
    if (digits == 0 && !line.is_empty()) || told > room {
        return Err(Flawed::Chunk);
    }
    let Some(extension) = extensions else { return Ok(None) };
    match end[extension..] {
        [b'\r', b'\n', ..] => {
            Ok(Some(Size { bytes, extensions: told, length: digits + blanks + extension + 2 }))
        }
        [] | [b'\r'] => Ok(None),
        _ => Err(Flawed::Chunk),
    }
}

/// Bytes of an extension, if its end is there.
fn extension(line: &[u8]) -> Option<usize> {
    line.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The lines behind the last chunk, if all have come.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Flawed> {
    match buffer[..] {
        [b'\r', b'\n', ..] => {
            buffer.advance(2);
            return Ok(Some(HeaderMap::new()));
        }
        [b'\r'] => return Ok(None),
        [b'\r', ..] => return Err(Flawed::Trailers),
        _ => {}
    }
    let mut end = None;
    for at in memchr_iter(b'\n', buffer) {
        if at == 0 || buffer[at - 1] != b'\r' {
            return Err(Flawed::Trailers);
        }
        if buffer[at + 1..].starts_with(b"\r\n") {
            end = Some(at + 3);
            break;
        }
    }
    if end.unwrap_or(buffer.len()) > MAX_TRAILERS {
        return Err(Flawed::Trailers);
    }
    let Some(end) = end else { return Ok(None) };
    let lines = buffer.split_to(end).freeze();
    let mut parsed = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    match httparse::parse_headers(&lines, &mut parsed) {
        Ok(Status::Complete((length, parsed))) if length == lines.len() => {
            let mut trailers = HeaderMap::with_capacity(parsed.len());
            for line in parsed {
                let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Flawed::Trailers)?;
                let value = HeaderValue::from_bytes(line.value).map_err(|_| Flawed::Trailers)?;
                trailers.append(name, value);
            }
            Ok(Some(trailers))
        }
        _ => Err(Flawed::Trailers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// What a body of a length is, read in pieces of so many bytes: data, trailers, and what stands behind it.
    fn decoded(length: Length, said: &[u8], step: usize) -> Result<Read, Flawed> {
        let (mut decoder, mut buffer) = (Decoder::new(length), BytesMut::new());
        let (mut data, mut trailers) = (Vec::new(), None);
        for piece in said.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut buffer)? {
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
        }
        decoder.end()?;
        assert!(decoder.is_done());
        Ok((data, trailers, buffer.to_vec()))
    }

    #[test]
    fn bodies_are_read_alike_however_they_are_cut() {
        for (length, said, want, behind) in [
            (Length::NONE, &b"GET"[..], &b""[..], &b"GET"[..]),
            (Length::Exact(3), b"abcGET", b"abc", b"GET"),
            (Length::UntilClose, b"abc", b"abc", b""),
            (Length::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", b"abc", b"GET"),
            (Length::Chunked, b"00A ;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n000;z\r\n\r\n", b"0123456789!", b""),
            (Length::Chunked, b"1\t\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\nGET", b"a", b"GET"),
        ] {
            for step in 1..=said.len() {
                let (data, trailers, rest) = decoded(length, said, step).unwrap();
                assert_eq!((&data[..], &rest[..]), (want, behind), "{said:?} by {step}");
                assert_eq!(trailers.is_some(), said.contains(&b'X'), "{said:?} by {step}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused_however_it_is_cut() {
        for said in [
            &b"x\r\n"[..],
            b";\r\n",
            b" 1\r\na\r\n",
            b"-1\r\n",
            b"0x1\r\na\r\n",
            b"1\na\r\n0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1 1\r\na\r\n",
            b"1;a\nb\r\na\r\n0\r\n\r\n",
            b"1;a\rb\r\na\r\n0\r\n\r\n",
            b"11111111111111111\r\n",
            b"0\r\n\n",
            b"0\r\n\r\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\n X: 1\r\n\r\n",
        ] {
            for step in 1..=said.len() {
                let read = decoded(Length::Chunked, said, step);
                assert!(
                    matches!(read, Err(Flawed::Chunk | Flawed::Trailers)),
                    "{said:?} by {step}: {read:?}"
                );
            }
        }
    }

    #[test]
    fn an_end_before_the_body_s_is_none() {
        for (length, said) in [
            (Length::Exact(3), &b"ab"[..]),
            (Length::Chunked, b""),
            (Length::Chunked, b"1\r\na"),
            (Length::Chunked, b"1\r\na\r\n0\r\n"),
            (Length::Chunked, b"0\r\nX: 1\r\n"),
        ] {
            assert_eq!(decoded(length, said, said.len().max(1)), Err(Flawed::Incomplete), "{said:?}");
        }
    }

    #[test]
    fn what_nobody_wants_of_a_body_is_bounded() {
        let long = "x".repeat(MAX_EXTENSIONS);
        let many = "0;x\r\n".replace('0', "1").replace("\r\n", "\r\na\r\n").repeat(MAX_EXTENSIONS);
        for said in
            [format!("1;{long}\r\na\r\n"), format!("1;{long}"), many, format!("{}1", "0".repeat(20_000))]
        {
            assert_eq!(decoded(Length::Chunked, said.as_bytes(), 1000), Err(Flawed::Chunk));
        }
        for said in
            [format!("0\r\nX: {long}\r\n\r\n"), format!("0\r\n{}\r\n", "X: 1\r\n".repeat(MOST_TRAILERS + 1))]
        {
            assert_eq!(decoded(Length::Chunked, said.as_bytes(), 1000), Err(Flawed::Trailers));
        }
    }
}
