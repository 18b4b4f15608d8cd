//! Expressions as Istio has them (RE2, https://github.com/google/re2/wiki/Syntax) in the words of our own library, where
//! those differ: quotes, braces that count nothing, brackets within brackets, and classes, which are of ASCII in RE2.

use std::borrow::Cow;

/// The same expression for our library. What is broken stays broken, for it to tell.
pub fn translated(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(['\\', '{', '[']) {
        return pattern.into();
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        let behind = &rest[next.len_utf8()..];
        rest = match next {
            '\\' if behind.starts_with('Q') => quoted(&behind[1..], &mut out),
            '\\' => escape(behind, false, &mut out),
            '[' => class(behind, &mut out),
            '{' if !counts(behind) => {
                out.push_str("\\{");
                behind
            }
            other => {
                out.push(other);
                behind
            }
        };
    }
    out.into()
}

/// `\Q…\E`, or to the end: as it stands.
fn quoted<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let (text, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
    out.push_str(&regex::escape(text));
    behind
}

/// What stands behind a backslash.
fn escape<'a>(rest: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(next) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    match (next, in_class) {
        ('d', true) => out.push_str("0-9"),
        ('w', true) => out.push_str("0-9A-Za-z_"),
        ('s', true) => out.push_str("\\t\\n\\f\\r "),
        ('d', false) => out.push_str("[0-9]"),
        ('w', false) => out.push_str("[0-9A-Za-z_]"),
        ('s', false) => out.push_str("[\\t\\n\\f\\r ]"),
        // Within brackets a union.
        ('D', _) => out.push_str("[^0-9]"),
        ('W', _) => out.push_str("[^0-9A-Za-z_]"),
        ('S', _) => out.push_str("[^\\t\\n\\f\\r ]"),
        ('b', false) => out.push_str("(?-u:\\b)"),
        // A class or a character by its name in braces, which count nothing.
        ('p' | 'P' | 'x', _) if rest[1..].starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            out.push('\\');
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        (other, _) => {
            out.push('\\');
            out.push(other);
        }
    }
    &rest[next.len_utf8()..]
}

/// `{n}`, `{n,}` or `{n,m}`.
fn counts(rest: &str) -> bool {
    let Some((inner, _)) = rest.split_once('}') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match inner.split_once(',') {
        None => is_number(inner),
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
    }
}

/// A class from behind its bracket to its end.
fn class<'a>(rest: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = rest;
    for literal in ["^", "]"] {
        if let Some(behind) = rest.strip_prefix(literal) {
            out.push_str(literal);
            rest = behind;
        }
    }
    while let Some(next) = rest.chars().next() {
        let behind = &rest[next.len_utf8()..];
        rest = match next {
            ']' => {
                out.push(']');
                return behind;
            }
            '\\' => escape(behind, true, out),
            '[' => {
                if let Some(length) = named(behind) {
                    out.push_str(&rest[..=length]);
                    &behind[length..]
                } else {
                    out.push_str("\\[");
                    behind
                }
            }
            // Operators on sets in our library.
            '&' | '~' => {
                out.push('\\');
                out.push(next);
                behind
            }
            '-' if behind.starts_with('-') => {
                out.push_str("\\-");
                behind
            }
            other => {
                out.push(other);
                behind
            }
        };
    }
    rest
}

/// Bytes of a class by name, such as `:alpha:]`.
fn named(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix(':')?;
    let end = inner.find(":]")?;
    let name = inner[..end].trim_start_matches('^');
    name.bytes().all(|byte| byte.is_ascii_lowercase()).then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_re2() {
        for (pattern, takes, takes_not) in [
            (r"\Qa.b\E+", "a.bb", "axb"),
            (r"\Qa.", "a.", "ab"),
            ("a{,2}", "a{,2}", "aa"),
            ("a{b}", "a{b}", "a"),
            ("a{2,3}", "aaa", "a"),
            ("a{2}", "aa", "a"),
            ("[[]+", "[[", "]"),
            ("[^[]+", "ab", "["),
            ("[]a]+", "]a", "b"),
            ("[a&&b]+", "a&b", "c"),
            ("[a~~b]+", "a~b", "c"),
            ("[[:alpha:]_]+", "a_", "1"),
            ("[[:^alpha:]]+", "1", "a"),
            (r"\d+", "12", "٣"),
            (r"\w+", "a_1", "ü"),
            (r"\s", "\t", "\u{a0}"),
            (r"[\d.]+", "1.2", "٣"),
            (r"[\w-]+", "a-b", "ü"),
            (r"[^\d]+", "ab", "1"),
            (r"[\D]+", "a", "1"),
            (r"a\b.*", "a-b", "ab"),
            (r"\.\/\-\\", r"./-\", "x"),
            (r"[\]\[]+", "[]", "x"),
            (r"(?i)ab|\pL", "AB", "1"),
            (r"\p{Greek}+", "αβ", "a"),
            (r"\P{Greek}", "a", "α"),
            (r"[^\p{Greek}]", "a", "α"),
            (r"\x{1F600}{2}", "😀😀", "a"),
        ] {
            let regex = Regex::new(&format!("^(?:{})$", translated(pattern)));
            let regex = regex.unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.is_match(takes), "{pattern} on {takes}");
            assert!(!regex.is_match(takes_not), "{pattern} on {takes_not}");
        }
    }

    #[test]
    fn what_is_broken_stays_broken() {
        for pattern in ["[a", "a\\", "(", "*", "[z-a]", r"\Qa\E)", "a{2,1}", r"\p{Greek", r"\x{110000}"] {
            assert!(Regex::new(&translated(pattern)).is_err(), "{pattern}: {}", translated(pattern));
        }
    }
}
