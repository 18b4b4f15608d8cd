//! `sluice status`: how a running agent is doing.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use gateway_common::{Action, Verdict};

use super::admin_client::Agent;
use super::options::{FormArgs, Output};
use super::remote::RemoteArgs;
use super::{fleet, table};
use crate::admin::view::Status;
use crate::datapath::Status as KernelStatus;
use crate::datapath::tally::Traffic;
use crate::settings::default_admin_socket;
use crate::source::kubernetes::LinkView;

/// Unhealthy endpoints that are named; `sluice proxy-config endpoints` has all of them.
const UNHEALTHY_SHOWN: usize = 10;

/// Flags of `sluice status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice status
  sluice status sluice-7xk2p.sluice-system
  sluice status node/worker-3
  sluice status --all -n sluice-system")]
pub struct StatusArgs {
    /// A gateway in a cluster, by its pod (POD, POD.NAMESPACE) or its node, which is asked through the API server.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// All gateways of a cluster, a line each: as `sluice proxy-status`.
    #[arg(long, conflicts_with = "pod")]
    pub all: bool,
    /// Namespace of the pod. Default: that of the kubeconfig's context; with --all, all of them.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub form: FormArgs,
    /// The same as `-o json`.
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Asks the agent and prints. Exit status 1 when it is not ready.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let mut form = args.form;
    if args.json {
        form.output = Output::Json;
    }
    let namespace = args.namespace.as_deref();
    if args.all {
        return fleet::all(namespace, &args.remote, form);
    }
    show(&Agent::of(&args.admin_socket, args.pod.as_deref(), namespace, &args.remote)?, form.output)
}

/// One agent's.
pub(super) fn show(agent: &Agent, output: Output) -> anyhow::Result<ExitCode> {
    let status: Status = agent.get("/status")?;
    let text = words(&status)?;
    table::print(&output.render(&status, || text)?)?;
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(status: &Status) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let ready = if status.ready { "ready" } else { "not ready" };
    writeln!(out, "sluice {}: {ready}, generation {}", status.version, status.generation)?;
    if !status.fingerprint.is_empty() {
        writeln!(out, "documents:     {}, fingerprint {}", status.documents, status.fingerprint)?;
    }
    writeln!(out, "listeners:     {} ({} not open)", status.listeners, status.bind_failures.len())?;
    for exposure in &status.exposures {
        writeln!(out, "found at:      {exposure}")?;
    }
    writeln!(out, "kernel plane:  {}", status.kernel_plane)?;
    if !status.interfaces.is_empty() {
        writeln!(out, "interfaces:    {}", status.interfaces.join(", "))?;
    }
    if let Some(cluster) = &status.cluster {
        link(&mut out, cluster)?;
    }
    for log in &status.access_logs {
        writeln!(out, "access log:    {log}")?;
    }
    if !status.refused.is_empty() {
        let refused: Vec<_> =
            status.refused.iter().map(|(label, count)| format!("{label} {count}")).collect();
        writeln!(out, "refused:       {}", refused.join(", "))?;
    }
    if let Some(dropped) = status.access_log_dropped.filter(|dropped| *dropped > 0) {
        writeln!(out, "access log:    {dropped} lines lost")?;
    }
    for (listener, reason) in &status.bind_failures {
        writeln!(out, "not open:      {listener}: {reason}")?;
    }
    for endpoint in status.unhealthy.iter().take(UNHEALTHY_SHOWN) {
        writeln!(out, "unhealthy:     {endpoint}")?;
    }
    if status.unhealthy.len() > UNHEALTHY_SHOWN {
        writeln!(out, "unhealthy:     {} more", status.unhealthy.len() - UNHEALTHY_SHOWN)?;
    }
    for diagnostic in &status.diagnostics {
        writeln!(out, "document:      {diagnostic}")?;
    }
    if let Some(kernel) = &status.kernel {
        tables(&mut out, kernel)?;
        handoff(&mut out, kernel)?;
        verdicts(&mut out, kernel)?;
        out.push_str(&listeners(kernel));
        out.push_str(&backends(kernel));
    }
    Ok(out)
}

fn link(out: &mut String, cluster: &LinkView) -> fmt::Result {
    let age = match cluster.state_age {
        _ if cluster.lost.is_empty() => "all changes are heard".to_owned(),
        age => format!("changes have not been heard for {age} s"),
    };
    writeln!(out, "API server:    {} documents, {age}", cluster.documents)?;
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (what, why) in &cluster.lost {
        reasons.entry(why).or_default().push(what);
    }
    for (why, what) in reasons {
        writeln!(out, "not heard:     {why}: {}", what.join(", "))?;
    }
    if !cluster.absent.is_empty() {
        let kinds: Vec<_> = cluster.absent.iter().map(String::as_str).collect();
        writeln!(out, "not defined:   {}: the cluster has no such kinds", kinds.join(", "))?;
    }
    Ok(())
}

