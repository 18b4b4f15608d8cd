//! Redirects: `httpsRedirect` of a server and `redirect` of a route.

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::reply;
use crate::model::route::without_port;
use crate::model::{PathMatch, Redirect, RedirectPort, RequestHead};

/// 301 to the same host (port and all), path and query.
pub(super) fn to_https(head: &RequestHead<'_>, is_grpc: bool) -> Response<ResponseBody> {
    let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("https://{}{}{query}", head.authority, head.path);
    response(StatusCode::MOVED_PERMANENTLY, &location, is_grpc)
}

/// What a route's `redirect` says to a request that came by `matched`.
pub(super) fn redirect(
    redirect: &Redirect,
    matched: &PathMatch,
    head: &RequestHead<'_>,
    is_grpc: bool,
) -> Response<ResponseBody> {
    response(redirect.code, &location(redirect, matched, head), is_grpc)
}

fn response(code: StatusCode, location: &str, is_grpc: bool) -> Response<ResponseBody> {
    let mut response = reply::own(code, Bytes::new(), is_grpc);
    // A path is already made of bytes that a header may hold, those beyond ASCII included.
    if let Ok(value) = HeaderValue::from_bytes(location.as_bytes()) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn location(redirect: &Redirect, matched: &PathMatch, head: &RequestHead<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let replaced = redirect.prefix_rewrite.as_ref().map(|prefix| matched.replaced(prefix, head.path));
    let path = redirect.uri.as_deref().or(replaced.as_deref()).unwrap_or(head.path);
    let query = match head.query {
        Some(query) if !path.contains('?') => format!("?{query}"),
        _ => String::new(),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{path}{query}", authority(redirect, head, scheme))
}

/// What a document says stands as it is said; a port that is the scheme's own is as good as none.
fn authority(redirect: &Redirect, head: &RequestHead<'_>, scheme: &str) -> String {
    let port = match redirect.port {
        Some(RedirectPort::Number(port) | RedirectPort::Request(port)) => Some(port),
        Some(RedirectPort::ProtocolDefault) | None => None,
    };
    let port = port.filter(|port| *port != default_port(scheme));
    match (redirect.authority.as_deref(), port) {
        (Some(written), None) => written.to_owned(),
        (written, Some(port)) => format!("{}:{port}", bare(written.unwrap_or(head.authority))),
        (None, None) => as_sent(head, scheme),
    }
}

/// A port of the client's own stays, but for the default one of the scheme that is left.
fn as_sent(head: &RequestHead<'_>, scheme: &str) -> String {
    let host = bare(head.authority);
    let port =
        sent_port(head.authority).filter(|port| scheme == head.scheme || *port != default_port(head.scheme));
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The host part as it stands in a URL: IPv6 literals keep their brackets.
fn bare(authority: &str) -> &str {
    let host = without_port(authority);
    match authority.strip_prefix('[') {
        Some(_) if authority.len() >= host.len() + 2 => &authority[..host.len() + 2],
        _ => host,
    }
}

fn sent_port(authority: &str) -> Option<u16> {
    authority.get(bare(authority).len()..)?.strip_prefix(':')?.parse().ok()
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn locations_are_istios() {
        let headers = HeaderMap::new();
        let plain = Redirect {
            uri: None,
            prefix_rewrite: None,
            authority: None,
            scheme: None,
            port: None,
            code: StatusCode::FOUND,
        };
        let uri = |uri: &str| Redirect { uri: Some(uri.into()), ..plain.clone() };
        let https = |port| Redirect { scheme: Some("https".into()), port, ..plain.clone() };
        let other = |authority: &str| Redirect { authority: Some(authority.into()), ..plain.clone() };
        for (redirect, sent, want) in [
            (uri("/new"), "a.test", "http://a.test/new?q=1"),
            (uri("/new?z=2"), "a.test", "http://a.test/new?z=2"),
            (other("b.test"), "a.test:8080", "http://b.test/old?q=1"),
            (other("b.test:99"), "a.test:8080", "http://b.test:99/old?q=1"),
            (other("[::1]:90"), "a.test", "http://[::1]:90/old?q=1"),
            (
                Redirect { port: Some(RedirectPort::Number(8000)), ..other("b.test:99") },
                "a.test",
                "http://b.test:8000/old?q=1",
            ),
            (https(None), "a.test:80", "https://a.test/old?q=1"),
            (https(None), "a.test:8080", "https://a.test:8080/old?q=1"),
            (https(Some(RedirectPort::Number(8443))), "a.test", "https://a.test:8443/old?q=1"),
            // Said or not, it is the same.
            (https(Some(RedirectPort::Number(443))), "a.test:1", "https://a.test:1/old?q=1"),
            (https(Some(RedirectPort::Number(443))), "a.test:80", "https://a.test/old?q=1"),
            (https(Some(RedirectPort::Request(8000))), "a.test", "https://a.test:8000/old?q=1"),
            (https(Some(RedirectPort::ProtocolDefault)), "a.test:8080", "https://a.test:8080/old?q=1"),
            (uri("/new"), "[::1]:8080", "http://[::1]:8080/new?q=1"),
            (uri("new"), "a.test", "http://a.test/new?q=1"),
        ] {
            let head = RequestHead {
                path: "/old",
                query: Some("q=1"),
                method: "GET",
                scheme: "http",
                authority: sent,
                headers: &headers,
            };
            assert_eq!(location(&redirect, &PathMatch::Any, &head), want, "{redirect:?} on {sent}");
        }
    }

    #[test]
    fn a_redirect_may_replace_the_matched_prefix() {
        let prefix = |prefix: &str| PathMatch::Prefix { prefix: prefix.into(), ignore_case: false };
        for (matched, by, path, want) in [
            (prefix("/old"), "/new", "/old/x", "http://a.test/new/x?q=1"),
            (prefix("/old"), "/new", "/oldest", "http://a.test/newest?q=1"),
            (prefix("/old/"), "/", "/old/x", "http://a.test/x?q=1"),
            (PathMatch::Any, "/new/", "/x", "http://a.test/new/x?q=1"),
        ] {
            let redirect = Redirect {
                uri: None,
                prefix_rewrite: Some(by.into()),
                authority: None,
                scheme: None,
                port: None,
                code: StatusCode::FOUND,
            };
            let head = RequestHead {
                path,
                query: Some("q=1"),
                method: "GET",
                scheme: "http",
                authority: "a.test",
                headers: &HeaderMap::new(),
            };
            assert_eq!(location(&redirect, &matched, &head), want, "{matched:?} {by} on {path}");
        }
    }
}
