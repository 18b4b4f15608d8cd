//! Frames (RFC 9113, 4 and 6): their heads, what they may look like whatever stream they are of, and how ours are written.

use bytes::{Buf as _, Bytes, BytesMut};

use super::fault::{Code, Fault};

/// What a client begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub const HEAD: usize = 9;
/// Bytes of a frame's payload at most: what everyone takes before settings say otherwise, and what we take.
pub const LONGEST: usize = 16_384;

/// Types of frames.
pub mod kind {
    /// What a body is.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// Means nothing any more.
    pub const PRIORITY: u8 = 2;
    /// A stream has ended before its time.
    pub const RST_STREAM: u8 = 3;
    /// What a side takes.
    pub const SETTINGS: u8 = 4;
    /// Of servers alone.
    pub const PUSH_PROMISE: u8 = 5;
    /// Asks for an answer.
    pub const PING: u8 = 6;
    /// No more streams.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a head, or of trailers.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of SETTINGS and PING: an answer.
    pub const ACK: u8 = 1;
    /// Nothing follows on the stream.
    pub const END_STREAM: u8 = 1;
    /// No CONTINUATION follows.
    pub const END_HEADERS: u8 = 4;
    /// Of DATA and HEADERS: padding follows what there is.
    pub const PADDED: u8 = 8;
    /// Of HEADERS: it says what PRIORITY says.
    pub const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

/// A frame that has come whole.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub head: FrameHead,
    /// What it says.
    pub payload: BytesMut,
}

impl FrameHead {
    /// Of a stream.
    pub fn new(length: usize, kind: u8, flags: u8, stream: u32) -> Self {
        Self { length, kind, flags, stream }
    }

