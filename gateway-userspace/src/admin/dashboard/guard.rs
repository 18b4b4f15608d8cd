//! What keeps a browser that shows the dashboard from being turned against it: which hosts it is asked by, and what its answers let
//! a page do.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Scripts and styles of our own, answers of our own, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// Whether a request to a TCP address of ours names that address, one of loopback, or `localhost`: a name of somebody else that
/// leads here (DNS rebinding) would let his pages read everything. Without a Host it comes from no browser.
pub(in crate::admin) fn is_own_host(headers: &HeaderMap, own: Option<SocketAddr>) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return true };
    if hosts.next().is_some() {
        return false;
    }
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || own.is_some_and(|own| own.ip().to_canonical() == address)
        }
        Err(_) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

/// Whether whoever asks for `/` is to get the page: browsers name HTML, `curl` takes anything.
pub(in crate::admin) fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.flat_map(|accept| accept.split(',')).any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Adds what browsers are to heed, to whatever is answered.
pub(in crate::admin) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_addresses_of_its_own_are_its_hosts() {
        let own = Some("10.0.0.7:15000".parse().unwrap());
        for (hosts, want) in [
            (&[][..], true),
            (&["localhost:15000"], true),
            (&["LOCALHOST"], true),
            (&["localhost."], true),
            (&["127.0.0.1:15000"], true),
            (&["127.8.0.1"], true),
            (&["[::1]:15000"], true),
            (&["[::ffff:127.0.0.1]:15000"], true),
            (&["10.0.0.7:15000"], true),
            (&["10.0.0.8:15000"], false),
            (&["localhost.evil.example"], false),
            (&["evil.example:15000"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["127.0.0.1@evil.example"], false),
            (&["localhost", "evil.example"], false),
            (&[""], false),
        ] {
            assert_eq!(is_own_host(&headers(HOST, hosts), own), want, "{hosts:?}");
        }
    }

    #[test]
    fn browsers_get_a_page_and_others_get_text() {
        for (accept, want) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/plain"], false),
            (&["text/html"], true),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], true),
            (&["application/json, Text/HTML;q=0.1"], true),
            (&["text/html;q=0, */*"], false),
        ] {
            assert_eq!(wants_page(&headers(ACCEPT, accept)), want, "{accept:?}");
        }
    }
}
