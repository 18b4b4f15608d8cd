//! Programs that tests call and Go makes: below the target directory, of what a directory of `tests/data` names by version
//! and hash. Nothing else is written but Go's own caches.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::workspace;
use crate::ebpf::target;
use crate::process::{self, command};

/// From this version on Go fetches the one that a `go.mod` asks for, if it is older itself.
const OLDEST: u32 = 21;

/// A program, and what it is made of.
#[derive(Debug)]
pub(crate) struct Recipe<'r> {
    /// Path below the target directory's `tools`.
    pub(crate) program: &'r str,
    /// Directory of the `go.mod`, below `tests/data`.
    pub(crate) directory: &'r str,
    /// The package with its `main`.
    pub(crate) package: &'r str,
    /// Flags of `go build`.
    pub(crate) flags: &'r [String],
}

impl Recipe<'_> {
    /// Makes the program unless it is there, of these very ingredients. Returns its path.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let program = target()?.join("tools").join(self.program);
        let directory = workspace()?.join("tests/data").join(self.directory);
        let ingredients = self.ingredients(&directory)?;
        let stamp = program.with_extension("made-of");
        if program.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == ingredients) {
            return Ok(program);
        }
        ensure_version()?;
        eprintln!("building {}", program.display());
        let mut go = command("go");
        go.current_dir(&directory).env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0");
        // Whoever has checked the tree out may be another user, whom git does not answer.
        go.args(["build", "-buildvcs=false"]).args(self.flags).arg("-o").arg(&program).arg(self.package);
        process::run(&mut go)?;
        std::fs::write(&stamp, ingredients).with_context(|| stamp.display().to_string())?;
        Ok(program)
    }

    /// All that decides what becomes of it, but the version of Go.
    fn ingredients(&self, directory: &Path) -> Result<String> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|path| {
            path.extension().is_some_and(|it| ["go", "mod", "sum"].iter().any(|kind| it == *kind))
        });
        files.sort();
        let mut all = self.flags.join(" ");
        for file in files {
            all += &std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        }
        Ok(all)
    }
}

fn ensure_version() -> Result<()> {
    let output = command("go").args(["env", "GOVERSION"]).output().context("cannot run go env GOVERSION")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match minor(&said) {
        Some(minor) if minor < OLDEST => bail!(
            "{said} is too old: install Go 1.{OLDEST} or later, from https://go.dev/dl or a newer release of the distribution"
        ),
        // A development version is new.
        _ => Ok(()),
    }
}

/// Of `go1.26.8`, 26.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("go1.")?.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(minor("go1.26.8"), Some(26));
        assert_eq!(minor("go1.19"), Some(19));
        assert_eq!(minor("go1.27rc1"), Some(27));
        assert_eq!(minor("devel go1.28-abcdef"), None);
    }
}
