//! The drains of a worker: one for each listener and filter chain that has connections, so that those of one that has gone
//! from the documents are led to an end, and one after the other, or all at once, when the worker is to stop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::model::{ChainAction, FilterChain, Listener, ListenerKey, ListenerKind, Snapshot};
use crate::net::drain::{DrainTrigger, DrainWatch, drain};

/// What connections belong to: they are served on as long as there is the same in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    listener: ListenerKey,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Listener(Discriminant<ListenerKind>),
    Chain(Arc<str>, Discriminant<ChainAction>),
}

impl Place {
    /// A listener.
    pub(super) fn of(listener: &Listener) -> Self {
        Self { listener: listener.key, what: What::Listener(discriminant(&listener.kind)) }
    }

    /// A chain of one.
    pub(super) fn of_chain(listener: ListenerKey, chain: &FilterChain) -> Self {
        Self { listener, what: What::Chain(chain.name.clone(), discriminant(&chain.action)) }
    }

    fn is_in(&self, snapshot: &Snapshot) -> bool {
        let Some(listener) = snapshot.listener(self.listener) else { return false };
        match &self.what {
            What::Listener(kind) => *kind == discriminant(&listener.kind),
            What::Chain(name, action) => match &listener.kind {
                ListenerKind::Tls(tls) => {
                    tls.chains.iter().any(|it| it.name == *name && *action == discriminant(&it.action))
                }
                _ => false,
            },
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Drains {
    /// How long each takes at most.
    limit: Duration,
    state: RefCell<State>,
    /// Rouses connections that are paused: they have no room to wait for a drain of their own.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    serving: HashMap<Place, DrainTrigger>,
    /// Those whose places are gone.
    ending: Vec<DrainTrigger>,
    mode: Mode,
}

/// What clients that come now meet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Serving,
    /// They are told to go.
    Leaving,
    /// They have no more time than those before them.
    Ending,
}

impl Drains {
    /// None yet.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, state: RefCell::default(), news: Notify::new() }
    }

    /// For one more connection of a place.
    pub(super) fn watch(&self, place: Place) -> DrainWatch {
        let State { serving, mode, .. } = &mut *self.state.borrow_mut();
        let trigger = serving.entry(place).or_insert_with(|| {
            let mut trigger = drain();
            match mode {
                Mode::Serving => {}
                Mode::Leaving => trigger.leave(),
                Mode::Ending => trigger.begin(self.limit),
            }
            trigger
        });
        trigger.watch()
    }

    /// Waits until connections that are paused may have to go.
    pub(super) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Has connections that are paused see whether they have to go.
    pub(super) fn rouse(&self) {
        self.news.notify_waiters();
    }

    /// Begins to drain what a snapshot has no more.
    pub(super) fn keep(&self, snapshot: &Snapshot) {
        let State { serving, ending, .. } = &mut *self.state.borrow_mut();
        let mut is_news = false;
        for (_, mut trigger) in serving.extract_if(|place, _| !place.is_in(snapshot)) {
            trigger.begin(self.limit);
            ending.push(trigger);
            is_news = true;
        }
        ending.retain(|trigger| !trigger.is_over());
        if is_news {
            self.rouse();
        }
    }

    /// Has all clients told to go, and those to come.
    pub(super) fn leave(&self) {
        let State { serving, mode, .. } = &mut *self.state.borrow_mut();
        *mode = Mode::Leaving;
        serving.values().for_each(DrainTrigger::leave);
    }

    /// Drains everything, and waits for the end. False: some connections were still there when the time was over.
    pub(super) async fn end(&self) -> bool {
        let mut all = {
            let State { serving, ending, mode } = &mut *self.state.borrow_mut();
            *mode = Mode::Ending;
            for (_, mut trigger) in serving.drain() {
                trigger.begin(self.limit);
                ending.push(trigger);
            }
            std::mem::take(ending)
        };
        self.rouse();
        let ended = async {
            for trigger in &mut all {
                trigger.ended().await;
            }
        };
        tokio::time::timeout(self.limit, ended).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::model::listener::TlsListener;
    use crate::model::{Limits, RouteTable, SourceAddress, Steering, UserSpaceReason};

    const LIMIT: Duration = Duration::from_secs(10);

    fn listener(port: u16, kind: ListenerKind) -> Arc<Listener> {
        Arc::new(Listener {
            name: "edge".into(),
            key: ListenerKey { bind: None, port },
            kind,
            steering: Steering::UserSpace(UserSpaceReason::NeedsHttp),
            source_address: SourceAddress::default(),
            proxy_protocol: None,
            behind_proxy: false,
            limits: Limits::default(),
            servers: Vec::new(),
        })
    }

    fn http(port: u16) -> Arc<Listener> {
        listener(port, ListenerKind::Http(Arc::new(RouteTable::new("http".into(), Vec::new()))))
    }

    fn tls(port: u16) -> Arc<Listener> {
        listener(port, ListenerKind::Tls(TlsListener::new(Vec::new())))
    }

    fn snapshot(listeners: Vec<Arc<Listener>>) -> Snapshot {
        Snapshot { listeners, ..Snapshot::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_from_the_documents_is_drained_and_nothing_else() {
        let (drains, one, other) = (Drains::new(LIMIT), http(80), http(81));
        let (mut gone, stays) = (drains.watch(Place::of(&one)), drains.watch(Place::of(&other)));
        drains.keep(&snapshot(vec![one.clone(), other.clone()]));
        assert!(!gone.is_draining() && !stays.is_draining());
        // A port that speaks something else from now on is another place.
        let mut news = std::pin::pin!(drains.news());
        assert!(!news.as_mut().enable());
        drains.keep(&snapshot(vec![tls(80), other.clone()]));
        assert!(gone.is_draining() && !stays.is_draining());
        assert!(news.enable(), "those that are paused hear of it");
        let again = drains.watch(Place::of(&one));
        drains.keep(&snapshot(vec![one, other]));
        assert!(!again.is_draining(), "of the one that came back");
        let begun = Instant::now();
        gone.over().await;
        assert_eq!(begun.elapsed(), LIMIT);
        drop((gone, again, stays));
        assert!(drains.end().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stops_waits_for_all_but_not_for_ever() {
        let drains = Drains::new(LIMIT);
        let early = drains.watch(Place::of(&http(80)));
        drains.leave();
        let late = drains.watch(Place::of(&http(81)));
        assert!(early.is_draining() && late.is_draining(), "told to go");
        drop(early);
        drains.keep(&snapshot(vec![http(80)]));
        let begun = Instant::now();
        let (has_ended, ()) = tokio::join!(drains.end(), drains.news());
        assert!(!has_ended);
        assert_eq!(begun.elapsed(), LIMIT);
        drop(late);
    }
}
