//! Where the fields of a document stand: its tree without what it says, for findings that are made long after it was read. A
//! mesh has tens of thousands of documents, and their trees would take more memory than all that is made of them. So that
//! this takes little, a node is some ten bytes.

use super::path::{FieldPath, Step};
use super::yaml::{Content, Node, Span};

/// The places of a document's fields.
#[derive(Debug, Default)]
pub struct Places {
    /// A node, then what is below it. Of a node: its shape; below a mapping its name's place among the names and its key's
    /// span; its own span; of a list or mapping, the length of what is below, in four bytes, lowest first. Numbers are
    /// written by [`Collector::number`], lines from that of the node above on.
    nodes: Box<[u8]>,
    /// Each name once, one behind the other.
    names: Box<str>,
}

/// A node as it is read.
#[derive(Debug, Clone, Copy)]
struct Place<'p> {
    shape: Shape,
    /// Empty below a list.
    name: &'p str,
    key_at: Span,
    at: Span,
    /// Where the first node below it begins.
    below: usize,
    /// Where the first node begins that is not below it.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nothing,
    Text,
    List,
    Mapping,
}

impl Shape {
    const ALL: [Self; 4] = [Self::Nothing, Self::Text, Self::List, Self::Mapping];

    fn of(node: &Node) -> Self {
        match &node.content {
            Content::Scalar { .. } if node.is_null() => Self::Nothing,
            Content::Scalar { .. } => Self::Text,
            Content::Sequence(_) => Self::List,
            Content::Mapping(_) => Self::Mapping,
        }
    }

    fn holds_others(self) -> bool {
        matches!(self, Self::List | Self::Mapping)
    }
}

impl Places {
    /// The places in a tree.
    pub fn new(root: &Node) -> Self {
        let mut found = Collector::default();
        found.add(root, None, 0);
        Self { nodes: found.nodes.into(), names: found.names.into() }
    }

    /// Whether there is such a field.
    pub fn has(&self, path: &FieldPath) -> bool {
        let mut steps = path.steps().iter();
        self.root().is_some_and(|root| steps.try_fold(root, |place, step| self.below(place, step)).is_some())
    }

    /// Where a field stands; where it is missing, the nearest field around it.
    pub fn locate(&self, path: &FieldPath) -> Span {
        let Some(mut place) = self.root() else { return Span::default() };
        let mut span = place.at;
        for step in path.steps() {
            let Some(next) = self.below(place, step) else { break };
            place = next;
            span = match step {
                Step::Field(_) => place.key_at,
                Step::Index(_) => self.first_span(place),
            };
        }
        if place.shape == Shape::Text { place.at } else { span }
    }

    fn root(&self) -> Option<Place<'_>> {
        (!self.nodes.is_empty()).then(|| Reader { places: self, at: 0 }.place(false, 0))
    }

    fn below<'p>(&'p self, place: Place<'p>, step: &Step) -> Option<Place<'p>> {
        let mut children = self.children(place);
        match (step, place.shape) {
            (Step::Field(name), Shape::Mapping) => children.find(|child| child.name == name),
            (Step::Index(index), Shape::List) => children.nth(*index),
            _ => None,
        }
    }

    fn children<'p>(&'p self, place: Place<'p>) -> impl Iterator<Item = Place<'p>> {
        let read = move |at: usize| {
            let is_there = at < place.end;
            is_there.then(|| Reader { places: self, at }.place(place.shape == Shape::Mapping, place.at.line))
        };
        std::iter::successors(read(place.below), move |child| read(child.end))
    }

    /// The first key of a mapping, else the place itself: something to underline.
    fn first_span(&self, place: Place<'_>) -> Span {
        let first = self.children(place).next().filter(|_| place.shape == Shape::Mapping);
        first.map_or(place.at, |first| first.key_at)
    }
}

/// Reads what a collector has written.
struct Reader<'p> {
    places: &'p Places,
    at: usize,
}

