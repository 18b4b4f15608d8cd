//! Reads a ClientHello as it comes in, over any number of segments and records, up to 64 KiB. Pure: it is fed
//! bytes and says what they are. tls-parser reads the message's frame; what is around it, because a handshake message
//! may span records (RFC 8446, 5.1), and the two extensions that routing needs, strictly, are here.

use std::net::Ipv6Addr;
use std::sync::Arc;

use tls_parser::{TlsClientHelloContents, parse_tls_handshake_client_hello};

/// The longest ClientHello taken, in bytes of the handshake message and of all records around it. Envoy and nginx
/// stop at 16 KiB, which post-quantum key shares with early data can exceed.
pub const MAX_HELLO: usize = 64 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// RFC 8446, 5.1: a plaintext record holds at most 2^14 bytes.
const MAX_RECORD: usize = 1 << 14;
/// RFC 6066, 3.
const SERVER_NAME: u16 = 0;
/// RFC 7301, 3.1.
const ALPN: u16 = 16;

/// What routing needs of a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// Server name, lower case; of an Encrypted ClientHello the outer one.
    pub sni: Option<Arc<str>>,
    /// Protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are no ClientHello that can be routed; the client is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a TLS handshake record: cleartext on a TLS port, say.
    #[error("not TLS")]
    NotTls,
    /// A hello in the frame of SSL 2, as clients of long ago sent to whom they did not know (forbidden by RFC 6176).
    #[error("SSL 2 ClientHello")]
    OldHello,
    /// A handshake, but not a well-formed ClientHello.
    #[error("malformed ClientHello")]
    Malformed,
    /// Longer than [`MAX_HELLO`].
    #[error("ClientHello longer than {} KiB", MAX_HELLO / 1024)]
    TooLong,
    /// Several server names: which one is meant is anybody's guess (RFC 6066 allows one of a type).
    #[error("several server names")]
    SeveralNames,
    /// A server name that is not a host name.
    #[error("invalid server name")]
    InvalidName,
}

/// Reads one ClientHello. Each byte is looked at once, however the client cuts them; what is held grows with what
/// came, not with what the client says will come, and never beyond [`MAX_HELLO`].
#[derive(Debug, Default)]
pub struct HelloReader {
    /// The current record's header, as far as it came.
    header: [u8; RECORD_HEADER],
    header_length: usize,
    /// Bytes of the current record's payload that have not come.
    record_left: usize,
    /// Bytes of records that came.
    taken: usize,
    /// Payloads joined: the handshake message, as far as it came.
    message: Vec<u8>,
}

impl HelloReader {
    /// Takes the bytes that came next; `None` asks for more. After a hello or an error the reader is of no more use.
    /// What follows the hello (early data, say) is not looked at.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        while !bytes.is_empty() {
            let count = match self.record_left {
                0 => self.take_header(bytes)?,
                _ => self.take_payload(bytes)?,
            };
            self.taken += count;
            bytes = &bytes[count..];
            if self.is_whole() {
                return parse_body(&self.message[HANDSHAKE_HEADER..]).map(Some);
            }
        }
        Ok(None)
    }

    /// Every byte of a header is judged as soon as it is there, so that cleartext is found out by its first.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, HelloError> {
        let count = bytes.len().min(RECORD_HEADER - self.header_length);
        let end = self.header_length + count;
        self.header[self.header_length..end].copy_from_slice(&bytes[..count]);
        self.header_length = end;
        let judge = if self.taken < RECORD_HEADER { judge_first_header } else { judge_next_header };
        judge(&self.header[..end])?;
        if end == RECORD_HEADER {
            self.begin_record(usize::from(u16::from_be_bytes([self.header[3], self.header[4]])), count)?;
        }
        Ok(count)
    }

    /// `header_part` is the part of the header that is not counted as taken yet.
    fn begin_record(&mut self, length: usize, header_part: usize) -> Result<(), HelloError> {
        // Empty handshake records are forbidden (RFC 8446, 5.1): they could go on for ever.
        if length == 0 || length > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        (self.header_length, self.record_left) = (0, length);
        self.judge_length(self.taken + header_part)
    }

    fn take_payload(&mut self, bytes: &[u8]) -> Result<usize, HelloError> {
        let missing = self.message_length().unwrap_or(HANDSHAKE_HEADER) - self.message.len();
        let count = bytes.len().min(self.record_left).min(missing);
        self.hold(&bytes[..count], missing);
        self.record_left -= count;
        if self.message[0] != CLIENT_HELLO {
            return Err(HelloError::Malformed);
        }
        if self.message.len() == HANDSHAKE_HEADER {
            self.judge_length(self.taken + count)?;
        }
        Ok(count)
    }

    /// Capacity at most doubles, as long as the message's length leaves room for that.
    fn hold(&mut self, bytes: &[u8], missing: usize) {
        if self.message.capacity() - self.message.len() < bytes.len() {
            self.message.reserve_exact(self.message.len().clamp(bytes.len(), missing));
        }
        self.message.extend_from_slice(bytes);
    }

    /// Refuses a message that cannot end within the bound, even if no other record begins.
    fn judge_length(&self, taken: usize) -> Result<(), HelloError> {
        let missing = self.message_length().map_or(0, |length| length - self.message.len());
        if taken + missing > MAX_HELLO { Err(HelloError::TooLong) } else { Ok(()) }
    }

    /// Of the handshake message with its header, once that is there.
    fn message_length(&self) -> Option<usize> {
        let header = self.message.first_chunk::<HANDSHAKE_HEADER>()?;
        Some(HANDSHAKE_HEADER + (u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize))
    }

    fn is_whole(&self) -> bool {
        self.message_length() == Some(self.message.len())
    }
}

