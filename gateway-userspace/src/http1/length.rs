//! How long a body is, as its head says it (RFC 9112, 6.3).

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::head::HeadError;
use crate::wire::{number, tokens};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes; 0 is no body.
    Exact(u64),
    /// In chunks, the last of which says so.
    Chunked,
    /// All that comes until the connection is closed. Responses alone.
    UntilClose,
}

/// A head says twice how long its body is, or in a coding that is not undone here. Readers that settle this in another way see other
/// messages (RFC 9112, 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

impl Length {
    /// Nothing follows the head.
    pub const NONE: Self = Self::Exact(0);

    /// Of a request. One that has no length which anybody could read is refused as no HTTP.
    pub(super) fn of_request(
        headers: &HeaderMap,
        is_1_0: bool,
    ) -> Result<Result<Self, Ambiguous>, HeadError> {
        let (lengths, codings) = (count(headers, &CONTENT_LENGTH), count(headers, &TRANSFER_ENCODING));
        if codings > 0 && (is_1_0 || !ends_in_chunked(headers)) {
            return Err(HeadError::Malformed);
        }
        Ok(match (lengths, codings) {
            (0, 0) => Ok(Self::NONE),
            (1, 0) => Ok(Self::Exact(said(headers).ok_or(HeadError::Malformed)?)),
            (0, _) => Ok(Self::Chunked),
            (_, 0) if !is_same(headers) => return Err(HeadError::Malformed),
            _ => Err(Ambiguous),
        })
    }

    /// Of a response to a request of some method.
    pub(super) fn of_response(
        headers: &HeaderMap,
        (asked, status): (&Method, StatusCode),
        is_1_0: bool,
    ) -> Result<Result<Self, Ambiguous>, HeadError> {
        if status.is_informational() {
            return Ok(Ok(Self::NONE));
        }
        let has_none = *asked == Method::HEAD || matches!(status.as_u16(), 204 | 304);
        let (lengths, codings) = (count(headers, &CONTENT_LENGTH), count(headers, &TRANSFER_ENCODING));
        if codings > 0 && is_1_0 && !has_none {
            return Err(HeadError::Malformed);
        }
        let length = match (lengths, codings) {
            (0, 0) => Ok(Self::UntilClose),
            // For many, the greatest number is a length that nobody knows.
            (1, 0) => said(headers).filter(|length| *length < u64::MAX).map(Self::Exact).ok_or(Ambiguous),
            (0, 1) if headers[TRANSFER_ENCODING].as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Ok(Self::Chunked)
            }
            _ => Err(Ambiguous),
        };
        Ok(if has_none { length.map(|_| Self::NONE) } else { length })
    }
}

fn count(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

/// Whether all lines say the same length.
fn is_same(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    lengths.all(|length| Some(length) == first)
}

fn said(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(number)
}

fn ends_in_chunked(headers: &HeaderMap) -> bool {
    let last = tokens(headers, TRANSFER_ENCODING).next_back();
    last.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn headers(said: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        said.iter().map(pair).collect()
    }

    #[test]
    fn a_request_says_its_length_once_or_is_ambiguous_or_none() {
        let malformed = Err(HeadError::Malformed);
        for (said, want) in [
            (&[][..], Ok(Ok(Length::NONE))),
            (&[("content-length", "2")], Ok(Ok(Length::Exact(2)))),
            (&[("content-length", "002")], Ok(Ok(Length::Exact(2)))),
            (&[("content-length", "+2")], malformed),
            (&[("content-length", "2, 2")], malformed),
            (&[("content-length", "")], malformed),
            (&[("content-length", "18446744073709551616")], malformed),
            (&[("content-length", "2"), ("content-length", "2")], Ok(Err(Ambiguous))),
            (&[("content-length", "2"), ("content-length", "3")], malformed),
            (&[("content-length", "2"), ("transfer-encoding", "chunked")], Ok(Err(Ambiguous))),
            (&[("transfer-encoding", "Chunked")], Ok(Ok(Length::Chunked))),
            (&[("transfer-encoding", "gzip, chunked")], Ok(Ok(Length::Chunked))),
            (&[("transfer-encoding", "chunked, gzip")], malformed),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "x")], malformed),
            (&[("transfer-encoding", "")], malformed),
        ] {
            assert_eq!(Length::of_request(&headers(said), false), want, "{said:?}");
        }
        assert_eq!(Length::of_request(&headers(&[("transfer-encoding", "chunked")]), true), malformed);
    }

    #[test]
    fn a_response_says_its_length_once_or_ends_with_its_connection() {
        let malformed = Err(HeadError::Malformed);
        for (said, method, status, want) in [
            (&[][..], Method::GET, 200, Ok(Ok(Length::UntilClose))),
            (&[("content-length", "2")], Method::GET, 200, Ok(Ok(Length::Exact(2)))),
            (&[("content-length", "2")], Method::HEAD, 200, Ok(Ok(Length::NONE))),
            (&[("content-length", "2")], Method::GET, 304, Ok(Ok(Length::NONE))),
            (&[("content-length", "2")], Method::GET, 103, Ok(Ok(Length::NONE))),
            (&[("content-length", "2, 2")], Method::GET, 200, Ok(Err(Ambiguous))),
            (&[("content-length", "18446744073709551615")], Method::GET, 200, Ok(Err(Ambiguous))),
            (&[("content-length", "2"), ("content-length", "2")], Method::HEAD, 200, Ok(Err(Ambiguous))),
            (&[("transfer-encoding", "chunked")], Method::GET, 200, Ok(Ok(Length::Chunked))),
            (&[("transfer-encoding", "gzip, chunked")], Method::GET, 200, Ok(Err(Ambiguous))),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let length = Length::of_response(&headers(said), (&method, status), false);
            assert_eq!(length, want, "{said:?} {method} {status}");
        }
        let chunked = headers(&[("transfer-encoding", "chunked")]);
        assert_eq!(Length::of_response(&chunked, (&Method::GET, StatusCode::OK), true), malformed);
    }
}
