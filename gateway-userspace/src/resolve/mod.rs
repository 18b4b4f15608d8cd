//! Addresses of names outside the cluster, for ServiceEntries with `resolution: DNS`: asked for when a generation wants them,
//! and again when they are old, as Envoy does. The addresses are an input of the translation; whether a new generation is
//! worth making is told by `Resolver::changed`.

mod client;
mod message;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::model::Resolved;

/// How long an answer without a lifetime holds, and the longest pause after a failure (MeshConfig `dnsRefreshRate`).
pub const REFRESH: Duration = Duration::from_mins(1);
/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// However short an answer's lifetime.
const SHORTEST: Duration = Duration::from_secs(1);
/// What is learnt within this time makes one generation: each costs a look at all documents.
const TOGETHER: Duration = Duration::from_millis(100);

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answer {
    addresses: Vec<IpAddr>,
    /// How long that holds; `None`: not said.
    ttl: Option<Duration>,
}

/// Why a name could not be resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// It cannot be asked for.
    #[error("it is no name of the DNS")]
    BadName,
    /// Nobody answers.
    #[error("{server} does not answer")]
    Silent {
        /// The last one asked.
        server: SocketAddr,
    },
    /// An answer that says nothing.
    #[error("{server} answers with {code}")]
    Refused {
        /// The last one asked.
        server: SocketAddr,
        /// Its response code.
        code: String,
    },
    /// No answer.
    #[error("{server} answers something else")]
    Senseless {
        /// The last one asked.
        server: SocketAddr,
    },
    /// It cannot be reached.
    #[error("{server}: {source}")]
    Socket {
        /// The last one asked.
        server: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What became of a question.
type News = (String, Result<Vec<IpAddr>, ResolveError>);

/// Keeps addresses of names up to date.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    refresh: Duration,
    /// Those who ask, by name.
    tasks: BTreeMap<String, Asking>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    resolved: Resolved,
    /// Names that were answered, or could not be, at least once.
    settled: BTreeSet<String>,
    /// Names that could not be resolved the last time.
    failing: BTreeSet<String>,
    /// Since when something is known that was not told.
    untold: Option<Instant>,
}

/// A task that ends when nobody wants the name any more.
#[derive(Debug)]
struct Asking(JoinHandle<()>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Resolver {
    /// Asks these servers, or, where none are given, whatever the machine asks.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        let (sender, news) = mpsc::channel(16);
        Self {
            servers,
            refresh: REFRESH,
            tasks: BTreeMap::new(),
            sender,
            news,
            resolved: Resolved::default(),
            settled: BTreeSet::new(),
            failing: BTreeSet::new(),
            untold: None,
        }
    }

    /// Asks for these names from now on, and for no others, by somebody who has seen what is known. Must be called within a
    /// tokio runtime.
    pub fn want(&mut self, names: &BTreeSet<String>, refresh: Duration) {
        self.untold = None;
        if self.refresh != refresh {
            self.refresh = refresh;
            self.tasks.clear();
        }
        self.tasks.retain(|name, _| names.contains(name));
        self.settled.retain(|name| names.contains(name));
        self.failing.retain(|name| names.contains(name));
        self.resolved.retain(|name| names.contains(name));
        for name in names {
            let ask = || {
                let asking = keep_asking(name.clone(), self.servers.clone(), refresh, self.sender.clone());
                Asking(tokio::spawn(asking))
            };
            self.tasks.entry(name.clone()).or_insert_with(ask);
        }
    }

    /// What is known.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Whether every name wanted was answered or could not be resolved.
    pub fn is_settled(&self) -> bool {
        self.settled.len() == self.tasks.len()
    }

    /// Waits until names stand for other addresses than before, or the last of them is settled. What was learnt is kept when
    /// the wait is cancelled, and told by the next one.
    pub async fn changed(&mut self) {
        loop {
            match self.untold {
                None => self.hear().await,
                Some(since) => {
                    if timeout_at(since + TOGETHER, self.hear()).await.is_err() {
                        self.untold = None;
                        return;
                    }
                }
            }
        }
    }

    /// Waits until every name is settled.
    pub async fn settled(&mut self) {
        while !self.is_settled() {
            self.hear().await;
        }
    }

    /// Waits for what became of one question.
    async fn hear(&mut self) {
        // The sender is kept here: there is always somebody who may tell.
        if let Some((name, outcome)) = self.news.recv().await
            && self.learn(name, outcome)
        {
            self.untold.get_or_insert_with(Instant::now);
        }
    }

    /// Whether that makes a difference. After a failure the addresses before it go on to be used; a name that is said not to
    /// exist has none.
    fn learn(&mut self, name: String, outcome: Result<Vec<IpAddr>, ResolveError>) -> bool {
        if !self.tasks.contains_key(&name) {
            return false;
        }
        let settles = self.settled.insert(name.clone()) && self.is_settled();
        match outcome {
            Ok(addresses) => {
                if self.failing.remove(&name) {
                    tracing::info!(%name, "resolved again");
                }
                if addresses.is_empty() && self.resolved.addresses(&name) != addresses {
                    tracing::warn!(%name, "has no address any more");
                }
                self.resolved.insert(&name, addresses) || settles
            }
            Err(error) => {
                if self.failing.insert(name.clone()) {
                    tracing::warn!(%name, "not resolved, and tried again: {error}");
                }
                settles
            }
        }
    }
}

