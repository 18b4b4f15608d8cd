//! `sluice drain`: has a running agent lead its clients away, before it is stopped.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin_client::Agent;
use super::own::is_own;
use crate::admin::server::DRAIN;
use crate::settings::default_admin_socket;

/// Flags of `sluice drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice drain
  sluice drain --own --for 10")]
pub struct DrainArgs {
    /// Return only so many seconds later, when load balancers have noticed: for hooks before a stop.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub wait: u64,
    /// Do nothing, and return at once, where the agent is not one of this container: another pod's has taken over.
    #[arg(long)]
    pub own: bool,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
}

/// Asks the agent, and waits.
pub fn run(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    // Where nobody answers, asking says so.
    if args.own
        && UnixStream::connect(&args.admin_socket).is_ok_and(|agent| is_own(&agent).is_ok_and(|own| !own))
    {
        return Ok(ExitCode::SUCCESS);
    }
    Agent::local(&args.admin_socket)?.stream(DRAIN, |_| Ok(std::ops::ControlFlow::Continue(())))?;
    std::thread::sleep(Duration::from_secs(args.wait));
    Ok(ExitCode::SUCCESS)
}
