//! `sluice ready`: whether the agent of this container serves. For probes of pods that are replaced by `--take-over`, where
//! the readiness port is answered by the agent before it, too, and would call an agent ready that still reads its documents.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::own::is_own;
use crate::settings::default_admin_socket;

/// An agent that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Flags of `sluice ready`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice ready
  sluice ready --admin-socket /run/edge.sock")]
pub struct ReadyArgs {
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
}

/// Asks the agent; the error says why it is not ready.
pub fn run(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let socket = args.admin_socket.display();
    let mut agent = UnixStream::connect(&args.admin_socket)
        .with_context(|| format!("{socket}: no agent answers, of this container or of the one before it"))?;
    if !is_own(&agent)? {
        bail!(
            "{socket}: the agent that serves is another container's; this one's has not taken over yet, or is relieved"
        );
    }
    agent.set_read_timeout(Some(PATIENCE))?;
    agent.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: sluice\r\nconnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(agent)
        .read_line(&mut line)
        .with_context(|| format!("{socket}: no answer within {PATIENCE:?}"))?;
    if !line.starts_with("HTTP/1.1 200 ") {
        bail!("not ready: listeners are being opened, or drained");
    }
    Ok(ExitCode::SUCCESS)
}
