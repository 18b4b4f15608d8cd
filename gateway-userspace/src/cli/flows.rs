//! `sluice flows`: the flows that the kernel steers, with their rates. Reads the pinned maps, so it works when there is
//! no agent any more.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::maps::{self, Output, Row, duration};
use super::table;
use crate::datapath::maps::Maps;
use crate::datapath::stats;
use crate::datapath::view::{self, FlowView};
use crate::settings::DEFAULT_PIN_DIR;

/// Flags of `sluice flows`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows flows that the kernel steers; connections that user space carries are not among them. Bytes are those of frames,
headers included; the rate is of both directions together, between two readings.

Examples:
  sluice flows
  sluice flows --client 198.51.100.7 --sort age
  sluice flows --listener :31400 --watch --interval 2
  sluice flows --backend 10.0.0.7:8080 -o json")]
pub struct FlowsArgs {
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
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Directory of bpffs that the maps are pinned in.
    #[arg(long, env = "SLUICE_PIN_DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlowRow {
    client: SocketAddr,
    gateway: SocketAddr,
    source: SocketAddr,
    backend: SocketAddr,
    plane: &'static str,
    state: &'static str,
    age_seconds: u64,
    idle_seconds: u64,
    bytes_to_backend: u64,
    bytes_to_client: u64,
    bytes_per_second: u64,
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] = &[
        "CLIENT",
        "GATEWAY",
        "SOURCE",
        "BACKEND",
        "PLANE",
        "STATE",
        "AGE",
        "IDLE",
        "TO BACKEND",
        "TO CLIENT",
        "RATE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.client.to_string(),
            self.gateway.to_string(),
            self.source.to_string(),
            self.backend.to_string(),
            self.plane.to_owned(),
            self.state.to_owned(),
            duration(self.age_seconds),
            duration(self.idle_seconds),
            bytes(self.bytes_to_backend),
            bytes(self.bytes_to_client),
            format!("{}/s", bytes(self.bytes_per_second)),
        ]
    }
}

/// Runs the command.
pub fn run(args: &FlowsArgs) -> Result<ExitCode> {
    let maps = maps::open_below(&args.pin_dir)?;
    let mut before = Reading::of(&maps);
    loop {
        std::thread::sleep(Duration::from_secs(args.interval));
        let now = Reading::of(&maps);
        let text = maps::render(&rows(args, &before, &now), args.output)?;
        // A screen of its own for each reading, if it is one for people.
        let clear = if args.watch && args.output == Output::Table { "\x1b[2J\x1b[H" } else { "" };
        if table::print_on(&format!("{clear}{text}"))?.is_break() || !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// A flow's directions to the backend and to the client.
type Flow = [FlowView; 2];

/// The flows at one moment.
struct Reading {
    /// Monotonic clock in ns.
    at: u64,
    flows: Vec<Flow>,
}

impl Reading {
    fn of(maps: &Maps) -> Self {
        Self { at: stats::monotonic(), flows: view::pairs(maps) }
    }
}

/// What tells a flow from a later one on the same tuple.
fn identity(flow: &Flow) -> (SocketAddr, SocketAddr, u64) {
    let client_side = flow[0].client_side();
    (client_side.source, client_side.destination, flow[0].created)
}

fn carried(flow: &Flow) -> u64 {
    flow.iter().map(|direction| direction.bytes).sum()
}

fn rows(args: &FlowsArgs, before: &Reading, now: &Reading) -> Vec<FlowRow> {
    let earlier: HashMap<_, _> = before.flows.iter().map(|flow| (identity(flow), carried(flow))).collect();
    let nanoseconds = u128::from(now.at.saturating_sub(before.at).max(1));
    let rate = |flow: &Flow| {
        // A flow that was not there has carried all of it since.
        let before = earlier.get(&identity(flow)).copied().unwrap_or(0);
        let bytes = u128::from(carried(flow).saturating_sub(before));
        u64::try_from(bytes * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
    };
    let wanted = now.flows.iter().filter(|flow| is_wanted(args, flow));
    let mut rows: Vec<FlowRow> = wanted.map(|flow| row(flow, now.at, rate(flow))).collect();
    match args.sort {
        Sort::Rate => rows.sort_by_key(|row| Reverse((row.bytes_per_second, row.age_seconds))),
        Sort::Age => rows.sort_by_key(|row| Reverse(row.age_seconds)),
    }
    rows
}

fn is_wanted(args: &FlowsArgs, flow: &Flow) -> bool {
    let (client_side, backend_side) = (flow[0].client_side(), flow[0].backend_side());
    args.client.is_none_or(|client| client == client_side.source.ip())
        && args.backend.is_none_or(|backend| backend.is(backend_side.destination))
        && args.listener.is_none_or(|listener| listener.is(client_side.destination))
}

fn row(flow: &Flow, now: u64, bytes_per_second: u64) -> FlowRow {
    let [to_backend, to_client] = flow;
    let seconds = |since: u64| Duration::from_nanos(now.saturating_sub(since)).as_secs();
    FlowRow {
        client: to_backend.client_side().source,
        gateway: to_backend.client_side().destination,
        source: to_backend.backend_side().source,
        backend: to_backend.backend_side().destination,
        plane: "kernel",
        state: to_backend.phase.words(),
        age_seconds: seconds(to_backend.created),
        idle_seconds: to_backend.idle_seconds(now).min(to_client.idle_seconds(now)),
        bytes_to_backend: to_backend.bytes,
        bytes_to_client: to_client.bytes,
        bytes_per_second,
    }
}

/// Bytes as people say them.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (count as f64, "B");
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (count, want) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(bytes(count), want);
        }
    }

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
