//! Heads of messages, read once they have come whole (RFC 9112, 2 to 5). What a head may look like is httparse's word; values are
//! slices of what was read, which lives as long as they do.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use httparse::{Header, Status};
use memchr::memchr_iter;

use super::length::{Ambiguous, Length};
use crate::wire::{expects_continue, lists};

/// Bytes of a target at most.
const LONGEST_TARGET: usize = 65_534;
/// Lines of a head that are looked at; [`Limits::lines`] is no larger.
const MOST_LINES: usize = 100;
/// Bytes of empty lines before a request.
const MOST_EMPTY: usize = 16;
/// Lines that the gateway adds to a head, more or less: there is room for them from the start.
const ADDED: usize = 10;

/// What a head may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, the last line's end among them.
    pub bytes: usize,
    /// Header lines, 100 at most.
    pub lines: usize,
}

/// How much of a head that has not come whole was looked at, so that who sends it octet by octet does not have all of it looked at each
/// time. Zero for every new head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked(usize);

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP/1.
    #[error("not HTTP/1")]
    Malformed,
    /// It has more bytes or lines than it may have.
    #[error("a head that is too large")]
    TooLarge,
    /// Its target has.
    #[error("a target that is too long")]
    TargetTooLong,
}

/// A request's.
#[derive(Debug)]
pub struct RequestHead {
    /// The head itself, of HTTP/1.0 or 1.1.
    pub request: Request<()>,
    /// How long the body is.
    pub length: Result<Length, Ambiguous>,
    /// Another request may follow on the connection.
    pub is_kept_alive: bool,
    /// The client waits for a 100 before it sends its body (RFC 9110, 10.1.1).
    pub expects_continue: bool,
}

/// A response's.
#[derive(Debug)]
pub struct ResponseHead {
    /// The head itself, of HTTP/1.0 or 1.1; with [`Reason`] where its words are not the usual ones.
    pub response: Response<()>,
    /// How long the body is; none behind 1xx.
    pub length: Result<Length, Ambiguous>,
    /// Another request may follow on the connection.
    pub is_kept_alive: bool,
}

/// What a backend says of its status in words of its own (RFC 9112, 4: `reason-phrase`).
#[derive(Debug, Clone)]
pub struct Reason(pub(super) Bytes);

impl RequestHead {
    /// Takes a head out of what was read; `None`: more is needed.
    pub fn read(
        buffer: &mut BytesMut,
        looked: &mut Looked,
        limits: Limits,
    ) -> Result<Option<Self>, HeadError> {
        let empty = empty_lines(buffer)?;
        let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_LINES];
        let Some(head) = take(buffer, empty, looked, limits)? else {
            let begun = &buffer[empty..];
            if looked.is_first(begun) {
                let mut request = httparse::Request::new(&mut []);
                let lines = &mut lines[..limits.lines.min(MOST_LINES)];
                request.parse_with_uninit_headers(begun, lines).map_err(error)?;
            }
            return Ok(None);
        };
        let mut parsed = httparse::Request::new(&mut []);
        let lines = &mut lines[..limits.lines.min(MOST_LINES)];
        let status = parsed.parse_with_uninit_headers(&head, lines).map_err(error)?;
        let (Status::Complete(length), Some(method), Some(target), Some(minor)) =
            (status, parsed.method, parsed.path, parsed.version)
        else {
            return Err(HeadError::Malformed);
        };
        if length != head.len() {
            return Err(HeadError::Malformed);
        }
        if target.len() > LONGEST_TARGET {
            return Err(HeadError::TargetTooLong);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed)?;
        let target = head.slice_ref(target.as_bytes());
        *request.uri_mut() = Uri::from_maybe_shared(target).map_err(|_| HeadError::Malformed)?;
        *request.version_mut() = version(minor);
        *request.headers_mut() = headers(&head, parsed.headers)?;
        let length = Length::of_request(request.headers(), minor == 0)?;
        let is_kept_alive = is_kept_alive(request.headers(), minor);
        let expects_continue = minor == 1 && expects_continue(request.headers());
        Ok(Some(Self { request, length, is_kept_alive, expects_continue }))
    }
}

