//! Whether one condition takes every request that another takes: then a route behind it is never reached. Said only where
//! it is certain; patterns are compared as text, but for values that a pattern can be tried on.

use super::matching::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch};

impl RouteMatch {
    /// Whether every request that fulfils `later` fulfils this too.
    pub fn covers(&self, later: &Self) -> bool {
        let holds = |mine: &Option<StringMatch>, theirs: &Option<StringMatch>| {
            mine.as_ref().is_none_or(|mine| theirs.as_ref().is_some_and(|theirs| mine.covers(theirs)))
        };
        self.path.covers(&later.path)
            && holds(&self.scheme, &later.scheme)
            && holds(&self.method, &later.method)
            && holds(&self.authority, &later.authority)
            && all(&self.headers, &later.headers, header_follows)
            && all(&self.without_headers, &later.without_headers, absence_follows)
            && all(&self.query_params, &later.query_params, query_follows)
    }
}

/// Whether each of the conditions follows from one of the others.
fn all<T>(mine: &[T], theirs: &[T], follows: fn(&T, &T) -> bool) -> bool {
    mine.iter().all(|mine| theirs.iter().any(|theirs| follows(mine, theirs)))
}

fn header_follows(mine: &HeaderMatch, theirs: &HeaderMatch) -> bool {
    mine.name == theirs.name && mine.value.covers(&theirs.value)
}

fn query_follows(mine: &QueryMatch, theirs: &QueryMatch) -> bool {
    mine.name == theirs.name && mine.value.covers(&theirs.value)
}

/// None may match: what is forbidden here must be forbidden there. To be absent and to have no value are not the same.
fn absence_follows(mine: &HeaderMatch, theirs: &HeaderMatch) -> bool {
    mine.name == theirs.name
        && match (&mine.value, &theirs.value) {
            (ValueMatch::Present, ValueMatch::Present) => true,
            (ValueMatch::Value(mine), ValueMatch::Value(theirs)) => theirs.covers(mine),
            _ => false,
        }
}

impl ValueMatch {
    fn covers(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Present, _) => true,
            (Self::Value(mine), Self::Value(theirs)) => mine.covers(theirs),
            (Self::Value(_), Self::Present) => false,
        }
    }
}

impl StringMatch {
    fn covers(&self, later: &Self) -> bool {
        match (self, later) {
            (_, Self::Exact(value)) => self.matches(value),
            (Self::Prefix(mine), Self::Prefix(theirs)) => theirs.starts_with(&**mine),
            (Self::Regex(mine), Self::Regex(theirs)) => mine.pattern() == theirs.pattern(),
            _ => false,
        }
    }
}

impl PathMatch {
    fn covers(&self, later: &Self) -> bool {
        if self.takes_every_path() {
            return true;
        }
        let (mine, ignores) = match self {
            Self::Any => return true,
            Self::Regex(mine) => {
                return match later {
                    Self::Regex(theirs) => mine.pattern() == theirs.pattern(),
                    Self::Exact { path, ignore_case: false } => mine.matches(path),
                    _ => false,
                };
            }
            Self::Exact { path, ignore_case } => (path, *ignore_case),
            Self::Prefix { prefix, ignore_case } => (prefix, *ignore_case),
        };
        let (theirs, theirs_ignores) = match later {
            Self::Exact { path, ignore_case } => (path, *ignore_case),
            Self::Prefix { prefix, ignore_case } if matches!(self, Self::Prefix { .. }) => {
                (prefix, *ignore_case)
            }
            _ => return false,
        };
        // What ignores case there takes spellings that are none of mine, but where there are no letters.
        let case_fits = ignores || !theirs_ignores || !mine.bytes().any(|byte| byte.is_ascii_alphabetic());
        case_fits && self.matches(theirs)
    }

