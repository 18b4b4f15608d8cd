//! What is known on a connection (RFC 9113): its streams, their windows and what is to be sent, and what each frame does to that.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::BytesMut;
use http::HeaderMap;

use super::fault::{Broken, Code, Fault};
use super::frame::{self, Frame, flag, kind, number};
use super::head::{Fields, RequestHead};
use super::hpack::{Decoder, Encoder};
use super::inflow::Inflow;
use super::settings::{FIRST_WINDOW, LARGEST_WINDOW, Peer, Settings};
use super::stream::{Ended, Stream, Streams};
use crate::wire::Writer;

/// Bytes that may wait for the client to take them: then streams wait with what they have.
pub(super) const AHEAD: usize = 64 * 1024;
/// Likewise bytes of frames that answer its own, and of heads: then it is not listened to.
pub(super) const OWED: usize = 32 * 1024;
/// Bytes of a block of headers, as it was sent. What it says is bounded by itself, and refused by a word then.
const LONGEST_BLOCK: usize = 128 * 1024;
/// Frames of one.
const MOST_PARTS: u32 = 128;
/// Streams that are remembered behind their end, as what was under way on them comes still.
pub(super) const REMEMBERED: usize = 64;
/// What asks whether the client has heard that it is to go.
pub(super) const LAST_PING: [u8; 8] = *b"farewell";

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Preface,
    /// The client's settings come first.
    Settings,
    Open,
}

/// How far the client is told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// It was said, and what was under way then is still served.
    Said,
    /// Nothing above this stream is.
    Final(u32),
}

/// A stream that was asked for just now.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: u32,
    /// `None`: it is larger than a head may be.
    pub(super) head: Option<RequestHead>,
}

/// A head or trailers that have not come whole.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: BytesMut,
    parts: u32,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    peer: Peer,
    decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) writer: Writer,
    pub(super) streams: Streams,
    closed: VecDeque<(u32, Ended)>,
    /// The highest of those that are not remembered any more.
    forgotten: u32,
    /// The highest that the client has begun.
    pub(super) newest: u32,
    /// Bytes that may be sent on all streams.
    pub(super) window: i64,
    /// Likewise that may come.
    pub(super) room: u32,
    /// Bytes that were taken since the client was told how many may come.
    pub(super) taken: u32,
    /// Streams that have something to send, for which there was no room.
    pub(super) queue: VecDeque<u32>,
    /// Bytes that were sent.
    pub(super) sent: u64,
    /// Bytes that were said however little the client takes, and that may not have been sent; and how many are sent when they are.
    pub(super) owed: (usize, u64),
    block: Option<Block>,
    pub(super) phase: Phase,
    pub(super) leaving: Leaving,
    pub(super) client_leaves: bool,
    /// Whoever drives the connection, unless it is being polled.
    pub(super) task: Option<Waker>,
    pub(super) is_attended: bool,
}

