//! The routes of a virtual host. Most requests pass most routes by, and a route is spread over many cache lines: what its
//! path begins with is kept apart, so that with thousands of hosts a request touches only the routes that may be its own.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use serde::{Serialize, Serializer};

use super::matching::{HeaderField, PathMatch, RequestHead, RouteMatch};
use super::{Route, RouteAction};
use crate::model::cluster::WeightedCluster;

/// Routes in the order in which they are tried. Clones share them: all domains of a VirtualService, and the generations
/// between which it stays the same.
#[derive(Debug, Clone, Default)]
pub struct RouteList {
    entries: Arc<[Entry]>,
    forwards: Arc<[WeightedCluster]>,
    /// How many at the end take every request.
    catch_alls: usize,
}

/// A route behind its gate.
#[derive(Debug)]
struct Entry {
    gate: Gate,
    route: Arc<Route>,
}

impl Entry {
    fn takes(&self, front: u128, head: &RequestHead<'_>, present: &mut Option<Names>) -> bool {
        let wanted = self.gate.headers;
        let mut has_headers = || {
            wanted.is_empty() || present.get_or_insert_with(|| Names::of(head.headers.keys())).has_all(wanted)
        };
        self.gate.lets_pass(front)
            && has_headers()
            && match self.gate.judges {
                Judged::Nothing => self.route.matcher.matches(head),
                Judged::Path => self.route.matcher.matches_besides_path(head),
                Judged::Everything => true,
            }
    }
}

impl RouteList {
    /// The first route that matches.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<&Route> {
        let (front, mut present) = (front(head.path), None);
        let found = self.entries.iter().find(|entry| entry.takes(front, head, &mut present));
        found.map(|entry| entry.route.as_ref())
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Route>> + ExactSizeIterator + Clone {
        self.entries.iter().map(|entry| &entry.route)
    }

