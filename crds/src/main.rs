//! `cargo xtask crds`: writes `deploy/crds`, the definitions by which an API server takes the documents that the gateway
//! reads, or checks that they are those of its types.

mod definition;
mod shape;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::definition::Definition;

const HEAD: &str =
    "# Written by `cargo xtask crds` from the types that documents are read into; not to be edited.\n";

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
    if check { compare(&directory, &files) } else { write(&directory, &files) }
}

/// Name and text.
fn file(definition: &Definition) -> Result<(String, String)> {
    Ok((definition.file_name(), format!("{HEAD}{}", serde_saphyr::to_string(definition)?)))
}

fn write(directory: &Path, files: &[(String, String)]) -> Result<()> {
    fs::create_dir_all(directory)?;
    for name in left_over(directory, files)? {
        fs::remove_file(directory.join(name))?;
    }
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn compare(directory: &Path, files: &[(String, String)]) -> Result<()> {
    let differs = |(name, text): &&(String, String)| {
        fs::read_to_string(directory.join(name)).ok().as_ref() != Some(text)
    };
    let mut faults: BTreeSet<String> = files.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    faults.extend(left_over(directory, files)?);
    if faults.is_empty() {
        return Ok(());
    }
    let faults = faults.into_iter().collect::<Vec<_>>().join(", ");
    bail!("{}: {faults}: not as the types have it; write anew with `cargo xtask crds`", directory.display())
}

/// Files of definitions that there are no more.
fn left_over(directory: &Path, files: &[(String, String)]) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<Result<Vec<String>>>()?;
    Ok(names.into_iter().filter(|name| !files.iter().any(|(known, _)| known == name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_what_the_types_have() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        let files = definition::all().unwrap().iter().map(file).collect::<Result<Vec<_>>>().unwrap();
        compare(&directory, &files).unwrap();
    }
}
