//! `cargo xtask test`: every test, and nothing left out without a word.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Profile, workspace};
use crate::process::{self, command};
use crate::{ebpf, h2spec, helm, kube, node, peers, prometheus, toolchain};

/// Test targets that need root and a kernel that takes our programs are named so.
const KERNEL_PREFIX: &str = "kernel_";

/// As many failed tests may be chance; more are a fault, and nothing is repeated.
const MOST_REPEATED: usize = 3;

/// Flags of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Leave out what needs root and the kernel; the summary says what that was.
    #[arg(long)]
    no_kernel: bool,
    /// How often a test that failed must pass by itself to count as unsteady instead (0: it has failed).
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    repeat_failed: u32,
    /// Handed to the test programs: a filter, `--nocapture`.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Builds what is tested, runs the tests, sums up.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    process::ensure_programs(process::TEST_PROGRAMS)?;
    h2spec::ensure()?;
    prometheus::ensure()?;
    peers::ensure_envoy()?;
    kube::ensure()?;
    helm::ensure()?;
    if !args.no_kernel {
        if !process::is_root() {
            bail!("the kernel tests need root: run as root, or leave them out with --no-kernel");
        }
        node::ensure()?;
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
    let unsteady =
        if sum.is_perhaps_chance() { repeat(&targets, &sum.failures, args.repeat_failed)? } else { vec![] };
    if args.no_kernel {
        println!("left out by --no-kernel: {}", kernel.join(", "));
    }
    for name in &unsteady {
        println!("unsteady: {name} failed once, then passed {} times by itself", args.repeat_failed);
    }
    let unsteady = unsteady.len() as u64;
    println!("{} passed, {} failed, {unsteady} unsteady", sum.passed, sum.failed - unsteady);
    if sum.succeeded || (unsteady > 0 && unsteady == sum.failed) { Ok(()) } else { bail!("tests failed") }
}

/// Those of the failed tests that pass by themselves, `times` in a row: lost packets and a busy machine make one of
/// thousands fail that is sound. One that fails again has failed.
fn repeat(targets: &[String], failures: &[String], times: u32) -> Result<Vec<String>> {
    let mut unsteady = Vec::new();
    for name in failures.iter().filter(|_| times > 0) {
        println!("{name} failed: {times} times by itself");
        let args = ["--exact", "--nocapture", name].map(str::to_owned);
        let mut passed = 0;
        while passed < times && run_tests(targets, &args)?.has_passed() {
            passed += 1;
        }
        if passed == times {
            unsteady.push(name.clone());
        }
    }
    Ok(unsteady)
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
    /// The names of those that failed.
    failures: Vec<String>,
    /// Test programs that have begun and not summed up.
    unfinished: u64,
    succeeded: bool,
}

impl Sum {
    fn has_passed(&self) -> bool {
        self.succeeded && self.passed > 0
    }

    /// A program that does not build names no test; one that a signal ends does not sum up.
    fn is_perhaps_chance(&self) -> bool {
        let named = self.failures.len();
        !self.succeeded
            && self.unfinished == 0
            && named as u64 == self.failed
            && (1..=MOST_REPEATED).contains(&named)
    }
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
        sum.unfinished += u64::from(begins(&line));
        if let Some((passed, failed)) = counts(&line) {
            sum.passed += passed;
            sum.failed += failed;
            sum.unfinished = sum.unfinished.saturating_sub(1);
        }
        sum.failures.extend(failure(&line).map(str::to_owned));
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

/// Reads `running 3 tests`.
fn begins(line: &str) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    matches!(words[..], ["running", count, "test" | "tests"] if count.parse::<u64>().is_ok())
}

/// Reads `test http::works ... FAILED`.
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_has_a_name() {
        assert_eq!(failure("test http::works ... FAILED"), Some("http::works"));
        assert_eq!(failure("test http::works ... ok"), None);
        assert_eq!(failure("test result: FAILED. 12 passed; 3 failed"), None);
    }

    #[test]
    fn only_few_named_failures_are_repeated() {
        let sum = |failed: u64, names: usize| Sum {
            failed,
            failures: vec![String::new(); names],
            ..Sum::default()
        };
        assert!(sum(1, 1).is_perhaps_chance());
        assert!(!sum(4, 4).is_perhaps_chance());
        assert!(!sum(2, 1).is_perhaps_chance());
        // A program that a signal ended.
        assert!(!Sum { unfinished: 1, ..sum(1, 1) }.is_perhaps_chance());
        assert!(!sum(0, 0).is_perhaps_chance());
        assert!(!Sum { succeeded: true, ..sum(1, 1) }.is_perhaps_chance());
    }

    #[test]
    fn the_runners_line_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(counts(line), Some((12, 3)));
        assert_eq!(counts("test http::works ... ok"), None);
        assert!(begins("running 1 test") && begins("running 12 tests"));
        assert!(!begins("running out of tests"));
    }
}
