//! Another reading of HTTP/1.1 requests than the agent's: RFC 9112 to the letter, and where that lets readers do
//! as they like, nothing is read. What the agent serves must be what this reads.

use std::ops::Range;

/// Header lines of a request, as the agent takes them.
pub const MAX_LINES: usize = 100;

/// A request as it stands in the octets of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// The octets of the head.
    pub head: Range<usize>,
    /// Of the request line.
    pub method: String,
    /// Likewise.
    pub target: String,
    /// How its head says where it ends.
    pub framing: Framing,
    /// In how many lines.
    pub lengths: usize,
    /// What stands behind the head; not asked for where the head is not plain.
    pub body: Body,
}

/// What a head says of its body's length (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: there is none.
    None,
    /// `Content-Length`, once, and in digits.
    Length(u64),
    /// `Transfer-Encoding`, of which the last is `chunked`.
    Chunked,
    /// Several lengths, or one beside a coding.
    Ambiguous,
    /// One that nobody must guess.
    Unreadable,
}

/// A body as it stands behind its head.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it, without its coding.
    Whole(Vec<u8>),
    /// The octets end before it does.
    Broken,
    /// Not in its coding's form, or in one that readers end at different places.
    Unreadable,
}

/// The requests of a connection up to the first behind which nobody can say where another begins.
pub fn requests(octets: &[u8]) -> Vec<Written> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((written, end)) = request(octets, at) {
        let goes_on = matches!(written.body, Body::Whole(_));
        found.push(written);
        if !goes_on {
            break;
        }
        at = end;
    }
    found
}

/// The request that begins at `at`, and where it ends; `None`: its head is none, or not whole.
fn request(octets: &[u8], at: usize) -> Option<(Written, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(&octets[at..]).ok()? else { return None };
    let (framing, lengths) = framing(head.headers, head.version == Some(1));
    let behind = at + length;
    let (body, taken) = match framing {
        Framing::None => (Body::Whole(Vec::new()), 0),
        Framing::Length(length) => sized(&octets[behind..], length),
        Framing::Chunked => chunked(&octets[behind..]),
        Framing::Ambiguous | Framing::Unreadable => (Body::Unreadable, 0),
    };
    let (method, target) = (head.method?.to_owned(), head.path?.to_owned());
    Some((Written { head: at..behind, method, target, framing, lengths, body }, behind + taken))
}

fn framing(fields: &[httparse::Header<'_>], has_codings: bool) -> (Framing, usize) {
    let values = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::None,
        ([length], []) => digits(length, 10).map_or(Framing::Unreadable, Framing::Length),
        ([], codings) => match codings.join(&b',').rsplit(|octet| *octet == b',').next() {
            Some(last) if has_codings && last.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                Framing::Chunked
            }
            _ => Framing::Unreadable,
        },
        _ => Framing::Ambiguous,
    };
    (framing, lengths.len() + codings.len())
}

fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_number = text.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| is_number)
}

fn sized(octets: &[u8], length: u64) -> (Body, usize) {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    octets.get(..length).map_or((Body::Broken, 0), |body| (Body::Whole(body.to_owned()), length))
}

/// RFC 9112, 7.1: what was sent in chunks, and the octets that these take.
fn chunked(octets: &[u8]) -> (Body, usize) {
    let (mut body, mut rest) = (Vec::new(), octets);
    let read = loop {
        match chunk(rest) {
            Ok((0, behind)) => break trailers(behind),
            Ok((size, behind)) => {
                let Some((data, behind)) =
                    usize::try_from(size).ok().and_then(|size| behind.split_at_checked(size))
                else {
                    break Err(Body::Broken);
                };
                match behind.strip_prefix(b"\r\n") {
                    Some(behind) => rest = behind,
                    None if behind.len() < 2 => break Err(Body::Broken),
                    None => break Err(Body::Unreadable),
                }
                body.extend_from_slice(data);
            }
            Err(why) => break Err(why),
        }
    };
    match read {
        Ok(rest) => (Body::Whole(body), octets.len() - rest.len()),
        Err(why) => (why, 0),
    }
}

/// The size of a chunk, and what is behind its line.
fn chunk(octets: &[u8]) -> Result<(u64, &[u8]), Body> {
    let (line, behind) = line(octets)?;
    let size = line.split(|octet| *octet == b';').next().unwrap_or_default();
    // Blanks before an extension are bad whitespace that is to be borne (RFC 9112, 7.1.1).
    let size = digits(size.trim_ascii_end(), 16).ok_or(Body::Unreadable)?;
    Ok((size, behind))
}

/// What is behind the empty line at the end of a trailer section.
fn trailers(mut octets: &[u8]) -> Result<&[u8], Body> {
    loop {
        let (line, behind) = line(octets)?;
        if line.is_empty() {
            return Ok(behind);
        }
        octets = behind;
    }
}

/// A line without its end, which is CRLF; CR or LF alone is the end of a line to some (RFC 9112, 2.2).
fn line(octets: &[u8]) -> Result<(&[u8], &[u8]), Body> {
    let end = octets.iter().position(|octet| matches!(octet, b'\r' | b'\n')).ok_or(Body::Broken)?;
    let (line, rest) = octets.split_at(end);
    match rest.strip_prefix(b"\r\n") {
        Some(behind) => Ok((line, behind)),
        None if rest == b"\r" => Err(Body::Broken),
        None => Err(Body::Unreadable),
    }
}
