//! `cargo xtask image`: a container image without any container tool: the program, the libraries that it is linked with, and
//! the authorities that backends' certificates are verified against. Nothing else is in it, no shell above all.

mod archive;
mod contents;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use self::contents::Contents;
use crate::cargo::{self, Profile};
use crate::{ebpf, process, toolchain};

/// Flags of `cargo xtask image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Archive to be written, an OCI image layout as a tar: `ctr --namespace k8s.io images import FILE`. Default:
    /// `sluice-image.tar` in the target directory.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Directory to be filled in place of an archive: what `deploy/Containerfile` makes its image of.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    directory: Option<PathBuf>,
    /// Program to be put into it. Default: the release build, which is made.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Name and tag.
    #[arg(long, default_value = concat!("localhost/sluice:", env!("CARGO_PKG_VERSION")))]
    name: String,
}

/// Collects what belongs into the image, and writes it.
pub(crate) fn run(args: &ImageArgs) -> Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build()?,
    };
    let contents = Contents::of(&binary)?;
    if let Some(directory) = &args.directory {
        return contents.unpack(directory).with_context(|| directory.display().to_string());
    }
    let output = match &args.output {
        Some(output) => output.clone(),
        None => ebpf::target()?.join("sluice-image.tar"),
    };
    write(&contents, &args.name, &output).with_context(|| output.display().to_string())?;
    println!("{}", output.display());
    Ok(())
}

/// Beside its place first: whoever imports an archive never sees half of one.
fn write(contents: &Contents, name: &str, output: &Path) -> Result<()> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(".part");
    std::fs::write(&beside, archive::archive(contents, name)?)?;
    Ok(std::fs::rename(&beside, output)?)
}

/// The release build, with the kernel programs in it.
fn build() -> Result<PathBuf> {
    toolchain::ensure()?;
    ebpf::build()?;
    let mut build = process::command("cargo");
    build.current_dir(cargo::workspace()?).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "gateway-userspace",
    ]);
    process::run(&mut build)?;
    Profile::Release.binary("sluice")
}
