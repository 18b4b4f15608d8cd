//! `sluice proxy-config`: the configuration in force, in the manner of istioctl.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use super::admin_client::Agent;
use super::options::{FormArgs, Output};
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
    /// What to show.
    #[arg(value_enum)]
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
    /// How they are shown.
    #[command(flatten)]
    pub form: FormArgs,
    /// The agent's unix socket.
    #[arg(long, env = "SLUICE_ADMIN_SOCKET", value_name = "SOCKET", default_value_os_t = default_admin_socket())]
    pub admin_socket: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// What is shown, by the names and short names that istioctl has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Ports, what is done on each, and which plane does it.
    #[value(aliases = ["listener", "l"])]
    Listeners,
    /// Virtual hosts and their routes.
    #[value(aliases = ["route", "r"])]
    Routes,
    /// Services.
    #[value(aliases = ["cluster", "c"])]
    Clusters,
    /// Their addresses, and how they are.
    #[value(aliases = ["endpoint", "ep"])]
    Endpoints,
    /// Certificates, never their keys.
    #[value(aliases = ["secret", "s"])]
    Secrets,
    /// Everything.
    #[value(alias = "a")]
    All,
}

/// The kinds, in the order of a request's way.
const KINDS: [Kind; 5] = [Kind::Listeners, Kind::Routes, Kind::Clusters, Kind::Endpoints, Kind::Secrets];

impl What {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Listeners => &KINDS[..1],
            Self::Routes => &KINDS[1..2],
            Self::Clusters => &KINDS[2..3],
            Self::Endpoints => &KINDS[3..4],
            Self::Secrets => &KINDS[4..],
            Self::All => &KINDS,
        }
    }
}

/// Asks the agent and prints.
pub fn run(args: &ProxyConfigArgs) -> anyhow::Result<ExitCode> {
    let is_whole = args.what == What::All && matches!(args.form.output, Output::Json | Output::Yaml);
    ensure!(
        !is_whole || (args.name.is_none() && args.port.is_none()),
        "all of it for programs has no filters: name a kind, such as `proxy-config routes`"
    );
    let namespace = args.namespace.as_deref();
    let agent = Agent::of(&args.admin_socket, args.pod.as_deref(), namespace, &args.remote)?;
    match args.form.output {
        // As it comes: it may be more than fits.
        Output::Json if is_whole => {
            agent.copy("/config_dump", |part| Ok(table::print_bytes(part)?))?;
            table::print("\n")?;
        }
        Output::Yaml if is_whole => {
            let whole: serde_json::Value = agent.get("/config_dump")?;
            table::print(&args.form.output.render(&whole, String::new)?)?;
        }
        _ => {
            for (at, kind) in args.what.kinds().iter().enumerate() {
                table::print(if at > 0 { "\n" } else { "" })?;
                one(&agent, *kind, args)?;
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
    let text = match args.form.output {
        Output::Table | Output::Wide => {
            let rows: Vec<Vec<String>> = items.into_iter().map(|item| item.cells).collect();
            args.form.table(kind.columns(), &rows)
        }
        machines => machines.render(&objects(items), String::new)?,
    };
    Ok(table::print(&text)?)
}

/// Several rows can stand for one object; it is shown once.
fn objects(items: Vec<Item>) -> Vec<serde_json::Value> {
    items.into_iter().filter_map(|item| item.object).collect()
}
