//! Findings of a translation, each once: a rule that is compiled for three servers is wrong once.

use std::collections::HashSet;

use crate::api::Diagnostic;

#[derive(Default)]
pub(super) struct Report {
    list: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
}

impl Report {
    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert(diagnostic.clone()) {
            self.list.push(diagnostic);
        }
    }

    /// Adds what was found before.
    pub(super) fn extend(&mut self, found: &[Diagnostic]) {
        for diagnostic in found {
            self.add(diagnostic.clone());
        }
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.list
    }
}
