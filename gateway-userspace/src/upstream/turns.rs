//! Whose turn it is in a cluster: everyone's as often as its share says, evenly spread.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use crate::model::Candidate;

/// Each endpoint's turns lie the inverse of its share apart; the earliest is next.
#[derive(Debug, Default)]
pub(super) struct Turns {
    due: HashMap<SocketAddr, f64, RandomState>,
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
            let (now, apart) = (self.now, 1.0 / share(&candidate));
            let begin = || now + fastrand::f64() * apart;
            let due = self.due.entry(candidate.endpoint.address).or_insert_with(begin);
            // Nobody saves turns up while it is left out, nor waits for as long as a share asked for that has grown since.
            *due = due.clamp(now, now + apart);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::{Endpoint, Health};

    #[test]
    fn whoever_is_no_longer_new_waits_no_longer() {
        let endpoint = |at: u16| Endpoint::new(SocketAddr::from(([10, 0, 0, 1], at)), Health::Healthy);
        let endpoints = [endpoint(1), endpoint(2)];
        let candidates = || endpoints.iter().map(|endpoint| Candidate { endpoint, weight: 1 });
        let is_new = |candidate: &Candidate<'_>| candidate.endpoint.address.port() == 2;
        let of_new = Cell::new(1e-5);
        let share = |candidate: &Candidate<'_>| if is_new(candidate) { of_new.get() } else { 1.0 };
        let mut turns = Turns::default();
        let mut of_twenty = || {
            (0..20).filter_map(|_| turns.next(candidates(), share)).filter(|chosen| is_new(chosen)).count()
        };
        assert!(of_twenty() <= 1);
        of_new.set(1.0);
        assert!((9..=11).contains(&of_twenty()));
    }
}
