//! Other programs: run to their end with their output captured, or kept as guards.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

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

fn remedy(program: &str) -> String {
    let package = match program {
        "ip" | "ss" | "tc" => "iproute2",
        "nsenter" => "util-linux",
        "curl" | "ethtool" | "openssl" | "python3" | "telnet" => program,
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
