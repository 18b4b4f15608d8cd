//! `sluice maps`: the pinned maps, decoded. Reads them without an agent, so it works when there is none any more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use gateway_common::{BackendId, Direction, Table};
use serde::Serialize;

use super::options::FormArgs;
use super::{table, tables};
use crate::datapath::flows::Kind;
use crate::datapath::maps::{Maps, SHAPES, capacity};
use crate::datapath::view::{self, FlowView};
use crate::datapath::{Pins, stats, trace};
use crate::settings::DEFAULT_PIN_DIR;

/// `sluice maps`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice maps list
  sluice maps dump FLOWS
  sluice maps dump BACKENDS4 -o json")]
pub struct MapsArgs {
    #[command(subcommand)]
    command: MapsCommand,
    /// Directory of bpffs that the maps are pinned in.
    #[arg(long, global = true, env = "SLUICE_PIN_DIR", value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum MapsCommand {
    /// Lists the maps and how full they are.
    #[command(after_help = "\
Examples:
  sluice maps list
  sluice maps list -o json")]
    List(FormArgs),
    /// Shows what a map holds.
    #[command(after_help = "\
Examples:
  sluice maps dump FLOWS
  sluice maps dump VERDICTS
  sluice maps dump BACKENDS4 -o json")]
    Dump {
        /// FLOWS, HALF, LISTENERS, BACKENDS, PORTS or DENY, with 4 or 6 behind it for one address family; LIMITS, LINKS,
        /// MAGLEV, VERDICTS or CONFIG.
        name: String,
        #[command(flatten)]
        form: FormArgs,
    },
}

/// Runs the command.
pub fn run(args: &MapsArgs) -> Result<()> {
    Ok(table::print(&report(args)?)?)
}

/// What the command prints.
pub fn report(args: &MapsArgs) -> Result<String> {
    match &args.command {
        MapsCommand::List(form) => list(args, *form),
        MapsCommand::Dump { name, form } => dump(args, name, *form),
    }
}

fn open(args: &MapsArgs) -> Result<Maps> {
    open_below(&args.pin_dir)
}

