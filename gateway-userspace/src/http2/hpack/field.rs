//! Fields as they are handed out, and their names.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};

/// What a header block says, field by field, in its order. Texts are allocations of their own, or shared with the table. No value has a control character but the tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `:method`.
    Method(Method),
    /// `:scheme`, as it was written.
    Scheme(Bytes),
    /// `:authority`, likewise.
    Authority(Bytes),
    /// `:path`, likewise; may be empty.
    Path(Bytes),
    /// `:protocol` (RFC 8441, 4).
    Protocol(Bytes),
    /// `:status`.
    Status(StatusCode),
    /// A header line or a trailer. Blanks about the value are left; one that is never to be indexed is sensitive (RFC 7541, 7.1.3).
    Header(HeaderName, HeaderValue),
}

/// Why a field of a block that is sound is none of HTTP: the message is malformed (RFC 9113, 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its name is empty, has an uppercase letter, or what no name has (RFC 9113, 8.2.1).
    #[error("a field name that is none")]
    Name,
    /// It is a pseudo-header that does not exist (RFC 9113, 8.3).
    #[error("an unknown pseudo-header")]
    PseudoHeader,
    /// Its value has a control character, or is no method or status where that is asked for.
    #[error("a field value that is none")]
    Value,
}

/// A field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Header(HeaderName),
    /// Of it no more is kept than what a table has to know.
    Malformed {
        why: Malformed,
        length: usize,
    },
}

impl Name {
    /// The name that a text is.
    pub(super) fn read(text: &[u8]) -> Self {
        match text {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            [b':', ..] => Self::Malformed { why: Malformed::PseudoHeader, length: text.len() },
            _ => match HeaderName::from_lowercase(text) {
                // It takes a quotation mark for a token's character, which none is (RFC 9110, 5.6.2).
                Ok(name) if !text.contains(&b'"') => Self::Header(name),
                _ => Self::Malformed { why: Malformed::Name, length: text.len() },
            },
        }
    }

    /// Bytes of the name as it was written.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Path => 5,
            Self::Method | Self::Scheme | Self::Status => 7,
            Self::Protocol => 9,
            Self::Authority => 10,
            Self::Header(name) => name.as_str().len(),
            Self::Malformed { length, .. } => *length,
        }
    }

    /// The field of this name with a value; or why there is none.
    pub(super) fn with(&self, value: &[u8]) -> Result<Field, Malformed> {
        let text = || if is_value(value) { Ok(Bytes::copy_from_slice(value)) } else { Err(Malformed::Value) };
        match self {
            Self::Method => Method::from_bytes(value).map(Field::Method).map_err(|_| Malformed::Value),
            Self::Scheme => text().map(|text| match &text[..] {
                b"https" => Field::Scheme(Bytes::from_static(b"https")),
                b"http" => Field::Scheme(Bytes::from_static(b"http")),
                _ => Field::Scheme(text),
            }),
            Self::Authority => text().map(Field::Authority),
            Self::Path => text().map(Field::Path),
            Self::Protocol => text().map(Field::Protocol),
            Self::Status => StatusCode::from_bytes(value).map(Field::Status).map_err(|_| Malformed::Value),
            Self::Header(name) => match HeaderValue::from_bytes(value) {
                Ok(value) => Ok(Field::Header(name.clone(), value)),
                Err(_) => Err(Malformed::Value),
            },
            Self::Malformed { why, .. } => Err(*why),
        }
    }
}

impl Field {
    /// What another field of the same name refers to.
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Method(_) => Name::Method,
            Self::Scheme(_) => Name::Scheme,
            Self::Authority(_) => Name::Authority,
            Self::Path(_) => Name::Path,
            Self::Protocol(_) => Name::Protocol,
            Self::Status(_) => Name::Status,
            Self::Header(name, _) => Name::Header(name.clone()),
        }
    }
}

/// What [`HeaderValue`] takes too: no control character but the tab (RFC 9110, 5.5).
fn is_value(text: &[u8]) -> bool {
    text.iter().all(|octet| matches!(octet, b'\t' | b' '..=b'~' | 0x80..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_without_uppercase_letters() {
        let token = |octet: u8| {
            octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&octet)
        };
        for octet in 0..=u8::MAX {
            for text in [vec![octet], vec![b'x', octet, b'y'], [&[b'x'; 80][..], &[octet]].concat()] {
                let name = Name::read(&text);
                assert_eq!(matches!(name, Name::Header(_)), token(octet), "{}", text.escape_ascii());
                assert_eq!(name.length(), text.len());
            }
        }
        assert_eq!(Name::read(b""), Name::Malformed { why: Malformed::Name, length: 0 });
        assert_eq!(Name::read(b":host"), Name::Malformed { why: Malformed::PseudoHeader, length: 5 });
        assert_eq!(Name::read(b":"), Name::Malformed { why: Malformed::PseudoHeader, length: 1 });
    }

    #[test]
    fn values_have_no_control_character_but_the_tab() {
        let allowed = |octet: u8| octet == b'\t' || !octet.is_ascii_control();
        let [method, status] = [Name::Method, Name::Status].map(|name| move |value: &[u8]| name.with(value));
        for octet in 0..=u8::MAX {
            for name in [":path", ":authority", ":scheme", ":protocol", "x-a", "host"] {
                let value = [b'a', octet, b'b'];
                assert_eq!(
                    Name::read(name.as_bytes()).with(&value).is_ok(),
                    allowed(octet),
                    "{name} {octet}"
                );
            }
        }
        for (value, want) in
            [(&b"GET"[..], true), (b"get", true), (b"M-SEARCH", true), (b"", false), (b"G T", false)]
        {
            assert_eq!(method(value).is_ok(), want, "{}", value.escape_ascii());
        }
        for (value, want) in
            [(&b"200"[..], true), (b"20", false), (b"2000", false), (b"2x0", false), (b"099", false)]
        {
            assert_eq!(status(value).is_ok(), want, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn names_have_the_length_that_they_were_written_with() {
        for text in
            [":method", ":scheme", ":authority", ":path", ":protocol", ":status", "host", "x-whatever"]
        {
            assert_eq!(Name::read(text.as_bytes()).length(), text.len());
        }
    }
}
