//! A gateway in a cluster, which is asked through the API server's port-forward, as the user of a kubeconfig: what kubectl
//! and istioctl do. Nothing of the gateway's has to be reachable for that but its pod's admin address, by the node alone.

mod failure;
mod forward;
mod pods;
mod target;

use std::time::Duration;

use clap::Args;
use http::StatusCode;
use kube::Client;

use crate::settings::ClusterArgs;
use crate::source::kubernetes::client;

pub(super) use self::forward::Forward;
pub(super) use self::pods::{GatewayPod, gateways};

use self::target::readings;

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where in a cluster gateways are looked for, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct RemoteArgs {
    /// Labels that gateway pods have, where one is looked for by its node, or all of them.
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "app.kubernetes.io/name=sluice")]
    pub selector: String,
    /// Port that agents have their --admin-address on.
    #[arg(long, value_name = "PORT", default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    pub admin_port: u16,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// The first flag that says which cluster is meant, for commands that ask none.
pub(super) fn idle_flag(cluster: &ClusterArgs) -> Option<&'static str> {
    let ClusterArgs { kubeconfig, context } = cluster;
    let kubeconfig = kubeconfig.as_ref().map(|_| "--kubeconfig");
    kubeconfig.or_else(|| context.as_ref().map(|_| "--context"))
}

/// A client of the API server's. To be made on the runtime that it is used on.
pub(super) async fn connect(args: &ClusterArgs) -> anyhow::Result<Client> {
    let mut config = client::config(args).await?;
    config.connect_timeout = Some(PATIENCE);
    Ok(Client::try_from(config)?)
}

/// Whether the API server answers, and knows who asks.
pub(super) async fn probe(args: &ClusterArgs) -> anyhow::Result<()> {
    let client = connect(args).await?;
    match pods::within(client.apiserver_version()).await? {
        // Who may not ask for that may still read documents.
        Err(error) if !failure::is(&error, StatusCode::FORBIDDEN) => Err(failure::in_words(error)),
        _ => Ok(()),
    }
}

/// The way to the gateway that a user names by its pod or node.
pub(super) async fn reach(name: &str, namespace: Option<&str>, args: &RemoteArgs) -> anyhow::Result<Forward> {
    let readings = readings(name, namespace).map_err(anyhow::Error::msg)?;
    let client = connect(&args.cluster).await?;
    let pod = pods::find(&client, name, &readings, (namespace, &args.selector)).await?;
    Ok(Forward::to(client, &pod, args.admin_port))
}