impl<'p> Reader<'p> {
    /// The node that begins here; `line` is that of the node above.
    fn place(mut self, has_key: bool, line: u32) -> Place<'p> {
        let shape = Shape::ALL[usize::from(self.byte()) % Shape::ALL.len()];
        let (name, key_at) = if has_key { (self.name(), self.span(line)) } else { ("", Span::default()) };
        let at = self.span(line);
        let length = if shape.holds_others() { u32::from_le_bytes([(); 4].map(|()| self.byte())) } else { 0 };
        Place { shape, name, key_at, at, below: self.at, end: self.at + length as usize }
    }

    fn name(&mut self) -> &'p str {
        let begin = self.number() as usize;
        let end = begin + self.number() as usize;
        self.places.names.get(begin..end).unwrap_or("")
    }

    fn span(&mut self, line: u32) -> Span {
        Span { line: line.wrapping_add(self.number()), column: self.number(), length: self.number() }
    }

    fn number(&mut self) -> u32 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 28 {
                return number;
            }
        }
    }

    fn byte(&mut self) -> u8 {
        let byte = self.places.nodes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }
}

#[derive(Default)]
struct Collector<'n> {
    nodes: Vec<u8>,
    names: String,
    /// Where each name begins.
    known: Vec<(&'n str, usize)>,
}

impl<'n> Collector<'n> {
    fn add(&mut self, node: &'n Node, key: Option<(&'n str, Span)>, line: u32) {
        let shape = Shape::of(node);
        self.nodes.push(shape as u8);
        if let Some((name, at)) = key {
            let begin = self.name(name);
            self.number(begin as u32);
            self.number(name.len() as u32);
            self.span(at, line);
        }
        self.span(node.span, line);
        if !shape.holds_others() {
            return;
        }
        let length = self.nodes.len();
        self.nodes.extend([0; 4]);
        match &node.content {
            Content::Scalar { .. } => {}
            Content::Sequence(items) => items.iter().for_each(|item| self.add(item, None, node.span.line)),
            Content::Mapping(entries) => {
                for entry in entries {
                    self.add(&entry.value, Some((&entry.key, entry.key_span)), node.span.line);
                }
            }
        }
        let below = (self.nodes.len() - length - 4) as u32;
        self.nodes[length..length + 4].copy_from_slice(&below.to_le_bytes());
    }

    /// Where a name stands among the names.
    fn name(&mut self, name: &'n str) -> usize {
        if let Some((_, begin)) = self.known.iter().find(|(known, _)| *known == name) {
            return *begin;
        }
        let begin = self.names.len();
        self.known.push((name, begin));
        self.names.push_str(name);
        begin
    }

    fn span(&mut self, span: Span, line: u32) {
        // Copies by aliases stand before the node above.
        self.number(span.line.wrapping_sub(line));
        self.number(span.column);
        self.number(span.length);
    }

    /// Seven bits a byte, lowest first; all but the last byte have the highest bit set.
    fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.nodes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.nodes.push(number as u8);
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
    fn places_far_away_and_copies_keep_their_spans() {
        let wide = " ".repeat(70_000);
        let text =
            format!("a: &x\n  b: [1, {{c: 2}}]\n{}d: *x\ne: [{wide}3]\n'a b': 4\n", "#\n".repeat(70_000));
        let root = parse(&text, 100_000).unwrap().unwrap();
        let places = Places::new(&root);
        let field = |name: &str| FieldPath::root().field(name);
        for path in [
            field("a").field("b").index(1).field("c"),
            field("d"),
            field("d").field("b").index(1).field("c"),
            field("d").field("b").index(0),
            field("e").index(0),
            field("a b"),
        ] {
            assert!(places.has(&path), "{path}");
            assert_eq!(places.locate(&path), root.locate(&path), "{path}");
        }
    }

    #[test]
    fn nothing_is_nowhere() {
        let places = Places::default();
        assert_eq!(places.locate(&FieldPath::root()), Span::default());
        assert!(!places.has(&FieldPath::root()));
    }
}
