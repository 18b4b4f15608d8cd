//! Operations on headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::made::{HeaderText, Made, Part};
use super::matching::line_text;

/// `Headers.HeaderOperations`; the order of execution is remove, set, add.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeaderOps {
    /// Taken away.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Overwritten.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(HeaderName, HeaderText)>,
    /// Appended.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(HeaderName, HeaderText)>,
    /// `host` or `:authority` in set or add: the Host towards the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl HeaderOps {
    /// Whether an operation on the response tells of the request.
    pub fn asks_for_request(&self) -> bool {
        let asks = |text: &HeaderText| match text {
            HeaderText::Plain(_) => false,
            HeaderText::Made(made) => made.parts.iter().any(|part| matches!(part, Part::Asked(_))),
        };
        self.set.iter().chain(&self.add).any(|(_, text)| asks(text))
    }

    /// As routes keep them: most have none.
    pub fn boxed(self) -> Option<Box<Self>> {
        let Self { remove, set, add, authority } = &self;
        let does_something = !remove.is_empty() || !set.is_empty() || !add.is_empty() || authority.is_some();
        does_something.then(|| Box::new(self))
    }

    /// Executes the operations (not the authority: that is the request line's matter). Values are made by the headers that
    /// are left, before any is set; one that cannot be made does nothing.
    pub fn apply(&self, headers: &mut HeaderMap, make: impl Fn(&Made, &HeaderMap) -> Option<HeaderValue>) {
        for name in &self.remove {
            headers.remove(name);
        }
        let pairs = self.set.iter().map(|pair| (pair, true)).chain(self.add.iter().map(|pair| (pair, false)));
        if pairs.clone().all(|((_, text), _)| matches!(text, HeaderText::Plain(_))) {
            return pairs.for_each(|((name, text), is_set)| {
                if let HeaderText::Plain(value) = text {
                    write(headers, name, value.clone(), is_set);
                }
            });
        }
        let made: Vec<_> = pairs
            .filter_map(|((name, text), is_set)| {
                let value = match text {
                    HeaderText::Plain(value) => value.clone(),
                    HeaderText::Made(made) => make(made, headers)?,
                };
                Some((name, value, is_set))
            })
            .collect();
        for (name, value, is_set) in made {
            write(headers, name, value, is_set);
        }
    }
}

fn write(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, is_set: bool) {
    if is_set {
        headers.insert(name.clone(), value);
    } else {
        headers.append(name.clone(), value);
    }
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn pairs<S: Serializer>(pairs: &[(HeaderName, HeaderText)], serializer: S) -> Result<S::Ok, S::Error> {
    let text = |value: &'_ HeaderText| match value {
        HeaderText::Plain(value) => line_text(value).into_owned(),
        HeaderText::Made(made) => made.written.clone(),
    };
    serializer.collect_map(pairs.iter().map(|(name, value)| (name.as_str(), text(value))))
}
