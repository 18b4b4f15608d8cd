//! The rules by which records become lines.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::filter::Filter;
use super::format::Format;
use super::record::Connection;

/// Everything that gets a line: where, in which form, and which records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Who asks for it: a provider's name, or the setting's.
    pub name: Arc<str>,
    /// A file to append to, `/dev/stdout` or `/dev/stderr`.
    pub path: Arc<Path>,
    /// Of a line.
    pub format: Arc<Format>,
    /// Absent: every record.
    pub filter: Option<Arc<Filter>>,
}

impl Rule {
    pub(super) fn takes(&self, record: &Connection) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.takes(record))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.name)?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, " if {filter}"))
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Rule", 3)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("filter", &self.filter)?;
        fields.end()
    }
}

/// The rules in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    rules: Vec<Rule>,
    wanted: Wanted,
    /// Connections that no filter chain serves get no line.
    omits_unserved: bool,
}

impl Logging {
    /// By rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut wanted = Wanted::default();
        for rule in &rules {
            rule.format.add_to(&mut wanted);
            rule.filter.iter().for_each(|filter| filter.add_to(&mut wanted));
        }
        Self { rules, wanted, omits_unserved: false }
    }

    /// The same without connections that no filter chain serves.
    pub fn without_unserved(self) -> Self {
        Self { omits_unserved: true, ..self }
    }

    /// Whether connections that no filter chain serves get a line.
    pub fn tells_unserved(&self) -> bool {
        !self.omits_unserved
    }

    /// In the order of their names.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether nothing is logged.
    pub fn is_off(&self) -> bool {
        self.rules.is_empty()
    }

    /// Headers that records must have for the rules.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The files that lines go to.
    pub fn paths(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.rules.iter().map(|rule| &rule.path)
    }

    pub(super) fn takes(&self, record: &Connection) -> bool {
        self.rules.iter().any(|rule| rule.takes(record))
    }
}

impl Serialize for Logging {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rules.serialize(serializer)
    }
}

/// Headers that rules look at, beyond those that every record has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of requests.
    pub request: Vec<HeaderName>,
    /// Of responses.
    pub response: Vec<HeaderName>,
    /// Behind responses.
    pub trailers: Vec<HeaderName>,
    /// When the response began.
    pub times: bool,
    /// The client's certificate.
    pub certificate: bool,
}

impl Wanted {
    /// The first header of these that are not among others.
    pub(super) fn missing_in(&self, others: &Self) -> Option<&HeaderName> {
        let lists = [
            (&self.request, &others.request),
            (&self.response, &others.response),
            (&self.trailers, &others.trailers),
        ];
        lists.into_iter().find_map(|(own, known)| own.iter().find(|name| !known.contains(name)))
    }

    /// The first lines of those of `names` that there are.
    pub fn of(names: &[HeaderName], headers: &HeaderMap) -> Vec<(HeaderName, String)> {
        let line = |name: &HeaderName| {
            let value = headers.get(name)?;
            Some((name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        };
        names.iter().filter_map(line).collect()
    }
}
