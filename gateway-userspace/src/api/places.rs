//! Where the fields of a document stand: its tree without what it says, for findings that are made long after it was read. A
//! mesh has tens of thousands of documents, and their trees would take more memory than all that is made of them.

use super::path::{FieldPath, Step};
use super::yaml::{Content, Node, Span};

/// The places of a document's fields.
#[derive(Debug, Default)]
pub struct Places {
    /// A node, then what is below it.
    nodes: Box<[Place]>,
    /// Each name once.
    keys: Box<[Box<str>]>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    shape: Shape,
    /// Index in the list of keys; of no meaning below a list.
    key: u32,
    key_at: Spot,
    at: Spot,
    /// Index of the first node that is not below this one.
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nothing,
    Text,
    List,
    Mapping,
}

/// A span in half the room. Lines of 64 KiB and more have their marks in the wrong place.
#[derive(Debug, Clone, Copy, Default)]
struct Spot {
    line: u32,
    column: u16,
    length: u16,
}

impl Spot {
    fn of(span: Span) -> Self {
        let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Self { line: span.line, column: short(span.column), length: short(span.length) }
    }

    fn span(self) -> Span {
        // What runs over the line's end goes on doing so.
        let length = if self.length == u16::MAX { u32::MAX } else { self.length.into() };
        Span { line: self.line, column: self.column.into(), length }
    }
}

impl Places {
    /// The places in a tree.
    pub fn new(root: &Node) -> Self {
        let mut found = Collector::default();
        found.add(root, None);
        let keys = found.keys.into_iter().map(Box::from).collect();
        Self { nodes: found.nodes.into(), keys }
    }

    /// Whether there is such a field.
    pub fn has(&self, path: &FieldPath) -> bool {
        let steps = path.steps();
        let found = steps.iter().try_fold(0, |node, step| self.below(node, step));
        !self.nodes.is_empty() && found.is_some()
    }

    /// Where a field stands; where it is missing, the nearest field around it.
    pub fn locate(&self, path: &FieldPath) -> Span {
        let Some(root) = self.nodes.first() else { return Span::default() };
        let (mut node, mut span) = (0, root.at);
        for step in path.steps() {
            let Some(next) = self.below(node, step) else { break };
            node = next;
            span = match step {
                Step::Field(_) => self.nodes[node].key_at,
                Step::Index(_) => self.first_spot(node),
            };
        }
        let found = &self.nodes[node];
        if found.shape == Shape::Text { found.at.span() } else { span.span() }
    }

    fn below(&self, node: usize, step: &Step) -> Option<usize> {
        let mut children = self.children(node);
        match (step, self.nodes[node].shape) {
            (Step::Field(name), Shape::Mapping) => {
                children.find(|child| *self.keys[self.nodes[*child].key as usize] == **name)
            }
            (Step::Index(index), Shape::List) => children.nth(*index),
            _ => None,
        }
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[node].end as usize;
        let next = move |at: usize| Some(at).filter(|at| *at < end);
        std::iter::successors(next(node + 1), move |child| next(self.nodes[*child].end as usize))
    }

    /// The first key of a mapping, else the place itself: something to underline.
    fn first_spot(&self, node: usize) -> Spot {
        let place = &self.nodes[node];
        let first = self.children(node).next().filter(|_| place.shape == Shape::Mapping);
        first.map_or(place.at, |first| self.nodes[first].key_at)
    }
}

#[derive(Default)]
struct Collector<'n> {
    nodes: Vec<Place>,
    keys: Vec<&'n str>,
}

impl<'n> Collector<'n> {
    fn add(&mut self, node: &'n Node, key: Option<(&'n str, Span)>) {
        let at = self.nodes.len();
        let shape = match &node.content {
            Content::Scalar { .. } if node.is_null() => Shape::Nothing,
            Content::Scalar { .. } => Shape::Text,
            Content::Sequence(_) => Shape::List,
            Content::Mapping(_) => Shape::Mapping,
        };
        let (key, key_at) = key.map_or_else(Default::default, |(key, at)| (self.key(key), Spot::of(at)));
        self.nodes.push(Place { shape, key, key_at, at: Spot::of(node.span), end: 0 });
        match &node.content {
            Content::Scalar { .. } => {}
            Content::Sequence(items) => {
                for item in items {
                    self.add(item, None);
                }
            }
            Content::Mapping(entries) => {
                for entry in entries {
                    self.add(&entry.value, Some((&entry.key, entry.key_span)));
                }
            }
        }
        self.nodes[at].end = self.nodes.len() as u32;
    }

    fn key(&mut self, key: &'n str) -> u32 {
        let known = self.keys.iter().position(|known| *known == key);
        known.unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        }) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::yaml::parse;

    #[test]
    fn fields_are_found_where_the_tree_has_them() {
        let text = "a:\n  - b: 1\n    c: ~\n  - []\n  - {}\n  - word\nd: {e: |\n    two\n    lines\n, f: }\n";
        let text =
            text.replace("d: {e: |\n    two\n    lines\n, f: }", "d:\n  e: |\n    two\n    lines\n  f:");
        let root = parse(&text, 7).unwrap().unwrap();
        let places = Places::new(&root);
        let a = || FieldPath::root().field("a");
        let d = || FieldPath::root().field("d");
        let mut there = 0;
        for path in [
            FieldPath::root(),
            a(),
            a().index(0),
            a().index(0).field("b"),
            a().index(0).field("c"),
            a().index(0).field("missing"),
            a().index(1),
            a().index(2),
            a().index(3),
            a().index(3).field("b"),
            a().index(4),
            a().field("b"),
            d(),
            d().index(0),
            d().field("e"),
            d().field("f"),
            FieldPath::root().field("g").index(1),
        ] {
            assert_eq!(places.locate(&path), root.locate(&path), "{path}");
            assert_eq!(places.has(&path), root.find(&path).is_some(), "{path}");
            there += usize::from(places.has(&path));
        }
        assert_eq!(there, 11);
    }

    #[test]
    fn nothing_is_nowhere() {
        let places = Places::default();
        assert_eq!(places.locate(&FieldPath::root()), Span::default());
        assert!(!places.has(&FieldPath::root()));
    }
}