impl ResponseHead {
    /// Takes a head out of what was read, of a response to a request of some method; `None`: more is needed.
    pub fn read(
        buffer: &mut BytesMut,
        looked: &mut Looked,
        asked: &Method,
        limits: Limits,
    ) -> Result<Option<Self>, HeadError> {
        let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_LINES];
        let Some(head) = take(buffer, 0, looked, limits)? else {
            if looked.is_first(buffer) {
                let mut response = httparse::Response::new(&mut []);
                let lines = &mut lines[..limits.lines.min(MOST_LINES)];
                httparse::ParserConfig::default()
                    .parse_response_with_uninit_headers(&mut response, buffer, lines)
                    .map_err(error)?;
            }
            return Ok(None);
        };
        let mut parsed = httparse::Response::new(&mut []);
        let lines = &mut lines[..limits.lines.min(MOST_LINES)];
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, &head, lines)
            .map_err(error)?;
        let (Status::Complete(length), Some(code), Some(minor)) = (status, parsed.code, parsed.version)
        else {
            return Err(HeadError::Malformed);
        };
        if length != head.len() {
            return Err(HeadError::Malformed);
        }
        let code = StatusCode::from_u16(code).map_err(|_| HeadError::Malformed)?;
        let mut response = Response::new(());
        *response.status_mut() = code;
        *response.version_mut() = version(minor);
        *response.headers_mut() = headers(&head, parsed.headers)?;
        if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != code.canonical_reason()) {
            response.extensions_mut().insert(Reason(Bytes::copy_from_slice(reason.as_bytes())));
        }
        let length = Length::of_response(response.headers(), (asked, code), minor == 0)?;
        let is_kept_alive = is_kept_alive(response.headers(), minor);
        Ok(Some(Self { response, length, is_kept_alive }))
    }
}

impl Looked {
    /// Whether nothing was looked at before what there is now. What is no HTTP from its start on is told then.
    fn is_first(&mut self, begun: &[u8]) -> bool {
        std::mem::replace(&mut self.0, begun.len()) == 0 && !begun.is_empty()
    }
}

/// Bytes of the empty lines before a request, which are none of it (RFC 9112, 2.2). They are taken with it, so that they are no request's
/// worth of time.
fn empty_lines(bytes: &[u8]) -> Result<usize, HeadError> {
    let mut length = 0;
    loop {
        length += match bytes[length..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => return Ok(length),
        };
        if length > MOST_EMPTY {
            return Err(HeadError::Malformed);
        }
    }
}

/// A head that has come whole, with its last empty line, from behind so many bytes.
fn take(
    buffer: &mut BytesMut,
    before: usize,
    Looked(looked): &mut Looked,
    limits: Limits,
) -> Result<Option<Bytes>, HeadError> {
    let Some(end) = end(&buffer[before..], *looked) else {
        return if buffer.len() >= limits.bytes { Err(HeadError::TooLarge) } else { Ok(None) };
    };
    *looked = 0;
    buffer.advance(before);
    if end > limits.bytes {
        return Err(HeadError::TooLarge);
    }
    Ok(Some(buffer.split_to(end).freeze()))
}