/// Asks for a name again and again, until nobody wants to hear of it.
async fn keep_asking(name: String, servers: Vec<SocketAddr>, refresh: Duration, news: mpsc::Sender<News>) {
    let mut failures: u32 = 0;
    loop {
        let outcome = client::ask(&name, &servers).await;
        let answer = outcome.as_ref().ok().filter(|answer| !answer.addresses.is_empty());
        failures = if answer.is_none() { failures.saturating_add(1) } else { 0 };
        let next = pause(answer, failures, refresh);
        if news.send((name.clone(), outcome.map(|answer| answer.addresses))).await.is_err() {
            return;
        }
        sleep(next).await;
    }
}

/// When to ask again. An answer says it, or else `refresh` does; after failures, a name without addresses among them, ever
/// longer pauses up to that.
fn pause(answer: Option<&Answer>, failures: u32, refresh: Duration) -> Duration {
    match answer {
        Some(Answer { ttl: Some(ttl), .. }) => (*ttl).max(SHORTEST),
        Some(_) => refresh,
        None => FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(refresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_as_long_as_it_says_and_failures_are_tried_again_ever_later() {
        let seconds = Duration::from_secs;
        let answer = |ttl: Option<u64>| Answer { ttl: ttl.map(seconds), ..Answer::default() };
        for (answer, failures, want) in [
            (Some(answer(Some(300))), 0, 300),
            (Some(answer(Some(5))), 0, 5),
            (Some(answer(None)), 0, 60),
            (None, 1, 1),
            (None, 2, 2),
            (None, 5, 16),
            (None, 7, 60),
            (None, u32::MAX, 60),
        ] {
            assert_eq!(pause(answer.as_ref(), failures, REFRESH), seconds(want), "{answer:?} {failures}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_learnt_at_a_time_is_told_at_once() {
        let mut resolver = Resolver::new(Vec::new());
        let names: Vec<String> = (0..10).map(|at| format!("{at}.test")).collect();
        let idle = || Asking(tokio::spawn(std::future::pending()));
        resolver.tasks.extend(names.iter().map(|name| (name.clone(), idle())));
        let address = |last: u8| Ok(vec![IpAddr::from([192, 0, 2, last])]);
        for name in &names {
            resolver.sender.send((name.clone(), address(1))).await.unwrap();
        }
        // Whoever waits is interrupted, and loses nothing by it.
        assert!(timeout_at(Instant::now() + TOGETHER / 2, resolver.changed()).await.is_err());
        resolver.changed().await;
        assert!(names.iter().all(|name| resolver.resolved().addresses(name).len() == 1));
        assert!(timeout_at(Instant::now() + TOGETHER * 5, resolver.changed()).await.is_err(), "once");

        resolver.sender.send((names[0].clone(), address(2))).await.unwrap();
        resolver.changed().await;
        assert_eq!(resolver.resolved().addresses(&names[0]), [IpAddr::from([192, 0, 2, 2])]);
    }

    #[tokio::test]
    async fn only_other_addresses_are_news() {
        let mut resolver = Resolver::new(Vec::new());
        let idle = || Asking(tokio::spawn(std::future::pending()));
        resolver.tasks.extend([("a.test".to_owned(), idle()), ("b.test".to_owned(), idle())]);
        let addresses = |last: &[u8]| Ok(last.iter().map(|last| [192, 0, 2, *last].into()).collect());
        let silent = || Err(ResolveError::BadName);
        for (name, outcome, is_news, is_settled) in [
            ("c.test", addresses(&[9]), false, false),
            ("a.test", addresses(&[1, 2]), true, false),
            ("a.test", addresses(&[2, 1]), false, false),
            ("b.test", silent(), true, true),
            ("b.test", silent(), false, true),
            ("a.test", silent(), false, true),
            ("a.test", addresses(&[2]), true, true),
            ("a.test", addresses(&[]), true, true),
        ] {
            assert_eq!(resolver.learn(name.to_owned(), outcome), is_news, "{name}");
            assert_eq!(resolver.is_settled(), is_settled, "{name}");
        }
    }
}
