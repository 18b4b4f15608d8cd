//! `cargo xtask screenshots`: the pictures of the documentation, taken of a gateway at work.

use anyhow::Result;

use crate::cargo::{self, Profile, workspace};
use crate::process::{self, command};
use crate::{ebpf, toolchain};

/// What the page is written in where it is there; any other face would do, and look otherwise.
const FACE: (&str, &str) = ("/usr/share/fonts/opentype/inter", "fonts-inter");

/// Takes them all, by the test that says that they can be taken.
pub(crate) fn run() -> Result<()> {
    process::ensure_programs(process::TEST_PROGRAMS)?;
    if !std::path::Path::new(FACE.0).exists() {
        process::install(&[FACE.1])?;
    }
    toolchain::ensure()?;
    ebpf::build()?;
    cargo::build(Profile::Dev)?;
    let pictures = workspace()?.join("docs/pictures");
    process::run(
        command("cargo")
            .current_dir(workspace()?)
            .args(["test", "--package", "sluice-tests", "--test", "kernel_dashboard", "--", "--exact"])
            .arg("the_pictures_of_the_documentation_can_be_taken")
            .env("SLUICE_SCREENSHOTS", &pictures),
    )?;
    println!("{}", pictures.display());
    Ok(())
}
