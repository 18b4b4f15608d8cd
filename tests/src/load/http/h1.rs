//! HTTP/1.1 (RFC 9112): requests one after another, and their answers.

use std::io::{self, Write as _};
use std::time::Instant;

use super::{Dialect, HOST, POSTED, SMALL, SOCKET_PATH, Service, upgraded, wrong};

/// What all requests say of the client.
const USUAL: &str = "user-agent: sluice-measure\r\naccept: */*\r\n";
/// A longer head is nobody's here.
const LONGEST: usize = 16 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    request: Vec<u8>,
    /// Bytes of a right answer's body.
    expected: usize,
    /// When the request under way was due.
    due: Option<Instant>,
    /// What there is of the answer's head.
    head: Vec<u8>,
    /// Bytes of its body that have not come; none before the head is whole.
    left: Option<usize>,
}

impl Client {
    /// Of GETs that are answered by so many bytes; `is_last`: the connection is to end behind the first.
    pub(super) fn get(path: &str, expected: usize, is_last: bool) -> Self {
        let last = if is_last { "connection: close\r\n" } else { "" };
        let head = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{USUAL}{last}\r\n");
        Self::new(head.into_bytes(), expected)
    }

    /// Of POSTs of so many bytes, which are answered by none.
    pub(super) fn post(path: &str, length: usize) -> Self {
        let kind = "content-type: application/octet-stream";
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {HOST}\r\n{USUAL}{kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        Self::new([head.into_bytes(), vec![b'Z'; length]].concat(), 0)
    }

    fn new(request: Vec<u8>, expected: usize) -> Self {
        Self { request, expected, due: None, head: Vec::new(), left: None }
    }

    /// Reads the head, if it is whole now, and returns what is behind it.
    fn behind_head<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = end_of_head(&self.head, before) else {
            return if self.head.len() > LONGEST { Err(wrong("an endless head")) } else { Ok(&[]) };
        };
        check(&self.head[..end], self.expected)?;
        self.head.clear();
        self.left = Some(self.expected);
        Ok(&bytes[end - before..])
    }

    fn take(&mut self, count: usize, done: &mut Vec<Instant>) -> usize {
        let Some(left) = &mut self.left else { return 0 };
        let taken = count.min(*left);
        *left -= taken;
        if *left == 0 {
            self.left = None;
            done.extend(self.due.take());
        }
        taken
    }
}

impl Dialect for Client {
    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn room(&self) -> usize {
        usize::from(self.due.is_none())
    }

    fn ask(&mut self, due: Instant, out: &mut Vec<u8>) {
        self.due = Some(due);
        out.extend_from_slice(&self.request);
    }

    fn hear(&mut self, mut bytes: &[u8], _: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.due.is_none() {
                return Err(wrong(format!("not asked for: {}", excerpt(bytes))));
            }
            if self.left.is_none() {
                bytes = self.behind_head(bytes)?;
            }
            let taken = self.take(bytes.len(), done);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn unseen(&self) -> usize {
        self.left.unwrap_or(0)
    }

    fn pass_over(&mut self, count: usize, done: &mut Vec<Instant>) {
        self.take(count, done);
    }
}

/// Where a head ends, its empty line included; what was there `before` has been looked at.
pub(super) fn end_of_head(bytes: &[u8], before: usize) -> Option<usize> {
    let from = before.saturating_sub(END.len() - 1);
    let at = bytes[from..].windows(END.len()).position(|window| window == END)?;
    Some(from + at + END.len())
}

/// The value of a field, of which there is one.
pub(super) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let of = |line: &'a [u8]| {
        let (own, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        own.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    };
    head.split(|byte| *byte == b'\n').find_map(of)
}

fn length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(field(head, "content-length")?).ok()?.parse().ok()
}

fn check(head: &[u8], expected: usize) -> io::Result<()> {
    if !head.starts_with(b"HTTP/1.1 200 ") || length(head) != Some(expected) {
        return Err(wrong(format!("not the answer that was asked for: {}", excerpt(head))));
    }
    Ok(())
}

/// For people.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).escape_debug().to_string()
}

