//! Heads of messages, written (RFC 9112). What they say of a body's length and of the connection is settled here, whatever headers say.

use std::fmt::Write as _;

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING,
};
use http::{StatusCode, Version, request, response};

use super::head::Reason;
use super::length::Length;
use crate::wire::date::with_date;
use crate::wire::lists;

/// Bytes of a header line, more or less.
const LINE: usize = 48;

/// Writes a request of HTTP/1.1. `length`: of its body; `None` if there is none: then headers may say that it has no bytes, and no other
/// number of them, for which its endpoint would take what comes next.
pub fn write_request(out: &mut BytesMut, head: &request::Parts, length: Option<Length>) {
    out.reserve(LINE * (2 + head.headers.len()));
    put(out, &[head.method.as_str().as_bytes(), b" "]);
    match (head.uri.scheme(), head.uri.path_and_query()) {
        (None, Some(target)) => put(out, &[target.as_str().as_bytes()]),
        _ => drop(write!(out, "{}", head.uri)),
    }
    put(out, &[b" HTTP/1.1\r\n"]);
    let says_none = || head.headers.get(CONTENT_LENGTH).is_some_and(|said| said == "0");
    let is_settled = |name: &HeaderName| match *name {
        TRANSFER_ENCODING => true,
        CONTENT_LENGTH => length.is_some() || !says_none(),
        _ => false,
    };
    put_headers(out, &head.headers, is_settled);
    if let Some(length) = length {
        put_length(out, length);
    }
    put(out, &[b"\r\n"]);
}

/// A response, and what it answers.
#[derive(Debug, Clone, Copy)]
pub struct Answering<'a> {
    /// Status and headers.
    pub head: &'a response::Parts,
    /// Of the request: who asks in HTTP/1.0 is answered in it.
    pub version: Version,
    /// Of the body; [`Length::NONE`] where there is none to be.
    pub length: Length,
    /// It answers a HEAD, whose headers tell of a body that does not follow.
    pub is_head: bool,
    /// Another request may follow on the connection.
    pub keeps_alive: bool,
}

/// Writes a response's head. One without a date gets one (RFC 9110, 6.6.1).
pub fn write_response(out: &mut BytesMut, answer: Answering<'_>) {
    let Answering { head, version, length, is_head, keeps_alive } = answer;
    let status = head.status;
    out.reserve(LINE * (4 + head.headers.len()));
    put_status(out, head, version);
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let has_length = !status.is_informational() && status != StatusCode::NO_CONTENT;
    // Of what would follow, but does not.
    let tells_of_body = has_length && (is_head || status == StatusCode::NOT_MODIFIED);
    let says_so = !keeps_alive && lists(&head.headers, CONNECTION, b"close");
    let settles_connection = !switches && !says_so && (!keeps_alive || version == Version::HTTP_10);
    let is_chunked = length == Length::Chunked && !tells_of_body && has_length;
    put_headers(out, &head.headers, |name| match *name {
        TRANSFER_ENCODING => true,
        CONTENT_LENGTH => !tells_of_body,
        CONNECTION => settles_connection,
        TRAILER => !is_chunked,
        _ => false,
    });
    if !tells_of_body && has_length || is_head && !says_length(&head.headers) && length != Length::NONE {
        put_length_of_response(out, length, is_head);
    }
    if settles_connection {
        put(out, &[b"connection: ", if keeps_alive { b"keep-alive" } else { b"close" }, b"\r\n"]);
    }
    if !head.headers.contains_key(DATE) {
        with_date(|date| put(out, &[b"date: ", date, b"\r\n"]));
    }
    put(out, &[b"\r\n"]);
}

fn says_length(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH)
}

