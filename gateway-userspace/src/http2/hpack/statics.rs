//! The static table (RFC 7541, appendix A): entries that both sides have from the start, from index 1.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN,
    AGE, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPECT, EXPIRES, FROM,
    HOST, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, LINK, LOCATION, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, REFERER,
    REFRESH, RETRY_AFTER, SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, USER_AGENT, VARY,
    VIA, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};

use super::OVERHEAD;
use super::field::Field;
use super::table::Entry;

/// Entries; a connection's own come behind them.
pub(super) const STATIC: usize = 61;

/// The index of `:status` in a literal.
pub(super) const STATUS: usize = 8;

static ENTRIES: [Entry; STATIC] = [
    pseudo(":authority", "", Field::Authority(Bytes::new())),
    pseudo(":method", "GET", Field::Method(Method::GET)),
    pseudo(":method", "POST", Field::Method(Method::POST)),
    pseudo(":path", "/", Field::Path(Bytes::from_static(b"/"))),
    pseudo(":path", "/index.html", Field::Path(Bytes::from_static(b"/index.html"))),
    pseudo(":scheme", "http", Field::Scheme(Bytes::from_static(b"http"))),
    pseudo(":scheme", "https", Field::Scheme(Bytes::from_static(b"https"))),
    pseudo(":status", "200", Field::Status(StatusCode::OK)),
    pseudo(":status", "204", Field::Status(StatusCode::NO_CONTENT)),
    pseudo(":status", "206", Field::Status(StatusCode::PARTIAL_CONTENT)),
    pseudo(":status", "304", Field::Status(StatusCode::NOT_MODIFIED)),
    pseudo(":status", "400", Field::Status(StatusCode::BAD_REQUEST)),
    pseudo(":status", "404", Field::Status(StatusCode::NOT_FOUND)),
    pseudo(":status", "500", Field::Status(StatusCode::INTERNAL_SERVER_ERROR)),
    header("accept-charset", ""),
    header("accept-encoding", "gzip, deflate"),
    header("accept-language", ""),
    header("accept-ranges", ""),
    header("accept", ""),
    header("access-control-allow-origin", ""),
    header("age", ""),
    header("allow", ""),
    header("authorization", ""),
    header("cache-control", ""),
    header("content-disposition", ""),
    header("content-encoding", ""),
    header("content-language", ""),
    header("content-length", ""),
    header("content-location", ""),
    header("content-range", ""),
    header("content-type", ""),
    header("cookie", ""),
    header("date", ""),
    header("etag", ""),
    header("expect", ""),
    header("expires", ""),
    header("from", ""),
    header("host", ""),
    header("if-match", ""),
    header("if-modified-since", ""),
    header("if-none-match", ""),
    header("if-range", ""),
    header("if-unmodified-since", ""),
    header("last-modified", ""),
    header("link", ""),
    header("location", ""),
    header("max-forwards", ""),
    header("proxy-authenticate", ""),
    header("proxy-authorization", ""),
    header("range", ""),
    header("referer", ""),
    header("refresh", ""),
    header("retry-after", ""),
    header("server", ""),
    header("set-cookie", ""),
    header("strict-transport-security", ""),
    header("transfer-encoding", ""),
    header("user-agent", ""),
    header("vary", ""),
    header("via", ""),
    header("www-authenticate", ""),
];

const fn pseudo(name: &str, value: &str, field: Field) -> Entry {
    Entry { size: (name.len() + value.len() + OVERHEAD) as u32, said: Ok(field) }
}

const fn header(name: &'static str, value: &'static str) -> Entry {
    let field = Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value));
    pseudo(name, value, field)
}

/// The entry of an index, 1 to 61.
pub(super) fn entry(index: usize) -> Option<&'static Entry> {
    ENTRIES.get(index.checked_sub(1)?)
}

/// The index of a status, if it is there.
pub(super) fn status(status: StatusCode) -> Option<usize> {
    Some(match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return None,
    })
}

/// The index of a name, if it is there.
pub(super) fn name(name: &HeaderName) -> Option<usize> {
    Some(match *name {
        ACCEPT_CHARSET => 15,
        ACCEPT_ENCODING => 16,
        ACCEPT_LANGUAGE => 17,
        ACCEPT_RANGES => 18,
        ACCEPT => 19,
        ACCESS_CONTROL_ALLOW_ORIGIN => 20,
        AGE => 21,
        ALLOW => 22,
        AUTHORIZATION => 23,
        CACHE_CONTROL => 24,
        CONTENT_DISPOSITION => 25,
        CONTENT_ENCODING => 26,
        CONTENT_LANGUAGE => 27,
        CONTENT_LENGTH => 28,
        CONTENT_LOCATION => 29,
        CONTENT_RANGE => 30,
        CONTENT_TYPE => 31,
        COOKIE => 32,
        DATE => 33,
        ETAG => 34,
        EXPECT => 35,
        EXPIRES => 36,
        FROM => 37,
        HOST => 38,
        IF_MATCH => 39,
        IF_MODIFIED_SINCE => 40,
        IF_NONE_MATCH => 41,
        IF_RANGE => 42,
        IF_UNMODIFIED_SINCE => 43,
        LAST_MODIFIED => 44,
        LINK => 45,
        LOCATION => 46,
        MAX_FORWARDS => 47,
        PROXY_AUTHENTICATE => 48,
        PROXY_AUTHORIZATION => 49,
        RANGE => 50,
        REFERER => 51,
        REFRESH => 52,
        RETRY_AFTER => 53,
        SERVER => 54,
        SET_COOKIE => 55,
        STRICT_TRANSPORT_SECURITY => 56,
        TRANSFER_ENCODING => 57,
        USER_AGENT => 58,
        VARY => 59,
        VIA => 60,
        WWW_AUTHENTICATE => 61,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::field::Name;
    use super::*;

    #[test]
    fn indices_are_those_of_appendix_a() {
        let at = |index| entry(index).and_then(|entry| entry.said.as_ref().ok());
        assert!(at(0).is_none() && at(62).is_none());
        for (index, want) in [
            (1, Field::Authority(Bytes::new())),
            (16, Field::Header(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"))),
            (28, Field::Header(CONTENT_LENGTH, HeaderValue::from_static(""))),
            (38, Field::Header(HOST, HeaderValue::from_static(""))),
            (54, Field::Header(SERVER, HeaderValue::from_static(""))),
            (61, Field::Header(WWW_AUTHENTICATE, HeaderValue::from_static(""))),
        ] {
            assert_eq!(at(index), Some(&want));
        }
    }

    #[test]
    fn entries_are_found_where_they_stand() {
        for index in 1..=STATIC {
            let found = entry(index).unwrap();
            match found.said.as_ref().unwrap() {
                Field::Header(header, value) => {
                    assert_eq!(name(header), Some(index));
                    assert_eq!(found.size as usize, header.as_str().len() + value.len() + OVERHEAD);
                    assert_eq!(Name::read(header.as_str().as_bytes()), found.name());
                }
                Field::Status(code) => assert_eq!(status(*code), Some(index)),
                other => assert!(index < STATUS, "{other:?}"),
            }
        }
        assert_eq!((name(&http::header::TE), status(StatusCode::CREATED)), (None, None));
    }
}
