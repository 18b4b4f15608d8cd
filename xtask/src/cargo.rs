//! Building the workspace, and where the results lie.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::ebpf::target;
use crate::process;

/// cargo's profiles, as far as they are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Builds fast.
    Dev,
    /// Runs fast.
    Release,
}

impl Profile {
    /// Path of a binary of the workspace.
    pub(crate) fn binary(self, name: &str) -> Result<PathBuf> {
        let directory = match self {
            Self::Dev => "debug",
            Self::Release => "release",
        };
        Ok(target()?.join(directory).join(name))
    }
}

/// The workspace's root.
pub(crate) fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")
}

/// Builds the agent and the demo's backends.
pub(crate) fn build(profile: Profile) -> Result<()> {
    let mut cargo = process::command("cargo");
    cargo.current_dir(workspace()?).args([
        "build",
        "--package",
        "gateway-userspace",
        "--package",
        "sluice-tests",
        "--bins",
    ]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)
}
