//! Trailers between the two sides. Nothing in them may say what only a head says: how long a message is, where it goes, who
//! asks, what he may do, and what belongs to one connection (RFC 9110, 6.5.1). There are readers that take them for headers.

use http::header::{self, HeaderMap, HeaderName};

/// What ends here. h2 would take away nothing.
const OF_HEADS: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
];
/// Likewise all that begins so: the gateway's word on who asks.
const OURS: &[&str] =
    &["x-forwarded-", "x-envoy-", "keep-alive", "proxy-connection", "x-request-id", "x-real-ip"];

/// Takes away what no trailer may say.
pub(super) fn strip(trailers: &mut HeaderMap) {
    let is_of_head = |name: &&HeaderName| {
        OF_HEADS.contains(name) || OURS.iter().any(|beginning| name.as_str().starts_with(beginning))
    };
    let stripped: Vec<HeaderName> = trailers.keys().filter(is_of_head).cloned().collect();
    for name in stripped {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_nothing_that_heads_say() {
        let said = [
            "content-length",
            "x-forwarded-for",
            "cookie",
            "cache-control",
            "grpc-status",
            "x-t",
            "server-timing",
            "host",
        ];
        let name = |name: &str| HeaderName::try_from(name).unwrap();
        let mut trailers: HeaderMap =
            said.iter().map(|it| (name(it), header::HeaderValue::from_static("1"))).collect();
        strip(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "server-timing", "x-t"]);
    }
}
