//! The client.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::write::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY_FLAG, RST_STREAM,
    SETTINGS, block, frame, setting,
};
use crate::client;
#[cfg(doc)]
use crate::client::LIMIT;

/// `SETTINGS_HEADER_TABLE_SIZE`.
const TABLE_SIZE: u16 = 1;
const HEAD: usize = 9;

/// What becomes of a stream, or of the connection before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response.
    Answered(u16),
    /// RST_STREAM.
    Reset(u32),
    /// The end of the connection, with a reason.
    GoAway(u32),
    /// The end of the connection without a word.
    Closed,
    /// Nothing came within [`LIMIT`].
    Silent,
}

#[derive(Debug, Default)]
struct Stream {
    status: Option<u16>,
    is_whole: bool,
    reset: Option<u32>,
    octets: usize,
}

/// A connection whose every wait is bounded.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    streams: HashMap<u32, Stream>,
    gone: Option<u32>,
    is_closed: bool,
    pongs: usize,
}

impl Connection {
    /// Connects and says the preface, with these settings besides that nothing is to be kept between header blocks.
    pub fn open(address: SocketAddr, settings: &[u8]) -> Self {
        let mut opened = Self::silent(address);
        let settings = [&setting(TABLE_SIZE, 0), settings].concat();
        opened.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat());
        opened
    }

    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        Self {
            stream: client::connect(address),
            held: Vec::new(),
            streams: HashMap::new(),
            gone: None,
            is_closed: false,
            pongs: 0,
        }
    }

    /// Sends octets; a gateway that has closed has said why.
    pub fn send(&mut self, octets: &[u8]) {
        // What it has to say is to be read.
        let _ = self.stream.write_all(octets);
    }

    /// Sends octets until the gateway takes no more, for so long at most. Returns whether it still takes some.
    pub fn flood(&mut self, octets: &[u8], limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.stream.set_nonblocking(true).expect("a mode");
        let mut at = 0;
        let mut takes = true;
        while takes && Instant::now() < until {
            match self.stream.write(&octets[at..]) {
                Ok(count) => at = (at + count) % octets.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => takes = false,
            }
        }
        self.stream.set_nonblocking(false).expect("a mode");
        takes
    }

    /// A GET that ends with its head.
    pub fn get(&mut self, stream: u32, path: &str) {
        let head = block(&format!(":method: GET|:scheme: http|:authority: a.test|:path: {path}"));
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
    }

    /// Reads until it is known what becomes of a stream.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(found) = self.known(stream) {
                return found;
            }
            if !self.read_frame() {
                return Outcome::Silent;
            }
        }
    }

    /// Reads until there was an answer to so many PINGs, or the connection has ended.
    pub fn pongs(&mut self, count: usize) -> bool {
        while self.pongs < count && !self.is_closed && self.read_frame() {}
        self.pongs >= count
    }

    /// Reads until the connection has ended.
    pub fn end(&mut self) -> Outcome {
        while !self.is_closed {
            if !self.read_frame() {
                return Outcome::Silent;
            }
        }
        self.gone.map_or(Outcome::Closed, Outcome::GoAway)
    }

    /// Octets of a response's body so far.
    pub fn octets(&self, stream: u32) -> usize {
        self.streams.get(&stream).map_or(0, |stream| stream.octets)
    }

    fn known(&self, stream: u32) -> Option<Outcome> {
        let of_stream = self.streams.get(&stream).and_then(|stream| match stream {
            Stream { reset: Some(code), .. } => Some(Outcome::Reset(*code)),
            Stream { is_whole: true, status, .. } => Some(Outcome::Answered(status.unwrap_or(0))),
            _ => None,
        });
        let of_connection = || match self.gone {
            // One that goes away in good order still answers what it has.
            Some(code) if code != 0 => Some(Outcome::GoAway(code)),
            Some(code) if self.is_closed => Some(Outcome::GoAway(code)),
            _ => self.is_closed.then_some(Outcome::Closed),
        };
        of_stream.or_else(of_connection)
    }

    /// Whether anything came, be it the end.
    fn read_frame(&mut self) -> bool {
        let Ok(head) = self.exactly(HEAD) else { return false };
        let Some(head) = head else { return true };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Ok(payload) = self.exactly(length) else { return false };
        let Some(payload) = payload else { return true };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        self.take((head[3], head[4], stream), &payload);
        true
    }

    fn take(&mut self, (kind, flags, id): (u8, u8, u32), payload: &[u8]) {
        let word = |at: usize| {
            payload.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        let stream = self.streams.entry(id).or_default();
        match kind {
            HEADERS => {
                let skip = usize::from(flags & PADDED != 0) + if flags & PRIORITY_FLAG == 0 { 0 } else { 5 };
                stream.status = stream.status.or_else(|| status(&payload[skip..]));
                stream.is_whole |= flags & END_STREAM != 0;
            }
            DATA => {
                stream.octets += payload.len();
                stream.is_whole |= flags & END_STREAM != 0;
            }
            RST_STREAM if stream.is_whole => {}
            RST_STREAM => stream.reset = Some(word(0)),
            SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])),
            PING if flags & ACK != 0 => self.pongs += 1,
            PING => self.send(&frame(PING, ACK, 0, payload)),
            GOAWAY => self.gone = Some(word(4)),
            _ => {}
        }
    }

    /// `None` at the end of the connection.
    fn exactly(&mut self, length: usize) -> Result<Option<Vec<u8>>, Late> {
        let mut buffer = vec![0; 16 * 1024];
        while self.held.len() < length {
            match self.stream.read(&mut buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Late);
                }
                Ok(0) | Err(_) => {
                    self.is_closed = true;
                    return Ok(None);
                }
                Ok(count) => self.held.extend_from_slice(&buffer[..count]),
            }
        }
        let behind = self.held.split_off(length);
        Ok(Some(std::mem::replace(&mut self.held, behind)))
    }
}

/// Nothing came within [`LIMIT`].
struct Late;

/// The status that a header block begins with, where nothing is kept between blocks (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // Changes of the table's size.
    let skipped = block.iter().take_while(|octet| **octet & 0xe0 == 0x20).count();
    match block.get(skipped..)? {
        [first @ 0x88..=0x8e, ..] => INDEXED.get(usize::from(first - 0x88)).copied(),
        [0x08 | 0x18 | 0x48, length, value @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(value.get(..usize::from(*length))?).ok()?.parse().ok()
        }
        [0x08 | 0x18 | 0x48, _, value @ ..] => huffman(value),
        _ => None,
    }
}

/// Three digits: 0, 1, 2 take five bits, the others six.
fn huffman(octets: &[u8]) -> Option<u16> {
    let bits = octets.iter().take(3).fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet));
    let mut left = bits << (32 - 8 * octets.len().min(3));
    let mut number = 0;
    for _ in 0..3 {
        let (digit, taken) = match left >> 27 {
            short @ 0..=2 => (short, 5),
            _ => ((left >> 26).checked_sub(0x19)? + 3, 6),
        };
        number = number * 10 + u16::try_from(digit).ok().filter(|digit| *digit < 10)?;
        left <<= taken;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_form() {
        for (block, want) in [
            (&[0x88][..], Some(200)),
            (&[0x3f, 0x20, 0x8d], Some(404)),
            (&[0x20, 0x8c], Some(400)),
            (&[0x48, 0x03, b'5', b'0', b'3'], Some(503)),
            // 431: 011010 011001 00001.
            (&[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111], Some(431)),
            (&[0x40], None),
        ] {
            assert_eq!(status(block), want, "{block:02x?}");
        }
    }
}
