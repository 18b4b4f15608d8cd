//! What the page asks for behind the `?`: which rows, and how many of them.

use crate::notation::percent;

/// Rows of a page where nobody says.
const USUAL: usize = 50;
/// Rows of a page at most.
const MOST: usize = 200;
/// Characters of a filter at most.
const LONGEST: usize = 256;
/// Numbers of a list at most.
const MOST_NUMBERS: usize = 200;

/// See the module. What is not said is nothing, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// Text that rows must have somewhere, in whichever case.
    pub(super) filter: String,
    /// Rows before the first one.
    pub(super) offset: usize,
    /// Rows at most.
    pub(super) limit: usize,
    /// Only rows that something is wrong with.
    pub(super) trouble: bool,
    /// One kind of rows: a plane, a severity, a kind of documents.
    pub(super) kind: Option<String>,
    /// The address of a listener.
    pub(super) listener: Option<String>,
    /// The generation that `clusters` are numbers of.
    pub(super) generation: Option<u64>,
    /// Places of clusters in the order of their names.
    pub(super) clusters: Vec<usize>,
    /// Endpoints of each cluster at most.
    pub(super) endpoints: usize,
}

/// A question that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be read; docs/dashboard.md has what each answer takes")]
pub(super) struct Unreadable(String);

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: String::new(),
            offset: 0,
            limit: USUAL,
            trouble: false,
            kind: None,
            listener: None,
            generation: None,
            clusters: Vec::new(),
            endpoints: 12,
        }
    }
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            query.take(pair).ok_or_else(|| Unreadable(pair.chars().take(80).collect()))?;
        }
        Ok(query)
    }

    fn take(&mut self, pair: &str) -> Option<()> {
        let (name, value) = pair.split_once('=')?;
        let value = decoded(value)?;
        match name {
            "filter" => self.filter = value.trim().chars().take(LONGEST).collect(),
            "offset" => self.offset = value.parse().ok()?,
            "limit" => self.limit = value.parse::<usize>().ok()?.clamp(1, MOST),
            "trouble" => self.trouble = value.parse().ok()?,
            "kind" => self.kind = Some(value).filter(|kind| !kind.is_empty()),
            "listener" => self.listener = Some(value).filter(|listener| !listener.is_empty()),
            "generation" => self.generation = Some(value.parse().ok()?),
            "endpoints" => self.endpoints = value.parse::<usize>().ok()?.min(MOST),
            "clusters" => {
                let numbers = value.split(',').filter(|number| !number.is_empty()).take(MOST_NUMBERS);
                self.clusters = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether a row has the filter in one of its texts.
    pub(super) fn fits<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        self.filter.is_empty() || texts.into_iter().any(|text| has(text, &self.filter))
    }
}

/// Whether a text has another in it; letters of ASCII count alike in both cases, as in hosts.
fn has(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    text.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
}

/// A value as `encodeURIComponent` and forms write it.
fn decoded(value: &str) -> Option<String> {
    let (bytes, is_sound) = percent::decoded(value);
    String::from_utf8(bytes).ok().filter(|_| is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_bounded() {
        let query = Query::parse("filter=%2Fa%20b+c&offset=3&limit=9999&trouble=true&clusters=1,2").unwrap();
        assert_eq!((&*query.filter, query.offset, query.limit), ("/a b c", 3, MOST));
        assert_eq!((query.trouble, query.clusters), (true, vec![1, 2]));
        assert_eq!(Query::parse("").unwrap(), Query::default());
        let long = format!("filter={}", "x".repeat(10_000));
        assert_eq!(Query::parse(&long).unwrap().filter.len(), LONGEST);
        let many = format!("clusters={}", "1,".repeat(10_000));
        assert_eq!(Query::parse(&many).unwrap().clusters.len(), MOST_NUMBERS);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in ["offset=-1", "offset=x", "filter", "nonsense=1", "filter=%4", "filter=%+1", "filter=%ff"]
        {
            assert_eq!(Query::parse(text), Err(Unreadable(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_filter_is_found_in_any_case() {
        let query = |filter: &str| Query { filter: filter.to_owned(), ..Query::default() };
        for (filter, want) in [("", true), ("SHOP", true), ("shop.ex", true), ("shopx", false)] {
            assert_eq!(query(filter).fits(["a", "web.Shop.example"]), want, "{filter}");
        }
    }
}
