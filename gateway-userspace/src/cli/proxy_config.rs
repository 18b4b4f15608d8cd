//! `sluice proxy-config`: the configuration in force, in the manner of istioctl.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{admin_client, table};
use crate::admin::dump::{Item, Kind};
use crate::settings::default_admin_socket;

/// Flags of `sluice proxy-config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice proxy-config listeners
  sluice proxy-config listeners --port 31400 -o json
  sluice proxy-config routes --name http.8080
  sluice proxy-config endpoints --name 'outbound|80||webapp.default.svc.cluster.local'")]
pub struct ProxyConfigArgs {
    /// What to show.
    #[arg(value_parser = parse_kind)]
    pub kind: Kind,
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

fn parse_kind(name: &str) -> Result<Kind, String> {
    let (singular, plural) = (name.to_owned(), format!("{name}s"));
    Kind::parse(&singular)
        .or_else(|| Kind::parse(&plural))
        .ok_or_else(|| "expected listeners, routes, clusters, endpoints or secrets".to_owned())
}

/// Asks the agent and prints.
pub fn run(args: &ProxyConfigArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/proxy-config/{}", args.kind.name());
    let mut items: Vec<Item> = admin_client::get(&args.admin_socket, &path)?;
    items.retain(|item| {
        args.name.as_ref().is_none_or(|name| item.name.contains(name.as_str()))
            && args.port.is_none_or(|port| item.port == Some(port))
    });
    let text = match args.output {
        Output::Table => table::render(args.kind.columns(), items.iter().map(|item| item.cells.as_slice())),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&objects(items))?),
        Output::Yaml => serde_saphyr::to_string(&objects(items))?,
    };
    table::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Several rows can stand for one object; it is shown once.
fn objects(items: Vec<Item>) -> Vec<serde_json::Value> {
    items.into_iter().filter_map(|item| item.object).collect()
}
