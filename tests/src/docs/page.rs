//! Pages of the documentation, read: headings, links, fenced blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// From the root of the sources, such as `docs/http.md`.
    pub name: String,
    /// As it stands in the file.
    pub text: String,
    /// What links can lead to, as GitHub makes it of headings.
    pub anchors: BTreeSet<String>,
    /// Where its links lead.
    pub links: Vec<Link>,
    /// In order.
    pub blocks: Vec<Block>,
    /// Code within lines.
    pub words: Vec<String>,
}

/// A link or a picture.
#[derive(Debug)]
pub struct Link {
    /// Line, from 1.
    pub line: usize,
    /// As written.
    pub target: String,
}

/// A fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Line of its fence, from 1.
    pub line: usize,
    /// The first word behind the fence.
    pub language: String,
    /// The words behind it.
    pub words: Vec<String>,
    /// What it says.
    pub text: String,
}

impl Block {
    /// Whether a word stands behind its language.
    pub fn is(&self, word: &str) -> bool {
        self.words.iter().any(|own| own == word)
    }

    /// The rest of a word that begins so.
    pub fn value(&self, prefix: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(prefix))
    }

    /// The file that it is, from the stage's directory.
    pub fn file(&self) -> Option<&str> {
        self.words.iter().map(String::as_str).find(|word| word.contains('/') && !word.contains('='))
    }
}

/// The root of the sources.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md, the other pages beside it, and all below docs.
pub fn all() -> Vec<Page> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned).into();
    below("docs", &mut names);
    names.sort();
    names.iter().map(|name| Page::read(name)).collect()
}

fn below(directory: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(root().join(directory)).expect(directory) {
        let entry = entry.expect("an entry");
        let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            below(&name, names);
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            names.push(name);
        }
    }
}

impl Page {
    /// Reads one by its name.
    pub fn read(name: &str) -> Self {
        let text =
            std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::of(name, text)
    }

    /// Of a text.
    pub fn of(name: &str, text: String) -> Self {
        let mut read = Reading { text: &text, ..Reading::default() };
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            read.take(event, range.start);
        }
        let Reading { anchors, links, blocks, words, .. } = read;
        Self { name: name.to_owned(), anchors: anchors.into_keys().collect(), links, blocks, words, text }
    }

    /// Blocks of a language.
    pub fn blocks_of<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }

    /// A place in it, for people.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }
}

/// A page while it is read.
#[derive(Debug, Default)]
struct Reading<'t> {
    text: &'t str,
    /// With how often each was wanted.
    anchors: BTreeMap<String, usize>,
    links: Vec<Link>,
    blocks: Vec<Block>,
    words: Vec<String>,
    heading: Option<String>,
    is_in_block: bool,
}

impl Reading<'_> {
    fn take(&mut self, event: Event<'_>, at: usize) {
        let line = 1 + self.text[..at].matches('\n').count();
        match event {
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.links.push(Link { line, target: dest_url.into_string() });
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => self.begin_block(&info, line),
            Event::End(TagEnd::CodeBlock) => self.is_in_block = false,
            Event::Text(text) if self.is_in_block => {
                self.blocks.last_mut().expect("it has begun").text.push_str(&text);
            }
            Event::Code(text) => {
                self.add_to_heading(&text);
                self.words.push(text.into_string());
            }
            Event::Text(text) => self.add_to_heading(&text),
            _ => {}
        }
    }

    fn begin_block(&mut self, info: &str, line: usize) {
        let mut words = info.split_whitespace().map(str::to_owned);
        let language = words.next().unwrap_or_default();
        self.blocks.push(Block { line, language, words: words.collect(), text: String::new() });
        self.is_in_block = true;
    }

    fn add_to_heading(&mut self, text: &str) {
        if let Some(heading) = &mut self.heading {
            heading.push_str(text);
        }
    }

    /// The second heading of a text gets `-1` behind it, and so on.
    fn end_heading(&mut self) {
        let anchor = anchor(&self.heading.take().unwrap_or_default());
        let count = self.anchors.entry(anchor.clone()).or_default();
        *count += 1;
        let again = *count - 1;
        if again > 0 {
            self.anchors.insert(format!("{anchor}-{again}"), 1);
        }
    }
}

/// What GitHub makes of a heading: small letters, digits, `-` and `_`, with `-` for each space.
fn anchor(heading: &str) -> String {
    let small = heading.trim().to_lowercase();
    let kept = small.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        let text = "# A, `b` & c!\n\n[x](y.md#z) `--flag`\n\n```sh client\nls\n```\n\n## A\n## A\n\n- item\n\n  ```yaml d/a.yaml\n  a: 1\n  ```\n";
        let page = Page::of("p.md", text.to_owned());
        assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["a", "a-1", "a-b--c"]);
        assert_eq!((page.links[0].line, page.links[0].target.as_str()), (3, "y.md#z"));
        let block = &page.blocks[0];
        assert_eq!((block.line, block.language.as_str(), block.text.as_str()), (5, "sh", "ls\n"));
        assert!(block.is("client"));
        assert_eq!((page.blocks[1].file(), page.blocks[1].text.as_str()), (Some("d/a.yaml"), "a: 1\n"));
        assert!(page.words.contains(&"--flag".to_owned()));
    }
}
