//! Findings about the documents in force, as `sluice check` prints them.

use std::cmp::Reverse;
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    /// `error`, `warning` or `info`.
    severity: &'static str,
    /// A row of docs/codes.md.
    code: &'static str,
    /// What is wrong.
    message: String,
    /// `Kind namespace/name`.
    document: Option<String>,
    /// `file:line:column`.
    place: Option<String>,
    /// All of it, its line underlined, in lines of a fixed width.
    text: String,
}

/// The worst of all findings, in their order otherwise.
pub fn worst(mut diagnostics: Vec<Diagnostic>) -> Arc<[Diagnostic]> {
    diagnostics.sort_by_key(|it| Reverse(it.severity));
    diagnostics.truncate(MOST);
    diagnostics.into()
}

impl Finding {
    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity.as_str(),
            code: diagnostic.code.as_str(),
            message: short(&diagnostic.message),
            document: document(diagnostic).as_deref().map(short),
            place: place(diagnostic),
            text: short(&render(diagnostic, false)),
        }
    }
}

fn document(diagnostic: &Diagnostic) -> Option<String> {
    diagnostic.document.as_ref().map(ToString::to_string)
}

fn place(diagnostic: &Diagnostic) -> Option<String> {
    diagnostic.position.as_ref().map(|at| format!("{}:{}:{}", at.file, at.line, at.column))
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
    let wanted = view.worst.iter().filter(|it| {
        let fits = || {
            let (document, place) = (document(it), place(it));
            let texts = [it.code.as_str(), &it.message].into_iter();
            query.fits(texts.chain(document.as_deref()).chain(place.as_deref()))
        };
        query.kind.as_deref().is_none_or(|kind| kind == it.severity.as_str())
            && (query.filter.is_empty() || fits())
    });
    let left_out = view.findings.values().sum::<usize>().saturating_sub(view.worst.len());
    Told { counts: view.by_severity(), left_out, page: Page::of(query, wanted, Finding::of) }
}