    /// Every path begins with a slash.
    fn takes_every_path(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix { prefix, .. } => matches!(&**prefix, "" | "/"),
            Self::Regex(regex) => matches!(regex.pattern(), ".*" | ".+" | "/.*"),
            Self::Exact { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::model::route::{FullRegex, HeaderField, RequestHead};

    fn regex(pattern: &str) -> FullRegex {
        FullRegex::new(pattern).unwrap()
    }

    fn prefix(prefix: &str, ignore_case: bool) -> PathMatch {
        PathMatch::Prefix { prefix: prefix.into(), ignore_case }
    }

    fn exact(path: &str, ignore_case: bool) -> PathMatch {
        PathMatch::Exact { path: path.into(), ignore_case }
    }

    #[test]
    fn paths_are_covered_by_wider_ones() {
        for (earlier, later, want) in [
            (PathMatch::Any, exact("/a", false), true),
            (prefix("/", false), PathMatch::Any, true),
            (prefix("/", false), PathMatch::Regex(regex("/a+")), true),
            (prefix("/a", false), prefix("/a/b", false), true),
            (prefix("/a", false), prefix("/b", false), false),
            (prefix("/a", false), exact("/ab", false), true),
            (prefix("/a", false), PathMatch::Any, false),
            (prefix("/a", false), PathMatch::Regex(regex("/a.*")), false),
            (prefix("/a", false), prefix("/ab", true), false),
            (prefix("/a", true), prefix("/AB", false), true),
            (prefix("/1", false), prefix("/1a", true), true),
            (exact("/a", false), exact("/a", false), true),
            (exact("/a", false), prefix("/a", false), false),
            (exact("/a", true), exact("/A", true), true),
            (exact("/a", false), exact("/a", true), false),
            (PathMatch::Regex(regex(".*")), PathMatch::Any, true),
            (PathMatch::Regex(regex("/a+")), PathMatch::Regex(regex("/a+")), true),
            (PathMatch::Regex(regex("/a+")), exact("/aa", false), true),
            (PathMatch::Regex(regex("/a+")), exact("/aa", true), false),
            (PathMatch::Regex(regex("/a+")), prefix("/a", false), false),
        ] {
            assert_eq!(earlier.covers(&later), want, "{earlier:?} {later:?}");
        }
    }

    /// Pieces from which conditions and requests are made that often meet.
    const WORDS: [&str; 5] = ["a", "A", "ab", "", "b"];
    static VALUES: LazyLock<Vec<FullRegex>> = LazyLock::new(|| ["a", ".*", "a?", "a.*"].map(regex).to_vec());
    static PATHS: LazyLock<Vec<FullRegex>> =
        LazyLock::new(|| ["/a", ".*", "/a.*", "/[Aa]b?"].map(regex).to_vec());

    fn string_match(random: &mut fastrand::Rng) -> StringMatch {
        let word = random.choice(WORDS).unwrap();
        match random.u8(..3) {
            0 => StringMatch::Exact(word.into()),
            1 => StringMatch::Prefix(word.into()),
            _ => StringMatch::Regex(random.choice(&*VALUES).unwrap().clone()),
        }
    }

    fn value(random: &mut fastrand::Rng) -> ValueMatch {
        if random.u8(..4) == 0 { ValueMatch::Present } else { ValueMatch::Value(string_match(random)) }
    }

    fn path(random: &mut fastrand::Rng) -> PathMatch {
        let word = format!("/{}", random.choice(WORDS).unwrap());
        match random.u8(..5) {
            0 => PathMatch::Any,
            1 => exact(&word, random.bool()),
            2 | 3 => prefix(&word, random.bool()),
            _ => PathMatch::Regex(random.choice(&*PATHS).unwrap().clone()),
        }
    }

    fn headers(random: &mut fastrand::Rng) -> Vec<HeaderMatch> {
        let name = HeaderField::new(random.choice(["x", "y"]).unwrap()).unwrap();
        (0..random.usize(..2)).map(|_| HeaderMatch { name: name.clone(), value: value(random) }).collect()
    }

    fn condition(random: &mut fastrand::Rng) -> RouteMatch {
        let mut matcher = RouteMatch { path: path(random), ..RouteMatch::default() };
        matcher.method = random.bool().then(|| string_match(random));
        matcher.headers = headers(random).into();
        matcher.without_headers = headers(random).into();
        let queries = 0..random.usize(..2);
        matcher.query_params =
            queries.map(|_| QueryMatch { name: "q".into(), value: value(random) }).collect();
        matcher
    }

    #[test]
    fn what_is_covered_is_never_taken_alone() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut covered, mut met) = (0, 0);
        for _ in 0..10_000 {
            let (earlier, later) = (condition(&mut random), condition(&mut random));
            if !earlier.covers(&later) {
                continue;
            }
            covered += 1;
            for _ in 0..20 {
                let mut headers = HeaderMap::new();
                for name in ["x", "y", "y"].into_iter().filter(|_| random.bool()).collect::<Vec<_>>() {
                    headers.append(name, HeaderValue::from_static(random.choice(WORDS).unwrap()));
                }
                let path = format!("/{}", random.choice(WORDS).unwrap());
                let query = random.bool().then(|| format!("q={}", random.choice(WORDS).unwrap()));
                let head = RequestHead {
                    path: &path,
                    query: query.as_deref(),
                    method: random.choice(WORDS).unwrap(),
                    scheme: "http",
                    authority: "a.test",
                    headers: &headers,
                };
                met += usize::from(later.matches(&head));
                assert!(
                    !later.matches(&head) || earlier.matches(&head),
                    "{head:?}: {later:?} alone, not {earlier:?}"
                );
            }
        }
        assert!(covered > 100 && met > 100, "{covered} pairs, {met} requests");
    }
}