    /// Those that take every request, which come last.
    pub fn catch_alls(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> + Clone {
        self.iter().skip(self.entries.len() - self.catch_alls)
    }

    /// The others.
    pub fn ordinary(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> + Clone {
        self.iter().take(self.entries.len() - self.catch_alls)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every destination, each cluster once.
    pub fn forwards(&self) -> &[WeightedCluster] {
        &self.forwards
    }
}

impl FromIterator<Arc<Route>> for RouteList {
    fn from_iter<I: IntoIterator<Item = Arc<Route>>>(routes: I) -> Self {
        let entry = |route: Arc<Route>| Entry { gate: Gate::of(&route.matcher), route };
        let entries: Arc<[Entry]> = routes.into_iter().map(entry).collect();
        let is_catch_all = |entry: &&Entry| entry.route.matcher.is_catch_all();
        let catch_alls = entries.iter().rev().take_while(is_catch_all).count();
        let forwards = distinct(&entries);
        Self { entries, forwards, catch_alls }
    }
}

impl Serialize for RouteList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

fn distinct(entries: &[Entry]) -> Arc<[WeightedCluster]> {
    let (mut found, mut known) = (Vec::<WeightedCluster>::new(), HashSet::new());
    for Entry { route, .. } in entries {
        let RouteAction::Forward(forward) = &route.action else { continue };
        for destination in &forward.destinations {
            // One that is not there is known by its name.
            let missing = destination.cluster.is_none().then_some(&destination.name);
            if known.insert((destination.cluster.as_ref().map(Arc::as_ptr), missing)) {
                found.push(destination.clone());
            }
        }
    }
    found.into()
}

/// Bytes of a path that a gate sees.
const FRONT: usize = size_of::<u128>();

/// Tells most requests that a route does not take, by what their paths begin with and by the headers that they lack. What it
/// lets pass is for the route to judge, as far as the gate has not seen all that there is to it.
#[derive(Debug, Clone, Copy)]
struct Gate {
    /// As bytes, which leave the gate no larger than it must be.
    want: [u8; FRONT],
    /// Without which no request is taken.
    headers: Names,
    /// Bytes of it that count.
    length: u8,
    judges: Judged,
}

/// How much of a route's condition the first bytes of a path decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Nothing,
    Path,
    Everything,
}

impl Gate {
    fn of(matcher: &RouteMatch) -> Self {
        let (begins, is_prefix) = match &matcher.path {
            PathMatch::Exact { path, ignore_case: false } => (&**path, false),
            PathMatch::Prefix { prefix, ignore_case: false } => (&**prefix, true),
            PathMatch::Any => ("", true),
            _ => ("", false),
        };
        // A zero in it cannot be told from a path's end.
        let sees_path = is_prefix && begins.len() <= FRONT && !begins.contains('\0');
        let judges = match sees_path {
            false => Judged::Nothing,
            true if matcher.asks_of_path_alone() => Judged::Everything,
            true => Judged::Path,
        };
        let named = matcher.headers.iter().filter_map(|condition| match &condition.name {
            HeaderField::Name(name) => Some(name),
            _ => None,
        });
        let headers = Names::of(named);
        Self { want: front(begins).to_le_bytes(), headers, length: begins.len().min(FRONT) as u8, judges }
    }

    fn lets_pass(self, front: u128) -> bool {
        // The first byte is the lowest: those behind the length fall off at the top.
        let behind = 8 * (FRONT as u32 - u32::from(self.length));
        (front ^ u128::from_le_bytes(self.want)).checked_shl(behind).unwrap_or(0) == 0
    }
}

/// Names of headers, as far as one of 32 bits for each tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Names(u32);

impl Names {
    fn of<'n>(names: impl Iterator<Item = &'n HeaderName>) -> Self {
        let bit = |name: &HeaderName| {
            let bytes = name.as_str().as_bytes();
            let [first, last] =
                [bytes.first(), bytes.last()].map(|byte| byte.copied().map_or(0, usize::from));
            1 << ((bytes.len() * 7 + first * 3 + last) % u32::BITS as usize)
        };
        Self(names.fold(0, |names, name| names | bit(name)))
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has_all(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// The first bytes of a path, filled up with zeros.
fn front(path: &str) -> u128 {
    let mut front = [0; FRONT];
    let length = path.len().min(FRONT);
    front[..length].copy_from_slice(&path.as_bytes()[..length]);
    u128::from_le_bytes(front)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::model::route::{FullRegex, HeaderMatch, RouteRule, ValueMatch};
    use crate::model::{DirectResponse, StringMatch};

    const LONG: &str = "/a/very/long/path/of/many/letters";

    fn paths() -> Vec<PathMatch> {
        let exact = |path: &str, ignore_case| PathMatch::Exact { path: path.into(), ignore_case };
        let prefix = |prefix: &str, ignore_case| PathMatch::Prefix { prefix: prefix.into(), ignore_case };
        vec![
            PathMatch::Any,
            PathMatch::Regex(FullRegex::new("/a.*").unwrap()),
            exact("/", false),
            exact("/a", false),
            exact("/A", true),
            exact(LONG, false),
            exact(&LONG[..16], false),
            prefix("/", false),
            prefix("/a/", false),
            prefix("/A", true),
            prefix(LONG, false),
            prefix(&LONG[..16], false),
            prefix(&LONG[..17], false),
            prefix("", false),
            prefix("/a\0", false),
        ]
    }

    /// Each path alone, with a method, with a header, with headers of which one is Host, and without a header.
    fn matchers() -> Vec<RouteMatch> {
        let get = StringMatch::Exact("GET".into());
        let header = HeaderMatch { name: HeaderField::new("x").unwrap(), value: ValueMatch::Present };
        let of = |path: PathMatch| {
            let alone = RouteMatch { path, ..RouteMatch::default() };
            let method = RouteMatch { method: Some(get.clone()), ..alone.clone() };
            let without = RouteMatch { without_headers: [header.clone()].into(), ..alone.clone() };
            let host = HeaderMatch { name: HeaderField::Authority, value: ValueMatch::Present };
            let two = RouteMatch { headers: [header.clone(), host].into(), ..alone.clone() };
            let header = RouteMatch { headers: [header.clone()].into(), ..alone.clone() };
            [alone, method, header, two, without]
        };
        paths().into_iter().flat_map(of).collect()
    }

    fn route(matcher: RouteMatch) -> Arc<Route> {
        let response = DirectResponse { status: http::StatusCode::OK, body: bytes::Bytes::new() };
        let rule = Arc::new(RouteRule::new(RouteAction::Direct(response), "v.default".into()));
        let operation = HeaderValue::from_static("");
        Arc::new(Route { name: "".into(), matcher, rule, operation, origin: None })
    }

    #[test]
    fn a_list_finds_what_its_routes_conditions_say() {
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_static("1"));
        let sent = [
            "/",
            "/a",
            "/A",
            "/a/",
            "/a\0",
            "/b",
            "*",
            "",
            &LONG[..15],
            &LONG[..16],
            &LONG[..17],
            LONG,
            "/ä/ö",
        ];
        let (mut found, mut held_back, mut lacking) = (0, 0, 0);
        for matcher in matchers() {
            let list: RouteList = [route(matcher.clone())].into_iter().collect();
            for path in sent {
                for (method, headers) in [("GET", &HeaderMap::new()), ("PUT", &headers)] {
                    let (scheme, authority, query) = ("http", "a.test", None);
                    let head = RequestHead { path, query, method, scheme, authority, headers };
                    let finds = list.find(&head).is_some();
                    assert_eq!(finds, matcher.matches(&head), "{matcher:?} {head:?}");
                    found += usize::from(finds);
                    held_back += usize::from(!Gate::of(&matcher).lets_pass(front(path)));
                    lacking += usize::from(!Names::of(headers.keys()).has_all(Gate::of(&matcher).headers));
                }
            }
        }
        assert!(found > 200 && held_back > 300, "both happen: {found} {held_back}");
        assert_eq!(lacking, 2 * paths().len() * sent.len(), "what asks for a header, of requests without");
        assert_eq!(size_of::<Entry>(), 32, "two to a cache line");
    }

    #[test]
    fn routes_for_every_request_are_told_from_those_before() {
        let any = || route(RouteMatch::default());
        let narrow = || route(matchers().swap_remove(10));
        for (routes, want) in [
            (vec![], (0, 0)),
            (vec![narrow(), any(), any()], (1, 2)),
            (vec![any(), narrow()], (2, 0)),
            (vec![narrow(), any(), narrow(), any()], (3, 1)),
        ] {
            let list: RouteList = routes.iter().cloned().collect();
            assert_eq!((list.ordinary().len(), list.catch_alls().len()), want);
            let again = list.ordinary().chain(list.catch_alls());
            assert!(again.zip(&routes).all(|(one, other)| Arc::ptr_eq(one, other)));
            assert_eq!(list.is_empty(), routes.is_empty());
        }
    }
}
