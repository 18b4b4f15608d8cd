//! From what the sources hold to the next generation of everything.

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::admission;
use crate::admin::dashboard::worst_findings;
use crate::analysis::{Analysis, Analyst};
use crate::api::diagnostic::{Diagnostic, Severity, render};
use crate::api::{Fingerprint, Objects};
use crate::proxy::Runtime;
use crate::resolve::{self, Resolver};
use crate::settings::{KubernetesArgs, RunArgs};
use crate::source::kubernetes::{Duties, Link, client};
use crate::source::{FileSource, KubernetesSource, NamedFiles, Sources};
use crate::tls::CredentialFault;
use crate::translate::{LogSettings, Surroundings};

/// How long a generation waits for the addresses of names, and for Secrets, that are new in it.
const WARMING: Duration = Duration::from_secs(2);

/// One generation, ready to be put in force.
pub(super) struct Generation {
    pub(super) runtime: Arc<Runtime>,
    pub(super) credential_faults: Vec<(String, String)>,
    /// One line each, for the status.
    pub(super) diagnostics: Vec<String>,
    /// How many there are, by severity and code.
    pub(super) findings: BTreeMap<(&'static str, &'static str), usize>,
    /// The worst of them, for the dashboard.
    pub(super) worst: Arc<[Diagnostic]>,
    /// Documents that it was made of, sound or not.
    pub(super) documents: usize,
    /// The sound ones.
    pub(super) objects: Arc<Objects>,
    /// Tells those in force from other ones.
    pub(super) fingerprint: Fingerprint,
}

/// The sources, and what has been said about them.
pub(super) struct Configuration {
    sources: Sources,
    /// Certificates and keys that documents name by path.
    named: NamedFiles,
    surroundings: Surroundings,
    analyst: Analyst,
    resolver: Resolver,
    /// A generation waits for addresses of its names until then.
    waiting: Option<Instant>,
    generation: u64,
    said: Said,
    colour: bool,
}

impl Configuration {
    pub(super) async fn new(args: &RunArgs) -> anyhow::Result<Self> {
        let files = FileSource::new(args.config.clone(), &args.identity.default_namespace);
        let cluster = if args.kubernetes.kubernetes {
            let config = client::config(&args.kubernetes.cluster).await?;
            let namespaces = args.kubernetes.watch_namespaces.clone();
            let duties = Duties {
                status: !args.kubernetes.no_status,
                webhook: admission::webhook(&args.kubernetes, &args.identity.namespace),
            };
            Some(KubernetesSource::start(config, args.identity.identity(), namespaces, duties)?)
        } else {
            None
        };
        Ok(Self {
            sources: Sources::new(files, cluster),
            named: NamedFiles::default(),
            surroundings: Surroundings {
                logs: LogSettings {
                    file: args.access_log.as_deref().map(Arc::from),
                    encoding: args.access_log_format,
                },
                ..Surroundings::of(args.identity.identity())
            },
            analyst: Analyst::default(),
            resolver: Resolver::new(args.dns_servers.clone()),
            waiting: None,
            generation: 0,
            said: Said::default(),
            colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        })
    }

    /// Begins to answer the API server's questions, if that is wished.
    pub(super) fn answer(&self, args: &KubernetesArgs) -> anyhow::Result<()> {
        if let (Some(address), Some(shown)) = (args.admission_address.0, self.sources.shown()) {
            admission::open(address, shown).context("--admission-address (another one, or `none`)")?;
        }
        Ok(())
    }

    /// How things stand with the API server, if documents are read from one.
    pub(super) fn link(&self) -> Option<Link> {
        self.sources.link()
    }

