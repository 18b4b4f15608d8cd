//! `cargo xtask docs`: the pages of reference that are the code's to say, written by the package `crds`.

use anyhow::Result;

use crate::cargo::workspace;
use crate::process::{self, command};

/// Writes them, or checks that they are what would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut cargo = command("cargo");
    cargo.current_dir(workspace()?).args([
        "run",
        "--quiet",
        "--package",
        "sluice-crds",
        "--bin",
        "sluice-reference",
    ]);
    cargo.args(["--", "docs/reference"]);
    if check {
        cargo.arg("--check");
    }
    process::run(&mut cargo)
}
