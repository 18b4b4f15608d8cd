//! Follows the documents of a scope: lists them, then watches from there on, and lists them again where the server has
//! forgotten what changed since. Only what is another document than before is told.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::StatusCode;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Error};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::api::yaml::Node;
use crate::api::{ObjectRef, Reading};

use super::client;
use super::kinds::Scope;
use super::raw::Raw;
use super::standing::Standing;

/// Documents to a page of a list.
const PAGE: u32 = 500;
/// Seconds after which the server ends a watch, and it is begun anew. Spread, so that not all of them end at once.
const WATCH: std::ops::Range<u32> = 240..300;
/// How much later than that a watch that says nothing is given up.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after the first failure; each further one doubles it, up to the longest. Spread over half of it, so that not all
/// gateways of a cluster come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often it is asked whether a kind that the server does not know is there by now.
const ABSENT: Duration = Duration::from_secs(3);
/// How long a kind of which there were documents has to be unknown until it is believed.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What became of a scope's documents.
#[derive(Debug)]
pub(super) enum Event {
    /// A document is there, or another than before.
    Is(ObjectRef, Box<Reading>, Option<Box<Standing>>),
    /// No more than its standing is another.
    Stands(ObjectRef, Box<Standing>),
    /// It is gone.
    Gone(ObjectRef),
    /// All that there are have been told.
    Complete,
    /// The server does not know the kind.
    Absent,
    /// The gateway may not read them, which it can do without.
    Refused,
    /// What changes is not learnt for now, and why.
    Lost(String),
    /// It is again.
    Regained,
}

/// Of a scope, by the follower with this number.
pub(super) type News = (Scope, u64, Event);

/// Nobody listens any more.
struct Unheard;

/// Digests of a document and of its standing, to know another one by.
type Told = (u64, u64);

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    /// `null` where there are none.
    items: Option<Vec<Node>>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// Follows one scope until the task is dropped or nobody listens.
pub(super) struct Follower {
    client: Client,
    scope: Scope,
    number: u64,
    /// Of the gateway.
    labels: Arc<BTreeMap<String, String>>,
    news: mpsc::Sender<News>,
    /// Which of the kind's versions the server has.
    version: usize,
    keys: RandomState,
    /// Documents that have been told.
    told: HashMap<ObjectRef, Told>,
    is_lost: bool,
    /// Answers in a row that there is no such kind, one for each version.
    missed: usize,
    absent_since: Option<Instant>,
    pause: Duration,
}

impl Follower {
    /// For a gateway with these labels.
    pub(super) fn new(
        client: Client,
        (scope, number): (Scope, u64),
        labels: Arc<BTreeMap<String, String>>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            client,
            scope,
            number,
            labels,
            news,
            version: 0,
            keys: RandomState::new(),
            told: HashMap::new(),
            is_lost: false,
            missed: 0,
            absent_since: None,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) async fn run(mut self) {
        // It ends when nobody listens any more.
        while self.round().await.is_ok() {}
    }

    /// One list, and watches for as long as they follow it.
    async fn round(&mut self) -> Result<(), Unheard> {
        let mut at = match self.list().await? {
            Ok(at) => at,
            Err(error) if is(&error, StatusCode::NOT_FOUND) => return self.absent().await,
            // A page that took too long to be asked for: from the beginning.
            Err(error) if is(&error, StatusCode::GONE) => return Ok(()),
            Err(error) => return self.failed(&error).await,
        };
        loop {
            match self.watch(&mut at).await? {
                // As watches end, or the connection did.
                Ok(()) => breath().await,
                // What has changed since is forgotten, or the kind is not known any more.
                Err(error) if is(&error, StatusCode::GONE) || is(&error, StatusCode::NOT_FOUND) => {
                    breath().await;
                    return Ok(());
                }
                Err(error) => self.failed(&error).await?,
            }
        }
    }

