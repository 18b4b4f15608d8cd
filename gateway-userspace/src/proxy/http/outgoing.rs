//! The head of a request as the backend gets it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version};
use http_body::SizeHint;

use crate::model::{Cluster, Forward, Route, UpstreamProtocol};
use crate::proxy::error::RequestError;
use crate::upstream::framing;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// Methods of which nobody expects a body.
const WITHOUT_BODY: [Method; 5] = [Method::CONNECT, Method::DELETE, Method::GET, Method::HEAD, Method::TRACE];

/// What the request asks for, normalised.
pub(super) struct Target {
    pub(super) path: String,
    pub(super) authority: String,
}

impl Target {
    /// Path and query.
    pub(super) fn line(&self, query: Option<&str>) -> String {
        match query {
            Some(query) => [&self.path, "?", query].concat(),
            None => self.path.clone(),
        }
    }
}

/// What the backend is asked for.
#[derive(Debug, Clone)]
pub(super) struct Address {
    path_and_query: PathAndQuery,
    authority: String,
    /// A rule speaks of the path, be it that it stays the same.
    is_rewritten: bool,
}

impl Address {
    /// Of a request by a route to the destination `chosen`.
    pub(super) fn of(
        head: &Parts,
        route: &Route,
        action: &Forward,
        (target, chosen): (&Target, usize),
    ) -> Result<Self, RequestError> {
        let rewritten =
            action.rewrite.as_ref().and_then(|rewrite| rewrite.path(&route.matcher.path, &target.path));
        let path = rewritten.as_deref().unwrap_or(&target.path);
        // A rewrite to a word without a slash makes no path (Envoy answers 400 too).
        if !path.starts_with('/') && path != "*" {
            return Err(RequestError::InvalidPath);
        }
        let asked = head.uri.path_and_query().filter(|asked| asked.as_str().starts_with('/'));
        let path_and_query = match (asked, head.uri.query()) {
            // As most are, which need not be read again.
            (Some(asked), _) if asked.path() == path => asked.clone(),
            (_, Some(query)) => {
                PathAndQuery::try_from(format!("{path}?{query}")).map_err(|_| RequestError::InvalidPath)?
            }
            (_, None) => PathAndQuery::try_from(path).map_err(|_| RequestError::InvalidPath)?,
        };
        let authority = new_authority(route, action, chosen).unwrap_or(&target.authority).to_owned();
        Ok(Self { path_and_query, authority, is_rewritten: rewritten.is_some() })
    }

    /// As if it had been computed.
    #[cfg(test)]
    pub(super) fn new(path_and_query: PathAndQuery, authority: &str) -> Self {
        Self { path_and_query, authority: authority.to_owned(), is_rewritten: false }
    }

    /// Path and query.
    pub(super) fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// The Host.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Tells the backend what the client asked for, where a rule has had a say in it.
    pub(super) fn tell_original(&self, head: &mut Parts, target: &Target) {
        let path = self.is_rewritten.then(|| target.line(head.uri.query()));
        let host = Some(target.authority.as_str()).filter(|authority| self.authority != *authority);
        for (name, original) in [(ORIGINAL_PATH, path.as_deref()), (ORIGINAL_HOST, host)] {
            head.headers.remove(&name);
            if let Some(Ok(value)) = original.map(HeaderValue::from_str) {
                head.headers.insert(name, value);
            }
        }
    }

    /// Writes the request line: origin form and Host for HTTP/1.1, full form for HTTP/2.
    pub(super) fn write(
        self,
        head: &mut Parts,
        cluster: &Cluster,
        protocol: UpstreamProtocol,
    ) -> Result<(), RequestError> {
        let mut uri = Uri::builder().path_and_query(self.path_and_query);
        if protocol == UpstreamProtocol::Http2 {
            let authority =
                Authority::try_from(self.authority.as_str()).map_err(|_| RequestError::MissingHost)?;
            let scheme = if cluster.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            uri = uri.scheme(scheme).authority(authority);
            head.headers.remove(HOST);
            head.version = Version::HTTP_2;
        } else {
            if head.headers.get(HOST).is_none_or(|host| host.as_bytes() != self.authority.as_bytes()) {
                let host = HeaderValue::from_str(&self.authority).map_err(|_| RequestError::MissingHost)?;
                head.headers.insert(HOST, host);
            }
            head.version = Version::HTTP_11;
        }
        head.uri = uri.build().map_err(|_| RequestError::InvalidPath)?;
        Ok(())
    }
}

/// The Host that the backend sees: a rewrite beats header operations, the route's beat the destination's.
fn new_authority<'a>(route: &'a Route, action: &'a Forward, chosen: usize) -> Option<&'a str> {
    let rewritten = action.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_deref());
    let by_route = || route.request_headers.as_ref().and_then(|headers| headers.authority.as_deref());
    let by_destination =
        || action.destination_headers.get(chosen).and_then(|(request, _)| request.authority.as_deref());
    rewritten.or_else(by_route).or_else(by_destination)
}

/// Says how the body is delimited. Backends may take a GET without a length for one without a body, and there are some that take a
/// POST without one for broken (411), as RFC 9110, 8.6, lets them. `Expect` ends here: the client is told to go on as soon as
/// somebody asks for its body.
pub(super) fn frame(head: &mut Parts, body: &SizeHint) {
    head.headers.remove(EXPECT);
    // It was read as a number; what is none was refused.
    let _ = framing::settle_length(&mut head.headers);
    if head.version != Version::HTTP_11 {
        return;
    }
    // What is said of trailers is said to the next one (RFC 9110, 10.1.4), unless a rule has other words for it.
    if head.headers.contains_key(TE) {
        head.headers.entry(CONNECTION).or_insert(HeaderValue::from_static("te"));
    }
    if head.headers.contains_key(CONTENT_LENGTH) {
        return;
    }
    match body.exact() {
        None => drop(head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        Some(0) if !WITHOUT_BODY.contains(&head.method) => {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Some(_) => {}
    }
}
