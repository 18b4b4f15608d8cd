//! Forwarding to clusters, and what becomes of the request on its way.

use std::time::Duration;

use regex::Regex;
use serde::{Serialize, Serializer};

use super::filters::Fraction;
use super::headers::HeaderOps;
use super::matching::PathMatch;
use super::retry::RetryPolicy;
use crate::model::cluster::WeightedCluster;

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
    pub rewrite: Option<Box<Rewrite>>,
    /// `timeout`, from the end of the request to the end of the response, over all tries; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// `retries`; `None` is a single try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryPolicy>,
    /// `mirror` and `mirrors`: who gets copies of requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
}

impl Forward {
    /// To destinations, by a rule that says no more.
    pub fn to(destinations: Vec<WeightedCluster>) -> Self {
        Self {
            destinations,
            destination_headers: Vec::new(),
            rewrite: None,
            timeout: None,
            retries: Some(RetryPolicy::default()),
            mirrors: Vec::new(),
        }
    }
}

/// Who gets copies of a route's requests.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Where the copies go; one without a cluster gets none.
    #[serde(flatten)]
    pub destination: WeightedCluster,
    /// How many requests are copied; never none.
    pub share: Fraction,
}

/// `HTTPRewrite`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path on exact and regex matches. A route without a path match has the
    /// prefix `/`, as in Istio: `/head` makes `/headsome/path` of `/some/path`.
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
        Some(matched.replaced(uri, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::FullRegex;

    #[test]
    fn rewriting_a_prefix_is_by_bytes() {
        let rewrite = |uri: &str| Rewrite { uri: Some(uri.to_owned()), ..Rewrite::default() };
        let prefix = |prefix: &str| PathMatch::Prefix { prefix: prefix.into(), ignore_case: false };
        for (matched, uri, path, want) in [
            (prefix("/kiali"), "/", "/kiali/x", "//x"),
            (prefix("/kiali"), "/", "/kialix", "/x"),
            (prefix("/slash/"), "/", "/slash/x", "/x"),
            (prefix("/to/"), "/new", "/to/x", "/newx"),
            (PathMatch::Any, "/head", "/some/path", "/headsome/path"),
            (PathMatch::Any, "/head/", "/some/path", "/head/some/path"),
            (PathMatch::Any, "/head", "/", "/head"),
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
