//! `%PATH(…)%`, `%QUERY_PARAM(…)%` and `%QUERY_PARAMS(…)%`: parts of what was asked for.

use std::borrow::Cow;

use super::record::Request;
use crate::notation::percent;

/// See the module. Lengths are bytes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPart {
    of: Of,
    length: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Path { has_query: bool, line: Line },
    Parameter(String),
    Query { is_decoded: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// As the backend gets it.
    Sent,
    /// As it was before the gateway rewrote it, and only then.
    Original,
    /// The one or the other.
    Either,
}

impl PathPart {
    /// Of what is between the signs; `None`: it is none of these operators, or is written otherwise.
    pub(super) fn parse(command: &str) -> Option<Self> {
        let (name, rest) = command.find(['(', ':']).map_or((command, ""), |at| command.split_at(at));
        let (arguments, length) = match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')')?,
            None => ("", rest),
        };
        let length = match length.strip_prefix(':') {
            Some(digits) => Some(digits.parse().ok()?),
            None if length.is_empty() => None,
            None => return None,
        };
        let of = match name {
            "PATH" => path(arguments)?,
            "QUERY_PARAM" if !arguments.is_empty() => Of::Parameter(arguments.to_owned()),
            "QUERY_PARAMS" => match arguments {
                "" | "ORIG" => Of::Query { is_decoded: false },
                "DECODED" => Of::Query { is_decoded: true },
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { of, length })
    }

    pub(super) fn value<'a>(&self, request: &'a Request) -> Option<Cow<'a, str>> {
        let value = match &self.of {
            Of::Path { has_query, line } => {
                let line = line.of(request)?;
                Cow::Borrowed(if *has_query { line } else { line.split('?').next()? })
            }
            Of::Parameter(name) => parameter(query(request)?, name)?,
            Of::Query { is_decoded: true } => decoded(query(request)?),
            Of::Query { is_decoded: false } => query(request)?.into(),
        };
        Some(match (self.length, value) {
            (Some(length), Cow::Borrowed(text)) => text[..text.floor_char_boundary(length)].into(),
            (Some(length), Cow::Owned(mut text)) => {
                text.truncate(text.floor_char_boundary(length));
                text.into()
            }
            (None, value) => value,
        })
    }
}

/// `WQ` or `NQ`, then `ORIG`, `PATH` or `ORIG_OR_PATH`.
fn path(arguments: &str) -> Option<Of> {
    let (query, line) = arguments.split_once(':').unwrap_or((arguments, ""));
    let has_query = match query {
        "" | "WQ" => true,
        "NQ" => false,
        _ => return None,
    };
    let line = match line {
        "" | "ORIG_OR_PATH" => Line::Either,
        "ORIG" => Line::Original,
        "PATH" => Line::Sent,
        _ => return None,
    };
    Some(Of::Path { has_query, line })
}

impl Line {
    fn of(self, request: &Request) -> Option<&str> {
        match self {
            Self::Sent => request.sent_path(),
            Self::Original => request.header("x-envoy-original-path"),
            Self::Either => request.path.as_deref(),
        }
    }
}

fn query(request: &Request) -> Option<&str> {
    request.sent_path()?.split_once('?').map(|(_, query)| query)
}

/// The first of its name.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| decoded(found) == name).map(|(_, value)| decoded(value))
}

/// Without `%XX`, and with spaces for plus signs, as forms are written.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let (bytes, _) = percent::decoded(text);
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_found() {
        let asked = Request {
            path: Some("/old?a=1&b=x%20y+z&a=2".to_owned()),
            rewritten: Some("/new?a=1&b=x%20y+z&a=2".to_owned()),
            ..Request::default()
        };
        for (command, want) in [
            ("PATH", Some("/old?a=1&b=x%20y+z&a=2")),
            ("PATH(NQ:PATH)", Some("/new")),
            ("PATH(WQ:ORIG):4", Some("/old")),
            ("QUERY_PARAM(a)", Some("1")),
            ("QUERY_PARAM(b)", Some("x y z")),
            ("QUERY_PARAM(b):1", Some("x")),
            ("QUERY_PARAM(c)", None),
            ("QUERY_PARAMS", Some("a=1&b=x%20y+z&a=2")),
            ("QUERY_PARAMS(DECODED):10", Some("a=1&b=x y ")),
        ] {
            let part = PathPart::parse(command).expect(command);
            assert_eq!(part.value(&asked).as_deref(), want, "{command}");
        }
        let plain = Request { path: Some("/a".to_owned()), ..Request::default() };
        assert_eq!(PathPart::parse("PATH(NQ:ORIG)").unwrap().value(&plain), None);
        for command in
            ["PATH(X)", "PATH(WQ:X)", "PATH(NQ", "QUERY_PARAM", "QUERY_PARAMS(X)", "PATH:x", "PATHS"]
        {
            assert_eq!(PathPart::parse(command), None, "{command}");
        }
    }
}
