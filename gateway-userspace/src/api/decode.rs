//! From the tree of a document to its typed form, by serde, with the place and path of whatever does not fit.
//!
//! Types decide how a scalar is read: an unquoted `y` or `on` is text where text is asked and a boolean where a
//! boolean is asked, while `true` or `80` where text is asked is an error, as the API server would refuse it too.
//! An empty value is the type's zero, as in Istio: `number:` is port number 0.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::path::{FieldPath, Step};
use super::yaml::{Content, Entry, Node, Span};

/// What does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where, once known.
    pub span: Option<Span>,
    /// The field, from the node that decoding began at.
    pub path: FieldPath,
}

/// Reads a typed value out of a node.
pub fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, DecodeError> {
    T::deserialize(NodeReader(node)).map_err(|error| error.at(node.span))
}

impl DecodeError {
    fn new(message: String) -> Self {
        Self { message, help: None, span: None, path: FieldPath::root() }
    }

    fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.path = self.path.under(step);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {}, found {}", kind_in_words(&expected.to_string()), in_words(&found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let range = range_in_words(&expected).unwrap_or_else(|| kind_in_words(&expected));
        Self::new(format!("expected {range}, found {}", in_words(&found)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(field, expected) {
            Some(name) => format!("did you mean `{name}`?"),
            None if expected.is_empty() => "no field is expected here".to_owned(),
            None => format!("expected one of {}", quoted(expected)),
        };
        Self { help: Some(help), ..Self::new(format!("unknown field \"{field}\"")) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = format!("expected one of {}", quoted(expected));
        Self { help: Some(help), ..Self::new(format!("unknown value \"{variant}\"")) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the field \"{field}\" is missing"))
    }
}

/// Serde's names of what is asked for, which are Rust's, as people say them.
fn kind_in_words(expected: &str) -> &str {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" => "text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "unit" => "nothing",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
}

/// For a number of the right kind that does not fit.
fn range_in_words(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i32" => "a whole number from -2147483648 to 2147483647",
        _ => return None,
    })
}

fn in_words(found: &de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Map => "a mapping".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Unit => "nothing".to_owned(),
        de::Unexpected::Bool(value) => format!("the boolean `{value}`"),
        de::Unexpected::Unsigned(value) => format!("the number `{value}`"),
        de::Unexpected::Signed(value) => format!("the number `{value}`"),
        de::Unexpected::Float(value) => format!("the number `{value}`"),
        de::Unexpected::Str(value) => format!("the text `{value}`"),
        other => other.to_string(),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The expected name that a slip of the pen is closest to.
fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let folded = word.to_ascii_lowercase();
    names
        .iter()
        .map(|name| (distance(&folded, &name.to_ascii_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance; words longer than any field's name are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (j, y) in b.bytes().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j] = left;
            left = cost;
        }
        row[b.len()] = left;
    }
    row[b.len()]
}

/// What an unquoted scalar means by itself, in YAML 1.2's core schema.
enum Meaning {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn meaning(text: &str, plain: bool) -> Meaning {
    if !plain {
        return Meaning::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Meaning::Text;
    }
    if let Some(value) = radix(text).or_else(|| text.parse().ok()) {
        return Meaning::Unsigned(value);
    }
    if let Ok(value) = text.parse() {
        return Meaning::Signed(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Meaning::Float(value),
        _ => Meaning::Text,
    }
}

fn radix(text: &str) -> Option<u64> {
    let hex = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    hex.or_else(|| text.strip_prefix("0o").and_then(|digits| u64::from_str_radix(digits, 8).ok()))
}

/// YAML 1.1's further booleans, taken where a boolean is asked.
fn old_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" => Some(true),
        "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

struct NodeReader<'a>(&'a Node);

impl<'a> NodeReader<'a> {
    fn scalar(&self) -> Option<(&'a str, Meaning)> {
        match &self.0.content {
            Content::Scalar { text, plain } => Some((text, meaning(text, *plain))),
            _ => None,
        }
    }

    fn unexpected(&self) -> de::Unexpected<'a> {
        match (&self.0.content, self.scalar()) {
            (Content::Sequence(_), _) => de::Unexpected::Seq,
            (Content::Mapping(_), _) => de::Unexpected::Map,
            (_, Some((_, Meaning::Bool(value)))) => de::Unexpected::Bool(value),
            (_, Some((_, Meaning::Unsigned(value)))) => de::Unexpected::Unsigned(value),
            (_, Some((_, Meaning::Signed(value)))) => de::Unexpected::Signed(value),
            (_, Some((_, Meaning::Float(value)))) => de::Unexpected::Float(value),
            (_, Some((text, Meaning::Text))) => de::Unexpected::Str(text),
            (_, _) => de::Unexpected::Unit,
        }
    }

    fn mismatch(&self, expected: &dyn de::Expected) -> DecodeError {
        de::Error::invalid_type(self.unexpected(), expected)
    }

    fn number<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.scalar() {
            Some((_, Meaning::Null)) => visitor.visit_u64(0),
            Some((_, Meaning::Unsigned(value))) => visitor.visit_u64(value),
            Some((_, Meaning::Signed(value))) => visitor.visit_i64(value),
            Some((_, Meaning::Float(value))) => visitor.visit_f64(value),
            _ => Err(self.mismatch(&visitor)),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.number(visitor)
        }
    )*};
}

