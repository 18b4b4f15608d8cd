//! `sluice flows`: the flows that the kernel steers, and below them the connections that user space carries, with their
//! rates. Reads the pinned maps, so it works for the kernel's when there is no agent any more.

pub(super) mod reading;
pub(super) mod row;

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::reading::Sources;
use self::row::{FlowRow, WideRow};
use super::admin_client::Agent;
use super::options::{FormArgs, Output};
use super::remote::RemoteArgs;
use super::{maps, table};
use crate::settings::{DEFAULT_PIN_DIR, default_admin_socket};
use anyhow::Result;
use clap::{Args, ValueEnum};

/// Flags of `sluice flows`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows flows that the kernel steers, and below them opaque connections that user space carries: TCP, TLS passed through,
WebSockets. A flow's tier is `kernel`; `handoff`, given to the kernel by user space; `splice`, moved from socket to socket;
or `copy`. With -o wide or json it says why it is no better, and which server name a TLS client asked for, as long as the agent
runs that has read it. Bytes are those of the stream that have come through, since the connection began; the rate is of both
directions together, between two readings. Of a gateway in a cluster only the connections of user space are shown: the
kernel's flows are read on its node (kubectl exec POD -- sluice flows).

Examples:
  sluice flows
  sluice flows --client 198.51.100.7 --sort age
  sluice flows --listener :31400 --watch --interval 2
  sluice flows -o wide
  sluice flows --backend 10.0.0.7:8080 -o json
  sluice flows sluice-7xk2p.sluice-system")]
pub struct FlowsArgs {
    /// A gateway in a cluster, by its pod (POD, POD.NAMESPACE) or its node, which is asked through the API server.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// Namespace of the pod. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only flows of this client.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// Only flows to this backend: an address, or an address with a port.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = parse_end)]
    pub backend: Option<End>,
    /// Only flows that came by this listener: an address of the gateway, an address with a port, or `:PORT`.
    #[arg(long, value_name = "[ADDRESS][:PORT]", value_parser = parse_end)]
    pub listener: Option<End>,
    /// Order: the fastest first, or the oldest.
    #[arg(long, value_enum, default_value_t = Sort::Rate)]
    pub sort: Sort,
    /// Seconds between the two readings that rates are made from.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Show them again and again, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// How they are shown.
    #[command(flatten)]
    pub form: FormArgs,
    /// Directory of bpffs that the maps are pinned in.
    #[arg(long, env = "SLUICE_PIN_DIR", value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Unix socket of the agent, which is asked for the connections of user space.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `--sort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By bytes a second.
    Rate,
    /// By the time since the SYN.
    Age,
}

/// One end of a flow, as far as it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl End {
    fn is(self, address: SocketAddr) -> bool {
        self.ip.is_none_or(|ip| ip == address.ip()) && self.port.is_none_or(|port| port == address.port())
    }
}

fn parse_end(text: &str) -> Result<End, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(End { ip: Some(address.ip()), port: Some(address.port()) });
    }
    if let Ok(ip) = text.parse() {
        return Ok(End { ip: Some(ip), port: None });
    }
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    port.map(|port| End { ip: None, port: Some(port) })
        .ok_or_else(|| "expected ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT or :PORT".to_owned())
}

/// Runs the command.
pub fn run(args: &FlowsArgs) -> Result<ExitCode> {
    let namespace = args.namespace.as_deref();
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), namespace, &args.remote)?;
    let sources = Sources::new(&args.pin_dir, agent);
    let mut before = sources.read()?;
    loop {
        std::thread::sleep(Duration::from_secs(args.interval));
        let now = sources.read()?;
        let text = render(arranged(args, now.since(&before)), args.form)?;
        // A screen of its own for each reading, if it is one for people.
        let clear = match args.form.output {
            Output::Table | Output::Wide if args.watch => "\x1b[2J\x1b[H",
            Output::Yaml if args.watch => "---\n",
            _ => "",
        };
        let stopped = table::print_on(&format!("{clear}{text}"))?.is_break();
        for line in &now.unread {
            table::warn(line);
        }
        if stopped || !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

fn render(rows: Vec<FlowRow>, form: FormArgs) -> Result<String> {
    match form.output {
        Output::Wide => maps::render(&rows.into_iter().map(WideRow).collect::<Vec<_>>(), form),
        Output::Table | Output::Json | Output::Yaml => maps::render(&rows, form),
    }
}

/// Those that are wanted, in order: the kernel's first.
fn arranged(args: &FlowsArgs, mut rows: Vec<FlowRow>) -> Vec<FlowRow> {
    rows.retain(|row| is_wanted(args, row));
    match args.sort {
        Sort::Rate => rows.sort_by_key(|row| (row.plane, Reverse((row.bytes_per_second, row.age_seconds)))),
        Sort::Age => rows.sort_by_key(|row| (row.plane, Reverse(row.age_seconds))),
    }
    rows
}

fn is_wanted(args: &FlowsArgs, row: &FlowRow) -> bool {
    args.client.is_none_or(|client| client == row.client.ip())
        && args.backend.is_none_or(|backend| backend.is(row.backend))
        && args.listener.is_none_or(|listener| listener.is(row.gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_much_as_is_given() {
        let address: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        for (text, want) in [
            ("2001:db8::1", true),
            ("[2001:db8::1]:80", true),
            (":80", true),
            (":81", false),
            ("198.51.100.1", false),
        ] {
            assert_eq!(parse_end(text).unwrap().is(address), want, "{text}");
        }
        assert!(parse_end("80").is_err());
    }
}
