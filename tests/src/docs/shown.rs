//! What a page shows held against what was said.

/// Stands for anything: in a line for any characters, as a line for any lines.
const ANYTHING: &str = "…";

/// Whether a text is as shown. Runs of spaces count as one, as the width of columns is that of the longest entry.
pub fn is_as_shown(shown: &str, said: &str) -> bool {
    let shown: Vec<String> = lines(shown);
    let said: Vec<String> = lines(said);
    lines_fit(&shown, &said)
}

fn lines(text: &str) -> Vec<String> {
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim().lines().map(squeezed).collect()
}

fn lines_fit(shown: &[String], said: &[String]) -> bool {
    match shown {
        [] => said.is_empty(),
        [first, rest @ ..] if first == ANYTHING => {
            (0..=said.len()).any(|taken| lines_fit(rest, &said[taken..]))
        }
        [first, rest @ ..] => {
            said.first().is_some_and(|line| line_fits(first, line)) && lines_fit(rest, &said[1..])
        }
    }
}

fn line_fits(shown: &str, said: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() { rest.ends_with(part).then_some(0) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len().min(rest.len() - at)..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_may_be_anything_and_nothing_else() {
        for (shown, said, want) in [
            ("a\nb", "a\nb\n", true),
            ("a   b", "a b", true),
            ("a\nb", "a\nb\nc", false),
            ("a\n…", "a\nb\nc", true),
            ("…\nc", "a\nb\nc", true),
            ("…\nb", "a\nb\nc", false),
            ("age … s", "age 17 s", true),
            ("age … s", "age 17 ms", false),
            ("…-…-x", "a-b-x", true),
            ("…-…-x", "a-x", false),
            ("a…", "a", true),
            ("…a", "ba", true),
            ("…a", "ab", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(is_as_shown(shown, said), want, "{shown:?} {said:?}");
        }
    }
}
