//! HTTP/2 (RFC 9113) and gRPC's calls in it: many requests at once, and their answers.

use std::io;
use std::time::Instant;

use super::frame::{self, Frame, Frames, Literal};
use super::{Dialect, HOST, MESSAGE, SMALL, Service, wrong};

/// Bytes that are received before the connection's window is widened by as much.
const PORTION: u32 = 1 << 20;
/// Bytes of what is before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A gRPC message.
fn message(length: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend_from_slice(&(length as u32).to_be_bytes());
    message.resize(PREFIX + length, b'Z');
    message
}

/// As windows count.
fn size(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX)
}

/// A request under way.
#[derive(Debug)]
struct Asked {
    stream: u32,
    due: Instant,
    has_head: bool,
    /// Bytes of the answer's body.
    received: usize,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    frames: Frames,
    /// Requests at once.
    depth: usize,
    /// Block of the first request, whose fields the server remembers, and of the others.
    first: Vec<u8>,
    later: Vec<u8>,
    /// Of the same, for servers that remember less.
    plain: Vec<u8>,
    /// Of requests; empty: they have none.
    body: Vec<u8>,
    /// Bytes of a right answer's body, and whether trailers end it.
    expected: usize,
    has_trailers: bool,
    /// Once the server has said its settings: whether it remembers fields.
    remembers: Option<bool>,
    /// Of the next request.
    stream: u32,
    /// Bytes that may be sent on the connection.
    window: i64,
    /// Bytes that came since it was last widened.
    unacknowledged: u32,
    asked: Vec<Asked>,
}

impl Client {
    /// Of GETs that are answered by [`SMALL`] bytes.
    pub(super) fn get(path: &str, depth: usize) -> Self {
        let fields = [
            (":method", "GET"),
            (":path", path),
            (":authority", HOST),
            (":scheme", "https"),
            ("accept", "*/*"),
        ];
        Self::new(&fields, Vec::new(), SMALL, false, depth)
    }

