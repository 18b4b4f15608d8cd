//! Headers between the two sides: hop-by-hop ones end here (RFC 9110, 7.6.1), forwarding ones are written as Istio's
//! gateway writes them: what the client claims about itself is overwritten or appended to, but for what trusted proxies say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::model::ClientCertificates;
use crate::telemetry::digits;
pub(super) use crate::wire::{lists, tokens};

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What backends are told of the client's certificate.
pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// What clients cannot say: how a request is tried, timed and traced is the route's business. All of them are strangers.
const OURS_TO_SAY: &[&str] = &[
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// What belongs to one connection (RFC 9110, 7.6.1; RFC 7540, 3.2.1).
const OF_ONE_CONNECTION: [HeaderName; 4] =
    [KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, HeaderName::from_static("http2-settings")];

/// What `Connection` may name and is removed, or kept, anyway.
const SEEN_TO: [&[u8]; 3] = [b"keep-alive", b"upgrade", b"te"];

/// Takes away what belongs to a client's connection only (RFC 9110, 7.6.1), be it that the client says so: before anything of
/// ours is written, or it could name that, and before any rule looks. What it says of an upgrade stays, and so does what it
/// wants of trailers.
pub(super) fn remove_of_connection(headers: &mut HeaderMap) {
    // Most say nothing of it, or what `Connection` says and no more: a look at their names is less than a search for each.
    let has_more = headers.keys().any(|name| *name != header::CONNECTION && is_of_connection(name));
    if !has_more && !headers.contains_key(header::CONNECTION) {
        return;
    }
    let upgrades = lists(headers, header::CONNECTION, b"upgrade");
    let is_seen_to = |name: &[u8]| SEEN_TO.iter().any(|known| name.eq_ignore_ascii_case(known));
    let others = tokens(headers, header::CONNECTION).filter(|name| !is_seen_to(name));
    let named: Vec<HeaderName> = others.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in &named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    if has_more {
        for name in &OF_ONE_CONNECTION {
            headers.remove(name);
        }
        if !upgrades {
            headers.remove(header::UPGRADE);
        }
        keep_trailers_wish(headers);
    }
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "upgrade"
            | "te"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "http2-settings"
    )
}

/// Of all that `TE` may say, only that trailers are welcome is said again: gRPC asks for it end to end.
fn keep_trailers_wish(headers: &mut HeaderMap) {
    if !headers.contains_key(header::TE) {
        return;
    }
    let wants_trailers = lists(headers, header::TE, b"trailers");
    headers.remove(header::TE);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes away what belongs to one connection only. `TE: trailers` stays, as gRPC asks for it end to end, also where
/// `Connection` names it, as RFC 9110 asks of its sender.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_of_connection(headers);
    remove_upgrade(headers);
}

/// Takes away what [`remove_of_connection`] leaves of an upgrade.
pub(super) fn remove_upgrade(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| *name == header::CONNECTION || *name == header::UPGRADE) {
        return;
    }
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
}

/// Joins the lines into which HTTP/2 clients cut their cookies (RFC 9113, 8.2.3): over HTTP/1.1 a backend may read one
/// line only, and routes match the whole.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(mut whole) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        whole.set_sensitive(true);
        headers.insert(header::COOKIE, whole);
    }
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    /// The client's; without a port where a trusted proxy has told it.
    pub(super) address: SocketAddr,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// Says who asked and how. What only a proxy of our own could say is taken away. With trusted proxies, the client is who the
/// outermost of them has seen, and the scheme is what they say it is. `hop` is the peer's address as a value.
pub(super) fn add_forwarding(
    headers: &mut HeaderMap,
    (peer, hop, scheme): (SocketAddr, &HeaderValue, &'static str),
    trusted: u32,
) -> Asker {
    remove_ours_to_say(headers);
    let told = (trusted > 0).then(|| forwarded_by(headers, trusted as usize)).flatten();
    let address = told.map_or(peer, |ip| SocketAddr::new(ip, 0));
    append(headers, FORWARDED_FOR, hop);
    headers.insert(EXTERNAL_ADDRESS, told.map_or_else(|| hop.clone(), of_address));
    if trusted == 0 || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Ok(mut value) = HeaderValue::from_bytes(&request_id()) {
        // HPACK keeps what may come again (RFC 7541, 7.1.3): this does not, and each of the table's would be compared with the next.
        value.set_sensitive(true);
        headers.insert(REQUEST_ID, value);
    }
    let said = headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes).unwrap_or_default();
    let is = |word: &'static str| said.eq_ignore_ascii_case(word.as_bytes()).then_some(word);
    Asker { address, scheme: is("https").or_else(|| is("http")).unwrap_or(scheme) }
}

