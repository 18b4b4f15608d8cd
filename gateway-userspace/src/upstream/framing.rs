//! How long a backend says that its response is. hyper settles what is said twice as RFC 9112, 6.3 allows; whoever reads
//! what goes on may settle it otherwise, and a backend that says it twice is a broken one, or somebody else's words have
//! come between its own. So it is refused, and its connection gets no other request.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Response, Version};

/// It says twice how long it is, or in a coding that is not undone here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// Takes a response of HTTP/1 that says once at most how long it is, and has it say so in the plain form of a number.
pub(super) fn settle<B>(response: &mut Response<B>) -> Result<(), Ambiguous> {
    if response.version() > Version::HTTP_11 {
        return Ok(());
    }
    let headers = response.headers_mut();
    let (lengths, codings) = (count(headers, &CONTENT_LENGTH), count(headers, &TRANSFER_ENCODING));
    match (lengths, codings) {
        (0, 0) => Ok(()),
        (1, 0) => settle_length(headers),
        (0, 1) if headers[TRANSFER_ENCODING].as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Ambiguous),
    }
}

fn count(headers: &HeaderMap, name: &http::HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

/// Leading zeros make an octal number of it for some. A list of equal lengths is no number.
pub(crate) fn settle_length(headers: &mut HeaderMap) -> Result<(), Ambiguous> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous);
    }
    if let [b'0', _, ..] = digits {
        let number: u64 = length.to_str().ok().and_then(|it| it.parse().ok()).ok_or(Ambiguous)?;
        headers.insert(CONTENT_LENGTH, HeaderValue::from(number));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_once_and_plainly() {
        for (said, want) in [
            (&[][..], Ok(None)),
            (&[("content-length", "2")], Ok(Some("2"))),
            (&[("content-length", "0")], Ok(Some("0"))),
            (&[("content-length", "002")], Ok(Some("2"))),
            (&[("content-length", "00")], Ok(Some("0"))),
            (&[("transfer-encoding", "Chunked")], Ok(None)),
            (&[("content-length", "2"), ("content-length", "2")], Err(Ambiguous)),
            (&[("content-length", "2, 2")], Err(Ambiguous)),
            (&[("content-length", "")], Err(Ambiguous)),
            (&[("content-length", "2"), ("transfer-encoding", "chunked")], Err(Ambiguous)),
            (&[("transfer-encoding", "chunked, chunked")], Err(Ambiguous)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(Ambiguous)),
            (&[("transfer-encoding", "gzip")], Err(Ambiguous)),
            (&[("transfer-encoding", "")], Err(Ambiguous)),
        ] {
            let mut response = Response::builder();
            for (name, value) in said {
                response = response.header(*name, *value);
            }
            let mut response = response.body(()).unwrap();
            let settled = settle(&mut response);
            let length = || response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
            assert_eq!(settled.map(|()| length()), want, "{said:?}");
        }
    }
}
