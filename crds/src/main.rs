//! `cargo xtask crds`: writes `deploy/crds`, the definitions by which an API server takes the documents that the gateway
//! reads, or checks that they are those of its types.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use sluice_crds::definition::{self, Definition};
use sluice_crds::written::{self, compare, left_over};

const HEAD: &str =
    "# Written by `cargo xtask crds` from the types that documents are read into; not to be edited.\n";
const REMEDY: &str = "cargo xtask crds";

/// Writes the definitions of the documents that the gateway reads.
#[derive(Debug, Parser)]
struct Flags {
    /// Where they lie: one file a kind, and nothing else.
    directory: PathBuf,
    /// Write nothing; fail where a file is not what would be written.
    #[arg(long)]
    check: bool,
}

fn main() -> Result<()> {
    let Flags { directory, check } = Flags::parse();
    let files = definition::all()?.iter().map(file).collect::<Result<Vec<_>>>()?;
    if check {
        return compare(&directory, &files, &left_over(&directory, &files)?, REMEDY);
    }
    written::write(&directory, &files)?;
    for name in left_over(&directory, &files)? {
        fs::remove_file(directory.join(name))?;
    }
    Ok(())
}

/// Name and text.
fn file(definition: &Definition) -> Result<written::File> {
    Ok((definition.file_name(), format!("{HEAD}{}", serde_saphyr::to_string(definition)?)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_there_is_what_the_types_have() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let files = definition::all().unwrap().iter().map(file).collect::<Result<Vec<_>>>().unwrap();
        compare(&directory, &files, &left_over(&directory, &files).unwrap(), REMEDY).unwrap();
    }
}