    /// Waits until a cluster has other documents, a file that documents name changes, or names stand for other addresses than
    /// before; where a generation waits for theirs, until all are told or it has waited long enough.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            () = self.sources.changed() => {}
            () = self.named.changed() => {}
            () = Self::resolved(&mut self.resolver, self.waiting) => {}
        }
    }

    async fn resolved(resolver: &mut Resolver, waiting: Option<Instant>) {
        match waiting {
            // Late is as good as told: whoever waits is to look.
            Some(latest) if resolver.is_settled() => sleep_until(latest).await,
            Some(latest) => drop(timeout_at(latest, resolver.settled()).await),
            None => resolver.changed().await,
        }
    }

    /// Reads, translates, and builds what can be kept from `previous`. `None` while a cluster's documents are being listed, and
    /// while names of the documents, or Secrets that they name, are being asked for the first time: what is in force stays so
    /// meanwhile, and `changed` tells when to ask again.
    pub(super) fn next(&mut self, previous: &Runtime) -> Option<Generation> {
        let loaded = self.sources.load()?;
        let (documents, fingerprint) = (loaded.documents, loaded.fingerprint);
        let objects = Arc::new(loaded.objects.clone());
        self.surroundings.learn(&loaded.objects);
        self.surroundings.files = self.named.read(&loaded.objects.files());
        self.surroundings.resolved.clone_from(self.resolver.resolved());
        let now = SystemTime::now();
        let previous = (&*previous.tls, &previous.upstream_tls);
        let Analysis { snapshot, tls, upstream_tls, credential_faults, names, diagnostics } =
            self.analyst.analyse(loaded, &self.surroundings, self.generation + 1, previous, now);
        let refresh = self.surroundings.mesh.dns_refresh_rate.map_or(resolve::REFRESH, |rate| rate.0);
        self.resolver.want(&names, refresh);
        if self.has_to_wait() {
            return None;
        }
        self.generation += 1;
        self.say(&diagnostics);
        self.sources.report(&diagnostics);
        let mut findings = BTreeMap::new();
        for finding in &diagnostics {
            *findings.entry((finding.severity.as_str(), finding.code.as_str())).or_default() += 1;
        }
        let of = |fault: &CredentialFault| (fault.credential.to_string(), fault.error.to_string());
        Some(Generation {
            runtime: Arc::new(Runtime { snapshot, tls: Arc::new(tls), upstream_tls }),
            credential_faults: credential_faults.iter().map(of).collect(),
            diagnostics: diagnostics
                .iter()
                .filter(|it| it.severity != Severity::Info)
                .map(ToString::to_string)
                .collect(),
            findings,
            worst: worst_findings(diagnostics),
            documents,
            objects,
            fingerprint,
        })
    }

    /// Whether names or Secrets are still being asked for and may be waited for, so that a cluster does not begin without
    /// endpoints, nor a listener without its certificate.
    fn has_to_wait(&mut self) -> bool {
        let now = Instant::now();
        let latest = *self.waiting.get_or_insert(now + WARMING);
        let is_settled = self.resolver.is_settled() && self.sources.is_complete();
        let has_to = !is_settled && now < latest;
        self.waiting = Some(latest).filter(|_| has_to);
        has_to
    }

    /// Prints what was not said before.
    fn say(&mut self, diagnostics: &[Diagnostic]) {
        let worth_saying = diagnostics.iter().filter(|it| it.severity != Severity::Info);
        let texts = worth_saying.map(|diagnostic| render(diagnostic, self.colour)).collect();
        for text in self.said.news(texts) {
            eprintln!("{text}");
        }
    }
}

/// What was said already, so that a reload does not say it again; what is no longer true may be said again.
#[derive(Debug, Default)]
struct Said(HashSet<String>);

impl Said {
    /// What of all that is true now was not so the last time, each once.
    fn news(&mut self, now: Vec<String>) -> Vec<String> {
        let mut all = HashSet::new();
        let fresh =
            now.into_iter().filter(|text| all.insert(text.clone()) && !self.0.contains(text)).collect();
        self.0 = all;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_true_is_said_once_and_what_comes_back_again() {
        let mut said = Said::default();
        let mut news = |now: &[&str]| said.news(now.iter().map(ToString::to_string).collect());
        assert_eq!(news(&["a", "b", "a"]), ["a", "b"]);
        assert!(news(&["b", "a"]).is_empty());
        assert_eq!(news(&["a", "c"]), ["c"]);
        assert_eq!(news(&["b", "c"]), ["b"]);
    }
}
