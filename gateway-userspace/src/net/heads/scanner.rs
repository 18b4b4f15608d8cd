//! Follows the octets of HTTP/1.1 requests far enough to see where each begins and what its head says of its length. Pure:
//! it is fed what was read, in whatever pieces, and counts. It takes for granted what hyper refuses anyway, and stops there.

/// Octets of a line that are held while its end has not come; hyper takes no longer heads.
const LONGEST: usize = 256 * 1024;
const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    at: At,
    /// The line that has begun, without what comes next.
    held: Vec<u8>,
    /// Lines of the present head that say a length.
    lengths: u32,
    /// The length that the last of them says, if that is a number.
    length: Option<u64>,
    /// Lines of the present head that say a coding.
    codings: u32,
    /// The last of them ends in `chunked`.
    is_chunked: bool,
    /// Heads that have come whole.
    heads: u64,
    /// How many of them came before the first that says its length twice.
    ambiguous: Option<u64>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// A request line, or empty lines before it.
    #[default]
    Start,
    Fields,
    /// So many octets of a body.
    Body(u64),
    ChunkSize,
    /// So many octets of a chunk, the line end behind it among them.
    Chunk(u64),
    Trailers,
    /// Nothing that hyper would take for a request.
    Lost,
}

impl Scanner {
    /// Heads that have come whole.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// How many heads came before the first that says its length twice.
    pub(super) fn ambiguous(&self) -> Option<u64> {
        self.ambiguous
    }

    /// Takes what was read next.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.at != At::Lost {
            bytes = match self.at {
                At::Body(left) => {
                    let (left, behind) = skip(left, bytes);
                    self.at = if left == 0 { At::Start } else { At::Body(left) };
                    behind
                }
                At::Chunk(left) => {
                    let (left, behind) = skip(left, bytes);
                    self.at = if left == 0 { At::ChunkSize } else { At::Chunk(left) };
                    behind
                }
                At::Start | At::Fields | At::ChunkSize | At::Trailers => self.next_line(bytes),
                At::Lost => return,
            };
        }
    }

    /// Takes a line, or the beginning of one.
    fn next_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            if self.held.len() + bytes.len() > LONGEST {
                self.lose();
            } else {
                self.held.extend_from_slice(bytes);
            }
            return &[];
        };
        let (line, behind) = (&bytes[..end], &bytes[end + 1..]);
        if self.held.is_empty() {
            self.line(line);
        } else {
            let mut whole = std::mem::take(&mut self.held);
            whole.extend_from_slice(line);
            self.line(&whole);
        }
        behind
    }

    /// A line without its LF. One of a head that ends in LF alone ends for hyper, too. Between chunks it is refused, and in
    /// trailers a part of the line: hyper waits for CRLF, and leaves out whatever stands behind an empty line that is none to it.
    /// What is a request to others then is none to hyper, so that nobody can say any more which is which.
    fn line(&mut self, line: &[u8]) {
        let whole = line.strip_suffix(b"\r");
        let line = whole.unwrap_or(line);
        match self.at {
            At::ChunkSize | At::Trailers if whole.is_none() => self.lose(),
            At::Start if !line.is_empty() => {
                (self.lengths, self.codings, self.at) = (0, 0, At::Fields);
            }
            At::Fields if line.is_empty() => self.end_head(),
            At::Fields => self.field(line),
            At::ChunkSize => self.chunk(line),
            At::Trailers if line.is_empty() => self.at = At::Start,
            At::Start | At::Trailers | At::Body(_) | At::Chunk(_) | At::Lost => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        if let Some(value) = value(line, LENGTH) {
            self.lengths += 1;
            self.length = number(value, 10);
        } else if let Some(value) = value(line, CODING) {
            self.codings += 1;
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            self.is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
    }

    fn end_head(&mut self) {
        if self.lengths > 1 || self.lengths > 0 && self.codings > 0 {
            self.ambiguous = Some(self.heads);
        }
        self.heads += 1;
        self.at = match (self.ambiguous, self.codings, self.lengths, self.length) {
            (Some(_), ..) => At::Lost,
            (None, 0, 0, _) | (None, 0, _, Some(0)) => At::Start,
            (None, 0, _, Some(length)) => At::Body(length),
            (None, 0, _, None) => At::Lost,
            (None, ..) if self.is_chunked => At::ChunkSize,
            (None, ..) => At::Lost,
        };
    }

    /// Digits, and behind them an extension that nobody here understands.
    fn chunk(&mut self, line: &[u8]) {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.at = match number(&line[..digits], 16) {
            Some(0) => At::Trailers,
            Some(size) => size.checked_add(2).map_or(At::Lost, At::Chunk),
            None => At::Lost,
        };
    }

    fn lose(&mut self) {
        (self.at, self.held) = (At::Lost, Vec::new());
    }
}

/// How much is left to skip, and what is behind it.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (left - count as u64, &bytes[count..])
}

/// The value of a field, if it has this name. hyper takes no blank before the colon.
fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads, and which says its length twice, the same however the octets are cut.
    #[track_caller]
    fn scanned(text: &str) -> (u64, Option<u64>) {
        let read = |piece: usize| {
            let mut scanner = Scanner::default();
            text.as_bytes().chunks(piece).for_each(|piece| scanner.feed(piece));
            (scanner.heads(), scanner.ambiguous())
        };
        let whole = read(text.len());
        for piece in 1..text.len().min(40) {
            assert_eq!(read(piece), whole, "in pieces of {piece}: {text:?}");
        }
        whole
    }

    #[test]
    fn requests_are_counted_behind_bodies_of_each_kind() {
        for (text, heads) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("\r\n\r\nGET / HTTP/1.1\nHost: a\n\n", 1),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (
                "P / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\n\r\n\r\n0\r\nA: b\r\n\r\nG /\r\n\r\n",
                2,
            ),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG /\r\n\r\n", 2),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nG /\r\n\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\nG /\r\n\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nG /\r\n\r\n", 1),
            ("P / HTTP/1.1\r\nContent-Length: +1\r\n\r\nG /\r\n\r\n", 1),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
        ] {
            assert_eq!(scanned(text), (heads, None), "{text:?}");
        }
    }

    #[test]
    fn a_length_said_twice_is_seen() {
        const FIRST: &str = "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
        for head in [
            "content-length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "CONTENT-LENGTH:1\r\nX: y\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: x",
            "Transfer-Encoding: gzip\nContent-Length: 1",
        ] {
            let text = format!("{FIRST}{FIRST}POST / HTTP/1.1\r\n{head}\r\n\r\n{FIRST}");
            assert_eq!(scanned(&text), (3, Some(2)), "{head}");
        }
    }

    #[test]
    fn what_only_looks_like_framing_is_none() {
        for head in [
            "Content-Length : 1\r\nContent-Length: 0",
            "X-Content-Length: 1\r\nContent-Length: 0",
            "Content-Lengthy: 1\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(scanned(&format!("POST / HTTP/1.1\r\n{head}\r\n\r\n")), (1, None), "{head}");
        }
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let mut scanner = Scanner::default();
        for _ in 0..LONGEST {
            scanner.feed(b"aaaaaaaa");
        }
        assert_eq!((scanner.at, scanner.held.capacity()), (At::Lost, 0));
    }
}
