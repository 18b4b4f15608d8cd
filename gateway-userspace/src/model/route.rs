//! HTTP routing: virtual hosts, routes, matches. Matching is pure and lives here, so that the proxy, `explain`
//! and the tests ask the same code.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use regex::Regex;
use serde::{Serialize, Serializer};

use super::cluster::WeightedCluster;
use super::host::{HostMap, HostPattern};
use super::snapshot::DocumentRef;

/// The virtual hosts of one plaintext port or one HTTPS server.
#[derive(Debug, Serialize)]
pub struct RouteTable {
    /// `http.<port>` or `https.<number>.<portName>.<gateway>.<namespace>`.
    pub name: Arc<str>,
    /// In order of first appearance.
    pub virtual_hosts: Vec<VirtualHost>,
    #[serde(skip)]
    by_host: HostMap<usize>,
}

impl RouteTable {
    /// Indexes the virtual hosts by their domains.
    pub fn new(name: Arc<str>, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut by_host = HostMap::default();
        for (index, host) in virtual_hosts.iter().enumerate() {
            by_host.insert(&host.domain, index);
        }
        Self { name, virtual_hosts, by_host }
    }

    /// The virtual host of an authority as sent; its port is ignored. There is no fall-through to a wider one.
    pub fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        self.virtual_hosts.get(*self.by_host.get(without_port(authority))?)
    }

    /// Every destination that cleartext requests may be sent to.
    pub fn forwards(&self) -> impl Iterator<Item = &WeightedCluster> {
        let served = self.virtual_hosts.iter().filter(|host| !host.https_redirect);
        served.flat_map(|host| &host.routes).flat_map(|route| match &route.action {
            RouteAction::Forward(forward) => forward.destinations.as_slice(),
            RouteAction::Redirect(_) | RouteAction::Direct(_) => &[],
        })
    }
}

/// Cuts `:port` off an authority; IPv6 literals keep their brackets' content only.
pub fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(address, _)| address);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// One domain and its routes.
#[derive(Debug, Serialize)]
pub struct VirtualHost {
    /// The intersection of a server's host and a VirtualService's.
    pub domain: HostPattern,
    /// First match wins.
    pub routes: Vec<Route>,
    /// `tls.httpsRedirect` of a server on this table: cleartext requests get 301 before any route is looked at.
    pub https_redirect: bool,
}

impl VirtualHost {
    /// The first route that matches.
    pub fn route(&self, head: &RequestHead<'_>) -> Option<&Route> {
        self.routes.iter().find(|route| route.matcher.matches(head))
    }
}

/// A condition and what follows from it.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// `HTTPRoute.name`, with the match's name behind a dot; empty when unnamed.
    pub name: Arc<str>,
    /// Condition.
    pub matcher: RouteMatch,
    /// Consequence.
    pub action: RouteAction,
    /// `headers.request`, the destination's merged in (Istio: a lone destination's come after the route's).
    pub request_headers: HeaderOps,
    /// `headers.response`, merged likewise.
    pub response_headers: HeaderOps,
    /// The VirtualService, `name.namespace`.
    pub virtual_service: DocumentRef,
}

/// What is looked at to match a request. Paths are normalised before.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// `:path` without query; starts with `/` (or is `*`).
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
    /// As sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host header or `:authority` as sent, port included.
    pub authority: &'a str,
    /// All header lines.
    pub headers: &'a HeaderMap,
}

/// `HTTPMatchRequest`: every condition must hold. Conditions on port, gateways and labels are gone: `translate`
/// has judged them.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// On the path without query.
    pub path: PathMatch,
    /// On `:scheme`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<StringMatch>,
    /// On the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<StringMatch>,
    /// On the authority as sent: case and port count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<StringMatch>,
    /// Each must match by at least one header line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// None may match; an absent header counts as the empty string.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_headers: Vec<HeaderMatch>,
    /// Each must match by the first value, undecoded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<QueryMatch>,
}