fn put_length_of_response(out: &mut BytesMut, length: Length, is_head: bool) {
    // What follows a HEAD's head in no chunks is not announced.
    if !(is_head && length == Length::Chunked) {
        put_length(out, length);
    }
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_headers(out: &mut BytesMut, headers: &HeaderMap, is_left_out: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers {
        if !is_left_out(name) {
            put_line(out, name, value);
        }
    }
}

/// Writes a header, or a trailer.
pub(super) fn put_line(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
}

fn put_length(out: &mut BytesMut, length: Length) {
    match length {
        Length::Exact(bytes) => {
            put(out, &[b"content-length: "]);
            put_number(out, bytes);
            put(out, &[b"\r\n"]);
        }
        Length::Chunked => put(out, &[b"transfer-encoding: chunked\r\n"]),
        Length::UntilClose => {}
    }
}

fn put_number(out: &mut BytesMut, number: u64) {
    let (mut digits, mut first, mut left) = ([0; 20], 20, number);
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    put(out, &[&digits[first..]]);
}

fn put_status(out: &mut BytesMut, head: &response::Parts, version: Version) {
    let reason = head.extensions.get::<Reason>();
    if head.status == StatusCode::OK && version != Version::HTTP_10 && reason.is_none() {
        return put(out, &[b"HTTP/1.1 200 OK\r\n"]);
    }
    let version = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
    let usual = head.status.canonical_reason().unwrap_or_default();
    let reason = reason.map_or(usual.as_bytes(), |Reason(reason)| reason);
    put(out, &[version, head.status.as_str().as_bytes(), b" ", reason, b"\r\n"]);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::{Request, Response};

    use super::*;

    fn lines(out: &BytesMut) -> Vec<String> {
        let text = str::from_utf8(out).unwrap();
        let head = text.strip_suffix("\r\n\r\n").expect("an empty line behind it");
        head.split("\r\n").filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect()
    }

    #[test]
    fn a_request_says_the_length_of_its_body_and_no_other() {
        let (chunked, length) = ("transfer-encoding: chunked", "content-length: 7");
        for (said, body, want) in [
            (&[][..], None, &[][..]),
            (&[("content-length", "0")], None, &["content-length: 0"]),
            (&[("content-length", "9")], None, &[]),
            (&[("transfer-encoding", "gzip")], None, &[]),
            (&[("content-length", "9")], Some(Length::Exact(7)), &[length]),
            (&[("content-length", "9"), ("transfer-encoding", "x")], Some(Length::Chunked), &[chunked]),
        ] {
            let mut request = Request::builder().method("POST").uri("/a?b").header("host", "a.test");
            for (name, value) in said {
                request = request.header(*name, *value);
            }
            let mut out = BytesMut::new();
            write_request(&mut out, &request.body(()).unwrap().into_parts().0, body);
            let want: Vec<&str> =
                ["POST /a?b HTTP/1.1", "host: a.test"].iter().chain(want).copied().collect();
            assert_eq!(lines(&out), want, "{said:?} {body:?}");
        }
    }

    #[test]
    fn a_response_says_what_follows_it() {
        const KEPT: bool = true;
        let (v10, v11) = (Version::HTTP_10, Version::HTTP_11);
        let (close, alive, chunked) =
            ("connection: close", "connection: keep-alive", "transfer-encoding: chunked");
        for (status, said, version, length, is_head, keeps_alive, want) in [
            (
                200,
                "x: y",
                v11,
                Length::Exact(7),
                false,
                KEPT,
                &["HTTP/1.1 200 OK", "x: y", "content-length: 7"][..],
            ),
            (
                200,
                "content-length: 9",
                v11,
                Length::Exact(7),
                false,
                KEPT,
                &["HTTP/1.1 200 OK", "content-length: 7"],
            ),
            (
                404,
                "x: y",
                v11,
                Length::NONE,
                false,
                !KEPT,
                &["HTTP/1.1 404 Not Found", "x: y", "content-length: 0", close],
            ),
            (
                200,
                "connection: close",
                v11,
                Length::Chunked,
                false,
                !KEPT,
                &["HTTP/1.1 200 OK", close, chunked],
            ),
            (
                426,
                "connection: upgrade, close",
                v10,
                Length::NONE,
                false,
                !KEPT,
                &["HTTP/1.0 426 Upgrade Required", "connection: upgrade, close", "content-length: 0"],
            ),
            (
                200,
                "trailer: x",
                v11,
                Length::Chunked,
                false,
                KEPT,
                &["HTTP/1.1 200 OK", "trailer: x", chunked],
            ),
            (
                200,
                "trailer: x",
                v11,
                Length::Exact(1),
                false,
                KEPT,
                &["HTTP/1.1 200 OK", "content-length: 1"],
            ),
            (200, "x: y", v10, Length::UntilClose, false, !KEPT, &["HTTP/1.0 200 OK", "x: y", close]),
            (
                200,
                "x: y",
                v10,
                Length::Exact(7),
                false,
                KEPT,
                &["HTTP/1.0 200 OK", "x: y", "content-length: 7", alive],
            ),
            (204, "content-length: 9", v11, Length::NONE, false, KEPT, &["HTTP/1.1 204 No Content"]),
            (
                304,
                "content-length: 9",
                v11,
                Length::NONE,
                false,
                KEPT,
                &["HTTP/1.1 304 Not Modified", "content-length: 9"],
            ),
            (304, "x: y", v11, Length::NONE, false, KEPT, &["HTTP/1.1 304 Not Modified", "x: y"]),
            (
                200,
                "content-length: 9",
                v11,
                Length::NONE,
                true,
                KEPT,
                &["HTTP/1.1 200 OK", "content-length: 9"],
            ),
            (200, "x: y", v11, Length::NONE, true, KEPT, &["HTTP/1.1 200 OK", "x: y"]),
            (
                200,
                "x: y",
                v11,
                Length::Exact(7),
                true,
                KEPT,
                &["HTTP/1.1 200 OK", "x: y", "content-length: 7"],
            ),
            (
                101,
                "connection: upgrade",
                v11,
                Length::NONE,
                false,
                !KEPT,
                &["HTTP/1.1 101 Switching Protocols", "connection: upgrade"],
            ),
            (299, "x: y", v11, Length::NONE, false, KEPT, &["HTTP/1.1 299 ", "x: y", "content-length: 0"]),
        ] {
            let (name, value) = said.split_once(": ").unwrap();
            let response = Response::builder().status(status).header(name, value).body(()).unwrap();
            let (head, ()) = response.into_parts();
            let mut out = BytesMut::new();
            write_response(&mut out, Answering { head: &head, version, length, is_head, keeps_alive });
            assert_eq!(lines(&out), want, "{status} {said} {length:?}");
        }
    }

    #[test]
    fn a_response_has_a_date_and_its_backend_s_words() {
        let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_mins(1));
        for dated in [None, Some(date)] {
            let mut response =
                Response::builder().status(404).extension(Reason(Bytes::from_static(b"Gone off")));
            if let Some(date) = &dated {
                response = response.header(DATE, date);
            }
            let (head, ()) = response.body(()).unwrap().into_parts();
            let mut out = BytesMut::new();
            let answer = Answering {
                head: &head,
                version: Version::HTTP_11,
                length: Length::NONE,
                is_head: false,
                keeps_alive: true,
            };
            write_response(&mut out, answer);
            let said = str::from_utf8(&out).unwrap();
            assert!(said.starts_with("HTTP/1.1 404 Gone off\r\n"), "{said}");
            let dates: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
            let [told] = dates[..] else { panic!("{said}") };
            let told = httpdate::parse_http_date(told).unwrap();
            let age = SystemTime::now().duration_since(told).unwrap();
            assert_eq!(age > Duration::from_secs(30), dated.is_some(), "{age:?}");
        }
    }
}
