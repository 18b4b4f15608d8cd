//! What became of each match of each `http` rule, over all servers: it is taken somewhere, or always behind a wider one, or
//! can never hold. What is not taken anywhere is reported, as it is surely not meant.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::api::virtual_service::{HttpMatchRequest, HttpRoute, MESH, StringMatch};
use crate::api::{Code, FieldPath, Severity};

use super::bind::Bound;
use super::report::Report;

/// A match as written; a rule without any has one at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// An index of the list of documents.
    pub(super) document: usize,
    /// An index of `http`.
    pub(super) rule: usize,
    /// An index of `match`.
    pub(super) at: usize,
}

/// What became of a match that can hold at some server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    Behind(Place),
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    fates: HashMap<Place, Fate>,
    /// Rules, by document and index, that have a place somewhere; what has none was reported with its reason.
    placed: HashSet<(usize, usize)>,
}

impl Usage {
    /// Notes the places of rules.
    pub(super) fn place(&mut self, places: impl Iterator<Item = Place>) {
        self.placed.extend(places.map(|place| (place.document, place.rule)));
    }

    /// Notes a match that can hold at a server, and the earlier one that takes all of its requests there, if any.
    pub(super) fn note(&mut self, place: Place, behind: Option<Place>) {
        match behind {
            None => _ = self.fates.insert(place, Fate::Taken),
            Some(earlier) => _ = self.fates.entry(place).or_insert(Fate::Behind(earlier)),
        }
    }

    /// Reports the rules of a document that take no effect, and the matches of others that don't; of the rules those alone
    /// that have a place.
    pub(super) fn report(&self, all: &BTreeMap<usize, Arc<Bound>>, document: usize, report: &mut Report) {
        let bound = &*all[&document];
        let rules = bound.document.spec.http.iter().enumerate();
        for (rule, written) in rules.filter(|(rule, _)| self.placed.contains(&(document, *rule))) {
            let count = written.matches.len().max(1);
            let places = (0..count).map(|at| Place { document, rule, at });
            let fates: Vec<_> = places.map(|at| (at, self.fates.get(&at).copied())).collect();
            Reporter { all, bound, written, rule }.report(&fates, report);
        }
    }
}

struct Reporter<'a> {
    all: &'a BTreeMap<usize, Arc<Bound>>,
    bound: &'a Bound,
    written: &'a HttpRoute,
    rule: usize,
}

impl Reporter<'_> {
    fn field(&self) -> FieldPath {
        FieldPath::spec().field("http").index(self.rule)
    }

    fn report(&self, fates: &[(Place, Option<Fate>)], report: &mut Report) {
        let any_taken = fates.iter().any(|(_, fate)| *fate == Some(Fate::Taken));
        let first_behind = fates.iter().find_map(|(_, fate)| match fate {
            Some(Fate::Behind(earlier)) => Some(*earlier),
            _ => None,
        });
        match first_behind {
            Some(earlier) if !any_taken => self.unreachable(earlier, report),
            None if !any_taken => return self.no_effect(report),
            _ => {}
        }
        for (place, fate) in fates {
            match fate {
                Some(Fate::Behind(earlier)) => self.overlaps(place.at, *earlier, report),
                None => self.never_holds(place.at, report),
                Some(Fate::Taken) => {}
            }
        }
    }

    fn no_effect(&self, report: &mut Report) {
        let matches = &self.written.matches;
        if !matches.is_empty() && matches.iter().all(|condition| is_for_mesh(&condition.gateways)) {
            return;
        }
        let message = "the http rule takes no effect at any server of its gateways";
        let help = "http rules serve HTTP and terminated HTTPS; do port, gateways and hosts fit?";
        let finding = self.bound.document.diagnostic(
            self.bound.severity_of_unused(),
            Code::NoEffect,
            &self.field(),
            message,
        );
        report.add(finding.help(help));
    }

    fn never_holds(&self, at: usize, report: &mut Report) {
        if self.written.matches.get(at).is_some_and(|condition| is_for_mesh(&condition.gateways)) {
            return;
        }
        let field = self.field().field("match").index(at);
        let message = "the match takes no effect at any server of its gateways; the rule's others do";
        let help = match self.written.delegate {
            Some(_) => {
                "do its port, gateways and source fit, and is any of the delegate's matches within it?"
            }
            None => "do its port, gateways, sourceLabels and sourceNamespace fit?",
        };
        let finding =
            self.bound.document.diagnostic(self.bound.severity_of_unused(), Code::NoEffect, &field, message);
        report.add(finding.help(help));
    }

    fn unreachable(&self, earlier: Place, report: &mut Report) {
        let (document, rule) = self.earlier(earlier);
        let why = match (self.written.matches.is_empty(), rule.matches.is_empty()) {
            (true, true) => "only the last rule can have no matches",
            (false, true) => "route without matches defined before",
            (_, false) => "all matches used by prior rules",
        };
        let message = format!("virtualService rule {} not used ({why})", label(self.written, self.rule));
        let takes = if rule.matches.is_empty() { "every request" } else { "its requests" };
        let help = format!("rule {} takes {takes}: move it behind this one", label(rule, earlier.rule));
        let field = FieldPath::spec().field("http").index(earlier.rule);
        report.add(
            self.bound
                .document
                .diagnostic(Severity::Warning, Code::UnreachableRule, &self.field(), message)
                .help(help)
                .related(document.document.related(&field, "this one comes before")),
        );
    }

    /// One match behind another, in the words of Istio's analysis, which speaks of paths alone.
    fn overlaps(&self, at: usize, earlier: Place, report: &mut Report) {
        let (document, rule) = self.earlier(earlier);
        let (Some(mine), Some(theirs)) = (self.written.matches.get(at), rule.matches.get(earlier.at)) else {
            return;
        };
        let message = format!(
            "VirtualService rule #{} match #{at} of {} is not used (duplicate/overlapping match in rule #{} of {} on #{})",
            self.rule,
            described(mine),
            earlier.rule,
            described(theirs),
            earlier.at
        );
        let field = self.field().field("match").index(at);
        let other = FieldPath::spec().field("http").index(earlier.rule).field("match").index(earlier.at);
        report.add(
            self.bound
                .document
                .diagnostic(Severity::Info, Code::IneffectiveMatch, &field, message)
                .related(document.document.related(&other, "this one comes before")),
        );
    }

    fn earlier(&self, place: Place) -> (&Bound, &HttpRoute) {
        let bound = &*self.all[&place.document];
        (bound, &bound.document.spec.http[place.rule])
    }
}

/// Whether a match names sidecars alone.
pub(super) fn is_for_mesh(gateways: &[String]) -> bool {
    !gateways.is_empty() && gateways.iter().all(|name| name == MESH)
}

/// `prefix /a`.
fn described(condition: &HttpMatchRequest) -> String {
    match &condition.uri {
        Some(StringMatch { exact: Some(path), .. }) => format!("exact {path}"),
        Some(StringMatch { prefix: Some(path), .. }) => format!("prefix {path}"),
        Some(StringMatch { regex: Some(pattern), .. }) => format!("regex {pattern}"),
        _ => "any path".to_owned(),
    }
}

fn label(rule: &HttpRoute, at: usize) -> String {
    if rule.name.is_empty() { format!("#{at}") } else { format!("\"{}\"", rule.name) }
}
