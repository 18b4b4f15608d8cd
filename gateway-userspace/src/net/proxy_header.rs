//! Reads the header of the PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2) that a connection begins with:
//! who the client is, in the words of the proxy that it comes through. Pure: bytes come from outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Begins a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8] = b"PROXY ";
/// Bytes of a header of version 1, its end among them.
const MAX_LINE: usize = 107;
/// Bytes of version 2 up to its addresses.
const FIXED: usize = 16;
/// Bytes of a header of version 2 that are read: addresses take 36, and proxies add what they know of the client's TLS.
pub const MAX_HEADER: usize = 4096;

/// Both ends of the connection that a client has with a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin otherwise.
    #[error("begins without a header of the PROXY protocol")]
    Absent,
    /// A line of version 1 that is not in its form.
    #[error("a line of the PROXY protocol that says nothing")]
    Line,
    /// A version, command or family that version 2 does not have for connections.
    #[error("an unknown version, command or family in a header of the PROXY protocol")]
    Unknown,
    /// Version 2: less than its addresses take.
    #[error("a header of the PROXY protocol without its addresses")]
    Short,
    /// Version 2: more than [`MAX_HEADER`].
    #[error("a header of the PROXY protocol with more than {MAX_HEADER} bytes")]
    Long,
}

/// What the first bytes of a connection say, and how many of them are the header; `None` until it is whole. A proxy that
/// speaks for itself, or for a client without an address, tells nobody's.
pub fn read(bytes: &[u8]) -> Result<Option<(Option<Told>, usize)>, HeaderError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, want)| byte == want);
    if begins(SIGNATURE) {
        return if bytes.len() < FIXED { Ok(None) } else { version_2(bytes) };
    }
    if begins(WORD) {
        return version_1(bytes);
    }
    Err(HeaderError::Absent)
}

fn version_1(bytes: &[u8]) -> Result<Option<(Option<Told>, usize)>, HeaderError> {
    let start = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else {
        return if start.len() < MAX_LINE { Ok(None) } else { Err(HeaderError::Line) };
    };
    let line = start[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let told = told_by_line(line.ok_or(HeaderError::Line)?)?;
    Ok(Some((told, end + 1)))
}

fn told_by_line(line: &str) -> Result<Option<Told>, HeaderError> {
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    let is_four = match family {
        // What follows is nobody's business.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(HeaderError::Line),
    };
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(HeaderError::Line);
    };
    let address = |text: &str| {
        let four = || text.parse().ok().map(IpAddr::V4);
        let six = || text.parse().ok().map(IpAddr::V6);
        if is_four { four() } else { six() }
    };
    let end = |ip, port| Some(end(address(ip)?, number(port)?));
    match (end(source, source_port), end(destination, destination_port)) {
        (Some(source), Some(destination)) => Ok(Some(Told { source, destination })),
        _ => Err(HeaderError::Line),
    }
}

/// A port as the specification writes it: decimal digits, no zero before others.
fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// An IPv4 address that is written as one of IPv6 is IPv4.
fn end(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn version_2(bytes: &[u8]) -> Result<Option<(Option<Told>, usize)>, HeaderError> {
    let (version, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if FIXED + length > MAX_HEADER {
        return Err(HeaderError::Long);
    }
    let is_proxied = match version {
        0x20 => false,
        0x21 => true,
        _ => return Err(HeaderError::Unknown),
    };
    // Of one address, both with their ports.
    let size = match (is_proxied, family) {
        (false, _) | (true, 0x00 | 0x31) => None,
        (true, 0x11) => Some(4),
        (true, 0x21) => Some(16),
        (true, _) => return Err(HeaderError::Unknown),
    };
    if size.is_some_and(|size| length < 2 * size + 4) {
        return Err(HeaderError::Short);
    }
    let Some(rest) = bytes.get(FIXED..FIXED + length) else { return Ok(None) };
    Ok(Some((size.and_then(|size| told_by_bytes(rest, size)), FIXED + length)))
}

fn told_by_bytes(rest: &[u8], size: usize) -> Option<Told> {
    let (source, rest) = rest.split_at_checked(size)?;
    let (destination, rest) = rest.split_at_checked(size)?;
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    Some(Told { source: end(address(source)?, port(0)?), destination: end(address(destination)?, port(2)?) })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(|four| IpAddr::V4(Ipv4Addr::from(four)));
    let six = || <[u8; 16]>::try_from(bytes).ok().map(|six| IpAddr::V6(Ipv6Addr::from(six)));
    four().or_else(six)
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
