//! `sluice proxy-config`: the configuration in force, in the manner of istioctl.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::admin_client::Agent;
use super::remote::RemoteArgs;
use super::table;
use crate::admin::dump::{Item, Kind};
use crate::settings::default_admin_socket;

/// Flags of `sluice proxy-config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice proxy-config listeners
  sluice proxy-config listeners --port 31400 -o json
  sluice proxy-config routes --name http.8080
  sluice proxy-config endpoints --name 'outbound|80||webapp.default.svc.cluster.local'
  sluice proxy-config routes sluice-7xk2p.sluice-system --name http.8080
  sluice proxy-config secrets node/worker-3 -n sluice-system
  sluice proxy-config all sluice-7xk2p -n sluice-system -o json > dump.json")]
pub struct ProxyConfigArgs {
    /// What to show: listeners, routes, clusters, endpoints, secrets, or all of them.
    #[arg(value_parser = parse_what)]
    pub what: What,
    /// A gateway in a cluster, by its pod (POD, POD.NAMESPACE) or its node, which is asked through the API server.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// Namespace of the pod. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only objects whose name contains this: a listener, route table, service, cluster or secret.
    #[arg(long)]
    pub name: Option<String>,
    /// Only objects of this port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// The whole objects.
    Json,
    /// The whole objects.
    Yaml,
}

impl Output {
    /// A value in this form, of which `table` makes that for people.
    pub(super) fn render<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<String> {
        Ok(match self {
            Self::Table => table(),
            Self::Json => format!("{}\n", serde_json::to_string_pretty(value)?),
            Self::Yaml => serde_saphyr::to_string(value)?,
        })
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// One kind.
    Kind(Kind),
    /// Everything.
    All,
}

/// The kinds, in the order of a request's way.
const KINDS: [Kind; 5] = [Kind::Listeners, Kind::Routes, Kind::Clusters, Kind::Endpoints, Kind::Secrets];

fn parse_what(name: &str) -> Result<What, String> {
    if name == "all" {
        return Ok(What::All);
    }
    let (singular, plural) = (name.to_owned(), format!("{name}s"));
    Kind::parse(&singular)
        .or_else(|| Kind::parse(&plural))
        .map(What::Kind)
        .ok_or_else(|| "expected listeners, routes, clusters, endpoints, secrets or all".to_owned())
}

/// Asks the agent and prints.
pub fn run(args: &ProxyConfigArgs) -> anyhow::Result<ExitCode> {
    if args.what == What::All && args.output != Output::Table {
        ensure!(args.output == Output::Json, "all of it is told as a table or as JSON");
        ensure!(args.name.is_none() && args.port.is_none(), "all of it as JSON has no filters: name a kind");
    }
    let namespace = args.namespace.as_deref();
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), namespace, &args.remote)?;
    match args.what {
        What::Kind(kind) => one(&agent, kind, args)?,
        // As it comes: it may be more than fits.
        What::All if args.output == Output::Json => {
            agent.copy("/config_dump", |part| Ok(table::print_bytes(part)?))?;
            table::print("\n")?;
        }
        What::All => {
            for (at, kind) in KINDS.into_iter().enumerate() {
                table::print(if at > 0 { "\n" } else { "" })?;
                one(&agent, kind, args)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(agent: &Agent, kind: Kind, args: &ProxyConfigArgs) -> anyhow::Result<()> {
    let mut items: Vec<Item> = agent.get(&format!("/proxy-config/{}", kind.name()))?;
    items.retain(|item| {
        args.name.as_ref().is_none_or(|name| item.name.contains(name.as_str()))
            && args.port.is_none_or(|port| item.port == Some(port))
    });
    let text = match args.output {
        Output::Table => table::render(kind.columns(), items.iter().map(|item| item.cells.as_slice())),
        machines => machines.render(&objects(items), String::new)?,
    };
    Ok(table::print(&text)?)
}

/// Several rows can stand for one object; it is shown once.
fn objects(items: Vec<Item>) -> Vec<serde_json::Value> {
    items.into_iter().filter_map(|item| item.object).collect()
}
