//! Heads and trailers of requests, as their fields say them (RFC 9113, 8.1 to 8.3).

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version, uri};

use super::hpack::{Field, Malformed};
use crate::wire::{expects_continue, number};

/// Lines that the gateway adds to a head, more or less: there is room for them from the start.
const ADDED: usize = 10;

/// What a stream is asked to speak by CONNECT (RFC 8441, 4); an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol(Bytes);

impl Protocol {
    /// One with a name.
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self(name.into())
    }

    /// Whether it has this name; case does not count.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// Of HTTP/2.
    pub request: Request<()>,
    /// Bytes of the body, if that is said.
    pub length: Option<u64>,
    /// The client waits for a 100 before it sends its body (RFC 9110, 10.1.1).
    pub expects_continue: bool,
}

/// Fields that are no head, or no trailers (RFC 9113, 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotHttp;

/// A head or trailers, field by field.
#[derive(Debug, Default)]
pub(super) struct Fields {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    headers: HeaderMap,
    has_pseudo: bool,
    is_malformed: bool,
}

/// Sets what may be said once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), NotHttp> {
    if place.replace(value).is_some() { Err(NotHttp) } else { Ok(()) }
}

/// Of a connection of HTTP/1 only (RFC 9113, 8.2.2).
fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE => true,
        TE => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

impl Fields {
    /// Takes the next one.
    pub(super) fn take(&mut self, field: Result<Field, Malformed>) {
        if !self.is_malformed {
            self.is_malformed = !field.is_ok_and(|field| self.put(field).is_ok());
        }
    }

    fn put(&mut self, field: Field) -> Result<(), NotHttp> {
        if let Field::Header(name, value) = field {
            if is_of_connection(&name, &value) {
                return Err(NotHttp);
            }
            if self.headers.is_empty() {
                self.headers.reserve(2 * ADDED);
            }
            self.headers.append(name, value);
            return Ok(());
        }
        if !self.headers.is_empty() {
            return Err(NotHttp);
        }
        self.has_pseudo = true;
        match field {
            Field::Method(method) => once(&mut self.method, method),
            Field::Scheme(scheme) => once(&mut self.scheme, scheme),
            Field::Authority(authority) => once(&mut self.authority, authority),
            Field::Path(path) => once(&mut self.path, path),
            Field::Protocol(protocol) => once(&mut self.protocol, protocol),
            Field::Status(_) | Field::Header(..) => Err(NotHttp),
        }
    }

    /// As trailers.
    pub(super) fn trailers(self) -> Result<HeaderMap, NotHttp> {
        if self.is_malformed || self.has_pseudo { Err(NotHttp) } else { Ok(self.headers) }
    }

    /// As a request's head. `connects`: streams may be asked for by CONNECT with a protocol.
    pub(super) fn request(mut self, connects: bool) -> Result<RequestHead, NotHttp> {
        if self.is_malformed || self.protocol.is_some() && !connects {
            return Err(NotHttp);
        }
        let length = length(&self.headers)?;
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = self.method.take().ok_or(NotHttp)?;
        let is_connect = *request.method() == Method::CONNECT;
        if let Some(protocol) = self.protocol.take() {
            request.extensions_mut().insert(Protocol(protocol));
        }
        let has_protocol = request.extensions().get::<Protocol>().is_some();
        if has_protocol && !is_connect {
            return Err(NotHttp);
        }
        *request.uri_mut() = self.target(is_connect && !has_protocol)?;
        let expects_continue = expects_continue(&self.headers);
        *request.headers_mut() = self.headers;
        Ok(RequestHead { request, length, expects_continue })
    }

    /// What is asked for: with scheme and path, or by a CONNECT without either (RFC 9113, 8.3.1 and 8.5).
    fn target(&mut self, is_authority_alone: bool) -> Result<Uri, NotHttp> {
        let Self { scheme, authority, path, .. } = self;
        let mut parts = uri::Parts::default();
        if is_authority_alone != scheme.is_none() || is_authority_alone != path.is_none() {
            return Err(NotHttp);
        }
        parts.scheme = scheme.take().map(known_scheme).transpose()?;
        if let Some(authority) = authority.take() {
            parts.authority = Some(Authority::from_maybe_shared(authority).map_err(|_| NotHttp)?);
        } else {
            // There is no such URI.
            parts.scheme = None;
        }
        if let Some(path) = path.take() {
            if path.is_empty() {
                return Err(NotHttp);
            }
            parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| NotHttp)?);
        }
        Uri::from_parts(parts).map_err(|_| NotHttp)
    }
}

