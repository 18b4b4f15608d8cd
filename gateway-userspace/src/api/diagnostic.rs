//! What is wrong with a document, said so that it can be put right: file, line, column, document, field,
//! message, what to do. Rendered in the manner of rustc.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;

pub use super::code::Code;
use super::object::ObjectRef;

/// How bad it is. Orders from harmless to grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something does not do what the document seems to want.
    Warning,
    /// The document, or a part of it, has no effect.
    Error,
}

impl Severity {
    /// The word shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A place in a file, with the line's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// As given on the command line, or found below a directory given.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// In characters; what is underlined.
    pub length: u32,
    /// The line itself.
    pub text: String,
}

/// Another place that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// What is there.
    pub message: String,
    /// The other document.
    pub document: ObjectRef,
    /// Its place; documents that come from no file have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding.
    pub code: Code,
    /// What is wrong; Istio's words where Istio finds it too.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The document; unknown when it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<ObjectRef>,
    /// The field, from the document's top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Other places involved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// A finding without a place. Whatever has no effect or not the one wanted comes with what to do, if only its
    /// code's remedy.
    pub fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        debug_assert!(code.severities().contains(&severity), "{code} is never of severity {severity:?}");
        let help = (severity > Severity::Info).then(|| code.remedy().to_owned());
        Self {
            severity,
            code,
            message: message.into(),
            help,
            document: None,
            field: None,
            position: None,
            related: Vec::new(),
        }
    }

    /// Adds what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place.
    pub fn related(mut self, related: Related) -> Self {
        self.related.push(related);
        self
    }

    /// Field, words and remedy, for those who know the document.
    pub fn brief(&self) -> String {
        let field = self.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{field}{}{help}", self.message)
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// One line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] ", self.code)?;
        if let Some(document) = &self.document {
            write!(f, "{}: ", in_a_line(&document.to_string()))?;
        }
        if let Some(field) = &self.field {
            write!(f, "{}: ", in_a_line(field))?;
        }
        f.write_str(&in_a_line(&self.message))?;
        if let Some(position) = &self.position {
            write!(f, " ({}:{}:{})", position.file, position.line, position.column)?;
        }
        Ok(())
    }
}

struct Paint {
    level: &'static str,
    bold: &'static str,
    blue: &'static str,
    off: &'static str,
}

impl Paint {
    fn new(severity: Severity, colour: bool) -> Self {
        if !colour {
            return Self { level: "", bold: "", blue: "", off: "" };
        }
        let level = match severity {
            Severity::Error => "\x1b[1;31m",
            Severity::Warning => "\x1b[1;33m",
            Severity::Info => "\x1b[1;36m",
        };
        Self { level, bold: "\x1b[1m", blue: "\x1b[1;34m", off: "\x1b[0m" }
    }
}

/// Several lines for people, ending in a newline.
pub fn render(diagnostic: &Diagnostic, colour: bool) -> String {
    let paint = Paint::new(diagnostic.severity, colour);
    let Paint { level, bold, blue, off } = paint;
    let mut out = String::new();
    let (word, code, message) =
        (diagnostic.severity.as_str(), diagnostic.code, printable(&diagnostic.message));
    let _ = writeln!(out, "{level}{word}[{code}]{off}{bold}: {message}{off}");
    let width = gutter(diagnostic);
    if let Some(position) = &diagnostic.position {
        render_position(&mut out, position, width, level, &paint);
    }
    if let Some(document) = &diagnostic.document {
        let field = diagnostic.field.as_ref().map(|field| format!(", field {field}")).unwrap_or_default();
        let named = in_a_line(&format!("{document}{field}"));
        let _ = writeln!(out, "{:width$} {blue}={off} document: {named}", "");
    }
    for related in &diagnostic.related {
        let (document, message) = (in_a_line(&related.document.to_string()), printable(&related.message));
        let _ = writeln!(out, "{:width$} {blue}={off} note: {document}: {message}", "");
        if let Some(position) = &related.position {
            render_position(&mut out, position, width, blue, &paint);
        }
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{:width$} {blue}={off} {bold}help{off}: {}", "", printable(help));
    }
    out
}

