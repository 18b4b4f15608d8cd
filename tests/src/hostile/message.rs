//! HTTP/1.1 messages, read without lenience (RFC 9112): what is not written exactly as the grammar's strictest reading has
//! it is a fault. Both ends of the gateway are read so: it may be lenient to others, nobody need be to it.

use std::fmt;
use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};

/// Fields in the order in which they came, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, Vec<u8>)>);

/// What a row says of a field: its lines joined with commas, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// In lower case.
    pub name: String,
    /// `None`: there must be none.
    pub value: Option<Vec<u8>>,
}

impl Fields {
    /// All lines of a field.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// What is otherwise than a row says, in words.
    pub fn differences(&self, wanted: &[Field]) -> Vec<String> {
        let difference = |want: &Field| {
            let lines = self.all(&want.name);
            let found = (!lines.is_empty()).then(|| lines.join(&b","[..]));
            let said = |value: &Option<Vec<u8>>| value.as_deref().map(|it| it.escape_ascii().to_string());
            (found != want.value)
                .then(|| format!("{}: {:?}, not {:?}", want.name, said(&found), said(&want.value)))
        };
        wanted.iter().filter_map(difference).collect()
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, "[{name}: {}]", value.escape_ascii()))
    }
}

/// How a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// Nothing says: no body in a request, all that comes in a response.
    Unsaid,
}

/// A stream that is read message by message.
#[derive(Debug)]
pub(super) struct Reading<S> {
    stream: S,
    held: Vec<u8>,
}

/// The connection ended where no message had begun.
#[derive(Debug)]
pub(super) struct Ended;

impl<S: Read> Reading<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, held: Vec::new() }
    }

    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What was read and belongs to no message.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// The start line and fields of the next message.
    pub(super) fn head(&mut self) -> Result<Result<(String, Fields), Ended>> {
        let head = loop {
            if let Some(end) = self.held.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.held[..end].to_vec();
                self.held.drain(..end + 4);
                break head;
            }
            if !self.more()? {
                if self.held.is_empty() {
                    return Ok(Err(Ended));
                }
                bail!("ended in a head: {}", self.held.escape_ascii());
            }
        };
        parse_head(&head).with_context(|| format!("in {}", head.escape_ascii())).map(Ok)
    }

    /// A body and its trailers.
    pub(super) fn body(&mut self, framing: Framing) -> Result<(Vec<u8>, Fields)> {
        match framing {
            Framing::Length(length) => Ok((self.exactly(length)?, Fields::default())),
            Framing::Chunked => self.chunks(),
            Framing::Unsaid => {
                while self.more()? {}
                Ok((std::mem::take(&mut self.held), Fields::default()))
            }
        }
    }

    fn chunks(&mut self) -> Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let is_hexadecimal = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
            ensure!(is_hexadecimal, "a chunk of size {}", size.escape_ascii());
            let size = usize::from_str_radix(std::str::from_utf8(&size)?, 16)?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            ensure!(self.exactly(2)? == b"\r\n", "a chunk longer than it says");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((body, Fields(trailers)));
            }
            trailers.push(parse_field(&line)?);
        }
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
                let line = self.held[..end].to_vec();
                self.held.drain(..end + 2);
                return Ok(line);
            }
            ensure!(self.more()?, "ended in a line: {}", self.held.escape_ascii());
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.held.len() < length {
            ensure!(self.more()?, "ended {} octets early", length - self.held.len());
        }
        let behind = self.held.split_off(length);
        Ok(std::mem::replace(&mut self.held, behind))
    }

    /// Whether more has come. A reset is an end.
    fn more(&mut self) -> Result<bool> {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(count) => {
                self.held.extend_from_slice(&block[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context(format!("after {}", self.held.escape_ascii())),
        }
    }
}

fn parse_head(head: &[u8]) -> Result<(String, Fields)> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let start = lines.next().unwrap_or_default();
    let start = start.strip_suffix(b"\r").unwrap_or(start);
    ensure!(start.iter().all(|byte| matches!(byte, b' '..=b'~')), "a start line of other than ASCII");
    let mut fields = Vec::new();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        fields.push(parse_field(line)?);
    }
    // Only CR LF ends lines.
    let places =
        |wanted: u8| head.iter().enumerate().filter(move |(_, byte)| **byte == wanted).map(|(at, _)| at);
    ensure!(places(b'\r').map(|at| at + 1).eq(places(b'\n')), "a CR or LF alone");
    Ok((String::from_utf8(start.to_vec())?, Fields(fields)))
}

fn parse_field(line: &[u8]) -> Result<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':').context("a field without a colon")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    ensure!(!name.is_empty() && name.iter().all(is_token), "a field named {}", name.escape_ascii());
    let is_of_value = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    ensure!(value.iter().all(is_of_value), "a field's value is {}", value.escape_ascii());
    Ok((String::from_utf8(name.to_ascii_lowercase())?, value.to_vec()))
}

/// What the fields say of the body: once, and in one way.
pub(super) fn framing(fields: &Fields) -> Result<Framing> {
    match (fields.all("content-length").as_slice(), fields.all("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::Unsaid),
        ([length], []) => {
            let length = std::str::from_utf8(length)?;
            let number: usize = length.parse()?;
            ensure!(number.to_string() == length, "a length written {length:?}");
            Ok(Framing::Length(number))
        }
        ([], [b"chunked"]) => Ok(Framing::Chunked),
        (lengths, codings) => bail!("{} lengths and {} codings", lengths.len(), codings.len()),
    }
}
