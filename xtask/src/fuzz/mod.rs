//! `cargo xtask fuzz`: builds the targets of `fuzz/` with coverage, by the compiler that builds everything else, and runs each
//! for a while on what was kept in `fuzz/corpus` and on what earlier runs have found.

mod lock;
mod log;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::workspace;
use crate::ebpf::target;
use crate::process::{self, Running, command};

/// What libFuzzer wants of the compiler: a counter for each edge, a table of them, a word about each comparison; and branches
/// that are left apart. `--cfg fuzzing` is not among them: crates that know it behave otherwise than in the agent.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Most seconds for one input, which takes less than a thousandth of that on an idle machine.
const PATIENCE: u32 = 10;
/// Most memory of a target, in MiB.
const MEMORY: u32 = 2048;
/// Bytes of an input: nearly everything shows in short ones, of which more are tried in the same time.
const LENGTH: u32 = 4096;
/// Inputs of a target that are kept. Those that reach most come first; what the others reach is found again in seconds.
const KEPT: usize = 80;

/// Flags of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// One of `fuzz/fuzz_targets`; all of them without it, as many at a time as there are processors.
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Run the target on this file alone, and show what it says.
    #[arg(long, requires = "target", conflicts_with = "keep")]
    input: Option<PathBuf>,
    /// Afterwards make `fuzz/corpus` anew: of what is there and what was found as little as reaches the same code.
    #[arg(long)]
    keep: bool,
}

/// Builds and runs them; an input that a target fails on is an error that names it.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let mut targets = targets()?;
    if let Some(name) = &args.target {
        targets.retain(|target| target.name == *name);
    }
    if targets.is_empty() {
        bail!("no such target; fuzz/fuzz_targets has one file for each");
    }
    lock::check(workspace()?)?;
    build()?;
    if let Some(input) = &args.input {
        return process::run(targets[0].command()?.arg(input));
    }
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    for some in targets.chunks(at_once) {
        let started = some.iter().map(|target| target.start(args.seconds)).collect::<Result<Vec<_>>>()?;
        for (target, mut running) in some.iter().zip(started) {
            let status = running.wait()?;
            if !target.tell(status.success())? {
                failed.push(target.name.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} failed", failed.join(", "));
    }
    if args.keep { targets.iter().try_for_each(Target::keep) } else { Ok(()) }
}

fn build() -> Result<()> {
    let mut cargo = command("cargo");
    cargo
        .current_dir(workspace()?.join("fuzz"))
        .args(["build", "--locked", "--release", "--bins", "--target"])
        // With a target named, the flags are for it alone, and not for build scripts, which could not be linked.
        .arg(triple())
        .env("CARGO_TARGET_DIR", target()?.join("fuzz"))
        .env("RUSTFLAGS", FLAGS);
    process::run(&mut cargo)
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A file of `fuzz/fuzz_targets`.
#[derive(Debug)]
struct Target {
    name: String,
    /// What is kept in the repository.
    kept: PathBuf,
    /// What has been found here.
    found: PathBuf,
    /// Inputs that it fails on.
    failures: PathBuf,
    log: PathBuf,
}

fn targets() -> Result<Vec<Target>> {
    let (fuzz, below) = (workspace()?.join("fuzz"), target()?.join("fuzz"));
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(fuzz.join("fuzz_targets"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        let target = Target {
            kept: fuzz.join("corpus").join(&name),
            found: below.join("corpus").join(&name),
            failures: below.join("failures").join(&name),
            log: below.join(&name).with_extension("log"),
            name,
        };
        for directory in [&target.kept, &target.found, &target.failures] {
            std::fs::create_dir_all(directory)?;
        }
        targets.push(target);
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(targets)
}

impl Target {
    fn command(&self) -> Result<Command> {
        let program = target()?.join("fuzz").join(triple()).join("release").join(&self.name);
        let mut command = command(program);
        command.args([
            format!("-timeout={PATIENCE}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-max_len={LENGTH}"),
        ]);
        Ok(command)
    }

    /// Starts it on everything that is known, for so many seconds.
    fn start(&self, seconds: u32) -> Result<Running> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut command = self.command()?;
        command
            .args([&self.found, &self.kept])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", self.failures.display()))
            .args(["-print_final_stats=1", "-reload=0"])
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(words) = self.words()? {
            command.arg(format!("-dict={}", words.display()));
        }
        Running::start(&mut command)
    }

    /// Words that inputs are made of, if they were written down.
    fn words(&self) -> Result<Option<PathBuf>> {
        let words = workspace()?.join("fuzz/words").join(&self.name).with_extension("dict");
        Ok(words.is_file().then_some(words))
    }

    /// Says what came of it, which is in the log. Whether all went well.
    fn tell(&self, has_succeeded: bool) -> Result<bool> {
        let log = String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned();
        if has_succeeded {
            let sum = log::sum(&log).with_context(|| format!("{} does not sum up", self.log.display()))?;
            println!("{:14} {sum}", self.name);
            return Ok(true);
        }
        println!("{:14} failed ({})\n{}", self.name, self.log.display(), log::last_words(&log));
        if let Some(input) = log::failure(&log) {
            // Whoever reads this elsewhere has no file: printf(1) makes it.
            println!("{:14} on: {}", "", std::fs::read(input)?.escape_ascii());
            println!("{:14} repeat it with: cargo xtask fuzz {} --input {input}", "", self.name);
        }
        Ok(false)
    }

    /// By edges alone: how often each is taken would make ten times as many files.
    fn keep(&self) -> Result<()> {
        let fewer = self.found.with_extension("fewer");
        empty(&fewer)?;
        let log = File::create(&self.log)?;
        let mut command = self.command()?;
        command.args(["-set_cover_merge=1", "-use_counters=0"]).args([&fewer, &self.found, &self.kept]);
        process::run(command.stdout(log.try_clone()?).stderr(log))?;
        empty(&self.kept)?;
        let kept = oldest(&fewer, KEPT)?;
        for input in &kept {
            std::fs::copy(input, self.kept.join(input.file_name().context("a file without a name")?))?;
        }
        println!("{:14} {} inputs in {}", self.name, kept.len(), self.kept.display());
        Ok(std::fs::remove_dir_all(fewer)?)
    }
}

/// The files of a directory that were written first: libFuzzer writes inputs in the order in which they add to what is reached.
fn oldest(directory: &Path, most: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    files.truncate(most);
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// An empty directory, whatever was there.
fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(std::fs::create_dir_all(directory)?)
}
