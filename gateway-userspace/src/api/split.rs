//! A file's text cut into its documents, each of which stands alone: one that doesn't parse takes no other along.

/// The text of one document, its `---` line included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// As written.
    pub text: &'a str,
    /// Line of the file that the text begins on, from 1.
    pub first_line: u32,
}

impl Chunk<'_> {
    /// Whether there is anything but comments, directives and blank lines.
    pub fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let line = line.strip_prefix("---").unwrap_or(line).trim();
            line.is_empty() || line.starts_with(['#', '%']) || line == "..."
        })
    }
}

/// The documents of a file.
pub fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = cut(without_mark(text));
    chunks.retain(|chunk| !chunk.is_blank());
    chunks
}

/// A file's text without the mark of its encoding that it may begin with.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Cuts at the lines that begin with `---`: all of a text, blank parts included. YAML lets such a line stand nowhere within a
/// document, not even in a quoted text or a block, so that no parser is needed to find it.
pub fn cut(text: &str) -> Vec<Chunk<'_>> {
    let (mut chunks, mut begin, mut first_line, mut at) = (Vec::new(), 0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && at > begin {
            chunks.push(Chunk { text: &text[begin..at], first_line });
            (begin, first_line) = (at, index as u32 + 1);
        }
        at += line.len();
    }
    chunks.push(Chunk { text: &text[begin..], first_line });
    chunks
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_at_markers_only() {
        let lines = |text| split(text).iter().map(|chunk| chunk.first_line).collect::<Vec<_>>();
        for (text, want) in [
            ("a: 1\n", vec![1]),
            ("a: 1\n---\nb: 1\n", vec![1, 2]),
            ("---\na: 1\n---\nb: 1\n---\n", vec![1, 3]),
            ("\u{feff}---\r\na: 1\r\n---\r\nb: 1", vec![1, 3]),
            ("# only words\n---\n\n---\n# more\n", vec![]),
            ("a: |\n  ---\n  x\n", vec![1]),
            ("a: ---b\n---c: 1\n", vec![1]),
            ("%YAML 1.2\n---\na: 1\n", vec![2]),
            ("", vec![]),
        ] {
            assert_eq!(lines(text), want, "{text:?}");
            let all: String = cut(without_mark(text)).iter().map(|chunk| chunk.text).collect();
            assert_eq!(all, without_mark(text));
        }
    }
}
