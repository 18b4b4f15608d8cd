//! `sluice logs`: the lines of a running agent's access log as they come, whatever the documents say about files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};

use super::admin_client::Agent;
use super::remote::RemoteArgs;
use super::table;
use crate::settings::default_admin_socket;
use crate::telemetry::access::{Line, Wish};

/// Flags of `sluice logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each request, and for each TCP connection of either plane, when it is over, in Istio's default format. Files of
access logs, and what documents say of them, have no part in it. What this command does not read in time is left out, and
its number said on standard error. Filters may ask for headers that the access logs in force ask for.

Examples:
  sluice logs --errors
  sluice logs --host shop.example.com --count 10 -o json
  sluice logs --filter \"response.code == 503 && request.url_path.startsWith('/api')\"
  sluice logs sluice-7xk2p.sluice-system --listener 8443")]
pub struct LogsArgs {
    /// A gateway in a cluster, by its pod (POD, POD.NAMESPACE) or its node, which is asked through the API server.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// Namespace of the pod. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only what this expression is true of: CEL, as in a Telemetry's `accessLogging[].filter`.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Only what came to this port of the gateway.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listener: Option<u16>,
    /// Only requests for this host, and connections with this server name.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only what failed: with a response flag, a status from 400 on, or a gRPC status but 0.
    #[arg(long)]
    pub errors: bool,
    /// Lines until the end.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Form of the lines.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Istio's text format.
    Text,
    /// Istio's JSON, an object a line.
    Json,
}

/// Asks the agent and prints what comes.
pub fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let wish = Wish {
        filter: args.filter.clone(),
        host: args.host.clone(),
        port: args.listener,
        errors: args.errors,
        json: args.output == Output::Json,
        count: args.count,
    };
    let path = format!("/logs/{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wish)?));
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), args.namespace.as_deref(), &args.remote)?;
    agent.follow(&path, |line| {
        let line =
            serde_json::from_slice(line).context("cannot be read; is the agent of another version?")?;
        Ok(match line {
            Line::Line(text) => table::print_on(&(text + "\n"))?,
            Line::LeftOut(number) => {
                eprintln!("{number} lines were left out");
                std::ops::ControlFlow::Continue(())
            }
        })
    })?;
    Ok(ExitCode::SUCCESS)
}
