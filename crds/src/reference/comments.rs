//! What the sources of `api` say of each field, above it. The schema says which fields there are; this only finds their words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Words by type and field, as documents write its name.
#[derive(Debug, Default)]
pub(super) struct Comments {
    fields: BTreeMap<(String, String), String>,
    /// In the order of the source.
    types: BTreeMap<String, Vec<String>>,
}

impl Comments {
    /// Of all files of `api`.
    pub(super) fn read() -> Result<Self> {
        let mut comments = Self::default();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-userspace/src/api");
        comments.read_below(&directory)?;
        Ok(comments)
    }

    fn read_below(&mut self, directory: &Path) -> Result<()> {
        let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self.read_below(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                self.read_text(&std::fs::read_to_string(&path)?);
            }
        }
        Ok(())
    }

    fn read_text(&mut self, text: &str) {
        let (mut inside, mut words, mut renamed, mut skips) = (None, Vec::new(), None, false);
        for line in text.lines() {
            let code = line.trim();
            if let Some(rest) = line.strip_prefix("pub struct ") {
                inside = rest
                    .split([' ', '(', ';', '<'])
                    .next()
                    .map(str::to_owned)
                    .filter(|_| rest.ends_with('{'));
                words.clear();
            } else if line == "}" {
                inside = None;
            } else if let Some(said) = code.strip_prefix("///") {
                words.push(said.trim().to_owned());
            } else if code.starts_with("#[serde(") {
                renamed = code
                    .split_once("rename = \"")
                    .and_then(|(_, it)| it.split('"').next().map(str::to_owned));
                skips = code.contains("(skip");
            } else if let (Some(name), Some((field, _))) =
                (&inside, code.strip_prefix("pub ").and_then(|rest| rest.split_once(':')))
            {
                let field = renamed.take().unwrap_or_else(|| camel(field));
                let said = std::mem::take(&mut words).join(" ");
                if !std::mem::take(&mut skips) {
                    self.types.entry(name.clone()).or_default().push(field.clone());
                    self.fields.entry((name.clone(), field)).or_insert(said);
                }
            } else if !code.starts_with("#[") {
                words.clear();
            }
        }
    }

    /// What is said of a field of a type.
    pub(super) fn of(&self, name: &str, field: &str) -> &str {
        self.fields.get(&(name.to_owned(), field.to_owned())).map_or("", String::as_str)
    }

    /// The fields of a type.
    pub(super) fn fields(&self, name: &str) -> &[String] {
        self.types.get(name).map_or(&[], Vec::as_slice)
    }
}

/// `wait_for` as `waitFor`.
fn camel(field: &str) -> String {
    let mut parts = field.trim_start_matches("r#").split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut name, part| {
        let mut letters = part.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_the_names_of_documents() {
        let mut comments = Comments::default();
        comments.read_text(
            "/// A.\npub struct A {\n    /// One\n    /// and more.\n    pub wait_for: u8,\n    /// Two.\n    #[serde(rename = \"match\")]\n    pub m: u8,\n    \
             /// None.\n    #[serde(skip)]\n    pub own: u8,\n}\n",
        );
        assert_eq!((comments.of("A", "waitFor"), comments.of("A", "match")), ("One and more.", "Two."));
        assert_eq!(comments.fields("A"), ["waitFor", "match"]);
    }
}
