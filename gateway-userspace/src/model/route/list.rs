//! The routes of a virtual host. Most requests pass most routes by, and a route is spread over many cache lines: what its
//! path begins with is kept apart, so that with thousands of hosts a request touches only the routes that may be its own.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::matching::{PathMatch, RequestHead};
use super::{Route, RouteAction};
use crate::model::cluster::WeightedCluster;

/// Routes in the order in which they are tried. Shared by all domains of a VirtualService, and by the generations between
/// which it stays the same.
#[derive(Debug, Default)]
pub struct RouteList {
    routes: Box<[Arc<Route>]>,
    /// Of each route.
    gates: Box<[Gate]>,
    forwards: Box<[WeightedCluster]>,
}

impl RouteList {
    /// The first route that matches.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<&Route> {
        let front = front(head.path);
        let open = self.gates.iter().zip(&self.routes).filter(|(gate, _)| gate.lets_pass(front));
        open.map(|(_, route)| route.as_ref()).find(|route| route.matcher.matches(head))
    }

    /// The routes, and those that take every request, which come last.
    pub fn split(&self) -> (&[Arc<Route>], &[Arc<Route>]) {
        let is_catch_all = |route: &&Arc<Route>| route.matcher.is_catch_all();
        let catch_alls = self.routes.iter().rev().take_while(is_catch_all).count();
        self.routes.split_at(self.routes.len() - catch_alls)
    }

    /// Every destination, each cluster once.
    pub fn forwards(&self) -> &[WeightedCluster] {
        &self.forwards
    }
}

impl FromIterator<Arc<Route>> for RouteList {
    fn from_iter<I: IntoIterator<Item = Arc<Route>>>(routes: I) -> Self {
        let routes: Box<[_]> = routes.into_iter().collect();
        let gates = routes.iter().map(|route| Gate::of(&route.matcher.path)).collect();
        let forwards = distinct(&routes);
        Self { routes, gates, forwards }
    }
}

impl Deref for RouteList {
    type Target = [Arc<Route>];

    fn deref(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl Serialize for RouteList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.routes.iter())
    }
}

fn distinct(routes: &[Arc<Route>]) -> Box<[WeightedCluster]> {
    let mut found: Vec<WeightedCluster> = Vec::new();
    for route in routes {
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

/// Tells most paths that a route does not take, by what they begin with. What it lets pass is for the route to judge.
#[derive(Debug, Clone, Copy)]
struct Gate {
    mask: u128,
    want: u128,
}

impl Gate {
    fn of(path: &PathMatch) -> Self {
        let begins = match path {
            PathMatch::Exact { path, ignore_case: false } => path.as_str(),
            PathMatch::Prefix { prefix, ignore_case: false } => prefix.as_str(),
            _ => "",
        };
        let mask = [0xff; FRONT];
        let mask = front_of(&mask[..begins.len().min(FRONT)]);
        Self { mask, want: front(begins) }
    }

    fn lets_pass(self, front: u128) -> bool {
        front & self.mask == self.want
    }
}

/// The first bytes of a path, filled up with zeros.
fn front(path: &str) -> u128 {
    front_of(path.as_bytes())
}

fn front_of(bytes: &[u8]) -> u128 {
    let mut front = [0; FRONT];
    let length = bytes.len().min(FRONT);
    front[..length].copy_from_slice(&bytes[..length]);
    u128::from_ne_bytes(front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::FullRegex;

    #[test]
    fn a_gate_holds_back_nothing_that_its_route_takes() {
        let long = "/a/very/long/path/of/many/letters";
        let exact = |path: &str, ignore_case| PathMatch::Exact { path: path.to_owned(), ignore_case };
        let prefix = |prefix: &str, ignore_case| PathMatch::Prefix { prefix: prefix.to_owned(), ignore_case };
        let matches = [
            PathMatch::Any,
            PathMatch::Regex(FullRegex::new("/a.*").unwrap()),
            exact("/", false),
            exact("/a", false),
            exact("/A", true),
            exact(long, false),
            exact(&long[..16], false),
            prefix("/", false),
            prefix("/a/", false),
            prefix("/A", true),
            prefix(long, false),
            prefix(&long[..17], false),
            prefix("", false),
        ];
        let paths = ["/", "/a", "/A", "/a/", "/b", "*", &long[..15], &long[..16], &long[..17], long, "/ä/ö"];
        let mut held_back = 0;
        for (path, route) in paths.iter().flat_map(|path| matches.iter().map(move |route| (path, route))) {
            let passes = Gate::of(route).lets_pass(front(path));
            assert!(passes || !route.matches(path), "{route:?} {path}");
            held_back += usize::from(!passes);
        }
        assert!(held_back > 40, "and much of the rest it does: {held_back}");
    }
}