/// A backend that answers GETs by [`SMALL`] bytes, POSTs, once they are whole, by none, and WebSockets' messages by the
/// same.
#[derive(Debug)]
pub(super) struct Answers {
    head: Vec<u8>,
    /// Bytes of a posted body that have not come; none before the head is whole.
    left: Option<usize>,
    answer: Vec<u8>,
    upgraded: Option<upgraded::Answers>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { head: Vec::new(), left: None, answer: answer_head(SMALL, SMALL), upgraded: None }
    }

    fn behind_head<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> io::Result<&'a [u8]> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = end_of_head(&self.head, before) else {
            return if self.head.len() > LONGEST { Err(wrong("an endless head")) } else { Ok(&[]) };
        };
        let head = &self.head[..end];
        if head.starts_with(b"GET /small") {
            out.extend_from_slice(&self.answer);
        } else if head.starts_with(format!("GET {SOCKET_PATH}").as_bytes()) {
            self.upgraded = Some(upgraded::Answers::default());
            out.extend_from_slice(upgraded::SWITCH);
        } else if head.starts_with(b"POST /small") && length(head) == Some(POSTED) {
            self.left = Some(POSTED);
        } else {
            out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            return Err(wrong(format!("not a request of these: {}", excerpt(head))));
        }
        self.head.clear();
        Ok(&bytes[end - before..])
    }
}

impl Service for Answers {
    fn hear(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Some(upgraded) = &mut self.upgraded {
                return upgraded.hear(bytes, out);
            }
            let Some(left) = &mut self.left else {
                bytes = self.behind_head(bytes, out)?;
                continue;
            };
            let taken = bytes.len().min(*left);
            bytes = &bytes[taken..];
            *left -= taken;
            if *left == 0 {
                self.left = None;
                out.extend_from_slice(&answer_head(0, 0));
            }
        }
        Ok(())
    }
}

/// A right answer's head, which announces so many bytes, and as many of them as are wanted.
pub(super) fn answer_head(announced: usize, there: usize) -> Vec<u8> {
    let mut answer = Vec::with_capacity(there + 200);
    // The fields that servers usually send.
    let written = write!(
        answer,
        "HTTP/1.1 200 OK\r\nserver: backend\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\ncontent-type: \
         application/octet-stream\r\ncontent-length: {announced}\r\n\r\n"
    );
    debug_assert!(written.is_ok(), "memory takes everything");
    answer.resize(answer.len() + there, b'Z');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_pieces_are_told_apart_and_wrong_ones_refused() {
        for (mut client, whole) in [
            (Client::get("/small", SMALL, false), answer_head(SMALL, SMALL)),
            (Client::post("/small", POSTED), answer_head(0, 0)),
        ] {
            for size in [1, 7, whole.len()] {
                let (mut out, mut done) = (Vec::new(), Vec::new());
                client.ask(Instant::now(), &mut out);
                assert_eq!(client.room(), 0);
                for piece in whole.chunks(size) {
                    assert!(done.is_empty());
                    client.hear(piece, &mut out, &mut done).unwrap();
                }
                assert_eq!((done.len(), client.room()), (1, 1), "{size}");
            }
            assert!(client.hear(&whole, &mut Vec::new(), &mut Vec::new()).is_err(), "nobody asked");
            client.ask(Instant::now(), &mut Vec::new());
            let short = answer_head(SMALL - 1, SMALL - 1);
            assert!(client.hear(&short, &mut Vec::new(), &mut Vec::new()).is_err());
        }
        let mut client = Client::get("/small", 0, false);
        client.ask(Instant::now(), &mut Vec::new());
        let overloaded = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(client.hear(overloaded, &mut Vec::new(), &mut Vec::new()).is_err());
    }

    #[test]
    fn requests_in_pieces_are_answered_once_each() {
        let (mut answers, mut asked) = (Answers::new(), Vec::new());
        Client::get("/small", SMALL, false).ask(Instant::now(), &mut asked);
        Client::post("/small", POSTED).ask(Instant::now(), &mut asked);
        let mut out = Vec::new();
        for piece in asked.chunks(333) {
            answers.hear(piece, &mut out).unwrap();
        }
        assert_eq!(out, [answer_head(SMALL, SMALL), answer_head(0, 0)].concat());
    }
}
