//! Documents out of a cluster's API server: what is there is listed and then watched, on a thread of its own, so that
//! reading tens of thousands of documents holds up nobody. While the server is not heard the last state stays in force.

pub mod client;
mod follow;
mod kinds;
mod lease;
mod link;
mod raw;
mod standing;
mod store;
mod unread;
mod wanted;
mod watch;
pub mod webhook;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use kube::Config;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::time::{Instant, sleep_until};

pub use self::link::{Link, LinkView};
pub use self::unread::Unread;

use self::follow::Followers;
use self::kinds::Scope;
use self::lease::Candidate;
use self::store::Store;
use self::watch::News;
use self::webhook::{Keeper, Shown, Webhook};
use crate::api::{Diagnostic, Fingerprint, Object, Objects};
use crate::model::GatewayIdentity;

/// What comes within this time of other news is put in force with it.
const TOGETHER: Duration = Duration::from_millis(5);
/// News that may wait to be heard. Each is a document.
const UNHEARD: usize = 1024;
/// How often it is said what a start still waits for.
const WAITING: Duration = Duration::from_secs(10);

/// What a gateway does for a cluster beside reading its documents, unless another one of the same namespace does.
#[derive(Default)]
pub struct Duties {
    /// Write what is found into the status of documents.
    pub status: bool,
    /// Keep the certificate of an admission webhook.
    pub webhook: Option<Webhook>,
}

/// See the module.
#[derive(Debug)]
pub struct KubernetesSource {
    store: Store,
    link: Link,
    identity: GatewayIdentity,
    namespaces: Vec<String>,
    news: mpsc::Receiver<News>,
    wishes: mpsc::UnboundedSender<follow::Wishes>,
    /// What is to be written into the status of documents.
    orders: writer::Orders,
    /// Whether it is this gateway that writes them.
    leads: watch_channel::Receiver<bool>,
    /// What the admission webhook is to show.
    shown: Option<watch_channel::Receiver<Option<Arc<Shown>>>>,
    /// What was found last.
    findings: Vec<Diagnostic>,
    /// There is something that was not told, and by then it will be.
    due: Option<Instant>,
    /// When to say the next time what a start waits for.
    patience: Instant,
    /// All that there is has been known once.
    has_begun: bool,
}

