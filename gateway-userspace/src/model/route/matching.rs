//! What is looked at to choose a route: the conditions of `HTTPMatchRequest`, and the request that they are held
//! against.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use serde::{Serialize, Serializer};

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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub headers: Box<[HeaderMatch]>,
    /// None may match; an absent header counts as the empty string.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub without_headers: Box<[HeaderMatch]>,
    /// Each must match by the first value, undecoded.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub query_params: Box<[QueryMatch]>,
}

impl RouteMatch {
    /// Whether nothing is asked: the route takes every request.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Any => true,
            PathMatch::Prefix { prefix, .. } => &**prefix == "/",
            PathMatch::Regex(regex) => regex.pattern() == ".*",
            PathMatch::Exact { .. } => false,
        };
        any_path && self.asks_of_path_alone()
    }

    /// Whether there is no condition but that on the path, if that.
    pub(super) fn asks_of_path_alone(&self) -> bool {
        self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query_params.is_empty()
    }

    /// Whether a request fulfils every condition.
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        self.unmet(head).is_none()
    }

    /// The same for a request whose path is known to fit.
    pub(super) fn matches_besides_path(&self, head: &RequestHead<'_>) -> bool {
        self.unmet_besides_path(head).is_none()
    }

    /// The first condition that a request does not fulfil.
    pub fn unmet(&self, head: &RequestHead<'_>) -> Option<Unmet<'_>> {
        if !self.path.matches(head.path) {
            return Some(Unmet::Path(&self.path));
        }
        self.unmet_besides_path(head)
    }

    fn unmet_besides_path(&self, head: &RequestHead<'_>) -> Option<Unmet<'_>> {
        fn failing<'a>(condition: Option<&'a StringMatch>, value: &str) -> Option<&'a StringMatch> {
            condition.filter(|condition| !condition.matches(value))
        }
        let scheme = || failing(self.scheme.as_ref(), head.scheme).map(Unmet::Scheme);
        let method = || failing(self.method.as_ref(), head.method).map(Unmet::Method);
        let authority = || failing(self.authority.as_ref(), head.authority).map(Unmet::Authority);
        let header = || self.headers.iter().find(|condition| !condition.holds(head)).map(Unmet::Header);
        let without = || {
            let mut conditions = self.without_headers.iter();
            conditions.find(|condition| condition.holds_or_empty(head)).map(Unmet::WithoutHeader)
        };
        let query =
            || self.query_params.iter().find(|condition| !condition.holds(head.query)).map(Unmet::Query);
        scheme().or_else(method).or_else(authority).or_else(header).or_else(without).or_else(query)
    }
}

/// A condition that a request does not fulfil, in the order in which they are looked at.
#[derive(Debug, Clone, Copy)]
pub enum Unmet<'a> {
    /// `uri`.
    Path(&'a PathMatch),
    /// `scheme`.
    Scheme(&'a StringMatch),
    /// `method`.
    Method(&'a StringMatch),
    /// `authority`.
    Authority(&'a StringMatch),
    /// One of `headers`.
    Header(&'a HeaderMatch),
    /// One of `withoutHeaders`.
    WithoutHeader(&'a HeaderMatch),
    /// One of `queryParams`.
    Query(&'a QueryMatch),
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
        path: Arc<str>,
        /// ASCII case is ignored.
        ignore_case: bool,
    },
    /// By bytes, not by segments: `/foo` takes `/foobar`.
    Prefix {
        /// As written.
        prefix: Arc<str>,
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
            Self::Exact { path: want, ignore_case: false } => *path == **want,
            Self::Exact { path: want, ignore_case: true } => path.eq_ignore_ascii_case(want),
            Self::Prefix { prefix, ignore_case: false } => path.starts_with(&**prefix),
            Self::Prefix { prefix, ignore_case: true } => {
                path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            Self::Regex(regex) => regex.matches(path),
        }
    }

    /// A path that fulfils it with another text in place of what was matched: of a prefix by bytes, of anything else the
    /// whole. Without a condition the prefix is `/`, as in Istio.
    pub fn replaced(&self, by: &str, path: &str) -> String {
        match self {
            Self::Exact { .. } | Self::Regex(_) => by.to_owned(),
            Self::Prefix { prefix, .. } => format!("{by}{}", path.get(prefix.len()..).unwrap_or("")),
            Self::Any => format!("{by}{}", path.strip_prefix('/').unwrap_or(path)),
        }
    }
}

/// `StringMatch`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Whole value.
    Regex(FullRegex),
}

impl StringMatch {
    /// Whether a value fulfils it.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(want) => *value == **want,
            Self::Prefix(want) => value.starts_with(&**want),
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

/// What a condition on headers looks at: a header, or what HTTP/2 sends like one (RFC 9113, 8.3.1) and Envoy names so in
/// any version. `host` is the authority, wherever the request says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderField {
    /// Any of its lines; lower case.
    Name(HeaderName),
    /// `:authority`, as sent.
    Authority,
    /// `:method`.
    Method,
    /// `:path`, with the query.
    Path,
    /// `:scheme`.
    Scheme,
}

impl HeaderField {
    /// By its name in a document; `None` for what no request has.
    pub fn new(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":authority" | "host" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":scheme" => Self::Scheme,
            _ => Self::Name(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    /// The values that a request has; none where the header is absent.
    pub(crate) fn values<'a>(&self, head: &RequestHead<'a>) -> Vec<Cow<'a, str>> {
        let one = |value: &'a str| vec![Cow::Borrowed(value)];
        match self {
            Self::Name(name) => head.headers.get_all(name).iter().map(line_text).collect(),
            Self::Authority => one(head.authority),
            Self::Method => one(head.method),
            Self::Scheme => one(head.scheme),
            Self::Path => match head.query {
                Some(query) => vec![format!("{}?{query}", head.path).into()],
                None => one(head.path),
            },
        }
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name.as_str(),
            Self::Authority => ":authority",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Scheme => ":scheme",
        })
    }
}

/// A condition on a header.
#[derive(Debug, Clone, Serialize)]
pub struct HeaderMatch {
    /// Which one.
    #[serde(serialize_with = "display")]
    pub name: HeaderField,
    /// On any one of its lines.
    pub value: ValueMatch,
}

impl HeaderMatch {
    fn holds(&self, head: &RequestHead<'_>) -> bool {
        match &self.name {
            HeaderField::Name(name) => {
                head.headers.get_all(name).iter().any(|line| self.value.matches(&line_text(line)))
            }
            field => field.values(head).iter().any(|value| self.value.matches(value)),
        }
    }

    /// For `withoutHeaders`: an absent header counts as the empty string unless presence is what is asked.
    fn holds_or_empty(&self, head: &RequestHead<'_>) -> bool {
        match (&self.value, &self.name) {
            (ValueMatch::Value(want), HeaderField::Name(name)) if !head.headers.contains_key(name) => {
                want.matches("")
            }
            _ => self.holds(head),
        }
    }
}

pub(super) fn line_text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// A condition on a query parameter.
#[derive(Debug, Clone, Serialize)]
pub struct QueryMatch {
    /// Compared undecoded.
    pub name: Box<str>,
    /// On its first value.
    pub value: ValueMatch,
}

impl QueryMatch {
    fn holds(&self, query: Option<&str>) -> bool {
        let first = query.unwrap_or("").split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == &*self.name).then_some(value)
        });
        first.is_some_and(|value| self.value.matches(value))
    }
}

