//! The form in which paths are matched and sent on (MeshConfig `pathNormalization`).

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

/// How far a path is put into normal form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathForm {
    /// Not at all.
    None,
    /// Istio's default, as Envoy executes it: dot segments are resolved, those with parameters too (`/..;x/`, which some backends
    /// read as `/../`), `\` is `/`, percent-encoded unreserved characters are decoded (RFC 3986, 6.2.2), and what no URL may
    /// hold is encoded. Duplicate slashes and `%2F` stay.
    #[default]
    Base,
    /// And duplicate slashes are one.
    MergeSlashes,
    /// And `%2F` and `%5C` are slashes.
    DecodeAndMergeSlashes,
}

impl PathForm {
    /// The path in this form, or `None` for one that is refused: an encoded NUL where escapes are decoded, a relative path.
    /// `*` (OPTIONS) is left alone.
    pub fn of(self, path: &str) -> Option<Cow<'_, str>> {
        match self {
            _ if path == "*" => Some(path.into()),
            _ if !path.starts_with('/') => None,
            Self::None => Some(path.into()),
            Self::Base => normalized(path),
            Self::MergeSlashes => merged(path),
            Self::DecodeAndMergeSlashes => {
                if path.contains('%') {
                    merged(&with_slashes_decoded(path)).map(|path| path.into_owned().into())
                } else {
                    merged(path)
                }
            }
        }
    }
}

fn merged(path: &str) -> Option<Cow<'_, str>> {
    let path = normalized(path)?;
    if !path.contains("//") {
        return Some(path);
    }
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    Some(out.into())
}

fn with_slashes_decoded(path: &str) -> String {
    let mut out = path.to_owned();
    for (encoded, slash) in [("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\")] {
        out = out.replace(encoded, slash);
    }
    out
}

fn normalized(path: &str) -> Option<Cow<'_, str>> {
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
                let _ = write!(out, "%{:02X}", other as u8);
            }
            other => out.push(other),
        }
    }
    Some(without_new_escapes(out, &alone))
}

/// What is decoded must not make an escape of a per cent sign that began none: the next to decode it would see another path.
fn without_new_escapes(path: String, alone: &[usize]) -> String {
    let mut begun = alone.iter().filter(|at| escape(&path[**at + 1..]).is_some()).peekable();
    if begun.peek().is_none() {
        return path;
    }
    let (mut out, mut rest) = (String::with_capacity(path.len() + 2 * alone.len()), 0);
    for at in begun {
        out.push_str(&path[rest..=*at]);
        out.push_str("25");
        rest = at + 1;
    }
    out.push_str(&path[rest..]);
    out
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
            ("/%%32e%x%%32e/%", Some("/%252e%x%252e/%")),
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
            assert_eq!(PathForm::Base.of(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn the_mesh_says_how_far_a_path_is_put_into_normal_form() {
        use PathForm::{Base, DecodeAndMergeSlashes, MergeSlashes, None as Nothing};
        for (path, form, want) in [
            ("/a/../b//c%2Fd", Nothing, Some("/a/../b//c%2Fd")),
            ("/%00\\", Nothing, Some("/%00\\")),
            ("a", Nothing, None),
            ("/a/../b//c%2Fd", Base, Some("/b//c%2Fd")),
            ("/a/../b//c%2Fd", MergeSlashes, Some("/b/c%2Fd")),
            ("//", MergeSlashes, Some("/")),
            ("/a///b", MergeSlashes, Some("/a/b")),
            ("/a//%2e%2e/b", MergeSlashes, Some("/a/b")),
            ("/a/../b//c%2Fd", DecodeAndMergeSlashes, Some("/b/c/d")),
            ("/a%2f..%5Cadmin", DecodeAndMergeSlashes, Some("/admin")),
            ("/a%2F%2Fb", DecodeAndMergeSlashes, Some("/a/b")),
            ("/a%252Fb", DecodeAndMergeSlashes, Some("/a%252Fb")),
            ("/%00", DecodeAndMergeSlashes, None),
            ("//a", DecodeAndMergeSlashes, Some("/a")),
        ] {
            assert_eq!(form.of(path).as_deref(), want, "{path} {form:?}");
        }
    }
}