    fn version(&self) -> &'static str {
        self.scope.kind.versions[self.version % self.scope.kind.versions.len()]
    }

    fn request(&self) -> Request {
        Request::new(self.scope.kind.path(self.version(), self.scope.namespace.as_deref()))
    }

    fn fields(&self) -> Option<String> {
        self.scope.name.as_ref().map(|name| format!("metadata.name={name}"))
    }

    /// All of them, and from where on they are to be watched.
    async fn list(&mut self) -> Result<Result<String, Error>, Unheard> {
        let mut listed = HashMap::with_capacity(self.told.len());
        let mut parameters = ListParams {
            limit: Some(PAGE),
            field_selector: self.fields(),
            label_selector: self.scope.labels.clone(),
            ..ListParams::default()
        };
        loop {
            let request = self.request().list(&parameters).map_err(Error::BuildRequest);
            let page = match request {
                Ok(request) => self.client.request::<Page>(request).await,
                Err(error) => Err(error),
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            for tree in page.items.into_iter().flatten() {
                if let Some((reference, told)) = self.tell(tree).await? {
                    listed.insert(reference, told);
                }
            }
            if page.metadata.next.is_empty() {
                self.forget_all_but(&listed).await?;
                self.told = listed;
                self.regained().await?;
                self.send(Event::Complete).await?;
                return Ok(Ok(page.metadata.resource_version));
            }
            parameters.continue_token = Some(page.metadata.next);
        }
    }

    /// Tells of a document, if it is another than before.
    async fn tell(&mut self, tree: Node) -> Result<Option<(ObjectRef, Told)>, Unheard> {
        let Some(mut raw) = Raw::new(tree, self.scope.kind, self.version()) else { return Ok(None) };
        if self.scope.kind.selects() && !raw.is_for(&self.labels) {
            return self.forget(&raw.reference).await.map(|()| None);
        }
        let (reference, standing) = (raw.reference.clone(), raw.standing.take().map(Box::new));
        let told = (raw.digest(&self.keys), self.keys.hash_one(&standing));
        match (self.told.get(&reference), standing) {
            (Some(before), _) if *before == told => {}
            (Some((before, _)), Some(standing)) if *before == told.0 => {
                self.send(Event::Stands(reference.clone(), standing)).await?;
            }
            (_, standing) => {
                let reading = Box::new(raw.read());
                // The name that the document itself holds, so that it is in memory once.
                let reference = reading.reference.clone().unwrap_or(reference);
                self.send(Event::Is(reference.clone(), reading, standing)).await?;
                return Ok(Some((reference, told)));
            }
        }
        Ok(Some((reference, told)))
    }

    /// Tells that a document is gone, if it was told of.
    async fn forget(&mut self, reference: &ObjectRef) -> Result<(), Unheard> {
        match self.told.remove(reference) {
            Some(_) => self.send(Event::Gone(reference.clone())).await,
            None => Ok(()),
        }
    }

    async fn forget_all_but(&mut self, listed: &HashMap<ObjectRef, Told>) -> Result<(), Unheard> {
        let gone: Vec<_> = self.told.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
        for reference in gone {
            self.send(Event::Gone(reference)).await?;
        }
        Ok(())
    }

    /// Hears what changes until the watch ends.
    async fn watch(&mut self, at: &mut String) -> Result<Result<(), Error>, Unheard> {
        let seconds = fastrand::u32(WATCH);
        let parameters = WatchParams {
            timeout: Some(seconds),
            field_selector: self.fields(),
            label_selector: self.scope.labels.clone(),
            ..WatchParams::default()
        };
        let request = match self.request().watch(&parameters, at) {
            Ok(request) => request,
            Err(error) => return Ok(Err(Error::BuildRequest(error))),
        };
        let events = match self.client.request_events::<Node>(request).await {
            Ok(events) => events,
            Err(error) => return Ok(Err(error)),
        };
        let mut events = std::pin::pin!(events);
        self.regained().await?;
        let patience = Duration::from_secs(seconds.into()) + GRACE;
        while let Ok(Some(event)) = timeout(patience, events.next()).await {
            match event {
                Ok(WatchEvent::Error(status)) => return Ok(Err(Error::Api(status))),
                Ok(event) => self.take(event, at).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    async fn take(&mut self, event: WatchEvent<Node>, at: &mut String) -> Result<(), Unheard> {
        match event {
            WatchEvent::Added(tree) | WatchEvent::Modified(tree) => {
                set(at, &tree);
                if let Some((reference, told)) = self.tell(tree).await? {
                    self.told.insert(reference, told);
                }
            }
            WatchEvent::Deleted(tree) => {
                set(at, &tree);
                if let Some(gone) = Raw::new(tree, self.scope.kind, self.version()) {
                    self.forget(&gone.reference).await?;
                }
            }
            WatchEvent::Bookmark(mark) => *at = mark.metadata.resource_version,
            // Ends the watch, whose matter it is.
            WatchEvent::Error(_) => {}
        }
        Ok(())
    }

    /// The server has no such kind, in this version: another one is asked for, or none is there.
    async fn absent(&mut self) -> Result<(), Unheard> {
        let versions = self.scope.kind.versions.len();
        self.version += 1;
        self.missed += 1;
        if !self.missed.is_multiple_of(versions) {
            return Ok(());
        }
        let since = *self.absent_since.get_or_insert_with(Instant::now);
        // Whoever deletes a definition deletes its documents, which is told one by one. A server that has just begun may not
        // know its definitions yet, and what is in force is not to end by that.
        if self.told.is_empty() || since.elapsed() >= FORGOTTEN {
            self.forget_all_but(&HashMap::new()).await?;
            self.told.clear();
            self.heard().await?;
            self.send(Event::Absent).await?;
        } else if !std::mem::replace(&mut self.is_lost, true) {
            self.send(Event::Lost("the kind is not known any more".to_owned())).await?;
        }
        sleep(ABSENT).await;
        Ok(())
    }

    async fn failed(&mut self, error: &Error) -> Result<(), Unheard> {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.send(Event::Lost(client::words(error))).await?;
            if is(error, StatusCode::FORBIDDEN) && !self.scope.is_needed() {
                self.send(Event::Refused).await?;
            }
        }
        let half = self.pause / 2;
        sleep(half + half.mul_f64(fastrand::f64())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    async fn regained(&mut self) -> Result<(), Unheard> {
        self.missed = 0;
        self.absent_since = None;
        self.heard().await
    }

    async fn heard(&mut self) -> Result<(), Unheard> {
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.is_lost) { self.send(Event::Regained).await } else { Ok(()) }
    }

    async fn send(&self, event: Event) -> Result<(), Unheard> {
        self.news.send((self.scope.clone(), self.number, event)).await.map_err(|_| Unheard)
    }
}

/// A server that ends all watches at once is not to be asked in a circle.
async fn breath() {
    sleep(Duration::from_millis(fastrand::u64(10..100))).await;
}

/// From where a watch goes on.
fn set(at: &mut String, tree: &Node) {
    let metadata = tree.get("metadata").map(|entry| &entry.value);
    let version = metadata.and_then(|node| node.get("resourceVersion")).and_then(|entry| entry.value.text());
    if let Some(version) = version {
        version.clone_into(at);
    }
}

fn is(error: &Error, code: StatusCode) -> bool {
    matches!(error, Error::Api(status) if status.code == code.as_u16())
}