/// Most requests have none of it: a look at their names is less than one for each of ours.
fn remove_ours_to_say(headers: &mut HeaderMap) {
    let is_ours =
        |name: &&HeaderName| name.as_str().starts_with("x-envoy-") && OURS_TO_SAY.contains(&name.as_str());
    while let Some(name) = headers.keys().find(is_ours).cloned() {
        headers.remove(name);
    }
}

/// What the outermost of so many proxies says of its client: each has added the one before it at the end.
fn forwarded_by(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let address = tokens(headers, FORWARDED_FOR).rev().nth(proxies - 1)?;
    std::str::from_utf8(address).ok()?.parse().ok()
}

/// Says what is known of the client's certificate, if it has shown one.
pub(super) fn tell_certificate(
    headers: &mut HeaderMap,
    rule: ClientCertificates,
    (has_shown, certificate): (bool, Option<&HeaderValue>),
) {
    let keeps = match rule {
        ClientCertificates::Sanitize | ClientCertificates::SanitizeSet => false,
        ClientCertificates::ForwardOnly | ClientCertificates::AppendForward => has_shown,
        ClientCertificates::AlwaysForwardOnly => true,
    };
    if !keeps {
        headers.remove(CLIENT_CERT);
    }
    let adds = matches!(rule, ClientCertificates::SanitizeSet | ClientCertificates::AppendForward);
    let Some(certificate) = certificate.filter(|_| adds) else { return };
    append(headers, CLIENT_CERT, certificate);
}

/// Adds a word to a header that holds a list, whose lines become one.
fn append(headers: &mut HeaderMap, name: HeaderName, word: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, word.clone());
        return;
    }
    let mut whole = Vec::new();
    for line in headers.get_all(&name).iter().filter(|line| !line.is_empty()) {
        whole.extend_from_slice(line.as_bytes());
        whole.push(b',');
    }
    whole.extend_from_slice(word.as_bytes());
    if let Ok(value) = HeaderValue::try_from(whole) {
        headers.insert(name, value);
    }
}

/// The headers that a client sends as rules see them: names in lower case, what clients cannot say taken away or written
/// over, by no trusted proxy. A client that is not known is this machine.
pub fn as_rules_see(sent: &[(String, String)], client: Option<IpAddr>, tls: bool) -> Vec<(String, String)> {
    let parsed = sent.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in parsed {
        headers.append(name, value);
    }
    join_cookies(&mut headers);
    remove_of_connection(&mut headers);
    let client = SocketAddr::new(client.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
    let scheme = if tls { "https" } else { "http" };
    add_forwarding(&mut headers, (client, &of_address(client.ip()), scheme), 0);
    tell_certificate(&mut headers, ClientCertificates::Sanitize, (false, None));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// Adds a hop to the chain of those who asked for each other.
pub(super) fn append_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    append(headers, FORWARDED_FOR, &of_address(peer));
}

/// An address as a header has it.
pub(super) fn of_address(ip: IpAddr) -> HeaderValue {
    let mut text = String::new();
    digits::push_ip(&mut text, ip);
    HeaderValue::try_from(text).expect("digits, points and colons")
}

/// A random UUID (RFC 9562, version 4). It names a request in logs and protects nothing, so a fast generator will do.
fn request_id() -> [u8; 36] {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let (mut id, digits) = ([b'-'; 36], b"0123456789abcdef");
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        let place = 2 * index + [0, 0, 1, 2, 3, 4][(index / 2).min(5)];
        id[place] = digits[usize::from(byte >> 4)];
        id[place + 1] = digits[usize::from(byte & 0xf)];
    }
    id
}