impl KubernetesSource {
    /// Begins to read the documents of these namespaces, or of all, for a gateway, and does its duties.
    pub fn start(
        config: Config,
        identity: GatewayIdentity,
        namespaces: Vec<String>,
        duties: Duties,
    ) -> anyhow::Result<Self> {
        let (sender, news) = mpsc::channel(UNHEARD);
        let (wishes, wished) = mpsc::unbounded_channel();
        let (holds, leads) = watch_channel::channel(false);
        let orders = writer::Orders::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, followers) = {
            let _within = runtime.enter();
            let labels = Arc::new(identity.labels.clone());
            (client::multiplexing(&config)?, Followers::new(config.clone(), labels, sender)?)
        };
        tracing::info!(server = %config.cluster_url, "reading documents from the API server");
        let candidate = Candidate::new(client.clone(), &identity.namespace, holds);
        let (keeper, shown) = duties
            .webhook
            .map(|Webhook { name, host, craft }| {
                Keeper::new(client.clone(), &identity.namespace, (&name, &host), craft)
            })
            .unzip();
        std::thread::Builder::new().name("sluice-kube".to_owned()).spawn({
            let (orders, leading) = (orders.clone(), leads.clone());
            move || {
                runtime.block_on(async move {
                    if duties.status || keeper.is_some() {
                        tokio::spawn(candidate.run());
                    }
                    if duties.status {
                        tokio::spawn(writer::run(client, orders));
                    }
                    if let Some(keeper) = keeper {
                        tokio::spawn(keeper.run(leading));
                    }
                    followers.run(wished).await;
                });
            }
        })?;
        let mut source = Self {
            store: Store::default(),
            link: Link::default(),
            identity,
            namespaces,
            news,
            wishes,
            orders,
            leads,
            shown,
            findings: Vec::new(),
            due: None,
            patience: Instant::now() + WAITING,
            has_begun: false,
        };
        source.want(&Objects::default());
        Ok(source)
    }

    /// What the admission webhook is to show, if there is to be one.
    pub fn shown(&self) -> Option<watch_channel::Receiver<Option<Arc<Shown>>>> {
        self.shown.clone()
    }

    /// How things stand with the API server.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Whether all documents have been told, so that none is missing but those that there are not.
    pub fn is_complete(&self) -> bool {
        self.store.is_complete()
    }

    /// The same at least once: before that, what is known is no state that the cluster ever was in.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Sound documents, and the last sound state of broken ones.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.store.objects()
    }

    /// What is wrong with the others.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.store.diagnostics()
    }

    /// Of those in force.
    pub fn fingerprint(&self) -> Fingerprint {
        self.store.fingerprint()
    }

    /// How many documents there are, sound or not.
    pub fn documents(&self) -> usize {
        self.store.documents()
    }

    /// Reads from here on what all these documents, wherever they come from, lead to: Secrets, ConfigMaps, Pods.
    pub fn want(&mut self, objects: &Objects) {
        let scopes = wanted::scopes(objects, &self.identity, &self.namespaces);
        self.link.keep(&scopes);
        if let Some(followers) = self.store.keep(&scopes) {
            // A thread that has ended has said why.
            let _ = self.wishes.send(followers);
        }
    }

    /// Has what was found, about whatever document, written into the status of those that are for this gateway.
    pub fn report(&mut self, findings: &[Diagnostic]) {
        self.findings = findings.to_vec();
        self.order();
    }

    fn order(&self) {
        if *self.leads.borrow() && self.has_begun {
            self.orders.replace(self.store.orders(&self.findings, &self.identity));
        }
    }

    /// Waits until there are other documents than those told last, the first time until all of them are known: from then on, what
    /// new ones lead to is for whoever puts them in force to wait for. Nothing is lost if this is dropped.
    pub async fn changed(&mut self) {
        loop {
            let is_due = self.due.filter(|_| self.has_begun || self.store.is_complete());
            let news = tokio::select! {
                news = self.news.recv() => news,
                () = sleep_until(is_due.unwrap_or(self.patience)) => {
                    if is_due.is_some() {
                        break;
                    }
                    self.say_what_is_missing();
                    continue;
                }
                Ok(()) = self.leads.changed() => {
                    self.order();
                    continue;
                }
            };
            // The thread has ended, by a fault of its own.
            let Some((scope, number, event)) = news else { return std::future::pending().await };
            self.link.hear(&scope, &event);
            if self.store.take((&scope, number), event) {
                self.due.get_or_insert_with(|| Instant::now() + TOGETHER);
            }
        }
        self.due = None;
        self.has_begun = true;
        self.link.count(self.store.documents());
    }

    /// Goes on without what has been refused, or failed, for so long, if there is nothing else to wait for: for those who look
    /// once, not for a gateway. `unread` tells what that is.
    pub fn go_without(&mut self, patience: Duration) {
        let missing: Vec<Scope> = self.store.missing().cloned().collect();
        let is_lost = |scope: &Scope| self.link.lost(scope).is_some_and(|(time, _)| time >= patience);
        if missing.is_empty() || !missing.iter().all(is_lost) {
            return;
        }
        for scope in &missing {
            self.store.go_without(scope);
        }
        self.due = Some(Instant::now());
    }

    /// What could not be read so far.
    pub fn unread(&self) -> Vec<Unread> {
        let of = |scope: &Scope| Some(Unread::new(scope, self.link.lost(scope)?.1));
        self.store.untold().filter_map(of).collect()
    }

    /// What a look for all documents still waits for, in words.
    pub fn missing(&self) -> Vec<String> {
        self.store.missing().map(Scope::words).collect()
    }

    fn say_what_is_missing(&mut self) {
        self.patience += WAITING;
        if !self.has_begun {
            tracing::warn!("waiting for the API server to list {}", self.missing().join(", "));
        }
    }
}
