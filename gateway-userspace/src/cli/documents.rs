//! The documents that `check` and `explain` look at, once: those of files, of a cluster, or of both.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::{Instant, sleep, timeout_at};

use super::admin_client::runtime;
use super::remote;
use crate::api::{Code, Diagnostic, Severity};
use crate::model::CredentialSource;
use crate::settings::{ClusterArgs, IdentityArgs};
use crate::source::kubernetes::{Duties, Unread, client};
use crate::source::{FileSource, KubernetesSource, Loaded, Sources, read_named};
use crate::translate::Surroundings;

/// How long a cluster may take to tell all its documents.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long what is refused, or fails, is tried again.
const REFUSED: Duration = Duration::from_secs(1);
/// How often it is looked whether all that is missing is refused.
const LOOK: Duration = Duration::from_millis(50);
/// Kinds that an error names.
const NAMED: usize = 3;

/// Of a cluster's documents, which.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct NamespaceArgs {
    /// Namespace whose documents are read; may be given several times. Secrets are those of the gateway's namespace.
    #[arg(short = 'n', long = "watch-namespace", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// The documents of all namespaces, as without -n.
    #[arg(short = 'A', long, conflicts_with = "namespaces")]
    pub all_namespaces: bool,
}

/// What of a cluster is read, if `kubernetes` says that it is. Flags that would have no effect are an error.
pub(super) fn cluster<'a>(
    kubernetes: bool,
    cluster: &'a ClusterArgs,
    namespaces: &'a NamespaceArgs,
) -> anyhow::Result<Option<(&'a ClusterArgs, &'a NamespaceArgs)>> {
    let NamespaceArgs { namespaces: some, all_namespaces } = namespaces;
    let idle = (!some.is_empty()).then_some("-n").or_else(|| all_namespaces.then_some("-A"));
    match idle.or_else(|| remote::idle_flag(cluster)).filter(|_| !kubernetes) {
        Some(flag) => bail!("{flag} says something about a cluster, which is not read: add --kubernetes"),
        None => Ok(kubernetes.then_some((cluster, namespaces))),
    }
}

/// What was read.
pub(super) struct Documents {
    pub(super) loaded: Loaded,
    pub(super) surroundings: Surroundings,
}

/// Reads files, and the documents of a cluster, if one is given. What of it cannot be read is among the findings, unless nothing
/// can be said without it.
pub(super) fn read(
    files: Vec<PathBuf>,
    cluster: Option<(&ClusterArgs, &NamespaceArgs)>,
    identity: &IdentityArgs,
) -> anyhow::Result<Documents> {
    let mut files = FileSource::new(files, identity.default_namespace.as_str());
    let Some((cluster, namespaces)) = cluster else {
        let loaded = files.load();
        let mut surroundings = Surroundings::of(identity.identity());
        surroundings.learn(&loaded.objects);
        surroundings.files = read_named(&loaded.objects.files());
        return Ok(Documents { loaded, surroundings });
    };
    let (mut loaded, unread) = runtime()?.block_on(together(files, cluster, namespaces, identity))?;
    let mut surroundings = Surroundings::of(identity.identity());
    surroundings.learn(&loaded.objects);
    // What documents name by path is on the gateway's disk: what this machine has there says nothing of it.
    let on_gateways =
        |path: &str| (CredentialSource::File(path.into()), "it is on the gateway's disk".to_owned());
    surroundings.unread.extend(loaded.objects.files().into_iter().map(on_gateways));
    for it in unread {
        match it.credential.clone() {
            // Found at whatever names it.
            Some(credential @ CredentialSource::Secret(_)) => {
                drop(surroundings.unread.insert(credential, it.why));
            }
            credential => {
                loaded.diagnostics.push(finding(&it));
                surroundings.unread.extend(credential.map(|credential| (credential, it.why)));
            }
        }
    }
    Ok(Documents { loaded, surroundings })
}

fn finding(unread: &Unread) -> Diagnostic {
    let message = format!("{} could not be read: {}", unread.what, unread.why);
    Diagnostic::new(Severity::Warning, Code::NotRead, message)
}

async fn together(
    files: FileSource,
    cluster: &ClusterArgs,
    namespaces: &NamespaceArgs,
    identity: &IdentityArgs,
) -> anyhow::Result<(Loaded, Vec<Unread>)> {
    remote::probe(cluster).await?;
    let config = client::config(cluster).await?;
    let namespaces = namespaces.namespaces.clone();
    let cluster = KubernetesSource::start(config, identity.identity(), namespaces, Duties::default())?;
    let mut sources = Sources::proposing(files, cluster);
    let latest = Instant::now() + PATIENCE;
    loop {
        let told = timeout_at(latest, told(&mut sources)).await;
        told.with_context(|| {
            format!("the API server has not listed within {PATIENCE:?}: {}", sources.missing().join(", "))
        })?;
        refuse(&sources.unread())?;
        // What it says may lead to more of the cluster.
        if let Some(loaded) = sources.load()
            && sources.is_complete()
        {
            return Ok((loaded, sources.unread()));
        }
    }
}

/// Waits until something is told, or all that is not told is refused.
async fn told(sources: &mut Sources) {
    loop {
        tokio::select! {
            () = sources.changed() => return,
            () = sleep(LOOK) => sources.go_without(REFUSED),
        }
    }
}

/// Fails where nothing can be said without what is missing.
fn refuse(unread: &[Unread]) -> anyhow::Result<()> {
    let essential: Vec<_> = unread.iter().filter(|it| it.is_essential).collect();
    let Some(first) = essential.first() else { return Ok(()) };
    let mut what: Vec<&str> = essential.iter().take(NAMED).map(|it| it.what.as_str()).collect();
    let more = format!("{} more", essential.len().saturating_sub(NAMED));
    what.extend((essential.len() > NAMED).then_some(more.as_str()));
    bail!(
        "{} could not be read: {}\nthis user lacks the right to `list` and `watch` them; -n NAMESPACE reads those of one namespace",
        what.join(", "),
        first.why
    )
}