/// Whether the client speaks gRPC and wants failures as it knows them.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes() == b"application/grpc" || value.as_bytes().starts_with(b"application/grpc+")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_belongs_to_the_connection_ends_here() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "Trailers"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("x-kept", "1")]));
    }

    #[test]
    fn odd_bytes_in_connection_hide_no_name_and_te_keeps_trailers_alone() {
        let mut headers = map(&[("x-private", "1"), ("te", "deflate;q=0.5, trailers")]);
        headers.insert(header::CONNECTION, HeaderValue::from_bytes(b"X-Private, TE, \xff").unwrap());
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers")]));
    }

    #[test]
    fn clients_cannot_name_what_the_gateway_says() {
        let mut headers = map(&[
            ("connection", "x-forwarded-for, Upgrade, X-Private, te"),
            ("connection", "x-forwarded-client-cert"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-private", "1"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
        ]);
        headers.append(header::CONNECTION, HeaderValue::from_static("x-request-id"));
        remove_of_connection(&mut headers);
        let left = map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("te", "trailers")]);
        assert_eq!(headers, left);
        add_forwarding(&mut headers, (PEER, &of_address(PEER.ip()), "http"), 0);
        headers.insert(CLIENT_CERT, HeaderValue::from_static("Hash=0"));
        remove_hop_by_hop(&mut headers);
        for (name, value) in [("x-forwarded-for", "10.0.0.1"), ("x-forwarded-client-cert", "Hash=0")] {
            assert_eq!(headers[name], value);
        }
        assert!(headers.contains_key("x-request-id") && !headers.contains_key("upgrade"));
    }

    #[test]
    fn rules_do_not_see_what_belongs_to_the_connection() {
        let mut headers = map(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABk"),
            ("x-kept", "1"),
        ]);
        remove_of_connection(&mut headers);
        assert_eq!(headers, map(&[("x-kept", "1")]));
    }

    #[test]
    fn cut_cookies_are_joined_in_order() {
        let mut headers = map(&[("host", "a"), ("cookie", "a=1")]);
        join_cookies(&mut headers);
        assert_eq!(headers["cookie"], "a=1");
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=3"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn clients_cannot_claim_to_be_somebody_else() {
        let mut headers = map(&[
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "mine"),
            ("x-envoy-internal", "true"),
            ("x-envoy-external-address", "9.9.9.9"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
        ]);
        let asker = add_forwarding(&mut headers, (PEER, &of_address(PEER.ip()), "http"), 0);
        assert_eq!(asker, Asker { address: PEER, scheme: "http" });
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9,10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_ne!(headers["x-request-id"], "mine");
        assert_eq!(headers["x-envoy-external-address"], "10.0.0.1");
        for gone in ["x-envoy-internal", "x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 40_000);

    #[test]
    fn trusted_proxies_are_believed_as_far_as_they_reach() {
        for (trusted, sent, address, scheme) in [
            (1, &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https")][..], "9.9.9.9:0", "https"),
            (1, &[("x-forwarded-for", "6.6.6.6, 9.9.9.9")], "9.9.9.9:0", "http"),
            (2, &[("x-forwarded-for", "6.6.6.6, 9.9.9.9 ,10.9.9.9")], "9.9.9.9:0", "http"),
            (2, &[("x-forwarded-for", "9.9.9.9")], "10.0.0.1:40000", "http"),
            (1, &[("x-forwarded-for", "somebody")], "10.0.0.1:40000", "http"),
            (1, &[("x-forwarded-for", "2001:db8::1")], "[2001:db8::1]:0", "http"),
            (1, &[("x-forwarded-proto", "gopher")], "10.0.0.1:40000", "http"),
            (0, &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https")], "10.0.0.1:40000", "http"),
        ] {
            let mut headers = map(sent);
            let asker = add_forwarding(&mut headers, (PEER, &of_address(PEER.ip()), "http"), trusted);
            assert_eq!(asker, Asker { address: address.parse().unwrap(), scheme }, "{trusted} {sent:?}");
            let ip = asker.address.ip().to_string();
            assert_eq!(headers["x-envoy-external-address"], *ip, "{trusted} {sent:?}");
            assert!(headers["x-forwarded-for"].to_str().unwrap().ends_with("10.0.0.1"), "{headers:?}");
        }
    }

    #[test]
    fn backends_are_told_of_certificates_as_the_mesh_says() {
        use ClientCertificates::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
        let own = HeaderValue::from_static("Hash=1");
        for (rule, with, without) in [
            (Sanitize, None, None),
            (ForwardOnly, Some("Hash=0"), None),
            (AppendForward, Some("Hash=0,Hash=1"), None),
            (SanitizeSet, Some("Hash=1"), None),
            (AlwaysForwardOnly, Some("Hash=0"), Some("Hash=0")),
        ] {
            for (has_shown, want) in [(true, with), (false, without)] {
                let mut headers = map(&[("x-forwarded-client-cert", "Hash=0")]);
                tell_certificate(&mut headers, rule, (has_shown, Some(&own).filter(|_| has_shown)));
                let told = headers.get(CLIENT_CERT).map(|value| value.to_str().unwrap());
                assert_eq!(told, want, "{rule:?} {has_shown}");
            }
        }
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        for _ in 0..100 {
            let id = String::from_utf8(request_id().to_vec()).unwrap();
            assert!(id.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f')), "{id}");
            let parts: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert_eq!(id.as_bytes()[14], b'4');
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        }
    }
}
