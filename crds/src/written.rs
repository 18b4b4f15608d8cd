//! Files of a directory that are all written by a program: writing them, or telling whether they are as they would be written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A file's name and text.
pub type File = (String, String);

/// Writes them.
pub fn write(directory: &Path, files: &[File]) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Fails where one is not as it would be written, or is one of those that are `left_over`; `remedy` is the command that writes
/// them.
pub fn compare(directory: &Path, files: &[File], left_over: &[String], remedy: &str) -> Result<()> {
    let differs = |(name, text): &&File| fs::read_to_string(directory.join(name)).ok().as_ref() != Some(text);
    let mut faults: BTreeSet<String> = files.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    faults.extend(left_over.iter().cloned());
    if faults.is_empty() {
        return Ok(());
    }
    let faults = faults.into_iter().collect::<Vec<_>>().join(", ");
    bail!("{}: {faults}: not as the code has it; write anew with `{remedy}`", directory.display())
}

/// Files of a directory that are not among those that are written.
pub fn left_over(directory: &Path, files: &[File]) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<Result<Vec<String>>>()?;
    Ok(names.into_iter().filter(|name| !files.iter().any(|(known, _)| known == name)).collect())
}
