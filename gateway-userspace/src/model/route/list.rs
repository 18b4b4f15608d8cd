//! The routes of a virtual host. Most requests pass most routes by, and a route is spread over many cache lines: what its
//! path begins with is kept apart, so that with thousands of hosts a request touches only the routes that may be its own.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::matching::{PathMatch, RequestHead, RouteMatch};
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
    fn takes(&self, front: u128, head: &RequestHead<'_>) -> bool {
        self.gate.lets_pass(front)
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
        let front = front(head.path);
        self.entries.iter().find(|entry| entry.takes(front, head)).map(|entry| entry.route.as_ref())
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
    let mut found: Vec<WeightedCluster> = Vec::new();
    for Entry { route, .. } in entries {
        let RouteAction::Forward(forward) = &route.action else { continue };
        for destination in &forward.destinations {
            let same = |known: &WeightedCluster| match (&known.cluster, &destination.cluster) {
                (Some(known), Some(cluster)) => Arc::ptr_eq(known, cluster),
                _ => known.name == destination.name,
            };
            if !found.iter().any(same) {
                found.push(destination.clone());
            }
        }
    }
    found.into()
}

/// Bytes of a path that a gate sees.
const FRONT: usize = size_of::<u128>();

/// Tells most paths that a route does not take, by what they begin with. What it lets pass is for the route to judge, as far
/// as the gate has not seen all that there is to it.
#[derive(Debug, Clone, Copy)]
struct Gate {
    want: u128,
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
        Self { want: front(begins), length: begins.len().min(FRONT) as u8, judges }
    }

    fn lets_pass(self, front: u128) -> bool {
        // The first byte is the lowest: those behind the length fall off at the top.
        let behind = 8 * (FRONT as u32 - u32::from(self.length));
        (front ^ self.want).checked_shl(behind).unwrap_or(0) == 0
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
    use crate::model::route::{FullRegex, HeaderField, HeaderMatch, RouteRule, ValueMatch};
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

    /// Each path alone, with a method, and with a header.
    fn matchers() -> Vec<RouteMatch> {
        let get = StringMatch::Exact("GET".into());
        let header = HeaderMatch { name: HeaderField::new("x").unwrap(), value: ValueMatch::Present };
        let of = |path: PathMatch| {
            let alone = RouteMatch { path, ..RouteMatch::default() };
            let method = RouteMatch { method: Some(get.clone()), ..alone.clone() };
            let header = RouteMatch { headers: [header.clone()].into(), ..alone.clone() };
            [alone, method, header]
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
        let (mut found, mut held_back) = (0, 0);
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
                }
            }
        }
        assert!(found > 200 && held_back > 300, "both happen: {found} {held_back}");
    }

    #[test]
    fn routes_for_every_request_are_told_from_those_before() {
        let any = || route(RouteMatch::default());
        let narrow = || route(matchers().swap_remove(6));
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