fn known_scheme(scheme: Bytes) -> Result<Scheme, NotHttp> {
    match &*scheme {
        b"https" => Ok(Scheme::HTTPS),
        b"http" => Ok(Scheme::HTTP),
        other => Scheme::try_from(other).map_err(|_| NotHttp),
    }
}

/// What is said in no digits, others read otherwise (RFC 9113, 8.1.1); so they do what is said twice, which is for who serves it to refuse.
fn length(headers: &HeaderMap) -> Result<Option<u64>, NotHttp> {
    let mut said = headers.get_all(CONTENT_LENGTH).into_iter();
    match (said.next(), said.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => number(length).map(Some).ok_or(NotHttp),
        (Some(_), Some(_)) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(said: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in said {
            let text = Bytes::from_static(value.as_bytes());
            fields.take(Ok(match *name {
                ":method" => Field::Method(Method::from_bytes(&text).unwrap()),
                ":scheme" => Field::Scheme(text),
                ":authority" => Field::Authority(text),
                ":path" => Field::Path(text),
                ":protocol" => Field::Protocol(text),
                ":status" => Field::Status(http::StatusCode::OK),
                _ => Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value)),
            }));
        }
        fields
    }

    const GET: (&str, &str) = (":method", "GET");
    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const HTTP: (&str, &str) = (":scheme", "http");
    const ROOT: (&str, &str) = (":path", "/");
    const A: (&str, &str) = (":authority", "a");

    #[test]
    fn a_request_says_each_thing_once_and_in_its_place() {
        for (said, want) in [
            (&[GET, HTTP, ROOT, A][..], Some("http://a/")),
            (&[ROOT, A, HTTP, GET, ("te", "trailers")], Some("http://a/")),
            (&[GET, HTTP, ROOT], Some("/")),
            (&[GET, HTTP, (":path", "/x?y"), ("host", "a")], Some("/x?y")),
            (&[(":method", "OPTIONS"), HTTP, (":path", "*"), A], Some("http://a*")),
            (&[CONNECT, (":authority", "a:1")], Some("a:1")),
            (&[CONNECT, (":protocol", "websocket"), HTTP, ROOT, A], Some("http://a/")),
            (&[HTTP, ROOT, A], None),
            (&[GET, ROOT, A], None),
            (&[GET, HTTP, A], None),
            (&[GET, HTTP, (":path", ""), A], None),
            (&[GET, HTTP, ROOT, (":authority", "")], None),
            (&[GET, HTTP, ROOT, (":authority", "a b")], None),
            (&[GET, GET, HTTP, ROOT, A], None),
            (&[GET, HTTP, ROOT, A, A], None),
            (&[GET, HTTP, ROOT, A, (":status", "200")], None),
            (&[GET, HTTP, ROOT, ("x", "y"), A], None),
            (&[GET, (":scheme", "1:"), ROOT, A], None),
            (&[GET, (":protocol", "websocket"), HTTP, ROOT, A], None),
            (&[CONNECT, HTTP, ROOT, A], None),
            (&[CONNECT, (":protocol", "websocket"), A], None),
            (&[GET, HTTP, ROOT, A, ("connection", "close")], None),
            (&[GET, HTTP, ROOT, A, ("te", "gzip")], None),
            (&[GET, HTTP, ROOT, A, ("proxy-connection", "close")], None),
            (&[GET, HTTP, ROOT, A, ("content-length", "+1")], None),
        ] {
            let found = fields(said).request(true).ok().map(|head| head.request.uri().to_string());
            assert_eq!(found.as_deref(), want, "{said:?}");
        }
        let asks = [CONNECT, (":protocol", "WebSocket"), HTTP, ROOT, A];
        let protocol = fields(&asks).request(true).unwrap().request.extensions().get().cloned();
        assert!(protocol.is_some_and(|protocol: Protocol| protocol.is("websocket")));
        assert!(fields(&asks).request(false).is_err(), "unless that was said to be possible");
    }

    #[test]
    fn what_is_said_of_the_body_is_read() {
        let said = [GET, HTTP, ROOT, A, ("content-length", "7"), ("expect", "100-Continue")];
        let head = fields(&said).request(false).unwrap();
        assert_eq!((head.length, head.expects_continue), (Some(7), true));
        assert_eq!(head.request.headers().len(), 2);
        assert_eq!(fields(&[("x", "y")]).trailers().unwrap()["x"], "y");
        for bad in [&[GET][..], &[("x", "y"), GET], &[("upgrade", "x")]] {
            assert!(fields(bad).trailers().is_err(), "{bad:?}");
        }
    }
}
