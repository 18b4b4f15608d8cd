//! Programs in Go that tests call, made below the target directory of what a folder of `tests/data` names by version and hash:
//! the conformance suite of HTTP/2 (`tests/tests/h2spec.rs`), and what renders the chart (`tests/tests/deploy.rs`).

use anyhow::{Context, Result};

use crate::cargo::workspace;
use crate::ebpf::target;
use crate::process::{self, command};

/// A program, named as its folder is.
struct GoTool {
    name: &'static str,
    package: &'static str,
}

const TOOLS: &[GoTool] = &[
    GoTool { name: "h2spec", package: "github.com/summerwind/h2spec/cmd/h2spec" },
    GoTool { name: "helm", package: "helm.sh/helm/v3/cmd/helm" },
];

/// Makes the programs unless they are there, of these versions.
pub(crate) fn ensure() -> Result<()> {
    TOOLS.iter().try_for_each(GoTool::ensure)
}

impl GoTool {
    fn ensure(&self) -> Result<()> {
        let Self { name, package } = self;
        let (program, made_of) =
            (target()?.join("tools").join(name), workspace()?.join("tests/data").join(name));
        let sums =
            std::fs::read(made_of.join("go.sum")).with_context(|| format!("tests/data/{name}/go.sum"))?;
        let stamp = program.with_extension("sum");
        if program.is_file() && std::fs::read(&stamp).is_ok_and(|made| made == sums) {
            return Ok(());
        }
        eprintln!("building {}", program.display());
        let mut go = command("go");
        go.current_dir(made_of).env("CGO_ENABLED", "0").args(["build", "-o"]).arg(&program).arg(package);
        process::run(&mut go)?;
        std::fs::write(stamp, sums).with_context(|| format!("noting of what {name} is made"))
    }
}
