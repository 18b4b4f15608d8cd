//! Whose turn it is in a cluster: everyone's as often as its share says, evenly spread.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::model::Candidate;

/// Each endpoint's turns lie the inverse of its share apart; the earliest is next.
#[derive(Debug, Default)]
pub(super) struct Turns {
    due: HashMap<SocketAddr, f64>,
    /// When the last turn was.
    now: f64,
}

impl Turns {
    /// Takes the next turn. Who is new begins at a place of its own, so that workers, or endpoints that come together, do not
    /// go in step.
    pub(super) fn next<'c>(
        &mut self,
        candidates: impl Iterator<Item = Candidate<'c>> + Clone,
        share: impl Fn(&Candidate<'_>) -> f64,
    ) -> Option<Candidate<'c>> {
        let mut earliest: Option<(f64, Candidate<'c>)> = None;
        for candidate in candidates.clone() {
            let now = self.now;
            let begin = || now + fastrand::f64() / share(&candidate);
            let due = self.due.entry(candidate.endpoint.address).or_insert_with(begin);
            // Nobody saves turns up while it is left out.
            *due = due.max(now);
            if earliest.is_none_or(|(other, _)| *due < other) {
                earliest = Some((*due, candidate));
            }
        }
        let (due, candidate) = earliest?;
        self.now = due;
        self.due.insert(candidate.endpoint.address, due + 1.0 / share(&candidate));
        if self.due.len() > 2 * candidates.clone().count() + 8 {
            self.due.retain(|address, _| candidates.clone().any(|it| it.endpoint.address == *address));
        }
        Some(candidate)
    }
}
