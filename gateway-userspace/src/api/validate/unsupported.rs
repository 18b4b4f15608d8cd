//! Reports what Istio has and this version does not do yet, by the tables in `rows`. Nothing is passed over in silence: where
//! ignoring a field would change who gets in or where traffic goes, the document is refused; everywhere else the
//! field is reported and has no effect.

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;
use crate::api::yaml::{Content, Node};

use super::{Findings, rows};

/// What happens to a document that sets the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is refused.
    Refused,
    /// It is taken, without the field.
    Ignored,
}
use Outcome::{Ignored, Refused};

/// Field (`[]`: every element; `=WORD`: only this value), outcome, why or what to do.
pub(super) struct Row(pub(super) &'static str, pub(super) Outcome, pub(super) &'static str);

/// A field that is known and not served, for pages of reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Below `spec`; `[]` stands for every element, `=WORD` for this value alone.
    pub field: String,
    /// Whether a document that sets it is refused; else it is taken, and the field has no effect.
    pub refused: bool,
    /// Why, or what to do; may be empty.
    pub why: &'static str,
}

/// The fields of a kind of Istio's that are known and not served.
pub fn unsupported_fields(kind: &str) -> Vec<Unsupported> {
    let (tables, place) = match kind {
        "Gateway" => (rows::GATEWAY, ""),
        "VirtualService" => (rows::VIRTUAL_SERVICE, ""),
        "Telemetry" => (rows::TELEMETRY, ""),
        "DestinationRule" => (rows::TRAFFIC_POLICY, "trafficPolicy."),
        _ => (&[][..], ""),
    };
    let row = |Row(field, outcome, why): &Row| Unsupported {
        field: format!("{place}{}", field.strip_prefix("spec.").unwrap_or(field)),
        refused: *outcome == Refused,
        why,
    };
    tables.iter().copied().flatten().map(row).collect()
}

/// Reports every field of the tables that the document sets.
pub(super) fn report(found: &mut Findings<'_>, tables: &[&[Row]]) {
    report_below(found, &FieldPath::root(), tables);
}

/// The same for tables whose fields are below a place.
pub(super) fn report_below(found: &mut Findings<'_>, place: &FieldPath, tables: &[&[Row]]) {
    let source = found.source;
    let Some(node) = source.tree.as_ref().and_then(|root| root.find(place)) else { return };
    for Row(pattern, outcome, why) in tables.iter().copied().flatten() {
        let (pattern, value) = pattern.split_once('=').map_or((*pattern, None), |(p, v)| (p, Some(v)));
        let mut places = Vec::new();
        collect(node, pattern, value, place, &mut places);
        for field in places {
            let name = value.or_else(|| pattern.rsplit('.').next()).unwrap_or(pattern);
            add(found, &field, name, *outcome, why);
        }
    }
}

fn add(found: &mut Findings<'_>, field: &FieldPath, name: &str, outcome: Outcome, why: &str) {
    let (severity, code, effect) = match outcome {
        Refused => (Severity::Error, Code::NotEnforced, "and must not be ignored: the document is refused"),
        Ignored => (Severity::Warning, Code::NotSupported, "it has no effect here"),
    };
    let separator = if outcome == Refused { " " } else { ": " };
    let diagnostic =
        found.add(severity, code, field, format!("{name} is not yet supported{separator}{effect}"));
    diagnostic.help = Some(why.to_owned()).filter(|why| !why.is_empty());
}

/// Walks down a pattern; `at` grows on the way.
fn collect(node: &Node, pattern: &str, value: Option<&str>, at: &FieldPath, places: &mut Vec<FieldPath>) {
    let Some(step) = pattern.split('.').next().filter(|step| !step.is_empty()) else {
        if !node.is_empty()
            && value.is_none_or(|value| node.text() == Some(value))
            && node.text() != Some("false")
        {
            places.push(at.clone());
        }
        return;
    };
    let rest = pattern[step.len()..].trim_start_matches('.');
    let (name, index) =
        step.split_once('[').map_or((step, None), |(n, i)| (n, Some(i.trim_end_matches(']'))));
    let Some(entry) = node.get(name) else { return };
    let at = at.field(name);
    match (index, &entry.value.content) {
        (None, _) => collect(&entry.value, rest, value, &at, places),
        (Some(index), Content::Sequence(items)) => {
            let only = index.parse::<usize>().ok();
            for (i, item) in items.iter().enumerate().filter(|(i, _)| only.is_none_or(|only| only == *i)) {
                collect(item, rest, value, &at.index(i), places);
            }
        }
        (Some(_), _) => {}
    }
}
