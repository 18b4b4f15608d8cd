//! The conformance suite of HTTP/2 that a test runs (`tests/tests/h2spec.rs`): made below the target directory, of what
//! `tests/data/h2spec` names by version and hash.

use anyhow::{Context, Result};

use crate::cargo::workspace;
use crate::ebpf::target;
use crate::process::{self, command};

/// The package that the program is made of.
const PACKAGE: &str = "github.com/summerwind/h2spec/cmd/h2spec";

/// Makes the program unless it is there, of these versions.
pub(crate) fn ensure() -> Result<()> {
    let (program, made_of) = (target()?.join("tools/h2spec"), workspace()?.join("tests/data/h2spec"));
    let sums = std::fs::read(made_of.join("go.sum")).context("tests/data/h2spec/go.sum")?;
    let stamp = program.with_extension("sum");
    if program.is_file() && std::fs::read(&stamp).is_ok_and(|made| made == sums) {
        return Ok(());
    }
    eprintln!("building {}", program.display());
    process::run(command("go").current_dir(made_of).arg("build").arg("-o").arg(&program).arg(PACKAGE))?;
    std::fs::write(stamp, sums).context("noting of what h2spec is made")
}
