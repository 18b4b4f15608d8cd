//! `cargo xtask build-ebpf`: the kernel programs, from their sources to the object that the agent embeds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::workspace;
use crate::toolchain::{self, Compiler, TARGET, Toolchain};

#[path = "../../gateway-ebpf/fingerprint.rs"]
mod fingerprint;

use fingerprint::{Built, Freshness};

/// Builds the object with the toolchain that is there, unless it is fresh. Returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    if is_fresh()? { Ok(built()?.object) } else { build_with(&toolchain::find()?) }
}

/// Whether there is an object of the sources as they are.
pub(crate) fn is_fresh() -> Result<bool> {
    Ok(built()?.freshness(&fingerprint::fingerprint(workspace()?)?) == Freshness::Fresh)
}

/// Removes the object, so that the agent is built without it.
pub(crate) fn remove() -> Result<()> {
    let built = built()?;
    for file in [&built.note, &built.object] {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Builds the object with a given toolchain. Returns its path.
pub(crate) fn build_with(toolchain: &Toolchain) -> Result<PathBuf> {
    let workspace = workspace()?;
    let built = built()?;
    let directory = target()?.join("bpf-build");
    toolchain::run(&mut cargo(toolchain, workspace, &directory))
        .with_context(|| format!("building the kernel programs with {}", toolchain.compiler))?;
    // After the build, which may have written the lock file. A note is only there beside the object it speaks of.
    let fingerprint = fingerprint::fingerprint(workspace)?;
    let parent = built.object.parent().context("the object has no directory")?;
    std::fs::create_dir_all(parent)?;
    if built.note.exists() {
        std::fs::remove_file(&built.note)?;
    }
    std::fs::copy(directory.join(TARGET).join("release/gateway-ebpf"), &built.object)?;
    std::fs::write(&built.note, fingerprint)?;
    Ok(built.object)
}

/// Builds the object for measuring. Returns its path.
pub(crate) fn build_measure() -> Result<PathBuf> {
    let toolchain = toolchain::find()?;
    let directory = target()?.join("bpf-build");
    let mut command = cargo(&toolchain, workspace()?, &directory);
    toolchain::run(command.args(["--features", "measure"]))
        .with_context(|| format!("building the programs for measuring with {}", toolchain.compiler))?;
    let object = target()?.join("bpf/measure.o");
    std::fs::copy(directory.join(TARGET).join("release/gateway-ebpf"), &object)?;
    Ok(object)
}

fn cargo(toolchain: &Toolchain, workspace: &Path, target: &Path) -> Command {
    let mut cargo = match &toolchain.compiler {
        Compiler::Nightly => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", "nightly", "cargo"]);
            rustup
        }
        Compiler::Prebuilt(_) => Command::new("cargo"),
    };
    cargo.current_dir(workspace.join("gateway-ebpf")).args([
        "build",
        "--quiet",
        "--release",
        "--target",
        TARGET,
    ]);
    // Whoever runs us by cargo hands on variables that would choose another compiler or other flags.
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC"] {
        cargo.env_remove(variable);
    }
    match &toolchain.compiler {
        Compiler::Nightly => {
            cargo.args(["-Z", "build-std=core"]).env_remove("RUSTUP_TOOLCHAIN");
        }
        Compiler::Prebuilt(rustc) => {
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
    }
    cargo.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", flags(&toolchain.linker));
    cargo
}

/// `--btf` makes the linker keep type information, which the kernel checks and `bpftool` shows. The third version of
/// the instruction set (Linux 5.12) has the atomic operations.
fn flags(linker: &Path) -> String {
    format!(
        "-C linker={} -C target-cpu=v3 -C debuginfo=2 -C link-arg=--btf --cfg bpf_target_arch=\"{}\"",
        linker.display(),
        std::env::consts::ARCH
    )
}

fn built() -> Result<Built> {
    Ok(Built::below(&target()?))
}

/// The target directory that this very program was built into: right for every way to choose one.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = fingerprint::target_directory(&program);
    Ok(target.with_context(|| format!("{} is in no target directory", program.display()))?.to_owned())
}
