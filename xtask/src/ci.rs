//! `cargo xtask ci`: what must hold before a change lands, besides the tests. Each step can be taken by hand too.

use anyhow::Result;

use crate::cargo::workspace;
use crate::process::{self, command};
use crate::{crds, docs, ebpf, tidy, toolchain};

/// Version of cargo-deny; the lock file of its own release is used.
const CARGO_DENY: &str = "0.20.2";

/// Runs all steps; the first failure ends it.
pub(crate) fn run() -> Result<()> {
    step("format", || {
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
    })?;
    step("tidy", tidy::run)?;
    step("tools", || {
        toolchain::ensure()?;
        process::ensure_programs(process::TEST_PROGRAMS)
    })?;
    step("kernel programs", || ebpf::build().map(drop))?;
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("definitions of documents", || crds::run(true))?;
    step("pages of reference", || docs::run(true))?;
    step("licences, bans and sources of dependencies", deny)
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    work()
}

fn cargo(args: &[&str]) -> Result<()> {
    process::run(command("cargo").current_dir(workspace()?).args(args))
}

/// Advisories come from a repository that closed networks do not reach, and are checked where they do.
fn deny() -> Result<()> {
    if !process::is_there("cargo-deny") {
        cargo(&["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY])?;
    }
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        cargo(&["deny", "--workspace", "--manifest-path", manifest, "check", "bans", "licenses", "sources"])?;
    }
    Ok(())
}
