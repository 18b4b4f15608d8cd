//! `cargo xtask crds`: the definitions by which an API server takes Istio's documents, written by the package `crds`.

use anyhow::Result;

use crate::cargo::workspace;
use crate::process::{self, command};

/// Writes them, or checks that they are what would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut cargo = command("cargo");
    cargo.current_dir(workspace()?).args(["run", "--quiet", "--package", "sluice-crds", "--", "deploy/crds"]);
    if check {
        cargo.arg("--check");
    }
    process::run(&mut cargo)
}
