//! Other programs: run to their end with their output captured, or kept as guards.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; `None`: ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Both outputs, for messages and searches.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Panics with everything said if the program failed.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "the program failed:\n{}", self.all());
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end. Panics when the program is not there, with the package that brings it.
pub fn run(command: &mut Command) -> Said {
    run_with_input(command, b"")
}

/// Runs a command to its end with bytes on its standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Said {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("cannot run {name}: {error}{}", remedy(&name)));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A program that ends before it has read everything is judged by what it said.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("output of a child").into()
}

/// Runs a command that must succeed; for arrangements, not for what is tested.
pub fn must(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let said = Said::from(output.with_context(|| format!("cannot run {name}{}", remedy(&name)))?);
    if said.code != Some(0) {
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!("{name} {} failed: {}", arguments.join(" "), said.all().trim());
    }
    Ok(said.out)
}

/// A program that `cargo xtask setup` makes, by its path below the target directory's `tools`. Panics when it is not there.
pub fn tool(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("path of this program");
    let candidates = own.ancestors().map(|directory| directory.join("tools").join(name));
    candidates.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no tools/{name} in a directory above {}; `cargo xtask setup` makes it", own.display())
    })
}

/// A program that runs until this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it, with all that it says at the end of a file.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let command =
            command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("state of a child")
    }

    /// All that it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended needs no end, and is waited for all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn remedy(program: &str) -> String {
    let package = match program {
        "ip" | "ss" | "tc" => "iproute2",
        "nft" => "nftables",
        "nsenter" | "setpriv" | "unshare" => "util-linux",
        "man" => "man-db",
        "stty" => "coreutils",
        "bash" | "curl" | "ethtool" | "fish" | "mandoc" | "zsh" | "openssl" | "python3" | "telnet" => program,
        _ => return String::new(),
    };
    format!("; install it with: apt-get install {package}")
}

/// `curl` with what every test wants: quiet, with errors, bounded, with the response's head on standard output.
pub fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]);
    curl
}
