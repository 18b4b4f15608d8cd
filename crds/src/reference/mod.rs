//! Pages of reference as the code has it: `flags` out of the command line's definitions, `fields` out of the types that documents
//! are read into, what is said of them in their sources (`comments`), and the tables of what is not served.

mod comments;
mod fields;
mod flags;
mod notes;

use anyhow::Result;

use crate::written::File;

/// The command that writes the pages.
pub const REMEDY: &str = "cargo xtask docs";

const HEAD: &str = "<!-- Written by `cargo xtask docs` from the code; not to be edited. -->\n\n";

/// All of them, by their names below `docs/reference`.
pub fn pages() -> Result<Vec<File>> {
    let page = |name: &str, text: String| (name.to_owned(), format!("{HEAD}{text}"));
    Ok(vec![page("flags.md", flags::page()), page("fields.md", fields::page()?)])
}

/// A cell of a table: in one line, and no bar ends it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::written::compare;

    #[test]
    fn the_pages_are_current() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
        compare(&directory, &pages().unwrap(), &[], REMEDY).unwrap();
    }
}
