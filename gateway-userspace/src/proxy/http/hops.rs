//! How many hops a request may still make: `Max-Forwards` of TRACE and OPTIONS (RFC 9110, 7.6.2). Other methods know none.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, MAX_FORWARDS};
use http::{Method, Request, Response};

use super::body::ResponseBody;
use crate::proxy::error::RequestError;

/// As many hops as are counted.
const MOST: u64 = u32::MAX as u64;

/// Counts this one; where none is left, the request has come to its last recipient, which is us.
pub(super) fn count<B>(request: &mut Request<B>) -> Result<Option<Response<ResponseBody>>, RequestError> {
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return Ok(None);
    }
    let mut lines = request.headers().get_all(MAX_FORWARDS).iter();
    let left = match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => number(line).ok_or(RequestError::InvalidHops)?,
        (Some(_), Some(_)) => return Err(RequestError::InvalidHops),
    };
    let Some(left) = left.checked_sub(1) else { return Ok(Some(answer(request))) };
    request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left.min(MOST)));
    Ok(None)
}

/// Digits; more than can be counted are very many.
fn number(line: &HeaderValue) -> Option<u64> {
    let text =
        line.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()))?;
    Some(text.parse().unwrap_or(u64::MAX))
}

fn answer<B>(request: &Request<B>) -> Response<ResponseBody> {
    if request.method() == Method::OPTIONS {
        return Response::new(ResponseBody::empty());
    }
    let mut response = Response::new(ResponseBody::text(said(request)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

/// The request as it came here, without what its client would not have others see (RFC 9110, 9.3.8): of its headers, only
/// who was asked and how far.
fn said<B>(request: &Request<B>) -> Bytes {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut text = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
    for name in [HOST, MAX_FORWARDS] {
        for value in request.headers().get_all(&name) {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    text.extend(b"\r\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hop_of_trace_and_options_is_counted() {
        for (method, said, want) in [
            ("OPTIONS", &["2"][..], Ok(Some("1"))),
            ("TRACE", &["007"], Ok(Some("6"))),
            ("TRACE", &["99999999999999999999"], Ok(Some("4294967295"))),
            ("TRACE", &["0"], Ok(None)),
            ("OPTIONS", &["00"], Ok(None)),
            ("GET", &["0"], Ok(Some("0"))),
            ("GET", &["x"], Ok(Some("x"))),
            ("OPTIONS", &["x"], Err(RequestError::InvalidHops)),
            ("OPTIONS", &["-1"], Err(RequestError::InvalidHops)),
            ("OPTIONS", &[""], Err(RequestError::InvalidHops)),
            ("OPTIONS", &["1", "1"], Err(RequestError::InvalidHops)),
        ] {
            let mut request = Request::builder().method(method);
            for line in said {
                request = request.header(MAX_FORWARDS, *line);
            }
            let mut request = request.body(()).unwrap();
            let counted = count(&mut request).map(|answer| match answer {
                Some(_) => None,
                None => request.headers().get(MAX_FORWARDS).map(|left| left.to_str().unwrap()),
            });
            assert_eq!(counted, want, "{method} {said:?}");
        }
    }
}