/// Judges the first bytes of a connection, up to the end of a record's header.
fn judge_first_header(header: &[u8]) -> Result<(), HelloError> {
    match *header {
        [] | [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3, ..] => Ok(()),
        // RFC 5246, E.2: a length with its highest bit set, then the message's kind.
        [0x80..=0xff, _, CLIENT_HELLO, ..] => Err(HelloError::OldHello),
        [0x80..=0xff] | [0x80..=0xff, _] => Ok(()),
        _ => Err(HelloError::NotTls),
    }
}

/// Judges the header of a record behind the first, as far as it came. Nothing may come between the records of one
/// handshake message (RFC 8446, 5.1), no alert either.
fn judge_next_header(header: &[u8]) -> Result<(), HelloError> {
    match *header {
        [] | [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3, ..] => Ok(()),
        _ => Err(HelloError::Malformed),
    }
}

/// Reads the message behind its header.
fn parse_body(body: &[u8]) -> Result<ClientHello, HelloError> {
    let Ok(([], contents)) = parse_tls_handshake_client_hello(body) else {
        return Err(HelloError::Malformed);
    };
    let TlsClientHelloContents { ciphers, comp, ext, .. } = contents;
    if ciphers.is_empty() || comp.is_empty() {
        return Err(HelloError::Malformed);
    }
    // Extensions that routing does not need are the backend's to judge: a passthrough must not know better.
    let mut rest = ext.unwrap_or_default();
    let (mut sni, mut alpn) = (None, None);
    while !rest.is_empty() {
        let (kind, content) = take_extension(&mut rest).ok_or(HelloError::Malformed)?;
        let repeated = match kind {
            SERVER_NAME => sni.replace(server_name(content)?).map(|_| HelloError::SeveralNames),
            ALPN => alpn.replace(protocols(content)?).map(|_| HelloError::Malformed),
            _ => None,
        };
        repeated.map_or(Ok(()), Err)?;
    }
    Ok(ClientHello { sni, alpn: alpn.unwrap_or_default() })
}

fn take_extension<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (kind, behind) = rest.split_first_chunk::<2>()?;
    *rest = behind;
    Some((u16::from_be_bytes(*kind), take_vector(rest)?))
}

/// A vector with a length of two bytes (RFC 8446, 3.4).
fn take_vector<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<2>()?;
    let (content, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = behind;
    Some(content)
}

/// A vector that fills all of an extension.
fn whole_vector(mut content: &[u8]) -> Option<&[u8]> {
    let vector = take_vector(&mut content)?;
    content.is_empty().then_some(vector)
}

/// The content of a `server_name` extension. Its one kind is the host name; a list of several would leave it to each
/// reader which one is meant (RFC 6066, 3).
fn server_name(content: &[u8]) -> Result<Arc<str>, HelloError> {
    let list = whole_vector(content).ok_or(HelloError::Malformed)?;
    let Some((kind, mut rest)) = list.split_first() else { return Err(HelloError::Malformed) };
    let name = take_vector(&mut rest).ok_or(HelloError::Malformed)?;
    if !rest.is_empty() {
        return Err(HelloError::SeveralNames);
    }
    if *kind != 0 { Err(HelloError::InvalidName) } else { host_name(name) }
}

/// A host name in lower case. As in Envoy, a trailing dot makes another name, and an IP address, which RFC 6066 tells
/// clients not to send, is a name that only the same text or `*` serves.
fn host_name(name: &[u8]) -> Result<Arc<str>, HelloError> {
    let plausible = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let text = std::str::from_utf8(name).map_err(|_| HelloError::InvalidName)?;
    let is_name = !name.is_empty() && name.len() <= 255 && name.iter().all(plausible);
    if is_name || text.parse::<Ipv6Addr>().is_ok() {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Err(HelloError::InvalidName)
    }
}

/// The content of an ALPN extension (RFC 7301, 3.1): names of at least one byte, at least one of them.
fn protocols(content: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = whole_vector(content).ok_or(HelloError::Malformed)?;
    let mut found = Vec::new();
    while let Some((length, behind)) = list.split_first() {
        let (name, behind) = behind.split_at_checked(usize::from(*length)).ok_or(HelloError::Malformed)?;
        if name.is_empty() {
            return Err(HelloError::Malformed);
        }
        found.push(name.to_vec());
        list = behind;
    }
    if found.is_empty() { Err(HelloError::Malformed) } else { Ok(found) }
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