impl RouteMatch {
    /// Whether nothing is asked: the route takes every request.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Any => true,
            PathMatch::Prefix { prefix, .. } => prefix == "/",
            PathMatch::Regex(regex) => regex.pattern() == ".*",
            PathMatch::Exact { .. } => false,
        };
        any_path
            && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query_params.is_empty()
    }

    /// Whether a request fulfils every condition.
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        let holds =
            |condition: &Option<StringMatch>, value| condition.as_ref().is_none_or(|c| c.matches(value));
        self.path.matches(head.path)
            && holds(&self.scheme, head.scheme)
            && holds(&self.method, head.method)
            && holds(&self.authority, head.authority)
            && self.headers.iter().all(|condition| condition.holds(head.headers))
            && !self.without_headers.iter().any(|condition| condition.holds_or_empty(head.headers))
            && self.query_params.iter().all(|condition| condition.holds(head.query))
    }
}

/// `uri` with `ignoreUriCase` folded in.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// No condition.
    #[default]
    Any,
    /// The whole path.
    Exact {
        /// As written.
        path: String,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// By bytes, not by segments: `/foo` takes `/foobar`.
    Prefix {
        /// As written.
        prefix: String,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// The whole path must match.
    Regex(FullRegex),
}

impl PathMatch {
    /// Whether a path without query fulfils it.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact { path: want, ignore_case: false } => path == want,
            Self::Exact { path: want, ignore_case: true } => path.eq_ignore_ascii_case(want),
            Self::Prefix { prefix, ignore_case: false } => path.starts_with(prefix.as_str()),
            Self::Prefix { prefix, ignore_case: true } => {
                path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            Self::Regex(regex) => regex.matches(path),
        }
    }
}

/// `StringMatch`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Whole value.
    Regex(FullRegex),
}

impl StringMatch {
    /// Whether a value fulfils it.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(want) => value == want,
            Self::Prefix(want) => value.starts_with(want.as_str()),
            Self::Regex(regex) => regex.matches(value),
        }
    }
}

/// A condition on a header's or query parameter's value.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// `{}`: it is there.
    Present,
    /// Its value matches.
    Value(StringMatch),
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Value(want) => want.matches(value),
        }
    }
}

/// A condition on a header.
#[derive(Debug, Clone, Serialize)]
pub struct HeaderMatch {
    /// Lower case.
    #[serde(serialize_with = "display")]
    pub name: HeaderName,
    /// On any one of its lines.
    pub value: ValueMatch,
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).iter().any(|line| self.value.matches(&line_text(line)))
    }

    /// For `withoutHeaders`: an absent header counts as the empty string unless presence is what is asked.
    fn holds_or_empty(&self, headers: &HeaderMap) -> bool {
        match &self.value {
            ValueMatch::Value(want) if !headers.contains_key(&self.name) => want.matches(""),
            _ => self.holds(headers),
        }
    }
}

fn line_text(value: &HeaderValue) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// A condition on a query parameter.
#[derive(Debug, Clone, Serialize)]
pub struct QueryMatch {
    /// Compared undecoded.
    pub name: String,
    /// On its first value.
    pub value: ValueMatch,
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let first = query.unwrap_or("").split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == self.name).then_some(value)
        });
        first.is_some_and(|value| self.value.matches(value))
    }
}

/// A regular expression (RE2's syntax, linear time) that must match a whole value.
#[derive(Debug, Clone)]
pub struct FullRegex {
    pattern: String,
    anchored: Regex,
}

impl FullRegex {
    /// Longest pattern Istio takes, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Compiles a pattern. The compiled size is bounded, so that a document cannot eat the memory.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        // The pattern alone first, so that an error speaks of what the document says, and a stray parenthesis
        // cannot close ours.
        Regex::new(pattern)?;
        let anchored = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()?;
        Ok(Self { pattern: pattern.to_owned(), anchored })
    }

    /// As the document says.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.anchored.is_match(value)
    }
}

impl Serialize for FullRegex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pattern)
    }
}