/// Where the empty line behind a head ends; a line may end in LF alone (RFC 9112, 2.2).
fn end(bytes: &[u8], looked: usize) -> Option<usize> {
    // The end of a line that was looked at may belong to it.
    let from = looked.saturating_sub(2).min(bytes.len());
    memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        _ => HeadError::Malformed,
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn headers(head: &Bytes, lines: &[Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(lines.len() + ADDED);
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| HeadError::Malformed)?;
        let value = if line.value.is_empty() { Bytes::new() } else { head.slice_ref(line.value) };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::Malformed)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Whether the connection goes on (RFC 9112, 9.3).
fn is_kept_alive(headers: &HeaderMap, minor: u8) -> bool {
    let has = |word| lists(headers, CONNECTION, word);
    (minor > 0 || has(b"keep-alive")) && !has(b"close")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 200, lines: 4 };

    fn request(said: &str) -> Result<Option<RequestHead>, HeadError> {
        RequestHead::read(&mut BytesMut::from(said), &mut Looked::default(), LIMITS)
    }

    fn response(said: &str) -> Result<Option<ResponseHead>, HeadError> {
        let buffer = &mut BytesMut::from(said);
        ResponseHead::read(buffer, &mut Looked::default(), &Method::GET, LIMITS)
    }

    #[test]
    fn a_request_is_read_alike_however_it_is_cut() {
        let said = b"\r\n\nPOST /a?b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nX:\r\n\r\nabcGET";
        for step in 1..said.len() {
            let (mut buffer, mut looked, mut found) = (BytesMut::new(), Looked::default(), None);
            for piece in said.chunks(step) {
                buffer.extend_from_slice(piece);
                if found.is_none() {
                    found = RequestHead::read(&mut buffer, &mut looked, LIMITS).unwrap();
                }
            }
            let head = found.expect("all of it came");
            assert_eq!(&buffer[..], b"abcGET", "{step}");
            assert_eq!((head.request.method(), head.request.uri().path()), (&Method::POST, "/a"));
            assert_eq!(
                (head.request.headers()["host"].as_bytes(), head.length),
                (&b"a.test"[..], Ok(Length::Exact(3)))
            );
            assert!(head.is_kept_alive && head.request.headers()["x"].is_empty());
        }
    }

    #[test]
    fn what_is_no_head_is_told_as_soon_as_it_is_seen() {
        for (said, want) in [
            ("\0", HeadError::Malformed),
            ("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", HeadError::Malformed),
            ("GET /\u{1} HTTP/1.1\r\n", HeadError::Malformed),
            ("GET / HTTP/2.0\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\na b: c\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\na: b\rc\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\na: 1\r\na: 2\r\na: 3\r\na: 4\r\na: 5\r\n\r\n", HeadError::TooLarge),
        ] {
            assert_eq!(request(said).map(|_| ()), Err(want), "{said:?}");
        }
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(200));
        assert_eq!(request(&long).map(|_| ()), Err(HeadError::TooLarge));
        assert_eq!(request(&long[..LIMITS.bytes]).map(|_| ()), Err(HeadError::TooLarge));
        assert!(request(&long[..LIMITS.bytes - 1]).unwrap().is_none());
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_TARGET));
        let limits = Limits { bytes: 2 * LONGEST_TARGET, lines: 4 };
        let read = RequestHead::read(&mut BytesMut::from(&target[..]), &mut Looked::default(), limits);
        assert_eq!(read.map(|_| ()), Err(HeadError::TargetTooLong));
    }

    #[test]
    fn connections_are_kept_alive_as_their_version_has_it() {
        for (version, connection, want) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, CLOSE\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let head = request(&format!("GET / HTTP/{version}\r\n{connection}\r\n")).unwrap().unwrap();
            assert_eq!(head.is_kept_alive, want, "{version} {connection}");
            let head = response(&format!("HTTP/{version} 200 OK\r\n{connection}\r\n")).unwrap().unwrap();
            assert_eq!(head.is_kept_alive, want, "{version} {connection}");
        }
    }

    #[test]
    fn a_body_is_waited_for_by_who_says_so() {
        for (line, want) in [("Expect: 100-Continue\r\n", true), ("Expect: x\r\n", false), ("", false)] {
            let head = request(&format!("POST / HTTP/1.1\r\n{line}\r\n")).unwrap().unwrap();
            assert_eq!(head.expects_continue, want, "{line}");
        }
    }

    #[test]
    fn a_response_keeps_words_of_its_own() {
        let head = response("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\n").unwrap().unwrap();
        assert_eq!(
            head.response.extensions().get::<Reason>().map(|reason| &reason.0[..]),
            Some(&b"Fine"[..])
        );
        assert_eq!(head.length, Ok(Length::Exact(2)));
        let head = response("HTTP/1.0 404 Not Found\n\n").unwrap().unwrap();
        assert!(head.response.extensions().get::<Reason>().is_none());
        assert_eq!((head.length, head.is_kept_alive), (Ok(Length::UntilClose), false));
        assert!(response("HTTP/1.1 2").unwrap().is_none());
        assert_eq!(response("HTTP/1.1 1000 x\r\n").map(|_| ()), Err(HeadError::Malformed));
        assert_eq!(response("220 smtp\r\n").map(|_| ()), Err(HeadError::Malformed));
    }
}
