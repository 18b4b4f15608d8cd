//! An expression that has been read, and its value for a record. Kinds fit each other: the parser has seen to it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use regex::Regex;

use super::super::record::Connection;
use super::super::rule::Wanted;
use super::attribute::Attribute;

/// What kind of value an expression has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Truth,
    Number,
    Text,
    Duration,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truth => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Duration => "a duration",
        })
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Value<'a> {
    Truth(bool),
    Number(i64),
    Text(Cow<'a, str>),
    Duration(Duration),
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    Literal(Value<'static>),
    Attribute(Attribute),
    /// Whether an attribute has a value.
    Has(Attribute),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    In(Box<Self>, Vec<Self>),
    /// A text begins with, ends with, or contains another.
    Part(Part, Box<Self>, Box<Self>),
    Matches(Box<Self>, Regex),
    /// Characters of a text.
    Size(Box<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Start,
    End,
    Anywhere,
}

impl Expression {
    /// `None`: nobody can tell.
    pub(super) fn truth(&self, record: &Connection) -> Option<bool> {
        match self.value(record)? {
            Value::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    fn text<'a>(&'a self, record: &'a Connection) -> Option<Cow<'a, str>> {
        match self.value(record)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn value<'a>(&'a self, record: &'a Connection) -> Option<Value<'a>> {
        let truth = match self {
            Self::Literal(Value::Text(text)) => return Some(Value::Text(Cow::Borrowed(text))),
            Self::Literal(value) => return Some(value.clone()),
            Self::Attribute(attribute) => return attribute.value(record),
            Self::Size(text) => {
                let length = text.text(record)?.chars().count();
                return Some(Value::Number(i64::try_from(length).unwrap_or(i64::MAX)));
            }
            Self::Has(attribute) => attribute.value(record).is_some(),
            Self::Not(inner) => !inner.truth(record)?,
            Self::And(one, other) => both(one.truth(record), || other.truth(record))?,
            Self::Or(one, other) => !both(one.truth(record).map(|it| !it), || Some(!other.truth(record)?))?,
            Self::Compare(comparison, one, other) => {
                comparison.holds(one.value(record)?.partial_cmp(&other.value(record)?)?)
            }
            Self::In(one, list) => {
                let one = one.value(record)?;
                list.iter().any(|item| item.value(record).as_ref() == Some(&one))
            }
            Self::Part(part, whole, of) => {
                let (whole, of) = (whole.text(record)?, of.text(record)?);
                match part {
                    Part::Start => whole.starts_with(&*of),
                    Part::End => whole.ends_with(&*of),
                    Part::Anywhere => whole.contains(&*of),
                }
            }
            Self::Matches(text, regex) => regex.is_match(&text.text(record)?),
        };
        Some(Value::Truth(truth))
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        match self {
            Self::Literal(_) => {}
            Self::Attribute(attribute) | Self::Has(attribute) => attribute.add_to(wanted),
            Self::Not(inner) | Self::Matches(inner, _) | Self::Size(inner) => inner.add_to(wanted),
            Self::And(one, other) | Self::Or(one, other) => {
                one.add_to(wanted);
                other.add_to(wanted);
            }
            Self::Compare(_, one, other) | Self::Part(_, one, other) => {
                one.add_to(wanted);
                other.add_to(wanted);
            }
            Self::In(one, list) => {
                one.add_to(wanted);
                for item in list {
                    item.add_to(wanted);
                }
            }
        }
    }
}

/// Whether both are true; one that is false decides, whatever the other is.
fn both(one: Option<bool>, other: impl FnOnce() -> Option<bool>) -> Option<bool> {
    match (one, if one == Some(false) { Some(false) } else { other() }) {
        (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}