/// What a matching route does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// To a cluster.
    Forward(Forward),
    /// 3xx.
    Redirect(Redirect),
    /// An answer of our own.
    Direct(DirectResponse),
}

/// `HTTPRoute.route` and what comes with it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// Chosen by weight for each request. Never empty.
    pub destinations: Vec<WeightedCluster>,
    /// Header operations of each destination, same order as `destinations`; applied before the route's own. Empty
    /// when there is one destination (merged into the route's).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_headers: Vec<(HeaderOps, HeaderOps)>,
    /// `rewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// `timeout`, from the request's head to the end of the response; `None` is none. Istio's gateway counts from the
    /// request's end, so that a slow upload has more time there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// `HTTPRewrite`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path on exact and regex matches; is put in front of the path when
    /// the route has no path match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `uriRegexRewrite`: every hit in the path is substituted. `$` in the replacement is already escaped and RE2's
    /// `\1` turned into `${1}`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "regex_rewrite")]
    pub regex: Option<(Regex, String)>,
    /// The Host towards the backend; beats a Host set by header operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn regex_rewrite<S: Serializer>(value: &Option<(Regex, String)>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|(regex, substitution)| (regex.as_str(), substitution)).serialize(serializer)
}

impl Rewrite {
    /// The new path (without query) of a request that came by `matched`, or `None` when paths are left alone.
    pub fn path(&self, matched: &PathMatch, path: &str) -> Option<String> {
        if let Some((regex, substitution)) = &self.regex {
            return Some(regex.replace_all(path, substitution.as_str()).into_owned());
        }
        let uri = self.uri.as_deref()?;
        Some(match matched {
            PathMatch::Exact { .. } | PathMatch::Regex(_) => uri.to_owned(),
            PathMatch::Prefix { prefix, .. } => format!("{uri}{}", path.get(prefix.len()..).unwrap_or("")),
            PathMatch::Any if uri.ends_with('/') => {
                format!("{uri}{}", path.strip_prefix('/').unwrap_or(path))
            }
            PathMatch::Any => format!("{uri}{path}"),
        })
    }
}

/// `HTTPRedirect`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// Replaces the whole path; the request's query stays unless this has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Replaces the authority's host; a port in it is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// `port` or `derivePort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<RedirectPort>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status")]
    pub code: StatusCode,
}

/// `port` or `derivePort` of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPort {
    /// `port: N`; left out of the location where it is the scheme's default.
    Number(u16),
    /// `FROM_PROTOCOL_DEFAULT`: no port.
    ProtocolDefault,
    /// `FROM_REQUEST_PORT`: the Gateway server's port number, carried here by `translate`.
    Request(u16),
}

/// `HTTPDirectResponse`.
#[derive(Debug, Clone, Serialize)]
pub struct DirectResponse {
    /// 200–599.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
    /// Up to 1 MiB.
    #[serde(serialize_with = "body")]
    pub body: bytes::Bytes,
}

/// `Headers.HeaderOperations`; the order of execution is remove, set, add.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeaderOps {
    /// Taken away.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Overwritten.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appended.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `host` or `:authority` in set or add: the Host towards the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl HeaderOps {
    /// Executes the operations (not the authority: that is the request line's matter).
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn status<S: Serializer>(code: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(code.as_u16())
}

