//! String matches and regular expressions.

use regex::RegexBuilder;

use crate::api::path::FieldPath;
use crate::api::virtual_service::StringMatch;

use super::Findings;

/// Longest pattern that Istio takes, in bytes.
const MAX_REGEX: usize = 1024;
/// Bytes that a compiled pattern may take, so that a document cannot eat the memory.
const MAX_COMPILED: usize = 1 << 20;

/// What an empty prefix is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyPrefix {
    /// Matches everything.
    Allowed,
    /// An error.
    Refused,
}

pub(super) fn check_match(
    found: &mut Findings<'_>,
    field: &FieldPath,
    what: &str,
    value: &StringMatch,
    empty_prefix: EmptyPrefix,
) {
    let StringMatch { exact, prefix, regex } = value;
    if [exact, prefix, regex].into_iter().flatten().count() > 1 {
        found.error(field, format!("\"{what}\": only one of exact, prefix and regex may be given"));
    }
    if prefix.as_deref() == Some("") && empty_prefix == EmptyPrefix::Refused {
        found.error(&field.field("prefix"), format!("\"{what}\": prefix string match should not be empty"));
    }
    if let Some(regex) = regex {
        let outcome = check_regex(regex).map_err(|why| format!("\"{what}\": {why}"));
        found.check(&field.field("regex"), outcome);
    }
}

/// A pattern that must match a whole value.
pub(super) fn check_regex(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_REGEX {
        return Err(format!("regex is too large, max length allowed is {MAX_REGEX}"));
    }
    if pattern.is_empty() {
        return Err("regex string match should not be empty".to_owned());
    }
    // The pattern alone first, so that the error speaks of what the document says.
    for pattern in [pattern.to_owned(), format!("^(?:{pattern})$")] {
        RegexBuilder::new(&pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            let syntax = "https://github.com/google/re2/wiki/Syntax";
            format!("error parsing regexp: {why}; Istio uses RE2 style regex-based match ({syntax})")
        })?;
    }
    Ok(())
}
