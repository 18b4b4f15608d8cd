//! The messages of `grpc.health.v1.Health/Check` (grpc/grpc-proto, health.proto), read and written by hand: a field each.

use bytes::Bytes;
use http::header::CONTENT_TYPE as CONTENT_TYPE_NAME;
use http::{HeaderMap, HeaderValue};

pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
pub(super) const CONTENT_TYPE: &str = "application/grpc";

/// Bytes before a message: whether it is compressed, and its length (gRPC over HTTP2, Length-Prefixed-Message).
const PREFIX: usize = 5;
/// Field 1 of `HealthCheckRequest`, a string, and of `HealthCheckResponse`, an enumeration: `1 << 3 | wire type`.
const SERVICE: u8 = 0x0a;
const STATUS: u64 = 0x08;
/// `ServingStatus`.
const SERVING: u64 = 1;

/// An answer that says that all is not well.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwell {
    #[error("status {0} in place of a gRPC answer")]
    Http(u16),
    #[error("an answer that is not of gRPC")]
    NotGrpc,
    #[error("grpc-status {0}")]
    Status(String),
    #[error("an answer that is no HealthCheckResponse")]
    Malformed,
    #[error("{0}")]
    NotServing(&'static str),
}

/// The request's message, with its prefix.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut all = vec![0];
    all.extend((message.len() as u32).to_be_bytes());
    all.extend(message);
    all.into()
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Whether an answer says that the service is serving.
pub(super) fn judge(
    status: u16,
    head: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Result<(), Unwell> {
    if status != 200 {
        return Err(Unwell::Http(status));
    }
    let is_grpc = head
        .get(CONTENT_TYPE_NAME)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(CONTENT_TYPE));
    if !is_grpc {
        return Err(Unwell::NotGrpc);
    }
    // An answer without a message has its status in the head.
    let said = trailers.and_then(|trailers| trailers.get("grpc-status")).or_else(|| head.get("grpc-status"));
    match said.map(HeaderValue::as_bytes) {
        Some(b"0") => serving(body),
        Some(other) => {
            Err(Unwell::Status(String::from_utf8_lossy(&other[..other.len().min(8)]).into_owned()))
        }
        None => Err(Unwell::Status("missing".to_owned())),
    }
}

/// Whether the body is one message that says SERVING.
fn serving(body: &[u8]) -> Result<(), Unwell> {
    let (prefix, message) = body.split_at_checked(PREFIX).ok_or(Unwell::Malformed)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    // None was offered to be compressed.
    if prefix[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(Unwell::Malformed);
    }
    match status(message).ok_or(Unwell::Malformed)? {
        SERVING => Ok(()),
        0 => Err(Unwell::NotServing("UNKNOWN")),
        2 => Err(Unwell::NotServing("NOT_SERVING")),
        3 => Err(Unwell::NotServing("SERVICE_UNKNOWN")),
        _ => Err(Unwell::Malformed),
    }
}

/// The last field 1 of a message, 0 if it has none; other fields are passed over. `None`: it is no message.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut found = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        if key == STATUS {
            found = take_varint(&mut message)?;
            continue;
        }
        let length = match key & 7 {
            0 => {
                take_varint(&mut message)?;
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(length..)?;
    }
    Some(found)
}

/// At most ten bytes (Protocol Buffers, Base 128 Varints).
fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_request_names_its_service() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"a".repeat(300));
        assert_eq!(&long[..9], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02, b'a']);
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn only_serving_is_well() {
        let grpc = headers(&[("content-type", "application/grpc+proto")]);
        let ok = headers(&[("grpc-status", "0")]);
        let message = |bytes: &[u8]| [&[0, 0, 0, 0, bytes.len() as u8], bytes].concat();
        for (bytes, want) in [
            (message(&[8, 1]), Ok(())),
            (message(&[]), Err(Unwell::NotServing("UNKNOWN"))),
            (message(&[8, 2]), Err(Unwell::NotServing("NOT_SERVING"))),
            (message(&[8, 3]), Err(Unwell::NotServing("SERVICE_UNKNOWN"))),
            (message(&[8, 4]), Err(Unwell::Malformed)),
            // Fields of later versions, of each wire type.
            (
                message(&[
                    0x10, 0x96, 1, 0x1a, 2, 8, 2, 0x25, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1,
                ]),
                Ok(()),
            ),
            (message(&[8, 2, 8, 1]), Ok(())),
            // What is cut short, or says a length that it has not.
            (vec![], Err(Unwell::Malformed)),
            (vec![0, 0, 0, 0], Err(Unwell::Malformed)),
            (vec![0, 0, 0, 0, 2, 8], Err(Unwell::Malformed)),
            (vec![1, 0, 0, 0, 2, 8, 1], Err(Unwell::Malformed)),
            (vec![0, 0, 0, 0, 2, 8, 1, 0], Err(Unwell::Malformed)),
            (message(&[8]), Err(Unwell::Malformed)),
            (message(&[0x12, 200, 1]), Err(Unwell::Malformed)),
            (message(&[0x0b]), Err(Unwell::Malformed)),
            (message(&[0xff; 11]), Err(Unwell::Malformed)),
            (vec![0, 0xff, 0xff, 0xff, 0xff, 8, 1], Err(Unwell::Malformed)),
        ] {
            assert_eq!(judge(200, &grpc, &bytes, Some(&ok)), want, "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_without_gprcs_status_is_not_well() {
        let grpc = headers(&[("content-type", "application/grpc")]);
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let unimplemented = headers(&[("content-type", "application/grpc"), ("grpc-status", "12")]);
        let status = |text: &str| Err(Unwell::Status(text.to_owned()));
        assert_eq!(judge(200, &unimplemented, &[], None), status("12"));
        assert_eq!(judge(200, &grpc, &serving, None), status("missing"));
        assert_eq!(judge(200, &grpc, &serving, Some(&headers(&[("grpc-status", "14")]))), status("14"));
        assert_eq!(judge(503, &grpc, &serving, None), Err(Unwell::Http(503)));
        assert_eq!(
            judge(200, &headers(&[("content-type", "text/html")]), &serving, None),
            Err(Unwell::NotGrpc)
        );
    }
}