fn body<S: Serializer>(bytes: &bytes::Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn pairs<S: Serializer>(pairs: &[(HeaderName, HeaderValue)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name.as_str(), line_text(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(path: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead { path, query, method: "GET", scheme: "http", authority: "a.test:8080", headers }
    }

    #[test]
    fn ports_are_cut_off_authorities() {
        for (authority, want) in [
            ("a.test", "a.test"),
            ("a.test:80", "a.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("[broken", "[broken"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(authority), want, "{authority}");
        }
    }

    #[test]
    fn prefix_is_by_bytes_and_regex_is_whole() {
        let prefix = |prefix: &str, ignore_case| PathMatch::Prefix { prefix: prefix.to_owned(), ignore_case };
        assert!(prefix("/foo", false).matches("/foobar"));
        assert!(!prefix("/foo", false).matches("/FOO"));
        assert!(prefix("/foo", true).matches("/FOObar"));
        assert!(!prefix("/foo", true).matches("/fo"));
        let regex = PathMatch::Regex(FullRegex::new("/a|/b").unwrap());
        assert!(regex.matches("/a") && regex.matches("/b") && !regex.matches("/ab") && !regex.matches("x/b"));
        assert!(FullRegex::new("a)(b").is_err());
    }

    #[test]
    fn one_matching_header_line_is_enough_and_lines_are_not_joined() {
        let mut headers = HeaderMap::new();
        headers.append("x", HeaderValue::from_static("b"));
        headers.append("x", HeaderValue::from_static("a"));
        let exact = |value: &str| HeaderMatch {
            name: HeaderName::from_static("x"),
            value: ValueMatch::Value(StringMatch::Exact(value.to_owned())),
        };
        assert!(exact("a").holds(&headers) && exact("b").holds(&headers) && !exact("b,a").holds(&headers));
    }

    #[test]
    fn without_headers_takes_an_absent_header_as_empty() {
        let empty = HeaderMap::new();
        let name = HeaderName::from_static("x");
        let not = |value| RouteMatch {
            without_headers: vec![HeaderMatch { name: name.clone(), value }],
            ..RouteMatch::default()
        };
        assert!(not(ValueMatch::Present).matches(&head("/", None, &empty)));
        assert!(not(ValueMatch::Value(StringMatch::Exact("a".into()))).matches(&head("/", None, &empty)));
        assert!(!not(ValueMatch::Value(StringMatch::Exact(String::new()))).matches(&head("/", None, &empty)));
    }

    #[test]
    fn query_values_are_compared_undecoded_and_the_first_counts() {
        let exact = |value: &str| QueryMatch {
            name: "q".into(),
            value: ValueMatch::Value(StringMatch::Exact(value.to_owned())),
        };
        assert!(exact("1").holds(Some("a=0&q=1&q=2")) && !exact("2").holds(Some("q=1&q=2")));
        assert!(!exact("a b").holds(Some("q=a%20b")));
        let present = QueryMatch { name: "q".into(), value: ValueMatch::Present };
        assert!(present.holds(Some("q")) && !present.holds(Some("r=q")) && !present.holds(None));
    }

    #[test]
    fn authority_match_sees_the_port() {
        let headers = HeaderMap::new();
        let on = |want: &str| RouteMatch {
            authority: Some(StringMatch::Exact(want.to_owned())),
            ..RouteMatch::default()
        };
        assert!(on("a.test:8080").matches(&head("/", None, &headers)));
        assert!(!on("a.test").matches(&head("/", None, &headers)));
    }

    #[test]
    fn rewriting_a_prefix_is_by_bytes() {
        let rewrite = |uri: &str| Rewrite { uri: Some(uri.to_owned()), ..Rewrite::default() };
        let prefix = |prefix: &str| PathMatch::Prefix { prefix: prefix.to_owned(), ignore_case: false };
        for (matched, uri, path, want) in [
            (prefix("/kiali"), "/", "/kiali/x", "//x"),
            (prefix("/kiali"), "/", "/kialix", "/x"),
            (prefix("/slash/"), "/", "/slash/x", "/x"),
            (prefix("/to/"), "/new", "/to/x", "/newx"),
            (PathMatch::Any, "/head", "/some/path", "/head/some/path"),
            (PathMatch::Exact { path: "/a".into(), ignore_case: false }, "/b", "/a", "/b"),
            (PathMatch::Regex(FullRegex::new("/.*").unwrap()), "/b", "/a/c", "/b"),
        ] {
            assert_eq!(
                rewrite(uri).path(&matched, path).as_deref(),
                Some(want),
                "{matched:?} → {uri} on {path}"
            );
        }
    }
}
