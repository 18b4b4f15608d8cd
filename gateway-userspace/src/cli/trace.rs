//! `sluice trace`: the packets of one client's flows, as the kernel programs see them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::admin_client::Agent;
use super::options::TextOutput;
use super::table;
use crate::admin::trace::Line;
use crate::datapath::trace::{Course, Packet};
use crate::settings::default_admin_socket;

/// Flags of `sluice trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each TCP packet that the client sent, or a backend sent to it through a steered flow: when, the interface
that it came in by, addresses and ports as it came, TCP flags, sequence and acknowledgement number, bytes of the
frame, and what became of it (see `sluice maps dump VERDICTS`). Of more than 1000 packets in a second the rest is
left out and counted. The programs stop telling when this command ends, however it ends.

Examples:
  sluice trace --client 198.51.100.7
  sluice trace --client 2001:db8::7 --count 20 -o json")]
pub struct TraceArgs {
    /// Whose packets.
    #[arg(long, value_name = "ADDRESS")]
    pub client: IpAddr,
    /// Seconds until the end; an hour at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub duration: u64,
    /// Packets until the end.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Form of the output.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = TextOutput::Text)]
    pub output: TextOutput,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
}

/// Asks the agent and prints what comes.
pub fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let count = args.count.map(|count| format!("&count={count}")).unwrap_or_default();
    let path = format!("/trace?client={}&seconds={}{count}", args.client, args.duration);
    Agent::local(&args.admin_socket)?.stream(&path, |line| {
        let unread = "cannot be read; is the agent of another version?";
        let text = match args.output {
            TextOutput::Json => String::from_utf8_lossy(line).into_owned(),
            TextOutput::Text => words(&serde_json::from_slice(line).context(unread)?),
            TextOutput::Yaml => {
                let value: serde_json::Value = serde_json::from_slice(line).context(unread)?;
                format!("---\n{}", args.output.render(&value, String::new)?)
            }
        };
        Ok(table::print_on(&text)?)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn words(line: &Line) -> String {
    match line {
        Line::Packet(packet) => row(packet),
        Line::End { left_out: 0 } => String::new(),
        Line::End { left_out } => format!("{left_out} packets were left out\n"),
    }
}

fn row(packet: &Packet) -> String {
    let course = match packet.course {
        Course::FromClient => "from client",
        Course::ToClient => "to client",
    };
    let backend = packet.backend.map(|backend: SocketAddr| format!(" ({backend})")).unwrap_or_default();
    format!(
        "{} {} {course:<11} {} > {} [{}] seq {} ack {} length {} {}{backend}\n",
        packet.time,
        packet.interface,
        packet.source,
        packet.destination,
        packet.flags,
        packet.sequence,
        packet.acknowledgement,
        packet.length,
        packet.verdict,
    )
}
