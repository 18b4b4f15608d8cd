//! How things stand with the API server, for those who are to know: whether changes are learnt, and how old the state is if
//! not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::kinds::Scope;
use super::watch::Event;

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Scopes whose changes are not learnt, and since when.
    lost: BTreeMap<Scope, (Instant, String)>,
    /// Kinds that the server does not know.
    absent: BTreeSet<Scope>,
    /// Documents in force, broken ones among them.
    documents: usize,
}

/// What `sluice status` tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// Documents read.
    pub documents: usize,
    /// Seconds since changes of any kind are no longer learnt; 0 while they are.
    pub state_age: u64,
    /// Why, by what is not learnt of.
    pub lost: BTreeMap<String, String>,
    /// Kinds whose definitions the cluster lacks.
    pub absent: BTreeSet<String>,
}

impl Link {
    /// How things stand.
    pub fn view(&self) -> LinkView {
        let state = self.lock();
        LinkView {
            documents: state.documents,
            state_age: state.age().as_secs(),
            lost: state.lost.iter().map(|(scope, (_, why))| (scope.words(), why.clone())).collect(),
            absent: state.absent.iter().map(|scope| scope.kind.name.to_owned()).collect(),
        }
    }

    /// How old the state in force is at most: nothing while all changes are learnt.
    pub fn age(&self) -> Duration {
        self.lock().age()
    }

    pub(super) fn hear(&self, scope: &Scope, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Lost(why) => {
                if state.lost.is_empty() {
                    tracing::warn!(what = scope.words(), %why, "the API server is not heard; what is in force stays so");
                }
                let (_, reason) =
                    state.lost.entry(scope.clone()).or_insert_with(|| (Instant::now(), String::new()));
                reason.clone_from(why);
            }
            Event::Regained => {
                if state.lost.remove(scope).is_some() && state.lost.is_empty() {
                    tracing::info!("the API server is heard again");
                }
            }
            // Of what is not heeded anyway nobody misses the definition.
            Event::Absent if scope.kind.selects() => {}
            Event::Absent => drop(state.absent.insert(scope.clone())),
            Event::Complete => drop(state.absent.remove(scope)),
            Event::Is(..) | Event::Stands(..) | Event::Gone(_) | Event::Refused => {}
        }
    }

    /// Since how long a scope's changes are not learnt, and why; `None` while they are, and before it was tried.
    pub(super) fn lost(&self, scope: &Scope) -> Option<(Duration, String)> {
        let state = self.lock();
        state.lost.get(scope).map(|(since, why)| (since.elapsed(), why.clone()))
    }

    pub(super) fn keep(&self, scopes: &BTreeSet<Scope>) {
        let mut state = self.lock();
        state.lost.retain(|scope, _| scopes.contains(scope));
        state.absent.retain(|scope| scopes.contains(scope));
    }

    pub(super) fn count(&self, documents: usize) {
        self.lock().documents = documents;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn age(&self) -> Duration {
        self.lost.values().map(|(since, _)| since.elapsed()).max().unwrap_or_default()
    }
}
