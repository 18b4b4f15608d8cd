//! Reads a ClientHello as it comes in, over any number of segments and records, up to 64 KiB. Pure: it is given
//! the bytes read so far and says what they are. tls-parser reads the message; the framing around it is here,
//! because a handshake message may span records (RFC 8446, 5.1).

use std::sync::Arc;

use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
    parse_tls_message_handshake,
};

/// The longest ClientHello taken, in bytes of the handshake message and of all records around it. Envoy and nginx
/// stop at 16 KiB, which post-quantum key shares with early data can exceed.
pub const MAX_HELLO: usize = 64 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// RFC 8446, 5.1: a plaintext record holds at most 2^14 bytes.
const MAX_RECORD: usize = 1 << 14;

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

/// Looks at the bytes read so far; `None` asks for more.
pub fn parse(read: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    match joined_message(read)? {
        Some(message) => parse_message(&message).map(Some),
        None if read.len() >= MAX_HELLO => Err(HelloError::TooLong),
        None => Ok(None),
    }
}

/// Joins the record payloads until the first handshake message is whole.
fn joined_message(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut message = Vec::new();
    loop {
        // Every byte of a header is judged as soon as it is there, so that cleartext is found out by its first.
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD)
            || rest.get(1).is_some_and(|major| *major != 3)
        {
            return Err(HelloError::NotTls);
        }
        let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        let payload = &after[..length.min(after.len())];
        message.extend_from_slice(payload);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError::Malformed);
        }
        if let Some(want) = message_length(&message) {
            if want > MAX_HELLO {
                return Err(HelloError::TooLong);
            }
            if message.len() >= want {
                message.truncate(want);
                return Ok(Some(message));
            }
        }
        if payload.len() < length {
            return Ok(None);
        }
        rest = &after[length..];
    }
}

fn message_length(message: &[u8]) -> Option<usize> {
    let header = message.first_chunk::<HANDSHAKE_HEADER>()?;
    Some(HANDSHAKE_HEADER + (u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize))
}

fn parse_message(message: &[u8]) -> Result<ClientHello, HelloError> {
    let Ok((_, TlsMessage::Handshake(TlsMessageHandshake::ClientHello(contents)))) =
        parse_tls_message_handshake(message)
    else {
        return Err(HelloError::Malformed);
    };
    let mut hello = ClientHello::default();
    let extensions = match contents.ext {
        None => Vec::new(),
        Some(bytes) => match parse_tls_client_hello_extensions(bytes) {
            Ok(([], extensions)) => extensions,
            _ => return Err(HelloError::Malformed),
        },
    };
    for extension in extensions {
        match extension {
            TlsExtension::SNI(names) => {
                if hello.sni.is_some() || names.len() > 1 {
                    return Err(HelloError::SeveralNames);
                }
                hello.sni = names.first().map(|(kind, name)| server_name(*kind, name)).transpose()?;
            }
            TlsExtension::ALPN(protocols) => hello.alpn = protocols.into_iter().map(<[u8]>::to_vec).collect(),
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(kind: SNIType, name: &[u8]) -> Result<Arc<str>, HelloError> {
    let plausible = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if kind != SNIType::HostName || name.is_empty() || name.len() > 255 || !name.iter().all(plausible) {
        return Err(HelloError::InvalidName);
    }
    let text = std::str::from_utf8(name).map_err(|_| HelloError::InvalidName)?;
    Ok(text.to_ascii_lowercase().into())
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
