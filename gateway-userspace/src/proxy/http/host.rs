//! What a request may name as the host that it is for (RFC 9112, 3.2; RFC 3986, 3.2.2): a name or an address, and a port, with
//! nothing before or behind them. Others may take parts of what else there could be for the host.

use std::net::Ipv6Addr;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Request, Version};

use crate::proxy::error::RequestError;

/// The authority as sent: of the request line before the Host header, which must be one that could be asked for even then
/// (RFC 9112, 3.2.2). One with user information is an error (RFC 9110, 4.2.4): what follows the `@` would be taken for the
/// host by others only.
pub(super) fn authority<B>(request: &Request<B>) -> Result<String, RequestError> {
    let named = request.uri().authority().map(Authority::as_str);
    let host = match single_host(request.headers()) {
        Err(RequestError::MissingHost) if request.version() == Version::HTTP_2 && named.is_some() => None,
        host => Some(host?),
    };
    // A Host is one by now.
    let authority = named.map_or(host, |named| Some(named).filter(|named| is_authority(named)));
    authority.map(str::to_owned).ok_or(RequestError::InvalidHost)
}

fn single_host(headers: &HeaderMap) -> Result<&str, RequestError> {
    let mut lines = headers.get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (None, _) => return Err(RequestError::MissingHost),
        (Some(_), Some(_)) => return Err(RequestError::InvalidHost),
        (Some(host), None) if host.is_empty() => return Err(RequestError::MissingHost),
        (Some(host), None) => host,
    };
    let text = HeaderValue::to_str(host).ok().filter(|host| is_authority(host));
    text.ok_or(RequestError::InvalidHost)
}

/// `host[:port]`, where the host is not empty, an address in brackets is one, and a port, if there is any of it, is one.
fn is_authority(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    // As nearly all are.
    if !host.is_empty() && host.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-')) {
        return is_port(port);
    }
    if text.contains(['@', '%']) || Authority::try_from(text).is_err() {
        return false;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, behind)) = rest.split_once(']') else { return false };
        let is_end = behind.strip_prefix(':').map_or(behind.is_empty(), is_port);
        return is_end && address.parse::<Ipv6Addr>().is_ok();
    }
    !host.is_empty() && !host.contains(['[', ']']) && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_and_nothing_else() {
        for text in
            ["a", "a.test", "A.test:80", "a.test:", "10.0.0.1:65535", "[fd00::1]", "[::1]:80", "a_b", "a,b"]
        {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "a:x",
            "a:+1",
            "a:65536",
            "a:1:2",
            "me@a",
            "@a",
            "a@",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a\"",
            "a%00",
            "a%2f",
            "[::1",
            "::1",
            "[]",
            "[a]",
            "[::1]x",
            "x[::1]",
            "[::1%25eth0]",
            "[::1]:x",
            "a\\b",
            "ä",
        ] {
            assert!(!is_authority(text), "{text}");
        }
    }

    #[test]
    fn there_is_one_host_and_the_request_line_goes_before_it() {
        let ask = |uri: &str, hosts: &[&str], version| {
            let mut request = Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            authority(&request.body(()).unwrap())
        };
        for (uri, hosts, version, want) in [
            ("/", &["a"][..], Version::HTTP_11, Ok("a")),
            ("http://b/", &["a"], Version::HTTP_11, Ok("b")),
            ("http://b/", &[], Version::HTTP_2, Ok("b")),
            ("/", &["a"], Version::HTTP_2, Ok("a")),
            ("/", &[], Version::HTTP_11, Err(RequestError::MissingHost)),
            ("/", &[""], Version::HTTP_11, Err(RequestError::MissingHost)),
            ("http://b/", &[], Version::HTTP_11, Err(RequestError::MissingHost)),
            ("/", &["a", "a"], Version::HTTP_11, Err(RequestError::InvalidHost)),
            ("http://b/", &["a", "b"], Version::HTTP_11, Err(RequestError::InvalidHost)),
            ("http://b/", &["a/b"], Version::HTTP_11, Err(RequestError::InvalidHost)),
            ("http://me@b/", &["b"], Version::HTTP_11, Err(RequestError::InvalidHost)),
            ("http://b:x/", &["b"], Version::HTTP_11, Err(RequestError::InvalidHost)),
        ] {
            assert_eq!(ask(uri, hosts, version), want.map(str::to_owned), "{uri} {hosts:?}");
        }
    }
}
