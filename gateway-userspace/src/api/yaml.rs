//! One YAML document as a tree in which every key and value knows its place, so that any later check can point
//! at the field it speaks of. Bounded: depth, copies by aliases and size cannot be driven up by a document.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError};

use super::path::{FieldPath, Step};

/// Levels of nesting that a document may have.
const MAX_DEPTH: usize = 64;
/// Nodes a document may have, copies by aliases included; long texts count as several.
const MAX_WEIGHT: usize = 500_000;

/// A place on one line of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// In characters; what runs over the line's end is cut where it is shown.
    pub length: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, Hash)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// Where it begins.
    pub span: Span,
}

/// The three shapes of YAML.
#[derive(Debug, Clone, Hash)]
pub enum Content {
    /// A word; `plain` when it stands without quotes and may mean null, a boolean or a number.
    Scalar {
        /// After unescaping.
        text: String,
        /// Without quotes and not a block.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order written.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, Hash)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// Why a document is no YAML, or not YAML that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Node {
    /// The value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// What a list holds; nothing where this is none.
    pub fn items(&self) -> &[Self] {
        match &self.content {
            Content::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether it stands for nothing: `null`, `~`, or no value at all.
    pub fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// Whether it says nothing: null, an empty list or an empty mapping.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Scalar { .. } => self.is_null(),
            Content::Sequence(items) => items.is_empty(),
            Content::Mapping(entries) => entries.is_empty(),
        }
    }

    /// The node of a field, if there is one.
    pub fn find(&self, path: &FieldPath) -> Option<&Self> {
        path.steps().iter().try_fold(self, |node, step| match (step, &node.content) {
            (Step::Field(name), _) => node.get(name).map(|entry| &entry.value),
            (Step::Index(index), Content::Sequence(items)) => items.get(*index),
            (Step::Index(_), _) => None,
        })
    }

    /// Where a field stands; where it is missing, the nearest field around it.
    pub fn locate(&self, path: &FieldPath) -> Span {
        let (mut node, mut span) = (self, self.span);
        for step in path.steps() {
            match (step, &node.content) {
                (Step::Field(name), Content::Mapping(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *name) else { break };
                    (node, span) = (&entry.value, entry.key_span);
                }
                (Step::Index(index), Content::Sequence(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    (node, span) = (item, item.first_span());
                }
                _ => break,
            }
        }
        match &node.content {
            Content::Scalar { .. } if !node.is_null() => node.span,
            _ => span,
        }
    }

    /// The first key of a mapping, else the place itself: something to underline.
    fn first_span(&self) -> Span {
        match &self.content {
            Content::Mapping(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            _ => self.span,
        }
    }
}

/// Reads one document that begins on line `first_line` of its file. `None` when there is nothing but comments.
pub fn parse(text: &str, first_line: u32) -> Result<Option<Node>, YamlError> {
    let options = granit_parser::options! {
        emit_comments: false,
        block_nesting_limit: 64,
        flow_nesting_limit: 64,
    };
    let mut tree = Tree { first_line, ..Tree::default() };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax_error(text, first_line, &error))?;
        tree.take(event, span)?;
    }
    Ok(tree.root.filter(|root| !root.node.is_null()).map(|root| root.node))
}

/// A finished node with what it costs.
#[derive(Debug, Clone)]
struct Built {
    node: Node,
    weight: usize,
    depth: usize,
}

enum Frame {
    Sequence { items: Vec<Node>, span: Span, anchor: usize, weight: usize, depth: usize },
    Mapping { entries: Entries, span: Span, anchor: usize, weight: usize, depth: usize },
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    seen: HashSet<String>,
    /// A key that waits for its value.
    key: Option<(String, Span)>,
    /// Values of `<<`.
    merged: Vec<Entry>,
}

#[derive(Default)]
struct Tree {
    first_line: u32,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Built>,
    root: Option<Built>,
    weight: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: granit_parser::Span) -> Result<(), YamlError> {
        let span = self.span(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let weight = 1 + text.len() / 64;
                let node = Node { content: Content::Scalar { text: text.into_owned(), plain }, span };
                self.put(Built { node, weight, depth: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.frames.push(Frame::Sequence { items: Vec::new(), span, anchor, weight: 1, depth: 1 });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                let entries = Entries::default();
                self.frames.push(Frame::Mapping { entries, span, anchor, weight: 1, depth: 1 });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let Some(built) = self.anchors.get(&id).cloned() else {
                    return Err(error(span, "an alias may not stand within what it names"));
                };
                self.weight += built.weight;
                self.put(built, 0)
            }
            _ => Ok(()),
        }
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let one_line = span.start.line() == span.end.line();
        Span {
            line: self.first_line + (span.start.line() as u32).saturating_sub(1),
            column: span.start.col() as u32 + 1,
            length: if one_line {
                (span.end.col().saturating_sub(span.start.col()) as u32).max(1)
            } else {
                u32::MAX
            },
        }
    }

    fn close(&mut self) -> Result<(), YamlError> {
        match self.frames.pop() {
            Some(Frame::Sequence { items, span, anchor, weight, depth }) => {
                let node = Node { content: Content::Sequence(items), span };
                self.put(Built { node, weight, depth }, anchor)
            }
            Some(Frame::Mapping { entries, span, anchor, weight, depth }) => {
                let node = Node { content: Content::Mapping(entries.finish()), span };
                self.put(Built { node, weight, depth }, anchor)
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, built: Built, anchor: usize) -> Result<(), YamlError> {
        let span = built.node.span;
        self.weight += 1;
        if self.weight.max(built.weight) > MAX_WEIGHT {
            return Err(error(span, "the document is too large, with what its aliases stand for"));
        }
        if self.frames.len() + built.depth > MAX_DEPTH {
            return Err(error(span, "the document is nested too deeply"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        match self.frames.last_mut() {
            None => self.root = Some(built),
            Some(Frame::Sequence { items, weight, depth, .. }) => {
                *weight += built.weight;
                *depth = (*depth).max(built.depth + 1);
                items.push(built.node);
            }
            Some(Frame::Mapping { entries, weight, depth, .. }) => {
                *weight += built.weight;
                *depth = (*depth).max(built.depth + 1);
                entries.put(built.node)?;
            }
        }
        Ok(())
    }
}

impl Entries {
    /// Takes a key, or the value of the key before.
    fn put(&mut self, node: Node) -> Result<(), YamlError> {
        let Some((key, key_span)) = self.key.take() else {
            let Content::Scalar { text, .. } = node.content else {
                return Err(error(node.span, "a key must be a single word, not a list or a mapping"));
            };
            self.key = Some((text, node.span));
            return Ok(());
        };
        if key == "<<" {
            return self.merge(node);
        }
        if !self.seen.insert(key.clone()) {
            let message = format!("the key `{key}` stands twice in this mapping");
            let help = first_of(&self.list, &key).map(|line| format!("it is first given on line {line}"));
            return Err(YamlError { span: key_span, message, help });
        }
        self.list.push(Entry { key, key_span, value: node });
        Ok(())
    }

    fn merge(&mut self, node: Node) -> Result<(), YamlError> {
        let span = node.span;
        match node.content {
            Content::Mapping(entries) => self.merged.extend(entries),
            Content::Sequence(items) => {
                for item in items {
                    let Content::Mapping(entries) = item.content else {
                        return Err(error(item.span, "`<<` merges mappings only"));
                    };
                    self.merged.extend(entries);
                }
            }
            Content::Scalar { .. } => return Err(error(span, "`<<` merges mappings only")),
        }
        Ok(())
    }

    /// Keys of the mapping itself beat merged ones; of merged ones the first stays.
    fn finish(mut self) -> Vec<Entry> {
        for entry in self.merged {
            if self.seen.insert(entry.key.clone()) {
                self.list.push(entry);
            }
        }
        self.list
    }
}

fn first_of(list: &[Entry], key: &str) -> Option<u32> {
    list.iter().find(|entry| entry.key == key).map(|entry| entry.key_span.line)
}

fn error(span: Span, message: &str) -> YamlError {
    YamlError { span, message: message.to_owned(), help: None }
}

fn syntax_error(text: &str, first_line: u32, error: &ScanError) -> YamlError {
    let failed_at = error.marker().line().max(1);
    if let Some((line, column)) = tab_in_indentation(text, failed_at) {
        return YamlError {
            span: Span { line: first_line + line - 1, column, length: 1 },
            message: "a tab in the indentation: YAML allows only spaces there".to_owned(),
            help: Some("replace the tab with spaces".to_owned()),
        };
    }
    if let Some(error) = value_before_more(text, first_line, failed_at) {
        return error;
    }
    let column = error.marker().col() as u32 + 1;
    YamlError {
        span: Span { line: first_line + failed_at as u32 - 1, column, length: 1 },
        message: error.info().clone(),
        help: None,
    }
}

/// `key: text` followed by a deeper line `other: value` or `- value`: the parser stumbles over the second line, but what is
/// wrong, most often a remark without `#`, stands on the first.
fn value_before_more(text: &str, first_line: u32, failed_at: usize) -> Option<YamlError> {
    let lines: Vec<&str> = text.lines().take(failed_at).collect();
    let (last, before) = lines.split_last()?;
    let (at, line) = before.iter().enumerate().rev().find(|(_, line)| !line.trim().is_empty())?;
    let (key, rest) = line.split_once(": ")?;
    let (key, value) = (key.trim_start_matches([' ', '-']), rest.trim());
    let is_text = !value.is_empty() && !value.starts_with(['#', '|', '>', '&', '!', '{', '[']);
    let dash = last.len() - last.trim_start_matches(' ').len();
    let below = if last[dash..].starts_with("- ") && dash >= indentation(line) {
        "list"
    } else if last.contains(':') && indentation(last) > indentation(line) {
        "mapping"
    } else {
        return None;
    };
    if !is_text {
        return None;
    }
    let column = line.trim_end().chars().count() - value.chars().count() + 1;
    Some(YamlError {
        span: Span {
            line: first_line + at as u32,
            column: column as u32,
            length: value.chars().count() as u32,
        },
        message: format!("`{key}` has the text `{value}` and, on the next line, a {below} too"),
        help: Some("take the text away, or put a `#` in front of it if it is a comment".to_owned()),
    })
}

/// Columns before the first word, dashes of list items included.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// The first tab that indents something, up to the line after the one where the parser gave up. Within block
/// texts tabs are text.
fn tab_in_indentation(text: &str, failed_at: usize) -> Option<(u32, u32)> {
    let mut block: Option<usize> = None;
    for (at, line) in text.lines().take(failed_at + 1).enumerate() {
        let Some(word) = line.find(|c: char| c != ' ' && c != '\t' && c != '-') else { continue };
        if block.is_some_and(|outer| indentation(line) > outer) || line[word..].starts_with(['\r', '#']) {
            continue;
        }
        if let Some(tab) = line[..word].find('\t') {
            return Some((at as u32 + 1, tab as u32 + 1));
        }
        let opens = line.trim_end().trim_end_matches(['+', '-']).ends_with(['|', '>']);
        block = opens.then(|| indentation(line));
    }
    None
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
