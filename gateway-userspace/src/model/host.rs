//! Host names: one pattern type and one matcher for HTTP hosts and for SNI, so that a rule cannot mean two
//! things. Precedence as in Istio: exact, then the longest wildcard, then `*`; never a fall-through.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A host as a Gateway or VirtualService names it, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One name, or an IP address in text form.
    Exact(Arc<str>),
    /// `*.example.com`: any number of labels in front of the suffix. Holds `.example.com`, dot included.
    Suffix(Arc<str>),
    /// `*`.
    Any,
}

impl HostPattern {
    /// Reads a valid dnsName of a document; upper case is folded.
    pub fn new(name: &str) -> Self {
        match name.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) => Self::Suffix(suffix.to_ascii_lowercase().into()),
            None => Self::Exact(name.to_ascii_lowercase().into()),
        }
    }

    /// Whether every name that `other` covers is covered by `self` (Istio's `SubsetOf`, reversed).
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Suffix(mine), Self::Suffix(theirs)) => theirs.ends_with(&**mine),
            (_, Self::Exact(name)) => self.covers_name(name),
            (Self::Exact(_), Self::Suffix(_)) => false,
        }
    }

    /// Whether it covers a name, which is in lower case.
    pub fn covers_name(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(&**suffix),
            Self::Exact(own) => **own == *name,
        }
    }

    /// The narrower of two patterns when one covers the other.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.covers(other) {
            Some(other.clone())
        } else if other.covers(self) {
            Some(self.clone())
        } else {
            None
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Finds the one entry that serves a host. Look-ups of an exact host cost one hash; of others, one hash per
/// label of the name.
#[derive(Debug, Clone)]
pub struct HostMap<T> {
    exact: HashMap<Arc<str>, T>,
    suffix: HashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffix: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// Adds a pattern; the first one in keeps its place, as the older document wins. Returns false when the
    /// pattern was there already.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) -> bool {
        use std::collections::hash_map::Entry;
        let slot = match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.clone()),
            HostPattern::Suffix(suffix) => self.suffix.entry(suffix.clone()),
            HostPattern::Any => {
                let free = self.any.is_none();
                self.any.get_or_insert(value);
                return free;
            }
        };
        match slot {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(value);
                true
            }
        }
    }

    /// Makes room for as many exact names.
    pub fn reserve(&mut self, more: usize) {
        self.exact.reserve(more);
    }

    /// The value of a pattern; `value` is put in if there is none yet.
    pub fn get_or_insert(&mut self, pattern: &HostPattern, value: T) -> &mut T {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_insert(value),
            HostPattern::Suffix(suffix) => self.suffix.entry(suffix.clone()).or_insert(value),
            HostPattern::Any => self.any.get_or_insert(value),
        }
    }

    /// The entry for a host name without port. Upper case is folded; a trailing dot makes another name, as in
    /// Envoy.
    pub fn get(&self, host: &str) -> Option<&T> {
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.get_folded(&host.to_ascii_lowercase());
        }
        self.get_folded(host)
    }

    /// The entry for clients that name no host at all: only `*` takes them.
    pub fn get_unnamed(&self) -> Option<&T> {
        self.any.as_ref()
    }

    fn get_folded(&self, host: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        if !self.suffix.is_empty() {
            // Dots from the left: the first hit is the longest suffix. A name never matches its own bare suffix,
            // so a dot at the very start is skipped.
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(found) = self.suffix.get(&host[at..]) {
                    return Some(found);
                }
            }
        }
        self.any.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(patterns: &[&'static str]) -> HostMap<&'static str> {
        let mut map = HostMap::default();
        for pattern in patterns {
            map.insert(&HostPattern::new(pattern), *pattern);
        }
        map
    }

    #[test]
    fn exact_host_beats_wildcard_and_longest_wildcard_wins() {
        let hosts = map(&["*", "*.example.com", "*.b.example.com", "a.example.com"]);
        for (host, want) in [
            ("a.example.com", "a.example.com"),
            ("A.Example.COM", "a.example.com"),
            ("c.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("b.example.com", "*.example.com"),
            ("example.com", "*"),
            ("a.example.com.", "*"),
            (".example.com", "*"),
            ("", "*"),
        ] {
            assert_eq!(hosts.get(host), Some(&want), "{host}");
        }
        assert_eq!(map(&["*.example.com"]).get("example.com"), None);
        assert_eq!(map(&["*.example.com"]).get_unnamed(), None);
    }

    #[test]
    fn the_first_of_equal_patterns_stays() {
        let mut hosts = HostMap::default();
        assert!(hosts.insert(&HostPattern::new("a.test"), 1));
        assert!(!hosts.insert(&HostPattern::new("A.test"), 2));
        assert!(hosts.insert(&HostPattern::Any, 3));
        assert!(!hosts.insert(&HostPattern::Any, 4));
        assert_eq!((hosts.get("a.test"), hosts.get("b.test")), (Some(&1), Some(&3)));
    }

    #[test]
    fn intersections_pick_the_narrower_name() {
        for (a, b, want) in [
            ("*", "a.test", Some("a.test")),
            ("*.test", "a.test", Some("a.test")),
            ("*.test", "*.a.test", Some("*.a.test")),
            ("x.y.test", "*.y.test", Some("x.y.test")),
            ("a.test", "b.test", None),
            ("*.a.test", "*.b.test", None),
            ("*.test", "test", None),
        ] {
            let (a, b) = (HostPattern::new(a), HostPattern::new(b));
            let want = want.map(HostPattern::new);
            assert_eq!(a.intersect(&b), want, "{a} and {b}");
            assert_eq!(b.intersect(&a), want, "{b} and {a}");
        }
    }
}
