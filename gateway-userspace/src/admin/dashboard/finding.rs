//! Findings about the documents in force, as `sluice check` prints them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::super::view::View;
use super::paging::Page;
use super::query::Query;
use crate::api::diagnostic::{Diagnostic, render};

/// Findings that are kept; the worst first.
const MOST: usize = 2000;
/// Characters of a finding that are kept.
const LONGEST: usize = 4000;

/// See the module.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `error`, `warning` or `info`.
    pub severity: &'static str,
    /// A row of docs/codes.md.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// `Kind namespace/name`.
    pub document: Option<String>,
    /// `file:line:column`.
    pub place: Option<String>,
    /// All of it, its line underlined, in lines of a fixed width.
    pub text: String,
}

impl Finding {
    /// The worst of all findings, in their order otherwise.
    pub fn worst(diagnostics: &[Diagnostic]) -> Arc<[Self]> {
        let mut found: Vec<_> = diagnostics.iter().collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.severity));
        found.into_iter().take(MOST).map(Self::of).collect()
    }

    fn of(diagnostic: &Diagnostic) -> Self {
        let place = diagnostic.position.as_ref();
        Self {
            severity: diagnostic.severity.as_str(),
            code: diagnostic.code.as_str(),
            message: short(&diagnostic.message),
            document: diagnostic.document.as_ref().map(|document| short(&document.to_string())),
            place: place.map(|at| format!("{}:{}:{}", at.file, at.line, at.column)),
            text: short(&render(diagnostic, false)),
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

/// A page of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// All there are, by severity.
    counts: BTreeMap<&'static str, usize>,
    /// Those that are not kept.
    left_out: usize,
    #[serde(flatten)]
    page: Page<Finding>,
}

/// `kind` is a severity.
pub(super) fn answer(view: &View, query: &Query) -> Told {
    let wanted = view.told.iter().filter(|finding| {
        let texts = [finding.code, &finding.message].into_iter();
        let texts = texts.chain(finding.document.as_deref()).chain(finding.place.as_deref());
        query.kind.as_deref().is_none_or(|kind| kind == finding.severity) && query.fits(texts)
    });
    let left_out = view.findings.values().sum::<usize>().saturating_sub(view.told.len());
    Told { counts: counts(view), left_out, page: Page::of(query, wanted, Finding::clone) }
}

/// How many findings there are, by severity.
pub(super) fn counts(view: &View) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for ((severity, _), count) in &view.findings {
        *counts.entry(*severity).or_default() += count;
    }
    counts
}