    fn read(bytes: &[u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Self { length, kind, flags, stream: number([s0, s1, s2, s3]) }
    }

    /// Writes it.
    pub fn put(self, out: &mut BytesMut) {
        let [_, l0, l1, l2] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]);
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Frame {
    /// Takes the next one out of what was read; `None`: more is needed. One that is too long is an error before it has come.
    pub fn take(read: &mut BytesMut) -> Result<Option<Self>, Fault> {
        let Some(head) = read.first_chunk() else { return Ok(None) };
        let head = FrameHead::read(head);
        if head.length > LONGEST {
            return Err(Fault::Connection(Code::FRAME_SIZE));
        }
        if read.len() < HEAD + head.length {
            return Ok(None);
        }
        read.advance(HEAD);
        Ok(Some(Self { head, payload: read.split_to(head.length) }))
    }

    /// What is left of the payload without what pads it, and without what a HEADERS frame says of priorities (RFC 9113, 6.1 and
    /// 6.2).
    pub fn content(mut self) -> Result<BytesMut, Fault> {
        let padding = if self.head.has(flag::PADDED) { self.byte()? } else { 0 };
        if self.head.kind == kind::HEADERS && self.head.has(flag::PRIORITY) {
            let depends_on = number(self.fixed()?);
            self.byte()?;
            if depends_on == self.head.stream {
                return Err(Fault::Connection(Code::PROTOCOL));
            }
        }
        let length = self.payload.len().checked_sub(padding.into());
        self.payload.truncate(length.ok_or(Fault::Connection(Code::PROTOCOL))?);
        Ok(self.payload)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.payload.try_get_u8().map_err(|_| Fault::Connection(Code::FRAME_SIZE))
    }

    fn fixed(&mut self) -> Result<[u8; 4], Fault> {
        let bytes = *self.payload.first_chunk().ok_or(Fault::Connection(Code::FRAME_SIZE))?;
        self.payload.advance(4);
        Ok(bytes)
    }

    /// The payload, which has one length only.
    pub fn exactly<const LENGTH: usize>(&self) -> Result<[u8; LENGTH], Fault> {
        self.payload[..].try_into().map_err(|_| Fault::Connection(Code::FRAME_SIZE))
    }
}

/// A number of 31 bits, before which one bit means nothing.
pub fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// Writes a frame that is short.
pub fn put(out: &mut BytesMut, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) {
    FrameHead::new(payload.len(), kind, flags, stream).put(out);
    out.extend_from_slice(payload);
}

/// Writes a block of headers in as many frames as it needs (RFC 9113, 4.3). `block` writes it.
pub fn put_block(
    out: &mut BytesMut,
    stream: u32,
    ends: bool,
    longest: usize,
    block: impl FnOnce(&mut BytesMut),
) {
    let begin = out.len();
    let flags = if ends { flag::END_STREAM } else { 0 };
    FrameHead::new(0, kind::HEADERS, flags | flag::END_HEADERS, stream).put(out);
    block(out);
    let length = out.len() - begin - HEAD;
    if length <= longest {
        out[begin..begin + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        return;
    }
    let rest: Bytes = out.split_off(begin + HEAD).freeze();
    out.truncate(begin);
    let last = length.div_ceil(longest) - 1;
    for (at, part) in rest.chunks(longest).enumerate() {
        let (kind, flags) = if at == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
        put(out, (kind, flags | if at == last { flag::END_HEADERS } else { 0 }, stream), part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Frame {
        Frame { head: FrameHead::new(payload.len(), kind, flags, 1), payload: payload.into() }
    }

    #[test]
    fn frames_are_taken_when_they_have_come_whole() {
        let mut said = BytesMut::new();
        put(&mut said, (kind::PING, flag::ACK, 0), b"12345678");
        put(&mut said, (0x77, 0xff, 0x7fff_ffff), b"");
        for length in 0..said.len() {
            let mut read = BytesMut::from(&said[..length]);
            let frame = Frame::take(&mut read).unwrap();
            assert_eq!(frame.is_some(), length >= 17, "{length}");
        }
        said[HEAD + 8 + 5] |= 0x80;
        let ping = Frame::take(&mut said).unwrap().unwrap();
        assert_eq!((ping.head, &ping.payload[..]), (FrameHead::new(8, 6, 1, 0), &b"12345678"[..]));
        let other = Frame::take(&mut said).unwrap().unwrap();
        assert_eq!(other.head.stream, 0x7fff_ffff, "one bit means nothing");
        let long = FrameHead::new(LONGEST + 1, 0, 0, 1);
        long.put(&mut said);
        assert_eq!(Frame::take(&mut said).unwrap_err(), Fault::Connection(Code::FRAME_SIZE));
    }

    #[test]
    fn what_pads_is_no_content() {
        let (size, form) = (Fault::Connection(Code::FRAME_SIZE), Fault::Connection(Code::PROTOCOL));
        for (kind, flags, payload, want) in [
            (kind::DATA, 0, &b"abc"[..], Ok(&b"abc"[..])),
            (kind::DATA, flag::PADDED, b"\x02abc", Ok(b"a")),
            (kind::DATA, flag::PADDED, b"\x03abc", Ok(b"")),
            (kind::DATA, flag::PADDED, b"\x04abc", Err(form)),
            (kind::DATA, flag::PADDED, b"", Err(size)),
            (kind::DATA, flag::PRIORITY, b"abc", Ok(b"abc")),
            (kind::HEADERS, flag::PRIORITY, b"\0\0\0\x03\xffabc", Ok(b"abc")),
            (kind::HEADERS, flag::PRIORITY, b"\x80\0\0\x01\xffabc", Err(form)),
            (kind::HEADERS, flag::PRIORITY, b"\0\0\0\x03", Err(size)),
            (kind::HEADERS, flag::PRIORITY | flag::PADDED, b"\x01\0\0\0\x03\xffabc", Ok(b"ab")),
        ] {
            let content = frame(kind, flags, payload).content();
            assert_eq!(content.as_deref(), want.as_ref().map(|it| *it), "{kind} {flags} {payload:?}");
        }
        assert_eq!(frame(kind::PING, 0, b"1234567").exactly::<8>(), Err(size));
    }

    #[test]
    fn a_long_block_goes_on_in_frames_of_its_own() {
        for (length, want) in [(0, vec![0]), (10, vec![10]), (11, vec![10, 1]), (30, vec![10, 10, 10])] {
            let mut out = BytesMut::from(&b"before"[..]);
            put_block(&mut out, 5, true, 10, |out| out.extend(std::iter::repeat_n(7, length)));
            out.advance(6);
            let mut parts = Vec::new();
            while let Some(Frame { head, payload }) = Frame::take(&mut out).unwrap() {
                assert!(payload.iter().all(|byte| *byte == 7) && head.stream == 5);
                let is_first = parts.is_empty();
                let kind = if is_first { kind::HEADERS } else { kind::CONTINUATION };
                assert_eq!((head.kind, head.has(flag::END_STREAM)), (kind, is_first));
                parts.push(payload.len());
                assert_eq!(head.has(flag::END_HEADERS), parts.len() == want.len());
            }
            assert_eq!(parts, want);
        }
    }
}
