//! Which earlier match takes all requests of a later one. Only those whose paths meet are compared: a list of thousands of
//! routes on as many paths is a matter of milliseconds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{PathMatch, RouteMatch};

use super::usage::Place;

/// The matches of a list so far, in their order.
#[derive(Debug, Default)]
pub(super) struct Reach {
    list: Vec<(RouteMatch, Place)>,
    exact: HashMap<Arc<str>, Vec<usize>>,
    prefixes: HashMap<Arc<str>, Vec<usize>>,
    /// In bytes, of the prefixes.
    lengths: BTreeSet<usize>,
    /// All others, of which only a look at them tells.
    rest: Vec<usize>,
}

impl Reach {
    /// The first match that takes every request of this one.
    pub(super) fn covering(&self, later: &RouteMatch) -> Option<Place> {
        let path = match &later.path {
            PathMatch::Exact { path, .. } => path,
            PathMatch::Prefix { prefix, .. } => prefix,
            // Covered by a prefix that takes every path.
            PathMatch::Any | PathMatch::Regex(_) => "/",
        };
        let of_length = |length: &usize| self.prefixes.get(path.get(..*length)?);
        let prefixes = self.lengths.range(..=path.len()).filter_map(of_length);
        let candidates = self.exact.get(path).into_iter().chain(prefixes).chain([&self.rest]).flatten();
        let covers = |at: &&usize| self.list[**at].0.covers(later);
        candidates.filter(covers).min().map(|at| self.list[*at].1)
    }

    /// Adds the next one.
    pub(super) fn add(&mut self, matcher: RouteMatch, place: Place) {
        let at = self.list.len();
        match &matcher.path {
            PathMatch::Exact { path, ignore_case: false } => {
                self.exact.entry(path.clone()).or_default().push(at);
            }
            PathMatch::Prefix { prefix, ignore_case: false } => {
                self.lengths.insert(prefix.len());
                self.prefixes.entry(prefix.clone()).or_default().push(at);
            }
            _ => self.rest.push(at),
        }
        self.list.push((matcher, place));
    }
}