impl<'a> Deserializer<'a> for NodeReader<'a> {
    type Error = DecodeError;

    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match (&self.0.content, self.scalar()) {
            (Content::Sequence(items), _) => visitor.visit_seq(Items(items.iter().enumerate())),
            (Content::Mapping(entries), _) => visitor.visit_map(Entries::new(entries)),
            (_, Some((_, Meaning::Bool(value)))) => visitor.visit_bool(value),
            (_, Some((_, Meaning::Unsigned(value)))) => visitor.visit_u64(value),
            (_, Some((_, Meaning::Signed(value)))) => visitor.visit_i64(value),
            (_, Some((_, Meaning::Float(value)))) => visitor.visit_f64(value),
            (_, Some((text, Meaning::Text))) => visitor.visit_borrowed_str(text),
            (_, _) => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.scalar() {
            Some((_, Meaning::Null)) => visitor.visit_bool(false),
            Some((_, Meaning::Bool(value))) => visitor.visit_bool(value),
            Some((text, Meaning::Text)) if old_boolean(text).is_some() => {
                visitor.visit_bool(old_boolean(text) == Some(true))
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.scalar() {
            Some((_, Meaning::Null)) => visitor.visit_borrowed_str(""),
            Some((text, Meaning::Text)) => visitor.visit_borrowed_str(text),
            Some((text, _)) => {
                let help = format!("put it in quotes: \"{text}\"");
                Err(DecodeError { help: Some(help), ..self.mismatch(&"text") })
            }
            None => Err(self.mismatch(&"text")),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0.content {
            Content::Sequence(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            _ if self.0.is_null() => visitor.visit_seq(Items([].iter().enumerate())),
            _ => Err(self.mismatch(&"a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0.content {
            Content::Mapping(entries) => visitor.visit_map(Entries::new(entries)),
            _ if self.0.is_null() => visitor.visit_map(Entries::new(&[])),
            _ => Err(self.mismatch(&"a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.scalar() {
            Some((text, _)) => {
                let reader: StrDeserializer<'_, DecodeError> = text.into_deserializer();
                visitor.visit_enum(reader)
            }
            None => Err(self.mismatch(&"a word")),
        }
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'a> de::SeqAccess<'a> for Items<'a> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(NodeReader(node))
            .map(Some)
            .map_err(|error| error.at(node.span).under(Step::Index(index)))
    }

    /// Most lists have one element. Without knowing, a list makes room for four.
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self { rest: entries.iter(), current: None }
    }
}

impl<'a> de::MapAccess<'a> for Entries<'a> {
    type Error = DecodeError;

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let reader: StrDeserializer<'a, DecodeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(reader)
            .map(Some)
            .map_err(|error| error.at(entry.key_span).under(Step::Field(entry.key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let entry = self.current.ok_or_else(|| DecodeError::new("a value without a key".to_owned()))?;
        seed.deserialize(NodeReader(&entry.value)).map_err(|error| {
            let span = if entry.value.text().is_some() { entry.value.span } else { entry.key_span };
            error.at(span).under(Step::Field(entry.key.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::yaml;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    struct Sample {
        text: String,
        number: u16,
        flag: bool,
        list: Vec<String>,
        inner_one: Option<Box<Sample>>,
    }

    fn read(text: &str) -> Result<Sample, (String, String, u32, u32)> {
        let node = yaml::parse(text, 1).unwrap().unwrap();
        decode(&node).map_err(|error| {
            let span = error.span.unwrap();
            (error.message, error.path.to_string(), span.line, span.column)
        })
    }

    #[test]
    fn types_decide_how_a_scalar_is_read() {
        let sample = read("text: y\nflag: on\nnumber: 80\nlist: [no, off]\n").unwrap();
        assert_eq!((sample.text.as_str(), sample.flag, sample.number), ("y", true, 80));
        assert_eq!(sample.list, ["no", "off"]);
        assert_eq!(read("text:\nnumber:\nflag:\nlist:\ninnerOne:\n"), Ok(Sample::default()));
        assert_eq!(read("text: \"true\"\n").unwrap().text, "true");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (text, message, path, line, column) in [
            ("text: true\n", "expected text, found the boolean `true`", "text", 1, 7),
            ("list: [a, 1]\n", "expected text, found the number `1`", "list[1]", 1, 11),
            ("number: \"80\"\n", "expected a whole number, found the text `80`", "number", 1, 9),
            ("number: 1.5\n", "expected a whole number, found the number `1.5`", "number", 1, 9),
            (
                "number: 70000\n",
                "expected a whole number from 0 to 65535, found the number `70000`",
                "number",
                1,
                9,
            ),
            (
                "number: -1\n",
                "expected a whole number from 0 to 65535, found the number `-1`",
                "number",
                1,
                9,
            ),
            ("innerOne:\n  nmber: 1\n", "unknown field \"nmber\"", "innerOne.nmber", 2, 3),
            ("innerOne: [1]\n", "expected a mapping, found a list", "innerOne", 1, 1),
            ("flag: 1\n", "expected a boolean, found the number `1`", "flag", 1, 7),
        ] {
            let want = (message.to_owned(), path.to_owned(), line, column);
            assert_eq!(read(text), Err(want), "{text}");
        }
    }

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let names = ["hosts", "gateways", "credentialName"];
        for (word, want) in [
            ("host", Some("hosts")),
            ("gateway", Some("gateways")),
            ("credentialname", Some("credentialName")),
            ("credential_name", Some("credentialName")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(word, &names), want, "{word}");
        }
    }
}
