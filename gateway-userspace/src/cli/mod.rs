//! The command line: one command a file. Talks to a running agent, over its admin socket or through a cluster's API server, or
//! reads pinned maps and documents by itself; never part of the agent.

mod admin_client;
pub mod check;
pub mod cleanup;
pub mod completions;
mod documents;
pub mod drain;
pub mod explain;
pub mod fleet;
pub mod flows;
pub mod logs;
pub mod man;
pub mod maps;
pub mod options;
mod own;
pub mod proxy_config;
pub mod ready;
pub mod remote;
pub mod status;
mod table;
mod tables;
pub mod top;
pub mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings::RunArgs;

/// Sluice, an ingress gateway that speaks Istio's API.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
#[command(after_help = "\
Examples:
  sluice check config/examples
  sluice run --config config/quickstart
  sluice explain --url https://webapp.example.com/api config/examples
  sluice proxy-config listeners
  sluice proxy-config routes --name http.80 -o yaml
  sluice analyze
  sluice proxy-status
  sluice proxy-config listeners sluice-7xk2p.sluice-system
  sluice flows --watch
  sluice top
  sluice trace --client 198.51.100.7
  sluice logs --errors
  sluice maps dump FLOWS")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve documents until SIGTERM or Ctrl-C.
    #[command(after_help = "\
Examples:
  sluice run --config config/quickstart
  sluice run --config gateways.yaml services/ --kernel require --interface eth0
  sluice run --config docs --labels istio=edge --namespace edge --admin-socket /run/edge.sock")]
    Run(Box<RunArgs>),
    /// Check documents without serving them; exit status 1 on an error.
    Check(check::CheckArgs),
    /// Check the documents of a cluster, as its API server has them, with those of files, if any are given, in their place:
    /// `sluice check --kubernetes`.
    Analyze(check::AnalyzeArgs),
    /// Say where a request would go, step by step, and which lines of which documents are responsible.
    Explain(Box<explain::ExplainArgs>),
    /// Show what a running agent serves: listeners, routes, clusters, endpoints, secrets.
    #[command(visible_alias = "pc")]
    ProxyConfig(proxy_config::ProxyConfigArgs),
    /// Show how a running agent is doing.
    Status(status::StatusArgs),
    /// Show how all gateways of a cluster are doing, and which of them have other documents than the rest.
    #[command(visible_alias = "ps")]
    ProxyStatus(fleet::ProxyStatusArgs),
    /// Show the pinned kernel maps, decoded; works without an agent too.
    Maps(maps::MapsArgs),
    /// Show the flows that the kernel steers and the connections that user space carries, with their rates; the kernel's
    /// without an agent too.
    Flows(flows::FlowsArgs),
    /// Watch a running agent: rates, listeners, services, endpoints, routes, flows, findings, on the whole terminal.
    Top(top::TopArgs),
    /// Follow the access log of a running agent, whatever the documents say about files.
    Logs(logs::LogsArgs),
    /// Show the packets of one client's flows as the kernel programs see them.
    Trace(trace::TraceArgs),
    /// Have a running agent be ready no more and tell HTTP clients to go, while it serves them: before it is stopped.
    Drain(drain::DrainArgs),
    /// Say by the exit status whether the agent of this container serves: for probes of pods that share a node's network.
    Ready(ready::ReadyArgs),
    /// Detach the kernel programs and remove everything they left.
    Cleanup(cleanup::CleanupArgs),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Print a manual page, or write all of them to a directory.
    Man(man::ManArgs),
}

/// Runs every command but `run`, which is the agent's.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(_) => anyhow::bail!("`run` is the agent's own"),
        Command::Check(args) => check::run(args),
        Command::Analyze(args) => check::analyze(args),
        Command::Explain(args) => explain::run(args),
        Command::ProxyConfig(args) => proxy_config::run(args),
        Command::Status(args) => status::run(args),
        Command::ProxyStatus(args) => fleet::run(args),
        Command::Maps(args) => maps::run(args).map(|()| ExitCode::SUCCESS),
        Command::Flows(args) => flows::run(args),
        Command::Top(args) => top::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Drain(args) => drain::run(args),
        Command::Ready(args) => ready::run(args),
        Command::Cleanup(args) => cleanup::run(args).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
