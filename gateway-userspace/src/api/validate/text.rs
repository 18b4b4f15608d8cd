//! String matches and regular expressions.

use regex::RegexBuilder;

use crate::api::path::FieldPath;
use crate::api::virtual_service::StringMatch;
use crate::notation::re2;

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

/// What is wrong with a pattern, as the library that Istio validates with says it. The text of our own library ends with a
/// line that points at the place, behind an indent of four, and one with the reason.
fn in_istios_words(text: &str, pattern: &str) -> String {
    let mut lines = text.lines().rev();
    let why = lines.next().unwrap_or("").trim_start_matches("error: ");
    let place = lines.next().and_then(|line| line.find('^')).map_or(0, |column| column.saturating_sub(4));
    let from_there = pattern.chars().skip(place);
    match why {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => format!("missing closing ]: `{}`", from_there.collect::<String>()),
        "repetition operator missing expression" => {
            format!("missing argument to repetition operator: `{}`", from_there.take(1).collect::<String>())
        }
        "unrecognized escape sequence" => {
            format!("invalid escape sequence: `{}`", from_there.take(2).collect::<String>())
        }
        other => other.to_owned(),
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
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    let translated = re2::translated(pattern);
    let Err(error) = build(&translated).and_then(|_| build(&format!("^(?:{translated})$"))) else {
        return Ok(());
    };
    // Where it can be, the error is of what the document says.
    let (error, broken) = match build(pattern) {
        Err(error) => (error, pattern),
        Ok(_) => (error, translated.as_ref()),
    };
    let why = in_istios_words(&error.to_string(), broken);
    let syntax = "https://github.com/google/re2/wiki/Syntax";
    Err(format!("error parsing regexp: {why}; Istio uses RE2 style regex-based match ({syntax})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_refused_in_istios_words() {
        for (pattern, want) in [
            ("/a(b", "missing closing ): `/a(b`"),
            ("/a)b", "unexpected ): `/a)b`"),
            ("/a[bc", "missing closing ]: `[bc`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|+", "missing argument to repetition operator: `+`"),
            (r"/\q", r"invalid escape sequence: `\q`"),
        ] {
            let error = check_regex(pattern).unwrap_err();
            assert!(
                error.starts_with(&format!("error parsing regexp: {want}; Istio uses RE2")),
                "{pattern}: {error}"
            );
        }
        assert_eq!(check_regex("/a[bc]+(d|e)?"), Ok(()));
    }
}
