//! `sluice proxy-status`: all gateways of a cluster, side by side, and which of them has other documents in force than its
//! like. Generations are each process' own; fingerprints of documents are not.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use futures_util::StreamExt as _;
use kube::Client;
use serde::Serialize;

use super::admin_client::{get_through, runtime};
use super::options::FormArgs;
use super::remote::{self, Forward, GatewayPod, RemoteArgs};
use super::{status, table};
use crate::admin::view::Status;
use crate::settings::default_admin_socket;

/// Gateways that are asked at once.
const AT_ONCE: usize = 16;
/// Readings until gateways that disagree are taken to do so: a change reaches no two of them at the same moment.
const READINGS: usize = 3;
/// Pause between two readings.
const PAUSE: Duration = Duration::from_millis(400);
/// Digits of a fingerprint that are shown.
const SHOWN: usize = 8;

const COLUMNS: &[&str] =
    &["POD", "NODE", "READY", "VERSION", "GENERATION", "DOCUMENTS", "IN SYNC", "LISTENERS", "KERNEL"];

/// Flags of `sluice proxy-status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks every gateway pod through the API server's port-forward, as the kubeconfig's user, who needs `list` on pods,
`get` and `create` on pods/portforward. IN SYNC is `yes` where a gateway has the same documents in force as most of those with
the same labels, else `no` with the beginning of its fingerprint; behind it stands for how long it has not heard of
changes, if it does not. Exit status 1 if one is not ready, does not answer, or is not in sync.

Examples:
  sluice proxy-status
  sluice proxy-status -n sluice-system --selector istio=ingressgateway
  sluice proxy-status sluice-7xk2p.sluice-system
  sluice proxy-status -o json")]
pub struct ProxyStatusArgs {
    /// One gateway, by its pod or its node, of which everything is shown: as `sluice status POD`.
    #[arg(value_name = "POD|NODE")]
    pub pod: Option<String>,
    /// Namespace of the pods. Default: all of them; of one POD, that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub form: FormArgs,
    /// Where, and as whom.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// What gateways have in common that are to agree: their namespace and labels.
type Group = (String, BTreeMap<String, String>);

/// A gateway, and what it says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod: String,
    namespace: String,
    node: String,
    phase: String,
    /// Whether it has the documents of most of its like; `None`: it does not say which it has.
    in_sync: Option<bool>,
    /// Why it does not answer.
    error: Option<String>,
    status: Option<Status>,
    #[serde(skip)]
    group: Group,
}

/// Asks all of them, or one, and prints.
pub fn run(args: &ProxyStatusArgs) -> anyhow::Result<ExitCode> {
    let namespace = args.namespace.as_deref();
    match &args.pod {
        None => all(namespace, &args.remote, args.form),
        Some(pod) => {
            let agent =
                super::admin_client::Agent::of(&default_admin_socket(), Some(pod), namespace, &args.remote)?;
            status::show(&agent, args.form.output)
        }
    }
}