/// A regular expression (RE2's syntax, linear time) that must match a whole value.
#[derive(Debug, Clone)]
pub struct FullRegex(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    pattern: Box<str>,
    anchored: Regex,
}

impl FullRegex {
    /// Longest pattern Istio takes, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Compiles a pattern. The compiled size is bounded, so that a document cannot eat the memory.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        Self::written(pattern, pattern)
    }

    /// Likewise one that a document writes in other words.
    pub fn written(written: &str, pattern: &str) -> Result<Self, regex::Error> {
        // The pattern alone first, so that a stray parenthesis cannot close ours.
        Regex::new(pattern)?;
        let anchored = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()?;
        Ok(Self(Arc::new(Compiled { pattern: written.into(), anchored })))
    }

    /// As the document says.
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.0.anchored.is_match(value)
    }
}

impl Serialize for FullRegex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.pattern())
    }
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(path: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead { path, query, method: "GET", scheme: "http", authority: "a.test:8080", headers }
    }

    #[test]
    fn prefix_is_by_bytes_and_regex_is_whole() {
        let prefix = |prefix: &str, ignore_case| PathMatch::Prefix { prefix: prefix.into(), ignore_case };
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
            name: HeaderField::new("x").unwrap(),
            value: ValueMatch::Value(StringMatch::Exact(value.into())),
        };
        let holds = |value: &str| exact(value).holds(&head("/", None, &headers));
        assert!(holds("a") && holds("b") && !holds("b,a"));
    }

    #[test]
    fn what_http2_sends_like_headers_is_matched_like_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("other.test"));
        for (name, value, want) in [
            (":authority", "a.test:8080", true),
            ("Host", "a.test:8080", true),
            ("host", "other.test", false),
            (":METHOD", "GET", true),
            (":scheme", "https", false),
            (":path", "/x?y", true),
            (":path", "/x", false),
        ] {
            let value = ValueMatch::Value(StringMatch::Exact(value.into()));
            let condition = HeaderMatch { name: HeaderField::new(name).unwrap(), value };
            assert_eq!(condition.holds(&head("/x", Some("y"), &headers)), want, "{condition:?}");
        }
        assert_eq!(HeaderField::new(":protocol"), None);
    }

    #[test]
    fn without_headers_takes_an_absent_header_as_empty() {
        let empty = HeaderMap::new();
        let name = HeaderField::new("x").unwrap();
        let not = |value| RouteMatch {
            without_headers: [HeaderMatch { name: name.clone(), value }].into(),
            ..RouteMatch::default()
        };
        assert!(not(ValueMatch::Present).matches(&head("/", None, &empty)));
        assert!(not(ValueMatch::Value(StringMatch::Exact("a".into()))).matches(&head("/", None, &empty)));
        assert!(!not(ValueMatch::Value(StringMatch::Exact("".into()))).matches(&head("/", None, &empty)));
    }

    #[test]
    fn query_values_are_compared_undecoded_and_the_first_counts() {
        let exact = |value: &str| QueryMatch {
            name: "q".into(),
            value: ValueMatch::Value(StringMatch::Exact(value.into())),
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
            authority: Some(StringMatch::Exact(want.into())),
            ..RouteMatch::default()
        };
        assert!(on("a.test:8080").matches(&head("/", None, &headers)));
        assert!(!on("a.test").matches(&head("/", None, &headers)));
    }
}
