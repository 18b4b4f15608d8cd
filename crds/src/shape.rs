//! The shape of a type, learnt from how serde reads it: its `Deserialize` asks for what it takes, field by field, and gets
//! one value of each. So a definition says what the gateway reads, by the very code that reads it, and the types need
//! nothing for it: no second derive, whose reading of serde's attributes could differ, and no feature that builds them
//! otherwise. What a type checks by itself, such as the text of a duration, is not in its shape; `sluice check` and a
//! document's status say that.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

/// A text that every type of text takes: durations too.
const TEXT: &str = "1s";

/// A structural schema of apiextensions.k8s.io/v1, as much of one as is needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// Absent where anything may stand.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The words that a text may be.
    #[serde(rename = "enum", skip_serializing_if = "<[_]>::is_empty")]
    pub words: &'static [&'static str],
    /// Of an integer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// Of an integer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i64>,
    /// Of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Box<Self>>,
    /// Of a mapping with names of the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_properties: Option<Box<Self>>,
    /// Of a mapping with known names; the API server reports all others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<&'static str, Self>,
    /// What is in it is kept as it is.
    #[serde(rename = "x-kubernetes-preserve-unknown-fields", skip_serializing_if = "std::ops::Not::not")]
    pub keeps_unknown: bool,
    /// The type's, of a mapping with known names; no part of a definition.
    #[serde(skip)]
    pub name: Option<&'static str>,
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A list.
    Array,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A mapping.
    Object,
    /// A text.
    String,
}

impl Schema {
    /// Of a type. The error names the field whose shape cannot be learnt so.
    pub fn of<T: DeserializeOwned>() -> Result<Self, Shapeless> {
        let mut schema = Self::default();
        T::deserialize(Asked(&mut schema)).map(|_| schema)
    }

    /// A mapping with known names.
    pub fn object<const N: usize>(properties: [(&'static str, Self); N]) -> Self {
        Self { kind: Some(Kind::Object), properties: properties.into(), ..Self::default() }
    }

    /// A mapping of whatever one likes.
    pub fn open() -> Self {
        Self { kind: Some(Kind::Object), keeps_unknown: true, ..Self::default() }
    }
}

/// A type does not take what it asks for.
#[derive(Debug)]
pub struct Shapeless {
    path: String,
    message: String,
}

impl Shapeless {
    fn within(mut self, field: &str) -> Self {
        self.path = format!(".{field}{}", self.path);
        self
    }
}

impl fmt::Display for Shapeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, message } = self;
        write!(f, "{path}: {message}: a type that reads itself is to be known to `shape.rs`")
    }
}

impl std::error::Error for Shapeless {}

impl de::Error for Shapeless {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: String::new(), message: message.to_string() }
    }
}

/// Gives a value of whatever is asked for, and notes what that was.
struct Asked<'s>(&'s mut Schema);

impl Asked<'_> {
    fn note(&mut self, kind: Kind) {
        self.0.kind = Some(kind);
    }

    /// A bound that no `i64` holds is none that the API server could hold.
    fn note_integer(&mut self, minimum: Option<i64>, maximum: Option<i64>) {
        self.note(Kind::Integer);
        (self.0.minimum, self.0.maximum) = (minimum, maximum);
    }
}

macro_rules! integers {
    ($($method:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
            self.note_integer(i64::try_from($type::MIN).ok(), i64::try_from($type::MAX).ok());
            visitor.visit_u8(1)
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
            self.note(Kind::String);
            visitor.visit_str(TEXT)
        }
    )*};
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
            self.note(Kind::Number);
            visitor.visit_f64(1.0)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($argument:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value, Shapeless> {
            Err(de::Error::custom(format_args!("{} is asked for", AsExpected(&visitor))))
        }
    )*};
}

/// What a visitor says that it expects.
struct AsExpected<'v, V>(&'v V);