/// The table of all.
pub(super) fn all(namespace: Option<&str>, args: &RemoteArgs, form: FormArgs) -> anyhow::Result<ExitCode> {
    let rows = runtime()?.block_on(read(namespace, args))?;
    table::print(&form.output.render(&rows, || render(&rows, form))?)?;
    let is_well = |row: &Row| row.in_sync == Some(true) && row.status.as_ref().is_some_and(|it| it.ready);
    Ok(if rows.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn read(namespace: Option<&str>, args: &RemoteArgs) -> anyhow::Result<Vec<Row>> {
    let client = remote::connect(&args.cluster).await?;
    let pods = remote::gateways(&client, namespace, &args.selector).await?;
    let within = namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
    ensure!(
        !pods.is_empty(),
        "no pod{within} has the labels {}: say which gateways have, with --selector",
        args.selector
    );
    let mut rows = ask_all(&client, &pods, args.admin_port).await;
    for _ in 1..READINGS {
        if judge(&mut rows) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        rows = ask_all(&client, &pods, args.admin_port).await;
    }
    judge(&mut rows);
    Ok(rows)
}

async fn ask_all(client: &Client, pods: &[GatewayPod], port: u16) -> Vec<Row> {
    let asked = futures_util::stream::iter(pods).map(|pod| ask(client, pod, port));
    asked.buffered(AT_ONCE).collect().await
}

async fn ask(client: &Client, pod: &GatewayPod, port: u16) -> Row {
    let answer = if pod.runs() {
        get_through::<Status>(Forward::to(client.clone(), pod, port), "/status").await
    } else {
        Err(anyhow::anyhow!("the pod is {}", pod.phase))
    };
    let error = answer.as_ref().err().map(|error| format!("{error:#}"));
    Row {
        pod: pod.name.clone(),
        namespace: pod.namespace.clone(),
        node: pod.node.clone(),
        phase: pod.phase.clone(),
        in_sync: None,
        error,
        status: answer.ok(),
        group: (pod.namespace.clone(), pod.labels.clone()),
    }
}

/// Says of each gateway whether it agrees with most of its like; where no fingerprint has most, none does. Whether all do.
fn judge(rows: &mut [Row]) -> bool {
    let mut votes: HashMap<Group, HashMap<String, usize>> = HashMap::new();
    for (group, fingerprint) in rows.iter().filter_map(vote) {
        *votes.entry(group.clone()).or_default().entry(fingerprint.to_owned()).or_default() += 1;
    }
    for row in rows.iter_mut() {
        row.in_sync = vote(row).and_then(|(group, fingerprint)| {
            let cast = votes.get(group)?;
            Some(cast.get(fingerprint)? * 2 > cast.values().sum())
        });
    }
    rows.iter().all(|row| row.in_sync != Some(false))
}

fn vote(row: &Row) -> Option<(&Group, &str)> {
    let fingerprint = row.status.as_ref()?.fingerprint.as_str();
    // An agent of before there were any says nothing.
    (!fingerprint.is_empty()).then_some((&row.group, fingerprint))
}

fn render(rows: &[Row], form: FormArgs) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let mut text = form.table(COLUMNS, &cells);
    for row in rows {
        if let Some(error) = &row.error {
            let _ = writeln!(text, "\n{}.{}: {error}", row.pod, row.namespace);
        }
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let node = if row.node.is_empty() { "-" } else { &row.node };
    let mut cells = vec![format!("{}.{}", row.pod, row.namespace), node.to_owned()];
    match &row.status {
        None => {
            cells.push("no".to_owned());
            cells.extend(std::iter::repeat_n("-".to_owned(), COLUMNS.len() - cells.len()));
        }
        Some(status) => cells.extend([
            if status.ready { "yes" } else { "no" }.to_owned(),
            status.version.clone(),
            status.generation.to_string(),
            status.documents.to_string(),
            sync(row.in_sync, status),
            match status.bind_failures.len() {
                0 => status.listeners.to_string(),
                failed => format!("{} ({failed} not open)", status.listeners),
            },
            status.kernel_plane.clone(),
        ]),
    }
    cells
}

fn sync(in_sync: Option<bool>, status: &Status) -> String {
    let mut text = match in_sync {
        Some(true) => "yes".to_owned(),
        Some(false) => format!("no ({})", status.fingerprint.get(..SHOWN).unwrap_or(&status.fingerprint)),
        None => "unknown".to_owned(),
    };
    if let Some(cluster) = status.cluster.as_ref().filter(|cluster| !cluster.lost.is_empty()) {
        let _ = write!(text, ", unheard for {} s", cluster.state_age);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(pod: &str, label: &str, fingerprint: Option<&str>) -> Row {
        let status = fingerprint.map(|fingerprint| {
            serde_json::from_value(json!({
                "version": "0.1.0", "ready": true, "generation": 7, "documents": 12, "fingerprint": fingerprint,
                "listeners": 2, "kernelPlane": "on", "interfaces": [], "bindFailures": [], "credentialFaults": [],
                "diagnostics": [], "accessLogDropped": null, "kernel": null,
            }))
            .expect("a status")
        });
        Row {
            pod: pod.to_owned(),
            namespace: "edge".to_owned(),
            node: "n1".to_owned(),
            phase: "Running".to_owned(),
            in_sync: None,
            error: status.is_none().then(|| "it keeps silent".to_owned()),
            status,
            group: ("edge".to_owned(), BTreeMap::from([("istio".to_owned(), label.to_owned())])),
        }
    }

    fn judged(rows: &[(&str, Option<&str>)]) -> (bool, Vec<Option<bool>>) {
        let mut rows: Vec<Row> = rows.iter().map(|(label, of)| row("a", label, *of)).collect();
        let agree = judge(&mut rows);
        (agree, rows.iter().map(|row| row.in_sync).collect())
    }

    #[test]
    fn who_differs_from_most_of_its_like_is_not_in_sync() {
        let (yes, no) = (Some(true), Some(false));
        for (rows, agree, want) in [
            (&[("a", Some("1"))][..], true, vec![yes]),
            (&[("a", Some("1")), ("a", Some("1")), ("a", Some("2"))], false, vec![yes, yes, no]),
            // Of two nobody knows who is behind.
            (&[("a", Some("1")), ("a", Some("2"))], false, vec![no, no]),
            // Other gateways have other Secrets to read.
            (&[("a", Some("1")), ("b", Some("2"))], true, vec![yes, yes]),
            (&[("a", Some("1")), ("a", None), ("a", Some(""))], true, vec![yes, None, None]),
        ] {
            assert_eq!(judged(rows), (agree, want), "{rows:?}");
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_and_says_why_one_has_nothing_in_it() {
        let mut rows =
            [row("one", "a", Some("0123456789ab")), row("two", "a", Some("f")), row("three", "a", None)];
        judge(&mut rows);
        let link = json!({"documents": 12, "stateAge": 35, "lost": {"services": "gone"}, "absent": []});
        rows[1].status.as_mut().expect("a status").cluster = serde_json::from_value(link).expect("a link");
        let text = render(&rows, FormArgs::default());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("   ").map(str::trim).filter(|it| !it.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], COLUMNS);
        assert_eq!(lines[1], ["one.edge", "n1", "yes", "0.1.0", "7", "12", "no (01234567)", "2", "on"]);
        assert_eq!(lines[2][6], "no (f), unheard for 35 s");
        assert_eq!(lines[3], ["three.edge", "n1", "no", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(lines[5], ["three.edge: it keeps silent"]);
    }
}