/// Digits of the largest line number shown.
fn gutter(diagnostic: &Diagnostic) -> usize {
    let related = diagnostic.related.iter().filter_map(|related| related.position.as_ref());
    let largest = diagnostic.position.iter().chain(related).map(|position| position.line).max();
    largest.unwrap_or(1).to_string().len()
}

fn render_position(out: &mut String, position: &Position, width: usize, mark: &str, paint: &Paint) {
    let Paint { blue, off, .. } = paint;
    let Position { file, line, column, text, .. } = position;
    let before: String = text.chars().take((*column as usize).saturating_sub(1)).collect();
    let marked: String =
        text.chars().skip((*column as usize).saturating_sub(1)).take(position.length as usize).collect();
    let (indent, length) = (expand(&before).chars().count(), expand(&marked).chars().count().max(1));
    let _ = writeln!(out, "{:width$}{blue}-->{off} {file}:{line}:{column}", "");
    if text.is_empty() {
        return;
    }
    let _ = writeln!(out, "{:width$} {blue}|{off}", "");
    let _ = writeln!(out, "{blue}{line:>width$} |{off} {}", expand(text));
    let _ = writeln!(out, "{:width$} {blue}|{off} {:indent$}{mark}{}{off}", "", "", "^".repeat(length));
}

/// Tabs become arrows of four columns, so that they are seen and the underline stays below its text.
fn expand(text: &str) -> String {
    printable(&text.replace('\t', "→   "))
}

/// The names that documents give themselves and their fields may be anything, and must not look like lines of ours.
fn in_a_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

/// Control characters must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        let mut diagnostic =
            Diagnostic::new(Severity::Error, Code::SchemaValidation, "port number 0 is wrong");
        diagnostic.position = Some(Position {
            file: "a.yaml".into(),
            line: 12,
            column: 7,
            length: 6,
            text: "      number:".to_owned(),
        });
        diagnostic.field = Some("spec.servers[0].port.number".to_owned());
        diagnostic.document = Some(ObjectRef::new("Gateway", "default", "web"));
        diagnostic.help("give the port a number")
    }

    #[test]
    fn findings_are_shown_with_their_line_underlined() {
        let want = "\
error[IST0106]: port number 0 is wrong
  --> a.yaml:12:7
   |
12 |       number:
   |       ^^^^^^
   = document: Gateway default/web, field spec.servers[0].port.number
   = help: give the port a number
";
        assert_eq!(render(&sample(), false), want);
        assert!(render(&sample(), true).contains("\x1b[1;31merror[IST0106]\x1b[0m"));
    }

    #[test]
    fn tabs_are_made_visible_and_underlined() {
        let mut diagnostic = sample();
        diagnostic.position =
            Some(Position { file: "a".into(), line: 1, column: 2, length: 1, text: " \tx".to_owned() });
        assert!(
            render(&diagnostic, false).contains("1 |  →   x\n  |  ^^^^\n"),
            "{}",
            render(&diagnostic, false)
        );
    }

    #[test]
    fn a_log_line_is_one_line() {
        let line = sample().to_string();
        assert_eq!(
            line,
            "[IST0106] Gateway default/web: spec.servers[0].port.number: port number 0 is wrong (a.yaml:12:7)"
        );
    }

    #[test]
    fn names_neither_paint_nor_begin_lines() {
        let mut diagnostic = sample();
        let document = ObjectRef::new("Gateway", "default", "a\n   = help: \u{1b}[31mnone");
        diagnostic.document = Some(document.clone());
        let message = "beside \u{7}it".to_owned();
        let diagnostic = diagnostic.related(Related { message, document, position: None });
        let shown = render(&diagnostic, false);
        assert!(
            shown.contains("= document: Gateway default/a    = help: \u{fffd}[31mnone, field spec"),
            "{shown}"
        );
        assert!(
            shown.contains("= note: Gateway default/a    = help: \u{fffd}[31mnone: beside \u{fffd}it\n"),
            "{shown}"
        );
        assert!(!diagnostic.to_string().contains(char::is_control), "{diagnostic}");
    }

    #[test]
    fn diagnostics_serialise_for_machines() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["code"], "IST0106");
        assert_eq!(json["severity"], "error");
        assert_eq!(json["document"]["kind"], "Gateway");
        assert_eq!(json["position"]["line"], 12);
    }
}
