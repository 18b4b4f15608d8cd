//! Finds out what a client speaks from its first bytes, which are then read again by whoever serves it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::proxy_header::{self, HeaderError, Told};
use crate::tls::{ClientHello, HelloError, HelloReader};

/// RFC 9113, 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for most hellos: those with a post-quantum key share take 1.5 to 1.9 KiB.
const HELLO_ROOM: usize = 2048;

/// Room for most headers of the PROXY protocol.
const HEADER_ROOM: usize = 256;

/// Why a client's first bytes are not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum DetectError {
    #[error("closed before it had said enough")]
    Closed,
    #[error("said too little within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    ProxyHeader(#[from] HeaderError),
}

/// Which HTTP a cleartext client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpVersion {
    One,
    Two,
    /// Named in the first request line.
    OneZero,
    /// Likewise: neither of these nor any that could be.
    Other,
}

/// Reads the header of the PROXY protocol, and not a byte behind it: those are for whoever comes next. `None`: the proxy
/// speaks for nobody whose address it could tell.
pub(super) async fn proxy_header(
    stream: &mut TcpStream,
    limit: Duration,
) -> Result<Option<Told>, DetectError> {
    let read = async {
        let (mut read, mut ahead) = (Vec::new(), [0; HEADER_ROOM]);
        loop {
            let seen = stream.peek(&mut ahead).await?;
            if seen == 0 {
                return Err(DetectError::Closed);
            }
            let before = read.len();
            read.extend_from_slice(&ahead[..seen]);
            let header = proxy_header::read(&read)?;
            let taken = header.map_or(seen, |(_, length)| length - before);
            stream.read_exact(&mut ahead[..taken]).await?;
            if let Some((told, _)) = header {
                return Ok(told);
            }
        }
    };
    timeout(limit, read).await.map_err(|_| DetectError::Timeout(limit))?
}

/// Reads a whole ClientHello, and returns all bytes that came, which may be more. No more of them are held than twice
/// the longest hello.
pub(super) async fn client_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    limit: Duration,
) -> Result<(ClientHello, Bytes), DetectError> {
    let read = async {
        let mut read = BytesMut::with_capacity(HELLO_ROOM);
        let mut reader = HelloReader::default();
        loop {
            let before = read.len();
            if stream.read_buf(&mut read).await? == 0 {
                return Err(DetectError::Closed);
            }
            if let Some(hello) = reader.feed(&read[before..])? {
                return Ok((hello, read.freeze()));
            }
            // Doubles, and only once all of it is in use.
            read.reserve(1);
        }
    };
    timeout(limit, read).await.map_err(|_| DetectError::Timeout(limit))?
}

/// Reads until the bytes are HTTP/2's preface or differ from it.
pub(super) async fn http_version<S: AsyncRead + Unpin>(
    stream: &mut S,
    limit: Duration,
) -> Result<(HttpVersion, Bytes), DetectError> {
    let read = async {
        let mut read = BytesMut::with_capacity(1024);
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(DetectError::Closed);
            }
            let known = read.len().min(HTTP2_PREFACE.len());
            if read[..known] != HTTP2_PREFACE[..known] {
                return Ok((of_line(&read), read.freeze()));
            }
            if known == HTTP2_PREFACE.len() {
                return Ok((HttpVersion::Two, read.freeze()));
            }
        }
    };
    timeout(limit, read).await.map_err(|_| DetectError::Timeout(limit))?
}

/// The version that a request line names, where it has come whole. What is none is left to the parser to refuse.
fn of_line(read: &[u8]) -> HttpVersion {
    let Some(end) = read.iter().position(|byte| *byte == b'\n') else { return HttpVersion::One };
    let version = read[..end].trim_ascii_end().rsplit(|byte| *byte == b' ').next();
    match version.and_then(|version| version.strip_prefix(b"HTTP/")) {
        Some(b"1.1") | None => HttpVersion::One,
        Some(b"1.0") => HttpVersion::OneZero,
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => HttpVersion::Other,
        Some(_) => HttpVersion::One,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        for (sent, want) in [
            (&b"GET / HTTP/1.1\r\n"[..], HttpVersion::One),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", HttpVersion::Two),
            (b"PRI * HTTP/1.1\r\n", HttpVersion::One),
            (b"PUT / HTTP/1.1\r\n", HttpVersion::One),
        ] {
            for cut in 1..sent.len() {
                let (mut client, mut server) = tokio::io::duplex(64);
                let talk = async {
                    client.write_all(&sent[..cut]).await.unwrap();
                    tokio::task::yield_now().await;
                    client.write_all(&sent[cut..]).await.unwrap();
                };
                let (seen, ()) = tokio::join!(http_version(&mut server, Duration::from_secs(5)), talk);
                let (version, read) = seen.unwrap();
                assert_eq!(version, want);
                assert!(sent.starts_with(&read));
            }
        }
    }

    #[test]
    fn a_request_line_names_its_version() {
        for (line, want) in [
            ("GET / HTTP/1.1\r\n", HttpVersion::One),
            ("GET / HTTP/1.0\r\nhost: a\r\n", HttpVersion::OneZero),
            ("GET / HTTP/0.9\n", HttpVersion::Other),
            ("GET / HTTP/1.2\r\n", HttpVersion::Other),
            ("GET / HTTP/2.0\r\n", HttpVersion::Other),
            // Not known yet, or no version: the parser's business.
            ("GET / HTTP/2.0", HttpVersion::One),
            ("GET /\r\n", HttpVersion::One),
            ("GET / HTTP/x.y\r\n", HttpVersion::One),
            ("\r\nGET / HTTP/1.1\r\n", HttpVersion::One),
        ] {
            assert_eq!(of_line(line.as_bytes()), want, "{line:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_bounded() {
        let (_client, mut server) = tokio::io::duplex(64);
        let limit = Duration::from_secs(15);
        assert!(matches!(client_hello(&mut server, limit).await, Err(DetectError::Timeout(_))));
        assert!(matches!(http_version(&mut server, limit).await, Err(DetectError::Timeout(_))));
    }
}
