//! A row of a table. In a file of requests:
//!
//! ```text
//! "GET / HTTP/1.1¶Host: a.test¶¶" -> 200 open <GET / a.test>
//! "GET / HTTP/1.1¶¶"              -> 400 close
//! ```
//!
//! On the left is what a client sends, see [`super::bytes`]. On the right: the statuses that it gets; what becomes of its
//! connection (`open`: one more request is answered, `close`: it is closed, `shut`: the client says no more, and it is
//! closed then, `cut`: it is closed within a response); what the backend gets, each `<method target host body>`, but for
//! what breaks off; fields of the backend's first request in brackets, of the last response in parentheses, with `!` for
//! those that must be absent, `~` before trailers; the response's body in quotes.
//!
//! In a file of answers a method, what the backend answers it, and `closes` where its connection ends then:
//!
//! ```text
//! GET "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok" -> 200 open "ok"
//! ```

use std::path::Path;

use super::bytes::bytes;
use super::message::Field;

/// See the module.
#[derive(Debug, Clone)]
pub struct Row {
    /// File and line.
    pub place: String,
    /// As it is written.
    pub line: String,
    /// Who says what.
    pub said: Said,
    /// Statuses that the client gets.
    pub statuses: Vec<u16>,
    /// What becomes of its connection.
    pub end: End,
    /// What the backend gets, as `Got::summary` has it.
    pub got: Vec<String>,
    /// Of the backend's first request.
    pub told: Vec<Field>,
    /// Of the last response.
    pub fields: Vec<Field>,
    /// Its body.
    pub body: Option<Vec<u8>>,
}

/// The hostile side.
#[derive(Debug, Clone)]
pub enum Said {
    /// What a client sends.
    Request(Vec<u8>),
    /// What a backend answers to a plain request by this method, and whether it closes then.
    Answer {
        /// Of the request.
        method: String,
        /// What it is answered.
        bytes: Vec<u8>,
        /// The backend closes behind it.
        closes: bool,
    },
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It stays open.
    Open,
    /// It is closed behind the last response.
    Closed,
    /// The client says that it has no more to say; it is closed behind the last response.
    Shut,
    /// It is closed within a response.
    Cut,
}

/// The rows of a file.
pub fn rows(file: &Path) -> Vec<Row> {
    let name = file.file_name().expect("a name").to_string_lossy();
    let text = std::fs::read_to_string(file).expect("a file of rows");
    let says = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
    let lines = text.lines().enumerate().filter(says);
    lines.map(|(at, line)| row(format!("{name}:{}", at + 1), line)).collect()
}

fn row(place: String, line: &str) -> Row {
    let (left, right) = line.rsplit_once(" -> ").unwrap_or_else(|| panic!("{place}: no arrow"));
    let mut row = Row {
        said: said(left).unwrap_or_else(|| panic!("{place}: who says what?")),
        place,
        line: line.to_owned(),
        statuses: Vec::new(),
        end: End::Open,
        got: Vec::new(),
        told: Vec::new(),
        fields: Vec::new(),
        body: None,
    };
    let mut ends = 0;
    for (kind, text) in parts(right) {
        match (kind, text) {
            ('<', text) => row.got.push(format!("<{text}>")),
            ('[', text) => row.told.push(field(text)),
            ('(', text) => row.fields.push(field(text)),
            ('"', text) => row.body = Some(bytes(text)),
            (_, word) => match end(word) {
                Some(end) => (row.end, ends) = (end, ends + 1),
                None => row.statuses.push(word.parse().unwrap_or_else(|_| panic!("{}: {word}", row.place))),
            },
        }
    }
    assert_eq!(ends, 1, "{}: what becomes of the connection?", row.place);
    row
}

fn said(left: &str) -> Option<Said> {
    let (before, rest) = left.split_once('"')?;
    let (text, behind) = rest.rsplit_once('"')?;
    let (bytes, closes) = (bytes(text), behind.trim() == "closes");
    match before.trim() {
        "" => Some(Said::Request(bytes)),
        method => Some(Said::Answer { method: method.to_owned(), bytes, closes }),
    }
}

fn end(word: &str) -> Option<End> {
    match word {
        "open" => Some(End::Open),
        "close" => Some(End::Closed),
        "shut" => Some(End::Shut),
        "cut" => Some(End::Cut),
        _ => None,
    }
}

/// Words, and texts with the sign that they stand behind.
fn parts(mut rest: &str) -> Vec<(char, &str)> {
    let mut parts = Vec::new();
    while let Some(first) = rest.chars().next() {
        let closing = match first {
            '<' => '>',
            '[' => ']',
            '(' => ')',
            '"' => '"',
            _ => {
                let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
                parts.push((' ', word));
                rest = behind.trim_start();
                continue;
            }
        };
        let (text, behind) = rest[1..].split_once(closing).unwrap_or_else(|| panic!("nothing closes {rest}"));
        parts.push((first, text));
        rest = behind.trim_start();
    }
    parts
}

fn field(text: &str) -> Field {
    if let Some(name) = text.strip_prefix('!') {
        return Field { name: name.to_owned(), value: None };
    }
    let (name, value) = text.split_once(':').expect("a name and a value");
    Field { name: name.to_owned(), value: Some(bytes(value.trim_start())) }
}