    /// Of gRPC's unary calls: a message of [`MESSAGE`] bytes up, one of [`SMALL`] bytes down.
    pub(super) fn call(path: &str, depth: usize) -> Self {
        let fields = [
            (":method", "POST"),
            (":path", path),
            (":authority", HOST),
            (":scheme", "https"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        Self::new(&fields, message(MESSAGE), PREFIX + SMALL, true, depth)
    }

    fn new(
        fields: &[(&str, &str)],
        body: Vec<u8>,
        expected: usize,
        has_trailers: bool,
        depth: usize,
    ) -> Self {
        let fields = [fields, &[("user-agent", "sluice-measure")]].concat();
        Self {
            frames: Frames::default(),
            depth,
            first: frame::literals(Literal::Remembered, &fields),
            later: frame::remembered(fields.len()),
            plain: frame::literals(Literal::Forgotten, &fields),
            body,
            expected,
            has_trailers,
            remembers: None,
            stream: 1,
            window: frame::DEFAULT_WINDOW,
            unacknowledged: 0,
            asked: Vec::with_capacity(depth),
        }
    }

    fn settle(&mut self, settings: &Frame<'_>, out: &mut Vec<u8>) {
        if !settings.has(frame::ACK) {
            let table = settings.setting(frame::HEADER_TABLE_SIZE).unwrap_or(frame::DEFAULT_TABLE);
            self.remembers.get_or_insert(table >= frame::DEFAULT_TABLE);
            frame::write(out, frame::SETTINGS, frame::ACK, 0, &[]);
        }
    }

    fn take(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()> {
        match frame.kind {
            frame::SETTINGS => self.settle(frame, out),
            frame::PING if !frame.has(frame::ACK) => {
                frame::write(out, frame::PING, frame::ACK, 0, frame.payload);
            }
            frame::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.increment().unwrap_or(0),
            frame::DATA | frame::HEADERS => return self.answer(frame, out, done),
            frame::RST_STREAM => return Err(wrong(format!("a reset: {:?}", frame.payload))),
            frame::GOAWAY => {
                return Err(wrong(format!("the server goes away: {}", frame.payload.escape_ascii())));
            }
            frame::CONTINUATION => return Err(wrong("a header block in pieces")),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()> {
        let of = |asked: &Asked| asked.stream == frame.stream;
        let place = self.asked.iter().position(of).ok_or_else(|| wrong("an answer that nobody asked for"))?;
        let asked = &mut self.asked[place];
        if frame.kind == frame::DATA {
            asked.received += frame.content().ok_or_else(|| wrong("padding without end"))?.len();
            self.unacknowledged += frame.payload.len() as u32;
        } else if !asked.has_head {
            if !frame.says_ok() {
                return Err(wrong(format!("not 200: {}", frame.payload.escape_ascii())));
            }
            asked.has_head = true;
        }
        if frame.has(frame::END_STREAM) {
            let is_whole = asked.received == self.expected;
            if !is_whole || self.has_trailers != (frame.kind == frame::HEADERS) {
                let block = frame.payload.escape_ascii();
                return Err(wrong(format!("{} bytes of {}, then {block}", asked.received, self.expected)));
            }
            done.push(self.asked.swap_remove(place).due);
        }
        if self.unacknowledged >= PORTION {
            frame::widen(out, std::mem::take(&mut self.unacknowledged));
        }
        Ok(())
    }
}

impl Dialect for Client {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(frame::PREFACE);
        begin(out);
    }

    fn room(&self) -> usize {
        let fit =
            if self.body.is_empty() { usize::MAX } else { self.window.max(0) as usize / self.body.len() };
        let free = self.depth - self.asked.len();
        if self.remembers.is_none() { 0 } else { free.min(fit) }
    }

    fn ask(&mut self, due: Instant, out: &mut Vec<u8>) {
        let block = match (self.remembers, self.stream) {
            (Some(true), 1) => &self.first,
            (Some(true), _) => &self.later,
            _ => &self.plain,
        };
        let end = if self.body.is_empty() { frame::END_STREAM } else { 0 };
        frame::write(out, frame::HEADERS, frame::END_HEADERS | end, self.stream, block);
        if !self.body.is_empty() {
            frame::write(out, frame::DATA, frame::END_STREAM, self.stream, &self.body);
            self.window -= size(&self.body);
        }
        self.asked.push(Asked { stream: self.stream, due, has_head: false, received: 0 });
        self.stream += 2;
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>, done: &mut Vec<Instant>) -> io::Result<()> {
        let mut frames = std::mem::take(&mut self.frames);
        let heard = frames.feed(bytes, |frame| self.take(&frame, out, done));
        self.frames = frames;
        heard
    }
}

/// What both sides say first: no pushes, and windows as wide as they get.
fn begin(out: &mut Vec<u8>) {
    frame::write_settings(out, &[(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, frame::WIDEST)]);
    frame::widen(out, frame::WIDEST - frame::DEFAULT_WINDOW as u32);
}

/// A backend that answers requests without a body by [`SMALL`] bytes, and those with one by a gRPC message of as many.
#[derive(Debug)]
pub(super) struct Answers {
    frames: Frames,
    /// Bytes of the client's preface that have not come.
    preface: usize,
    /// Bytes that may be sent on the connection, and the streams whose answers wait for more.
    window: i64,
    waiting: Vec<(u32, Kind)>,
    unacknowledged: u32,
    fields: Vec<u8>,
    grpc_fields: Vec<u8>,
    trailers: Vec<u8>,
    body: Vec<u8>,
    grpc_body: Vec<u8>,
}

/// Of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Grpc,
}

/// `:status: 200`.
const OK: u8 = 0x88;

impl Answers {
    pub(super) fn new() -> Self {
        let block =
            |fields: &[(&str, &str)]| [vec![OK], frame::literals(Literal::Forgotten, fields)].concat();
        let length = SMALL.to_string();
        Self {
            frames: Frames::default(),
            preface: frame::PREFACE.len(),
            window: frame::DEFAULT_WINDOW,
            waiting: Vec::new(),
            unacknowledged: 0,
            fields: block(&[
                ("server", "backend"),
                ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
                ("content-type", "application/octet-stream"),
                ("content-length", &length),
            ]),
            grpc_fields: block(&[("content-type", "application/grpc")]),
            trailers: frame::literals(Literal::Forgotten, &[("grpc-status", "0")]),
            body: vec![b'Z'; SMALL],
            grpc_body: message(SMALL),
        }
    }

    fn take(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        match frame.kind {
            frame::SETTINGS if !frame.has(frame::ACK) => {
                let window =
                    frame.setting(frame::INITIAL_WINDOW_SIZE).map_or(frame::DEFAULT_WINDOW, i64::from);
                if window < size(&self.grpc_body) {
                    return Err(wrong("a window that is smaller than an answer"));
                }
                frame::write(out, frame::SETTINGS, frame::ACK, 0, &[]);
            }
            frame::PING if !frame.has(frame::ACK) => {
                frame::write(out, frame::PING, frame::ACK, 0, frame.payload);
            }
            frame::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.increment().unwrap_or(0),
            frame::HEADERS if frame.has(frame::END_STREAM) => self.waiting.push((frame.stream, Kind::Plain)),
            frame::DATA => {
                self.unacknowledged += frame.payload.len() as u32;
                if frame.has(frame::END_STREAM) {
                    self.waiting.push((frame.stream, Kind::Grpc));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, stream: u32, kind: Kind, out: &mut Vec<u8>) {
        let (fields, body) = match kind {
            Kind::Plain => (&self.fields, &self.body),
            Kind::Grpc => (&self.grpc_fields, &self.grpc_body),
        };
        frame::write(out, frame::HEADERS, frame::END_HEADERS, stream, fields);
        let end = if kind == Kind::Plain { frame::END_STREAM } else { 0 };
        frame::write(out, frame::DATA, end, stream, body);
        self.window -= size(body);
        if kind == Kind::Grpc {
            frame::write(out, frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, &self.trailers);
        }
    }

    fn answer_what_fits(&mut self, out: &mut Vec<u8>) {
        let fits = self.window.max(0) as usize / self.grpc_body.len();
        let now: Vec<_> = self.waiting.drain(..fits.min(self.waiting.len())).collect();
        for (stream, kind) in now {
            self.answer(stream, kind, out);
        }
    }

    /// What is behind the preface.
    fn behind_preface<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> io::Result<&'a [u8]> {
        if self.preface == 0 {
            return Ok(bytes);
        }
        let (now, rest) = bytes.split_at(bytes.len().min(self.preface));
        let expected = &frame::PREFACE[frame::PREFACE.len() - self.preface..][..now.len()];
        if now != expected {
            return Err(wrong("not HTTP/2"));
        }
        self.preface -= now.len();
        if self.preface == 0 {
            begin(out);
        }
        Ok(rest)
    }
}

impl Service for Answers {
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let bytes = self.behind_preface(bytes, out)?;
        let mut frames = std::mem::take(&mut self.frames);
        let heard = frames.feed(bytes, |frame| self.take(&frame, out));
        self.frames = frames;
        self.answer_what_fits(out);
        if self.unacknowledged >= frame::DEFAULT_WINDOW as u32 / 2 {
            frame::widen(out, std::mem::take(&mut self.unacknowledged));
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that are answered when each side has heard the other.
    fn converse(client: &mut Client, answers: &mut Answers, size: usize, rounds: usize) -> usize {
        let (mut up, mut down, mut done) = (Vec::new(), Vec::new(), Vec::new());
        client.begin(&mut up);
        for _ in 0..rounds {
            for piece in std::mem::take(&mut up).chunks(size) {
                answers.hear(piece, &mut down).unwrap();
            }
            for piece in std::mem::take(&mut down).chunks(size) {
                client.hear(piece, &mut up, &mut done).unwrap();
            }
            (0..client.room()).for_each(|_| client.ask(Instant::now(), &mut up));
        }
        done.len()
    }

    #[test]
    fn all_requests_are_answered_however_they_are_cut() {
        for size in [1, 100, 100_000] {
            assert_eq!(converse(&mut Client::get("/small", 32), &mut Answers::new(), size, 4), 96, "{size}");
            assert_eq!(converse(&mut Client::call("/bench.Echo/Say", 32), &mut Answers::new(), size, 4), 96);
        }
    }

    #[test]
    fn answers_wait_for_the_window_and_windows_do_not_run_out() {
        let (mut client, mut answers) = (Client::call("/bench.Echo/Say", 200), Answers::new());
        assert_eq!(converse(&mut client, &mut answers, 4096, 30), 29 * 200);
        answers.window = 2000;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        (0..2).for_each(|_| client.ask(Instant::now(), &mut up));
        answers.hear(&up, &mut down).unwrap();
        assert_eq!(answers.waiting.len(), 1);
    }

    #[test]
    fn a_reset_and_a_short_answer_are_refused() {
        for (kind, flags) in [(frame::RST_STREAM, 0), (frame::GOAWAY, 0), (frame::DATA, frame::END_STREAM)] {
            let (mut client, mut bytes) = (Client::get("/small", 1), Vec::new());
            client.ask(Instant::now(), &mut Vec::new());
            frame::write(&mut bytes, kind, flags, 1, &[0; 8]);
            assert!(client.hear(&bytes, &mut Vec::new(), &mut Vec::new()).is_err(), "{kind}");
        }
    }
}
