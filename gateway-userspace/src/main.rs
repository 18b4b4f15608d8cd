//! The `sluice` binary: reads the command line and calls whoever is meant.

use std::process::ExitCode;

use clap::Parser;
use gateway_userspace::agent;
use gateway_userspace::cli::{self, Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => agent::run(&args),
        command => cli::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
