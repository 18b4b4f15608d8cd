//! Settings (RFC 9113, 6.5; RFC 8441, 3): ours, and what a client's mean for us.

use bytes::{BufMut as _, BytesMut};

use super::fault::{Code, Fault};
use super::frame::{self, Frame, LONGEST, flag, kind};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What a window is before anybody says otherwise, bytes (RFC 9113, 6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;
/// What one is at most.
pub(super) const LARGEST_WINDOW: i64 = 0x7fff_ffff;

/// What a connection offers its client.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Streams at a time.
    pub streams: u32,
    /// Bytes that may come on a stream before somebody takes them.
    pub stream_window: u32,
    /// Likewise on all streams together, 65,535 at least.
    pub connection_window: u32,
    /// Bytes of a head as RFC 9113, 10.5.1 counts them.
    pub head: u32,
    /// Whether streams may be asked for by CONNECT with a protocol.
    pub connects: bool,
}

/// What a client has said of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Bytes that a stream may begin with.
    pub(super) window: u32,
    /// Bytes of the table of headers, if that was said just now; the smallest before.
    pub(super) table: Option<(u32, u32)>,
}

impl Settings {
    /// Writes what a server begins with.
    pub(super) fn put(self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(24);
        let mut say = |name, value| {
            payload.put_u16(name);
            payload.put_u32(value);
        };
        say(MAX_CONCURRENT_STREAMS, self.streams);
        say(INITIAL_WINDOW_SIZE, self.stream_window);
        say(MAX_HEADER_LIST_SIZE, self.head);
        if self.connects {
            say(ENABLE_CONNECT_PROTOCOL, 1);
        }
        frame::put(out, (kind::SETTINGS, 0, 0), &payload);
        let more = self.connection_window.saturating_sub(FIRST_WINDOW);
        if more > 0 {
            frame::put(out, (kind::WINDOW_UPDATE, 0, 0), &more.to_be_bytes());
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self { window: FIRST_WINDOW, table: None }
    }
}

impl Peer {
    /// Takes a SETTINGS frame. False: it says that ours have come.
    pub(super) fn take(&mut self, frame: &Frame) -> Result<bool, Fault> {
        let fault = |code| Err(Fault::Connection(code));
        if frame.head.stream != 0 {
            return fault(Code::PROTOCOL);
        }
        if frame.head.has(flag::ACK) {
            return if frame.payload.is_empty() { Ok(false) } else { fault(Code::FRAME_SIZE) };
        }
        let (settings, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return fault(Code::FRAME_SIZE);
        }
        for [n0, n1, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            match u16::from_be_bytes([*n0, *n1]) {
                HEADER_TABLE_SIZE => {
                    let smallest = self.table.map_or(value, |(smallest, _)| smallest.min(value));
                    self.table = Some((smallest, value));
                }
                ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => return fault(Code::PROTOCOL),
                INITIAL_WINDOW_SIZE if i64::from(value) > LARGEST_WINDOW => return fault(Code::FLOW_CONTROL),
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE if !(LONGEST as u32..1 << 24).contains(&value) => {
                    return fault(Code::PROTOCOL);
                }
                // Frames longer than everyone takes would have other streams wait for longer.
                _ => {}
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_what_it_takes() {
        let (size, form) = (Fault::Connection(Code::FRAME_SIZE), Fault::Connection(Code::PROTOCOL));
        let said = |settings: &[(u16, u32)]| {
            let mut payload = BytesMut::new();
            for (name, value) in settings {
                payload.put_u16(*name);
                payload.put_u32(*value);
            }
            payload
        };
        for (flags, stream, payload, want) in [
            (0, 0, said(&[]), Ok(true)),
            (0, 0, said(&[(INITIAL_WINDOW_SIZE, 7), (0xabc, 9), (MAX_FRAME_SIZE, 16_777_215)]), Ok(true)),
            (flag::ACK, 0, said(&[]), Ok(false)),
            (flag::ACK, 0, said(&[(0xabc, 9)]), Err(size)),
            (0, 1, said(&[]), Err(form)),
            (0, 0, BytesMut::zeroed(5), Err(size)),
            (0, 0, said(&[(ENABLE_PUSH, 2)]), Err(form)),
            (0, 0, said(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), Err(Fault::Connection(Code::FLOW_CONTROL))),
            (0, 0, said(&[(MAX_FRAME_SIZE, 16_383)]), Err(form)),
            (0, 0, said(&[(MAX_FRAME_SIZE, 1 << 24)]), Err(form)),
        ] {
            let mut written = BytesMut::new();
            frame::put(&mut written, (kind::SETTINGS, flags, stream), &payload);
            let frame = Frame::take(&mut written).unwrap().unwrap();
            assert_eq!(Peer::default().take(&frame), want, "{frame:?}");
        }
        let mut peer = Peer::default();
        for (table, want) in [(100, (100, 100)), (0, (0, 0)), (200, (0, 200))] {
            let mut written = BytesMut::new();
            frame::put(&mut written, (kind::SETTINGS, 0, 0), &said(&[(HEADER_TABLE_SIZE, table)]));
            peer.take(&Frame::take(&mut written).unwrap().unwrap()).unwrap();
            assert_eq!(peer.table, Some(want));
        }
    }

    #[test]
    fn ours_are_said_first() {
        let settings =
            Settings { streams: 100, stream_window: 1, connection_window: 65_536, head: 2, connects: true };
        let mut out = BytesMut::new();
        settings.put(&mut out);
        let said = Frame::take(&mut out).unwrap().unwrap();
        assert_eq!((said.head.kind, said.payload.len()), (kind::SETTINGS, 24));
        let window = Frame::take(&mut out).unwrap().unwrap();
        assert_eq!((window.head.kind, &window.payload[..]), (kind::WINDOW_UPDATE, &[0, 0, 0, 1][..]));
    }
}
