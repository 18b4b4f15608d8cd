//! The targets are outside the workspace, with a lock file of their own. What they include must be built of what the agent is
//! built of, or they would fuzz other versions of it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Compares the two lock files.
pub(super) fn check(workspace: &Path) -> Result<()> {
    let read = |file: &str| std::fs::read_to_string(workspace.join(file)).with_context(|| file.to_owned());
    let others = others(&read("Cargo.lock")?, &read("fuzz/Cargo.lock")?);
    if others.is_empty() {
        return Ok(());
    }
    bail!(
        "fuzz/Cargo.lock has other versions than Cargo.lock of {}; take those over with\n  \
         cp Cargo.lock fuzz/ && cargo update --manifest-path fuzz/Cargo.toml --workspace",
        others.join(", ")
    )
}

/// Packages that both have, in a version that the first does not have.
fn others(ours: &str, theirs: &str) -> Vec<String> {
    let ours: BTreeSet<_> = packages(ours).collect();
    let is_other = |(name, version): &(&str, &str)| {
        !ours.contains(&(*name, *version)) && ours.iter().any(|(ours, _)| ours == name)
    };
    packages(theirs).filter(is_other).map(|(name, version)| format!("{name} {version}")).collect()
}

/// Names and versions.
fn packages(lock: &str) -> impl Iterator<Item = (&str, &str)> {
    lock.split("[[package]]").skip(1).filter_map(|package| {
        let value = |key: &str| {
            package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        Some((value("name")?, value("version")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::workspace;

    #[test]
    fn what_is_fuzzed_is_what_is_served() {
        check(workspace().expect("a workspace")).expect("see the line above");
    }

    #[test]
    fn another_version_is_found() {
        let lock = |packages: &[(&str, &str)]| -> String {
            let package =
                |(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
            packages.iter().copied().map(package).collect()
        };
        let ours = lock(&[("hyper", "1.2.0"), ("syn", "2.0.0"), ("syn", "3.0.0")]);
        let theirs = |hyper| lock(&[("hyper", hyper), ("syn", "2.0.0"), ("libfuzzer-sys", "0.4.0")]);
        assert_eq!(others(&ours, &theirs("1.2.0")), [""; 0]);
        assert_eq!(others(&ours, &theirs("1.1.0")), ["hyper 1.1.0"]);
    }
}
