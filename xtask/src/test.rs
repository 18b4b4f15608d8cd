//! `cargo xtask test`: every test, and nothing left out without a word.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Profile, workspace};
use crate::process::{self, command};
use crate::{ebpf, h2spec, helm, kube, prometheus, toolchain};

/// Test targets that need root and a kernel that takes our programs are named so.
const KERNEL_PREFIX: &str = "kernel_";

/// Flags of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Leave out what needs root and the kernel; the summary says what that was.
    #[arg(long)]
    no_kernel: bool,
    /// Handed to the test programs: a filter, `--nocapture`.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Builds what is tested, runs the tests, sums up.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    process::ensure_programs(process::TEST_PROGRAMS)?;
    h2spec::ensure()?;
    prometheus::ensure()?;
    kube::ensure()?;
    helm::ensure()?;
    if !args.no_kernel {
        if !process::is_root() {
            bail!("the kernel tests need root: run as root, or leave them out with --no-kernel");
        }
        toolchain::ensure()?;
        ebpf::build()?;
    }
    cargo::build(Profile::Dev)?;
    let (kernel, others): (Vec<_>, Vec<_>) =
        test_targets()?.into_iter().partition(|name| name.starts_with(KERNEL_PREFIX));
    let mut targets = vec!["--lib".to_owned(), "--bins".to_owned()];
    for name in others.iter().chain(kernel.iter().filter(|_| !args.no_kernel)) {
        targets.extend(["--test".to_owned(), name.clone()]);
    }
    let sum = run_tests(&targets, &args.args)?;
    if args.no_kernel {
        println!("left out by --no-kernel: {}", kernel.join(", "));
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.succeeded && sum.failed == 0 { Ok(()) } else { bail!("tests failed") }
}

/// The files in the packages' `tests` directories: each is a test program.
fn test_targets() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for package in ["gateway-userspace", "tests", "xtask"] {
        let directory = workspace()?.join(package).join("tests");
        if !directory.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.file_stem().context("a file without a name")?;
                names.insert(name.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

#[derive(Debug, Default)]
struct Sum {
    passed: u64,
    failed: u64,
    succeeded: bool,
}

fn run_tests(targets: &[String], args: &[String]) -> Result<Sum> {
    let mut cargo = command("cargo");
    cargo
        .current_dir(workspace()?)
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(targets)
        .arg("--")
        .args(args)
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot run cargo")?;
    let mut sum = Sum::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = counts(&line) {
            sum.passed += passed;
            sum.failed += failed;
        }
    }
    sum.succeeded = child.wait()?.success();
    Ok(sum)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let before = rest.split(what).next()?;
        before.rsplit([' ', ';', '.']).find(|word| !word.is_empty())?.parse().ok()
    };
    Some((number(" passed")?, number(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_line_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(counts(line), Some((12, 3)));
        assert_eq!(counts("test http::works ... ok"), None);
    }
}