fn tables(out: &mut String, kernel: &KernelStatus) -> fmt::Result {
    let (flows, handshakes, memory) = (&kernel.flows, &kernel.handshakes, &kernel.memory);
    writeln!(out, "flows:         {} IPv4, {} IPv6, of {} each", flows.ipv4, flows.ipv6, kernel.max_flows)?;
    let most = kernel.max_handshakes;
    writeln!(out, "handshakes:    {} IPv4, {} IPv6, of {most} each", handshakes.ipv4, handshakes.ipv6)?;
    writeln!(
        out,
        "in use:        {} records, {} translations, {} source ports",
        kernel.in_use.ipv4_records + kernel.in_use.ipv6_records,
        kernel.in_use.translations,
        kernel.in_use.source_ports
    )?;
    writeln!(
        out,
        "memory:        {:.1} MiB of flow tables; {:.0} bytes an IPv4 flow, {:.0} an IPv6 flow, {} more if handed over",
        memory.total_bytes as f64 / f64::from(1 << 20),
        memory.bytes_per_ipv4_flow,
        memory.bytes_per_ipv6_flow,
        memory.bytes_per_translation,
    )
}

/// Nothing until a connection was to be handed over.
fn handoff(out: &mut String, kernel: &KernelStatus) -> fmt::Result {
    let handoff = &kernel.handoff;
    if handoff.attempted == 0 {
        return Ok(());
    }
    let times = handoff.microseconds;
    write!(out, "handed over:   {} of {}", handoff.handed_over, handoff.attempted)?;
    write!(out, ", in {} µs (p50), {} µs (p99)", times.p50, times.p99)?;
    let refused: Vec<_> = handoff.refused.iter().map(|(label, count)| format!("{label} {count}")).collect();
    if !refused.is_empty() {
        write!(out, "; not: {}", refused.join(", "))?;
    }
    writeln!(out)
}

/// Those that were given, by what became of the packets.
fn verdicts(out: &mut String, kernel: &KernelStatus) -> fmt::Result {
    for (action, name) in
        [(Action::Send, "sent:    "), (Action::Drop, "dropped: "), (Action::Pass, "passed:  ")]
    {
        let given = Verdict::ALL.iter().filter(|verdict| verdict.action() == action).filter_map(|verdict| {
            let count = kernel.verdicts.get(verdict.label()).filter(|count| **count > 0)?;
            Some(format!("{} {count}", verdict.label()))
        });
        let given: Vec<String> = given.collect();
        if !given.is_empty() {
            writeln!(out, "{name}      {}", given.join(", "))?;
        }
    }
    Ok(())
}

/// Cells of what flows carried.
fn carried(active: u64, traffic: &Traffic) -> [String; 6] {
    [
        active,
        traffic.flows.saturating_sub(active),
        traffic.packets_to_backend,
        traffic.bytes_to_backend,
        traffic.packets_to_client,
        traffic.bytes_to_client,
    ]
    .map(|number| number.to_string())
}

const CARRIED: [&str; 6] =
    ["FLOWS", "ENDED", "PACKETS TO BACKEND", "BYTES TO BACKEND", "PACKETS TO CLIENT", "BYTES TO CLIENT"];

fn listeners(kernel: &KernelStatus) -> String {
    let rows = kernel.listener_traffic.iter().map(|row| {
        let name = std::iter::once(row.listener.clone());
        name.chain(carried(row.active, &row.traffic)).collect::<Vec<_>>()
    });
    block(&[&["LISTENER"], &CARRIED[..]].concat(), rows.collect())
}

fn backends(kernel: &KernelStatus) -> String {
    let rows = kernel.backend_traffic.iter().map(|row| {
        let failures = [row.failures.refused, row.failures.unanswered].map(|number| number.to_string());
        let name = std::iter::once(row.backend.to_string());
        name.chain(carried(row.active, &row.traffic)).chain(failures).collect::<Vec<_>>()
    });
    block(&[&["BACKEND"], &CARRIED[..], &["REFUSED", "UNANSWERED"]].concat(), rows.collect())
}

/// A table behind an empty line; nothing without rows.
fn block(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", table::render(columns, rows.iter().map(Vec::as_slice)))
}
