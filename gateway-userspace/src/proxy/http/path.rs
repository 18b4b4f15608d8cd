//! Path normalisation before matching, Istio's default (MeshConfig pathNormalization BASE) as Envoy executes it: dot segments
//! are resolved, those with parameters too (`/..;x/`, which some backends read as `/../`), `\` is `/`, percent-encoded
//! unreserved characters are decoded (RFC 3986, 6.2.2), and what no URL may hold is encoded. Duplicate slashes and `%2F` stay.

use std::borrow::Cow;

/// The normal form, or `None` for a path that is refused: an encoded NUL, a relative path. `*` (OPTIONS) is left alone.
pub fn normalize(path: &str) -> Option<Cow<'_, str>> {
    if path == "*" {
        return Some(path.into());
    }
    if !path.starts_with('/') {
        return None;
    }
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\') || is_unsafe(byte)) && !path.contains("/.") {
        return Some(path.into());
    }
    Some(without_dot_segments(&decoded(&without_parameters_of_dots(path))?).into())
}

/// Bytes that are sent by clients and have no place in a path (RFC 3986, 3.3). Backends get them encoded.
fn is_unsafe(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// `..;a=b` is `..`: parameters of a segment name no other one (RFC 3986, 3.3). Only where the dots are not encoded.
fn without_parameters_of_dots(path: &str) -> Cow<'_, str> {
    if !path.contains("/.;") && !path.contains("/..;") {
        return path.into();
    }
    let bare = |segment: &'_ str| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots.to_owned(),
        _ => segment.to_owned(),
    };
    path.split('/').map(bare).collect::<Vec<_>>().join("/").into()
}

fn decoded(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    // Where per cent signs stand that begin no escape.
    let mut alone = Vec::new();
    let mut rest = path.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => out.push('/'),
            '%' => match escape(rest.as_str()) {
                Some(0) => return None,
                Some(byte) if is_unreserved(byte) => {
                    out.push(byte as char);
                    rest.nth(1);
                }
                Some(_) => out.push('%'),
                None => {
                    alone.push(out.len());
                    out.push('%');
                }
            },
            other if other.is_ascii() && is_unsafe(other as u8) => {
                out.push_str(&format!("%{:02X}", other as u8))
            }
            other => out.push(other),
        }
    }
    // What is decoded must not make an escape of one that was none: the next to decode it would see another path.
    for at in alone.into_iter().rev().filter(|at| escape(&out[at + 1..]).is_some()).collect::<Vec<_>>() {
        out.insert_str(at + 1, "25");
    }
    Some(out)
}

/// The byte that two digits behind a per cent sign stand for.
fn escape(rest: &str) -> Option<u8> {
    let digits = rest.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
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
            // Parameters of dots are dropped with them.
            ("/a/..;/b", Some("/b")),
            ("/a/..;x;y=z/b", Some("/b")),
            ("/a/.;x/b", Some("/a/b")),
            ("/a/..;", Some("/")),
            ("/a/.;", Some("/a/")),
            ("/a/..;%2f/b", Some("/b")),
            ("/a/.;./b", Some("/a/b")),
            ("/a/..;\\b", Some("/")),
            ("/a/x..;/b", Some("/a/x..;/b")),
            ("/a/...;/b", Some("/a/...;/b")),
            ("/a/..%3b/b", Some("/a/..%3b/b")),
            ("/a/%2e%2e;/b", Some("/a/..;/b")),
            ("/a;x/b", Some("/a;x/b")),
            // No escape comes out of another.
            ("/%2%65", Some("/%252e")),
            ("/%%32e", Some("/%252e")),
            ("/%%32%65", Some("/%252e")),
            ("/%2%66x", Some("/%252fx")),
            ("/%%30%30", Some("/%2500")),
            ("/%%32", Some("/%2")),
            ("/%2%6g", Some("/%2%6g")),
            ("/%+1", Some("/%+1")),
            // What has no place in a path.
            ("/{a}|\"^`<>", Some("/%7Ba%7D%7C%22%5E%60%3C%3E")),
            ("/%7B", Some("/%7B")),
            ("/%00", None),
            ("a", None),
            ("", None),
            ("*", Some("*")),
        ] {
            assert_eq!(normalize(path).as_deref(), want, "{path}");
        }
    }
}
