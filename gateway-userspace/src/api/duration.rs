//! Durations in documents: `10s`, `1.5h`, `300ms`, `1m30s`.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::notation::duration::parse;

/// A duration that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not a duration such as 10s, 300ms or 1m30s"))
        })
    }
}