/// Opens the maps below a pin directory.
pub(super) fn open_below(pin_dir: &Path) -> Result<Maps> {
    let directory = Pins::below(pin_dir).maps();
    match directory.try_exists() {
        Ok(true) => Maps::open(&directory).with_context(|| format!("cannot read {}", directory.display())),
        Ok(false) => {
            bail!("no kernel plane is running at {}, and none has left flows there", pin_dir.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {} (root can)", directory.display())),
    }
}

/// A line of output: a structure for JSON, cells for the table.
pub(super) trait Row: Serialize {
    const COLUMNS: &'static [&'static str];
    fn cells(&self) -> Vec<String>;
}

pub(super) fn render<R: Row>(rows: &[R], form: FormArgs) -> Result<String> {
    let cells = || rows.iter().map(Row::cells).collect::<Vec<_>>();
    form.output.render(&rows, || form.table(R::COLUMNS, &cells()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MapRow {
    name: &'static str,
    kind: String,
    key_bytes: u32,
    value_bytes: u32,
    capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
}

impl Row for MapRow {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "TYPE", "KEY BYTES", "VALUE BYTES", "CAPACITY", "ENTRIES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.kind.clone(),
            self.key_bytes.to_string(),
            self.value_bytes.to_string(),
            self.capacity.to_string(),
            self.entries.map_or_else(|| "-".to_owned(), |entries| entries.to_string()),
        ]
    }
}

fn list(args: &MapsArgs, form: FormArgs) -> Result<String> {
    let maps = open(args)?;
    let directory = Pins::below(&args.pin_dir).maps();
    let mut rows = Vec::new();
    for shape in SHAPES {
        let entries = match shape.name {
            "LISTENERS4" => Some(maps.v4.listeners()?.len()),
            "LISTENERS6" => Some(maps.v6.listeners()?.len()),
            "BACKENDS4" => Some(maps.v4.backends()?.len()),
            "BACKENDS6" => Some(maps.v6.backends()?.len()),
            "FLOWS4" => Some(view::live(&maps.v4, Kind::Established)),
            "HALF4" => Some(view::live(&maps.v4, Kind::Handshakes)),
            "FLOWS6" => Some(view::live(&maps.v6, Kind::Established)),
            "HALF6" => Some(view::live(&maps.v6, Kind::Handshakes)),
            _ => None,
        };
        rows.push(MapRow {
            name: shape.name,
            kind: format!("{:?}", shape.kind),
            key_bytes: shape.key,
            value_bytes: shape.value,
            capacity: capacity(&directory, shape.name)?,
            entries,
        });
    }
    render(&rows, form)
}

/// An address family, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    Both,
    V4,
    V6,
}

impl Families {
    pub(super) fn has(self, ip: IpAddr) -> bool {
        self == Self::Both || ip.is_ipv4() == (self == Self::V4)
    }
}

fn dump(args: &MapsArgs, name: &str, form: FormArgs) -> Result<String> {
    let upper = name.to_ascii_uppercase();
    let (base, families) = match (upper.strip_suffix('4'), upper.strip_suffix('6')) {
        (Some(base), _) => (base, Families::V4),
        (_, Some(base)) => (base, Families::V6),
        _ => (upper.as_str(), Families::Both),
    };
    let maps = open(args)?;
    match (base, families) {
        ("FLOWS", _) => render(&flows(&maps, Kind::Established, families), form),
        ("HALF", _) => render(&flows(&maps, Kind::Handshakes, families), form),
        ("PORTS", _) => render(&tables::ports(&maps, families)?, form),
        ("DENY", _) => render(&tables::denied(&maps, families)?, form),
        ("LIMITS", Families::Both) => render(&tables::limits(&maps)?, form),
        ("LINKS", Families::Both) => render(&tables::links(&maps)?, form),
        ("LISTENERS", _) => render(&listeners(&maps, families)?, form),
        ("BACKENDS", _) => render(&backends(&maps, families)?, form),
        ("MAGLEV", Families::Both) => render(&slots(&maps)?, form),
        ("VERDICTS", Families::Both) => render(&verdicts(&maps)?, form),
        ("CONFIG", Families::Both) => render(&config(&maps)?, form),
        _ => bail!(
            "no map `{name}`; there are FLOWS, HALF, LISTENERS, BACKENDS, PORTS, DENY (each also with 4 or 6), LIMITS, LINKS, \
             MAGLEV, VERDICTS and CONFIG"
        ),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlowRow {
    client: SocketAddr,
    gateway: SocketAddr,
    source: SocketAddr,
    backend: SocketAddr,
    direction: &'static str,
    state: &'static str,
    packets: u64,
    bytes: u64,
    /// Since the SYN.
    age_seconds: u64,
    /// Since the latest packet in this direction.
    idle_seconds: u64,
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] =
        &["CLIENT", "GATEWAY", "SOURCE", "BACKEND", "DIRECTION", "STATE", "PACKETS", "BYTES", "AGE", "IDLE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.client.to_string(),
            self.gateway.to_string(),
            self.source.to_string(),
            self.backend.to_string(),
            self.direction.to_owned(),
            self.state.to_owned(),
            self.packets.to_string(),
            self.bytes.to_string(),
            duration(self.age_seconds),
            duration(self.idle_seconds),
        ]
    }
}

fn flows(maps: &Maps, kind: Kind, families: Families) -> Vec<FlowRow> {
    let now = stats::monotonic();
    let seconds = |since: u64| Duration::from_nanos(now.saturating_sub(since)).as_secs();
    let row = |flow: FlowView| FlowRow {
        client: flow.client_side().source,
        gateway: flow.client_side().destination,
        source: flow.backend_side().source,
        backend: flow.backend_side().destination,
        direction: match flow.direction {
            Direction::ToBackend => "to backend",
            Direction::ToClient => "to client",
        },
        state: flow.phase.words(),
        packets: flow.packets,
        bytes: flow.bytes,
        age_seconds: seconds(flow.created),
        idle_seconds: flow.idle_seconds(now),
    };
    let entries = view::entries(maps).into_iter().filter(|flow| flow.kind == kind);
    entries.filter(|flow| families.has(flow.arriving.source.ip())).map(row).collect()
}

/// Seconds as people say them: the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    backend: String,
    slots: usize,
    /// 0 to 1.
    portion: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerRow {
    address: SocketAddr,
    table_size: u32,
    generation: u32,
    idle_timeout_seconds: u32,
    backends: Vec<Share>,
}

impl Row for ListenerRow {
    const COLUMNS: &'static [&'static str] = &["LISTENER", "TABLE", "GENERATION", "IDLE TIMEOUT", "BACKENDS"];

    fn cells(&self) -> Vec<String> {
        let shares =
            self.backends.iter().map(|share| format!("{} {:.1}%", share.backend, share.portion * 100.0));
        vec![
            self.address.to_string(),
            self.table_size.to_string(),
            self.generation.to_string(),
            duration(self.idle_timeout_seconds.into()),
            shares.collect::<Vec<_>>().join(", "),
        ]
    }
}

fn listeners(maps: &Maps, families: Families) -> Result<Vec<ListenerRow>> {
    let names = names(maps)?;
    let listeners = view::listeners(maps)?.into_iter().filter(|listener| families.has(listener.address.ip()));
    listeners
        .map(|listener| {
            Ok(ListenerRow {
                address: listener.address,
                table_size: listener.table.size,
                generation: listener.table.generation,
                idle_timeout_seconds: listener.table.idle_timeout,
                backends: shares(maps, &listener.table, &names)?,
            })
        })
        .collect()
}

