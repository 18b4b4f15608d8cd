//! `sluice status`: how a running agent is doing.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{admin_client, table};
use crate::admin::view::Status;
use crate::settings::default_admin_socket;

/// Flags of `sluice status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
}

/// Asks the agent and prints. Exit status 1 when it is not ready.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status: Status = admin_client::get(&args.admin_socket, "/status")?;
    let text =
        if args.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { words(&status)? };
    table::print(&text)?;
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(status: &Status) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let ready = if status.ready { "ready" } else { "not ready" };
    writeln!(out, "sluice {}: {ready}, generation {}", status.version, status.generation)?;
    writeln!(out, "listeners:     {} ({} not open)", status.listeners, status.bind_failures.len())?;
    writeln!(out, "kernel plane:  {}", status.kernel_plane)?;
    if !status.interfaces.is_empty() {
        writeln!(out, "interfaces:    {}", status.interfaces.join(", "))?;
    }
    for (listener, reason) in &status.bind_failures {
        writeln!(out, "not open:      {listener}: {reason}")?;
    }
    for (secret, reason) in &status.credential_faults {
        writeln!(out, "secret:        {secret}: {reason}")?;
    }
    for diagnostic in &status.diagnostics {
        writeln!(out, "document:      {diagnostic}")?;
    }
    Ok(out)
}
