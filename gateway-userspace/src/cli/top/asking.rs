//! What is asked of the agent at each reading: the counters, and what the pane in sight shows besides.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::pane::Pane;
use crate::admin::counters::Counters;
use crate::admin::dump::{Item, Kind};
use crate::admin::view::Status;
use crate::cli::flows::reading::{Reading, Sources};

/// Endpoints are as many as the mesh has, and change without a new generation: they are asked for no more often.
const ENDPOINTS_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Asking {
    sources: Sources,
    pin_dir: PathBuf,
    /// Process and generation that answered last.
    known: Option<(u32, u64)>,
    /// What was listed, and when, of that generation.
    listed: Option<(Pane, Instant)>,
}

/// What was answered.
pub(super) struct Sample {
    /// Or why not.
    pub(super) counters: Result<Counters, String>,
    /// What else was asked for, or why it is not there.
    pub(super) more: Option<Result<More, String>>,
}

/// What a pane shows besides.
pub(super) enum More {
    /// The configuration of some kinds.
    Items(Vec<(Kind, Vec<Item>)>),
    /// Flows, and what of them could not be read.
    Flows(Reading),
    /// All that an agent says of itself.
    Status(Box<Status>),
}

impl Sample {
    /// The error, if there is nothing at all to show.
    pub(super) fn expect_something(&self) -> anyhow::Result<()> {
        match (&self.counters, &self.more) {
            (Err(why), None | Some(Err(_))) => anyhow::bail!("{why}"),
            _ => Ok(()),
        }
    }
}

impl Asking {
    /// Of these.
    pub(super) fn new(sources: Sources, pin_dir: PathBuf) -> Self {
        Self { sources, pin_dir, known: None, listed: None }
    }

    /// Asks for all that a pane shows. Where no agent answers, flows are looked for all the same.
    pub(super) fn read(&mut self, pane: Pane) -> Sample {
        let counters: Result<Counters, String> = self.get("/counters");
        let now = counters.as_ref().ok().map(|counters| (counters.process, counters.generation));
        if now.is_some() && now != self.known {
            self.listed = None;
            if now.map(|(process, _)| process) != self.known.map(|(process, _)| process) {
                self.sources.reopen(&self.pin_dir);
            }
            self.known = now;
        }
        let more = match pane {
            // Nothing but them is there without an agent.
            _ if counters.is_err() => Some(self.flows()),
            Pane::Overview => None,
            Pane::Listeners => Some(self.items(&[Kind::Listeners])),
            Pane::Routes => self.items_once(pane, &[Kind::Routes], None),
            Pane::Clusters => {
                self.items_once(pane, &[Kind::Clusters, Kind::Endpoints], Some(ENDPOINTS_AGAIN))
            }
            Pane::Endpoints => self.items_once(pane, &[Kind::Endpoints], Some(ENDPOINTS_AGAIN)),
            Pane::Flows => Some(self.flows()),
            Pane::Findings => Some(self.get("/status").map(|status| More::Status(Box::new(status)))),
        };
        Sample { counters, more }
    }

    fn flows(&self) -> Result<More, String> {
        self.sources.read().map(More::Flows).map_err(|error| format!("{error:#}"))
    }

    /// What stays the same until the next generation, or for a time, is not asked for again.
    fn items_once(
        &mut self,
        pane: Pane,
        kinds: &[Kind],
        time: Option<Duration>,
    ) -> Option<Result<More, String>> {
        let is_fresh = self
            .listed
            .is_some_and(|(listed, at)| listed == pane && time.is_none_or(|time| at.elapsed() < time));
        if is_fresh {
            return None;
        }
        let items = self.items(kinds);
        self.listed = items.is_ok().then(|| (pane, Instant::now()));
        Some(items)
    }

    fn items(&self, kinds: &[Kind]) -> Result<More, String> {
        let list = |kind: &Kind| {
            let items: Vec<Item> = self.get(&format!("/proxy-config/{}", kind.name()))?;
            // Objects are for machines, and most of the answer.
            Ok((*kind, items.into_iter().map(|item| Item { object: None, ..item }).collect()))
        };
        kinds.iter().map(list).collect::<Result<_, _>>().map(More::Items)
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.sources.agent().get(path).map_err(|error| format!("{error:#}"))
    }
}
