//! The `sluice` binary: reads the command line and calls whoever is meant.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use gateway_userspace::agent;
use gateway_userspace::cli::{self, Cli, Command};
use mimalloc::MiMalloc;

/// Connections and requests come and go by the thousand, each with a few allocations of its own: glibc's allocator took a
/// sixth of the agent's time in user space.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => agent::run(&args),
        command => cli::run(&command),
    };
    result.unwrap_or_else(|error| {
        // Nobody is left to be told where it cannot be written.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