/// Addresses of the backends by number.
fn names(maps: &Maps) -> Result<BTreeMap<BackendId, String>> {
    Ok(view::backends(maps)?.into_iter().map(|backend| (backend.id, backend.address.to_string())).collect())
}

fn shares(maps: &Maps, table: &Table, names: &BTreeMap<BackendId, String>) -> Result<Vec<Share>> {
    let mut counts: BTreeMap<BackendId, usize> = BTreeMap::new();
    for id in maps.read_table(table)? {
        *counts.entry(id).or_default() += 1;
    }
    let share = |(id, slots): (BackendId, usize)| Share {
        backend: names.get(&id).cloned().unwrap_or_else(|| format!("#{id} (unknown)")),
        slots,
        portion: slots as f64 / f64::from(table.size.max(1)),
    };
    Ok(counts.into_iter().map(share).collect())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotsRow {
    listener: SocketAddr,
    first_slot: u32,
    #[serde(flatten)]
    share: Share,
}

impl Row for SlotsRow {
    const COLUMNS: &'static [&'static str] = &["LISTENER", "FIRST SLOT", "BACKEND", "SLOTS", "SHARE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.listener.to_string(),
            self.first_slot.to_string(),
            self.share.backend.clone(),
            self.share.slots.to_string(),
            format!("{:.2}%", self.share.portion * 100.0),
        ]
    }
}

fn slots(maps: &Maps) -> Result<Vec<SlotsRow>> {
    let names = names(maps)?;
    let mut rows = Vec::new();
    for listener in view::listeners(maps)? {
        let row = |share| SlotsRow { listener: listener.address, first_slot: listener.table.base, share };
        rows.extend(shares(maps, &listener.table, &names)?.into_iter().map(row));
    }
    Ok(rows)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackendRow {
    id: BackendId,
    address: SocketAddr,
    /// Nothing: the client's own.
    source: Option<IpAddr>,
    interface: u32,
}

impl Row for BackendRow {
    const COLUMNS: &'static [&'static str] = &["ID", "BACKEND", "SOURCE", "INTERFACE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.address.to_string(),
            self.source.map_or_else(|| "client's".to_owned(), |source| source.to_string()),
            self.interface.to_string(),
        ]
    }
}

fn backends(maps: &Maps, families: Families) -> Result<Vec<BackendRow>> {
    let backends = view::backends(maps)?.into_iter().filter(|backend| families.has(backend.address.ip()));
    let row = |backend: view::BackendView| BackendRow {
        id: backend.id,
        address: backend.address,
        source: backend.source,
        interface: backend.oif,
    };
    Ok(backends.map(row).collect())
}

#[derive(Serialize)]
struct VerdictRow {
    verdict: &'static str,
    packets: u64,
    meaning: &'static str,
}

impl Row for VerdictRow {
    const COLUMNS: &'static [&'static str] = &["VERDICT", "PACKETS", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.verdict.to_owned(), self.packets.to_string(), self.meaning.to_owned()]
    }
}

fn verdicts(maps: &Maps) -> Result<Vec<VerdictRow>> {
    let verdicts = maps.verdicts()?.into_iter();
    Ok(verdicts
        .map(|(verdict, packets)| VerdictRow { verdict: verdict.label(), packets, meaning: verdict.words() })
        .collect())
}

#[derive(Serialize)]
struct ConfigRow {
    setting: &'static str,
    value: String,
}

impl Row for ConfigRow {
    const COLUMNS: &'static [&'static str] = &["SETTING", "VALUE"];

    fn cells(&self) -> Vec<String> {
        vec![self.setting.to_owned(), self.value.clone()]
    }
}

/// The key of the index is left out: who knows it can crowd a bucket.
fn config(maps: &Maps) -> Result<Vec<ConfigRow>> {
    let config = maps.config()?;
    let last = config.first_port.saturating_add(config.port_count).saturating_sub(1);
    let row = |setting, value| ConfigRow { setting, value };
    Ok(vec![
        row("source ports", format!("{}-{last}", config.first_port)),
        row("network namespace", config.namespace.to_string()),
        row("flows", config.flows.to_string()),
        row("handshakes", config.half_flows.to_string()),
        row("new flows a second of one source", config.source_rate.to_string()),
        row(
            "traced client",
            trace::client(&config).map_or_else(|| "none".to_owned(), |client| client.to_string()),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, want) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3661, "1h1m"), (90_000, "1d1h")] {
            assert_eq!(duration(seconds), want);
        }
    }
}