impl<'de, V: Visitor<'de>> fmt::Display for AsExpected<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Shapeless;

    integers!(deserialize_i8 i8 deserialize_i16 i16 deserialize_i32 i32 deserialize_i64 i64
        deserialize_u8 u8 deserialize_u16 u16 deserialize_u32 u32 deserialize_u64 u64);
    numbers!(deserialize_f32 deserialize_f64);
    texts!(deserialize_str deserialize_string);
    refused!(deserialize_any() deserialize_char() deserialize_bytes() deserialize_byte_buf() deserialize_unit()
        deserialize_unit_struct(&'static str) deserialize_tuple(usize)
        deserialize_tuple_struct(&'static str, usize) deserialize_identifier());

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
        self.note(Kind::Boolean);
        visitor.visit_bool(true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Shapeless> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Shapeless> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
        self.note(Kind::Array);
        visitor.visit_seq(One(Some(self.0.items.insert(Box::default()))))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Shapeless> {
        self.note(Kind::Object);
        visitor.visit_map(OneByName { value: self.0.additional_properties.insert(Box::default()), left: 1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Shapeless> {
        self.note(Kind::Object);
        self.0.name = Some(name);
        visitor.visit_map(Fields { properties: &mut self.0.properties, rest: fields.iter(), current: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Shapeless> {
        self.note(Kind::String);
        self.0.words = variants;
        let first: StrDeserializer<'_, Shapeless> =
            variants.first().copied().unwrap_or_default().into_deserializer();
        visitor.visit_enum(first)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Shapeless> {
        self.0.keeps_unknown = true;
        visitor.visit_unit()
    }
}

/// A list of one element.
struct One<'s>(Option<&'s mut Schema>);

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Shapeless;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Shapeless> {
        self.0.take().map(|schema| seed.deserialize(Asked(schema)).map_err(|it| it.within("[]"))).transpose()
    }
}

/// A mapping of one entry.
struct OneByName<'s> {
    value: &'s mut Schema,
    left: usize,
}

impl<'de> de::MapAccess<'de> for OneByName<'_> {
    type Error = Shapeless;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Shapeless> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key: StrDeserializer<'_, Shapeless> = TEXT.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Shapeless> {
        seed.deserialize(Asked(self.value)).map_err(|it| it.within("{}"))
    }
}

/// A mapping with all known names.
struct Fields<'s> {
    properties: &'s mut BTreeMap<&'static str, Schema>,
    rest: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Shapeless;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Shapeless> {
        let Some(name) = self.rest.next() else { return Ok(None) };
        self.current = name;
        let key: StrDeserializer<'_, Shapeless> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Shapeless> {
        let schema = self.properties.entry(self.current).or_default();
        seed.deserialize(Asked(schema)).map_err(|it| it.within(self.current))
    }
}

#[cfg(test)]
mod tests {
    use gateway_userspace::api::ByName;
    use gateway_userspace::api::duration::DurationText;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Word {
        FirstOne,
        Second,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "read by nobody but serde")]
    struct Inner {
        #[serde(rename = "match")]
        matches: Vec<Box<str>>,
        wait_for: Option<DurationText>,
    }

    fn shape<T: DeserializeOwned>() -> Value {
        serde_json::to_value(Schema::of::<T>().unwrap()).unwrap()
    }

    #[test]
    fn shapes_are_what_serde_reads() {
        let text = json!({"type": "string"});
        let inner = json!({"type": "object", "properties": {
            "match": {"type": "array", "items": text}, "waitFor": text,
        }});
        for (found, want) in [
            (shape::<String>(), text.clone()),
            (shape::<Option<bool>>(), json!({"type": "boolean"})),
            (shape::<f64>(), json!({"type": "number"})),
            (shape::<u16>(), json!({"type": "integer", "minimum": 0, "maximum": 65535})),
            (shape::<u64>(), json!({"type": "integer", "minimum": 0})),
            (shape::<i32>(), json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX})),
            (shape::<Word>(), json!({"type": "string", "enum": ["FIRST_ONE", "SECOND"]})),
            (
                shape::<ByName<Vec<Inner>>>(),
                json!({"type": "object",
                "additionalProperties": {"type": "array", "items": inner}}),
            ),
            (shape::<IgnoredAny>(), json!({"x-kubernetes-preserve-unknown-fields": true})),
        ] {
            assert_eq!(found, want);
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "read by nobody but serde")]
    enum Either {
        Number(u16),
        Name(String),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "read by nobody but serde")]
    struct Outer {
        ports: Vec<Either>,
    }

    #[test]
    fn what_has_no_shape_is_named() {
        let error = Schema::of::<Outer>().unwrap_err().to_string();
        assert!(error.starts_with(".ports.[]: "), "{error}");
    }
}
