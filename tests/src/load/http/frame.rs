//! HTTP/2's frames (RFC 9113 section 4.1) and the little of HPACK (RFC 7541) that prepared header blocks need.

use std::io;

/// What a client says first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const HEAD: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// Parameters of SETTINGS (RFC 9113 section 6.5.2).
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
/// What windows and tables have before anybody says otherwise.
pub(super) const DEFAULT_WINDOW: i64 = 65_535;
pub(super) const DEFAULT_TABLE: u32 = 4096;
/// The widest window.
pub(super) const WIDEST: u32 = (1 << 31) - 1;

/// A frame that came whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that bytes begin with, and how many of them it is.
    fn first(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let head = bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = bytes.get(HEAD..HEAD + length)?;
        Some((Self { kind: head[3], flags: head[4], stream, payload }, HEAD + length))
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Of DATA or HEADERS, without padding and priority.
    pub(super) fn content(&self) -> Option<&'a [u8]> {
        let (mut content, mut padding) = (self.payload, 0);
        if self.has(PADDED) {
            let (first, rest) = content.split_first()?;
            (padding, content) = (usize::from(*first), rest);
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }

    /// Of WINDOW_UPDATE.
    pub(super) fn increment(&self) -> Option<i64> {
        Some(i64::from(u32::from_be_bytes(*self.payload.first_chunk()?) & WIDEST))
    }

    /// Of SETTINGS.
    pub(super) fn setting(&self, wanted: u16) -> Option<u32> {
        let mut parameters = self.payload.chunks_exact(6);
        let found = parameters.rfind(|each| each[..2] == wanted.to_be_bytes())?;
        Some(u32::from_be_bytes(*found[2..].first_chunk()?))
    }

    /// Whether a response's block begins with the status 200: index 8 of the static table, behind changes of the table's
    /// size. Every server that is compared says it so.
    pub(super) fn says_ok(&self) -> bool {
        let is_resizing = |byte: &&u8| **byte & 0xe0 == 0x20;
        self.content().and_then(|block| block.iter().find(|byte| !is_resizing(byte))) == Some(&0x88)
    }
}

/// Makes frames of pieces.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a frame that is not whole.
    rest: Vec<u8>,
}

impl Frames {
    /// Hands over each frame that is whole now.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        each: impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.rest.is_empty() {
            let used = hand_over(bytes, each)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let used = hand_over(&self.rest, each)?;
            self.rest.drain(..used);
        }
        Ok(())
    }
}

/// Returns how many bytes the frames were.
fn hand_over(bytes: &[u8], mut each: impl FnMut(Frame<'_>) -> io::Result<()>) -> io::Result<usize> {
    let mut used = 0;
    while let Some((frame, length)) = Frame::first(&bytes[used..]) {
        used += length;
        each(frame)?;
    }
    Ok(used)
}

/// Adds a frame.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Adds SETTINGS.
pub(super) fn write_settings(out: &mut Vec<u8>, parameters: &[(u16, u32)]) {
    let bytes = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    write(out, SETTINGS, 0, 0, &parameters.iter().flat_map(bytes).collect::<Vec<_>>());
}

/// Adds a wider window of the connection.
pub(super) fn widen(out: &mut Vec<u8>, by: u32) {
    write(out, WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
}

/// How a block's fields are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    /// As fields that are not remembered (RFC 7541 section 6.2.2).
    Forgotten,
    /// As fields that are added to the table (RFC 7541 section 6.2.1).
    Remembered,
}

/// A block of short fields.
pub(super) fn literals(how: Literal, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(if how == Literal::Remembered { 0x40 } else { 0 });
        for text in [name, value] {
            // Lengths from 127 on would take more bytes than one (RFC 7541 section 5.1).
            debug_assert!(text.len() < 127, "{text}");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The block that says all of a table's fields again: the last that was added has index 62.
pub(super) fn remembered(count: usize) -> Vec<u8> {
    (0..count as u8).rev().map(|age| 0x80 | (62 + age)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let mut bytes = Vec::new();
        write_settings(&mut bytes, &[(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WIDEST)]);
        write(
            &mut bytes,
            HEADERS,
            END_HEADERS | PADDED | PRIORITY,
            7,
            &[2, 0, 0, 0, 0, 16, 0x3f, 0x88, 0, 0],
        );
        widen(&mut bytes, 70_000);
        for size in 1..=bytes.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                let each = |frame: Frame<'_>| {
                    let told = (frame.setting(INITIAL_WINDOW_SIZE), frame.says_ok(), frame.increment());
                    seen.push((frame.kind, frame.stream, told));
                    Ok(())
                };
                frames.feed(piece, each).unwrap();
            }
            assert_eq!(seen.len(), 3, "{size}");
            assert_eq!(seen[0].2.0, Some(WIDEST));
            assert_eq!((seen[1].1, seen[1].2.1), (7, true));
            assert_eq!(seen[2].2.2, Some(70_000));
        }
    }

    #[test]
    fn another_status_is_not_200() {
        let block = |payload: &'static [u8]| Frame { kind: HEADERS, flags: 0, stream: 1, payload };
        assert!(!block(&[0x8e]).says_ok());
        assert!(!block(&[]).says_ok());
        assert!(block(&[0x20, 0x88]).says_ok());
    }

    #[test]
    fn fields_are_said_again_in_their_order() {
        assert_eq!(remembered(3), [0xc0, 0xbf, 0xbe]);
        assert_eq!(literals(Literal::Forgotten, &[("a", "bc")]), [0, 1, b'a', 2, b'b', b'c']);
    }
}