impl State {
    /// Of a connection whose client has not been read yet.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            peer: Peer::default(),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            writer: Writer::default(),
            streams: Streams::default(),
            closed: VecDeque::new(),
            forgotten: 0,
            newest: 0,
            window: FIRST_WINDOW.into(),
            room: settings.connection_window,
            taken: 0,
            queue: VecDeque::new(),
            sent: 0,
            owed: (0, 0),
            block: None,
            phase: Phase::Preface,
            leaving: Leaving::No,
            client_leaves: false,
            task: None,
            is_attended: false,
        }
    }

    /// Writes a frame that answers one.
    pub(super) fn put(&mut self, head: (u8, u8, u32), payload: &[u8]) {
        frame::put(self.writer.out().head(), head, payload);
        self.owes(frame::HEAD + payload.len());
        self.ring();
    }

    /// So many bytes were said just now, whether there was room for them or not.
    pub(super) fn owes(&mut self, bytes: usize) {
        self.owed = (self.owed.0 + bytes, self.sent + self.writer.unsent() as u64);
    }

    pub(super) fn put_goaway(&mut self, last: u32, Code(code): Code) {
        let (last, code) = (last.to_be_bytes(), code.to_be_bytes());
        self.put((kind::GOAWAY, 0, 0), [last, code].as_flattened());
    }

    /// Whether the client is not listened to before it has taken what it has asked for already.
    pub(super) fn is_clogged(&self) -> bool {
        self.owed.0 >= OWED
    }

    /// Has the connection's task send what there is.
    pub(super) fn ring(&self) {
        if let Some(task) = self.task.as_ref().filter(|_| !self.is_attended) {
            task.wake_by_ref();
        }
    }

    pub(super) fn break_off(&mut self) {
        for stream in self.streams.iter_mut() {
            stream.break_off(Ended::ByUs, Broken::Gone);
        }
    }

    pub(super) fn receive(&mut self, frame: Frame) -> Result<Option<Begun>, Fault> {
        let head = frame.head;
        let is_next = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        let is_first = self.phase == Phase::Settings;
        if !is_next || is_first && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        match head.kind {
            kind::HEADERS => return self.headers(frame),
            kind::CONTINUATION => return self.continuation(frame),
            kind::DATA => self.data(frame)?,
            kind::PRIORITY => priority(&frame)?,
            kind::RST_STREAM => self.rst_stream(&frame)?,
            kind::SETTINGS => self.settings(&frame)?,
            kind::PUSH_PROMISE => return Err(Fault::Connection(Code::PROTOCOL)),
            kind::PING => self.ping(&frame)?,
            kind::GOAWAY => self.goaway(&frame)?,
            kind::WINDOW_UPDATE => self.window_update(&frame)?,
            _ => {}
        }
        Ok(None)
    }

    fn headers(&mut self, frame: Frame) -> Result<Option<Begun>, Fault> {
        let head = frame.head;
        if head.stream.is_multiple_of(2) {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        let ends = head.has(flag::END_STREAM);
        let bytes = frame.content()?;
        if head.has(flag::END_HEADERS) {
            return self.whole(head.stream, ends, &bytes);
        }
        self.block = Some(Block { stream: head.stream, ends, bytes, parts: 1 });
        Ok(None)
    }

    fn continuation(&mut self, frame: Frame) -> Result<Option<Begun>, Fault> {
        let Some(mut block) = self.block.take() else { return Err(Fault::Connection(Code::PROTOCOL)) };
        block.parts += 1;
        if block.parts > MOST_PARTS || block.bytes.len() + frame.payload.len() > LONGEST_BLOCK {
            return Err(Fault::Connection(Code::ENHANCE_YOUR_CALM));
        }
        block.bytes.extend_from_slice(&frame.payload);
        if frame.head.has(flag::END_HEADERS) {
            return self.whole(block.stream, block.ends, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A head, or trailers, have come whole. Whatever becomes of them, they are decoded: the table of headers is the connection's.
    pub(super) fn whole(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<Option<Begun>, Fault> {
        let mut fields = Fields::default();
        let size = self
            .decoder
            .decode(block, self.settings.head as usize, |field| fields.take(field))
            .map_err(|_| Fault::Connection(Code::COMPRESSION))?;
        if id > self.newest {
            return self.begin(id, ends, (!size.is_over).then_some(fields));
        }
        let fault = |code| Err(Fault::Stream(id, code));
        let Some(stream) = self.streams.get(id) else { return self.late(id).map(|()| None) };
        if !stream.inflow.is_open() {
            return stream.ended.is_late(id).map(|()| None);
        }
        if !ends || size.is_over {
            return fault(Code::PROTOCOL);
        }
        match fields.trailers() {
            Ok(trailers) => self.finish(id, Some(trailers)).map(|()| None),
            Err(_) => fault(Code::PROTOCOL),
        }
    }

    /// A stream is asked for. `None`: by a head that is too large.
    fn begin(&mut self, id: u32, ends: bool, fields: Option<Fields>) -> Result<Option<Begun>, Fault> {
        self.newest = id;
        if matches!(self.leaving, Leaving::Final(_)) {
            self.remember(id, Ended::ByUs);
            return Ok(None);
        }
        let fault = |code| Err(Fault::Stream(id, code));
        if self.streams.open() >= self.settings.streams as usize {
            return fault(Code::REFUSED_STREAM);
        }
        let head = fields.map(|fields| fields.request(self.settings.connects)).transpose();
        let Ok(head) = head else { return fault(Code::PROTOCOL) };
        let length = head.as_ref().and_then(|head| head.length);
        if ends && length.is_some_and(|length| length > 0) {
            return fault(Code::PROTOCOL);
        }
        let inflow = if ends { Inflow::empty() } else { Inflow::new(length, self.settings.stream_window) };
        self.streams.push(Stream::new(id, inflow, self.peer.window.into()));
        Ok(Some(Begun { id, head }))
    }

    /// Something comes on a stream that is no more. What was under way when we ended it is no fault.
    fn late(&self, id: u32) -> Result<(), Fault> {
        match self.closed.iter().find(|(closed, _)| *closed == id) {
            // Both sides have said that nothing follows.
            Some((_, Ended::No)) => Err(Fault::Connection(Code::STREAM_CLOSED)),
            Some((_, ended)) => ended.is_late(id),
            None if id <= self.forgotten => Err(Fault::Stream(id, Code::STREAM_CLOSED)),
            // It was never begun.
            None => Err(Fault::Connection(Code::PROTOCOL)),
        }
    }

    fn data(&mut self, frame: Frame) -> Result<(), Fault> {
        let (id, counted) = (frame.head.stream, frame.head.length as u32);
        let ends = frame.head.has(flag::END_STREAM);
        if id == 0 || id > self.newest {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        let data = frame.content()?;
        let room = self.room.checked_sub(counted);
        self.room = room.ok_or(Fault::Connection(Code::FLOW_CONTROL))?;
        let Some(stream) = self.streams.get(id) else {
            self.take(counted);
            // Streams that are long forgotten are no fault of the connection.
            let is_known = self.closed.iter().any(|(closed, _)| *closed == id);
            return if is_known { self.late(id) } else { Err(Fault::Stream(id, Code::STREAM_CLOSED)) };
        };
        if !stream.inflow.is_open() {
            let late = stream.ended.is_late(id);
            self.take(counted);
            return late;
        }
        let untaken = stream.inflow.receive(data, counted).map_err(|code| Fault::Stream(id, code));
        self.taken(id, *untaken.as_ref().unwrap_or(&counted));
        untaken?;
        if ends { self.finish(id, None) } else { Ok(()) }
    }

    /// Nothing more comes on a stream.
    fn finish(&mut self, id: u32, trailers: Option<HeaderMap>) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        stream.inflow.finish(trailers).map_err(|code| Fault::Stream(id, code))?;
        self.settle(id);
        Ok(())
    }

    fn rst_stream(&mut self, frame: &Frame) -> Result<(), Fault> {
        let id = frame.head.stream;
        frame.exactly::<4>()?;
        if id == 0 || id > self.newest {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        if let Some(stream) = self.streams.get(id) {
            let untaken = stream.break_off(Ended::ByClient, Broken::Gone);
            self.take(untaken);
            self.settle(id);
        } else if let Some((_, ended)) = self.closed.iter_mut().find(|(closed, _)| *closed == id) {
            *ended = Ended::ByClient;
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.phase = Phase::Open;
        let before = i64::from(self.peer.window);
        if !self.peer.take(frame)? {
            return Ok(());
        }
        if let Some((smallest, last)) = self.peer.table.take() {
            self.encoder.set_limit(smallest);
            self.encoder.set_limit(last);
        }
        let more = i64::from(self.peer.window) - before;
        for stream in self.streams.iter_mut().filter(|_| more != 0) {
            stream.window += more;
            if stream.window > LARGEST_WINDOW {
                return Err(Fault::Connection(Code::FLOW_CONTROL));
            }
            stream.wake();
        }
        self.put((kind::SETTINGS, flag::ACK, 0), &[]);
        Ok(())
    }

    fn ping(&mut self, frame: &Frame) -> Result<(), Fault> {
        let said = frame.exactly::<8>()?;
        if frame.head.stream != 0 {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        if !frame.head.has(flag::ACK) {
            self.put((kind::PING, flag::ACK, 0), &said);
        } else if said == LAST_PING && self.leaving == Leaving::Said {
            self.leaving = Leaving::Final(self.newest);
            self.put_goaway(self.newest, Code::NONE);
        }
        Ok(())
    }

    fn goaway(&mut self, frame: &Frame) -> Result<(), Fault> {
        if frame.head.stream != 0 {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        if frame.payload.len() < 8 {
            return Err(Fault::Connection(Code::FRAME_SIZE));
        }
        self.client_leaves = true;
        Ok(())
    }

    fn window_update(&mut self, frame: &Frame) -> Result<(), Fault> {
        let (id, more) = (frame.head.stream, i64::from(number(frame.exactly()?)));
        if id > self.newest {
            return Err(Fault::Connection(Code::PROTOCOL));
        }
        let fault = |code| Err(if id == 0 { Fault::Connection(code) } else { Fault::Stream(id, code) });
        if more == 0 {
            return fault(Code::PROTOCOL);
        }
        let window = if id == 0 {
            &mut self.window
        } else {
            let Some(stream) = self.streams.get(id) else { return Ok(()) };
            stream.wake();
            &mut stream.window
        };
        *window += more;
        if *window > LARGEST_WINDOW { fault(Code::FLOW_CONTROL) } else { Ok(()) }
    }

    /// So many bytes of the connection's window were taken, or are of no use to anybody.
    pub(super) fn take(&mut self, bytes: u32) {
        self.taken += bytes;
        // What streams hold that nobody takes is not to stop the others.
        if self.taken > 0 && self.taken >= (self.settings.connection_window / 2).min(self.room) {
            let taken = std::mem::take(&mut self.taken);
            self.room += taken;
            self.put((kind::WINDOW_UPDATE, 0, 0), &taken.to_be_bytes());
        }
    }

    /// Likewise, of a stream.
    pub(super) fn taken(&mut self, id: u32, bytes: u32) {
        self.take(bytes);
        let window = self.settings.stream_window;
        let regained = self.streams.get(id).and_then(|stream| stream.inflow.regained(window));
        if let Some(more) = regained {
            self.put((kind::WINDOW_UPDATE, 0, id), &more.to_be_bytes());
        }
    }

    /// Ends a stream before its time, and says so.
    pub(super) fn reset(&mut self, id: u32, Code(code): Code, broken: Broken) {
        self.put((kind::RST_STREAM, 0, id), &code.to_be_bytes());
        match self.streams.get(id) {
            Some(stream) => {
                let untaken = stream.break_off(Ended::ByUs, broken);
                self.take(untaken);
                self.settle(id);
            }
            None => self.remember(id, Ended::ByUs),
        }
    }

    /// Something has ended on a stream: what nobody wants any more is not waited for (RFC 9113, 8.1), and what is over is forgotten.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get(id) else { return };
        if stream.inflow.is_open() && !stream.is_sending && !stream.inflow.is_held {
            return self.reset(id, Code::NONE, Broken::Gone);
        }
        if stream.is_forgotten() {
            let (ended, is_queued) = (stream.ended, stream.is_queued);
            self.streams.remove(id);
            self.remember(id, ended);
            if is_queued {
                self.queue.retain(|queued| *queued != id);
            }
            if self.streams.is_empty() {
                self.queue = VecDeque::new();
                // That may have been all that was waited for.
                self.ring();
            }
        }
    }

    fn remember(&mut self, id: u32, ended: Ended) {
        if self.closed.iter().any(|(closed, _)| *closed == id) {
            return;
        }
        if self.closed.len() == REMEMBERED
            && let Some((oldest, _)) = self.closed.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.closed.push_back((id, ended));
    }

    /// Whether something may be sent on some stream.
    pub(super) fn has_room(&self) -> bool {
        self.window > 0 && self.writer.unsent() < AHEAD
    }

    pub(super) fn rouse(&mut self) -> bool {
        while self.has_room() {
            let Some(id) = self.queue.pop_front() else { break };
            if let Some(stream) = self.streams.get(id) {
                (stream.is_queued, stream.has_turn) = (false, true);
                stream.wake();
                return true;
            }
        }
        false
    }
}

/// Priorities mean nothing here, but are to be well-formed (RFC 9113, 5.3 and 6.3).
fn priority(frame: &Frame) -> Result<(), Fault> {
    let id = frame.head.stream;
    if id == 0 {
        return Err(Fault::Connection(Code::PROTOCOL));
    }
    let Ok([d0, d1, d2, d3, _]) = frame.exactly::<5>() else {
        return Err(Fault::Stream(id, Code::FRAME_SIZE));
    };
    if number([d0, d1, d2, d3]) == id { Err(Fault::Stream(id, Code::PROTOCOL)) } else { Ok(()) }
}
