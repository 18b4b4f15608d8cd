//! Path normalisation before matching, Istio's default (MeshConfig pathNormalization BASE): dot segments are resolved,
//! `\` is `/`, percent-encoded unreserved characters are decoded (RFC 3986, 6.2.2). Duplicate slashes and `%2F` stay.

use std::borrow::Cow;

/// The normal form, or `None` for a path that is refused: an encoded NUL, a broken escape in what would be decoded, a
/// relative path. `*` (OPTIONS) is left alone.
pub fn normalize(path: &str) -> Option<Cow<'_, str>> {
    if path == "*" {
        return Some(path.into());
    }
    if !path.starts_with('/') {
        return None;
    }
    let plain = !path.bytes().any(|byte| matches!(byte, b'%' | b'\\')) && !path.contains("/.");
    if plain {
        return Some(path.into());
    }
    Some(without_dot_segments(&decoded(path)?).into())
}

fn decoded(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => out.push('/'),
            '%' => {
                let code = rest.as_str().get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                match code {
                    Some(0) => return None,
                    Some(byte) if is_unreserved(byte) => {
                        out.push(byte as char);
                        rest.nth(1);
                    }
                    _ => out.push('%'),
                }
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986, 5.2.4; a path cannot climb above its root.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_in_normal_form() {
        for (path, want) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/../../b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/.", Some("/a/")),
            ("/a/b/..", Some("/a/")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/%61dmin", Some("/admin")),
            ("/a\\..\\b", Some("/b")),
            ("//a", Some("//a")),
            ("/x%2Fy", Some("/x%2Fy")),
            ("/a%2f..%2fb", Some("/a%2f..%2fb")),
            ("/.hidden/..x", Some("/.hidden/..x")),
            ("/%zz", Some("/%zz")),
            ("/100%", Some("/100%")),
            ("/%00", None),
            ("a", None),
            ("", None),
            ("*", Some("*")),
        ] {
            assert_eq!(normalize(path).as_deref(), want, "{path}");
        }
    }
}
