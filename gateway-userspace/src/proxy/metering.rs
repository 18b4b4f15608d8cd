//! A worker's metrics: which series a request or a connection counts in. Labels are looked at once for each cluster, pod and
//! outcome; after that a request costs a look-up by addresses in memory, and some additions.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::model::{Cluster, ListenerKey, Snapshot};
use crate::net::relay::Carried;
use crate::telemetry::ResponseFlag;
use crate::telemetry::metrics::{
    Destination, Flags, HttpSample, InFlight, Outcome, Progress, Registry, Series, Shard,
};

/// A worker's, or none where nothing is counted. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Metering(Option<Rc<Inner>>);

#[derive(Debug)]
struct Inner {
    shard: Shard,
    targets: RefCell<HashMap<Place, Target>>,
    listeners: RefCell<HashMap<ListenerKey, Arc<InFlight>>>,
}

/// Addresses in memory of a cluster and of the labels of one of its endpoints; 0 for none. A target keeps the cluster, so that
/// they stay what they are.
type Place = (usize, usize);

/// Where requests and connections go, with the series of their outcomes.
#[derive(Debug, Default)]
struct Target {
    cluster: Option<Arc<Cluster>>,
    series: Vec<(u64, Arc<Series>)>,
}

impl Metering {
    /// For a worker's thread.
    pub(super) fn new(registry: Option<&Registry>) -> Self {
        Self(registry.map(|registry| {
            let (targets, listeners) = (RefCell::default(), RefCell::default());
            Rc::new(Inner { shard: registry.shard(), targets, listeners })
        }))
    }

    /// Whether anything is counted.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Counts a request to an endpoint of a cluster, as far as it has come.
    pub(super) fn request(
        &self,
        to: (Option<&Arc<Cluster>>, Option<SocketAddr>),
        outcome: Outcome,
        sample: &HttpSample,
    ) {
        let Some(inner) = &self.0 else { return };
        inner.shard.request(inner.series(to, outcome).as_deref(), sample);
    }

    /// A TCP connection that begins.
    pub(super) fn connection(&self) -> Option<Rc<Metered>> {
        let inner = self.0.clone()?;
        let (to, series) = Default::default();
        Some(Rc::new(Metered { inner, to, series, told: Cell::default(), end: Cell::default() }))
    }

    /// What is under way at a listener.
    pub(super) fn listener(&self, key: ListenerKey) -> Option<Arc<InFlight>> {
        let inner = self.0.as_ref()?;
        let mut listeners = inner.listeners.borrow_mut();
        let known = listeners.entry(key).or_insert_with(|| inner.shard.in_flight(&key.to_string()));
        Some(known.clone())
    }

    /// Counts a connection to a listener for as long as what this returns is kept.
    pub(super) fn accepted(&self, key: ListenerKey) -> Accepted {
        let in_flight = self.listener(key);
        if let Some(one) = &in_flight {
            one.accept();
        }
        Accepted(in_flight)
    }

    /// Lets go of what the snapshot does not know.
    pub(super) fn sweep(&self, snapshot: &Snapshot) {
        let Some(inner) = &self.0 else { return };
        let is_current = |cluster: &Arc<Cluster>| {
            snapshot.clusters.get(&cluster.name).is_some_and(|current| Arc::ptr_eq(current, cluster))
        };
        inner.targets.borrow_mut().retain(|_, target| target.cluster.as_ref().is_none_or(is_current));
        let mut listeners = inner.listeners.borrow_mut();
        listeners.retain(|key, one| snapshot.listener(*key).is_some() || !one.is_idle());
    }
}

/// A connection to a listener.
#[derive(Debug)]
pub(super) struct Accepted(Option<Arc<InFlight>>);

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(one) = &self.0 {
            one.close();
        }
    }
}

impl Inner {
    /// The series of an outcome; `None` beyond the limit.
    fn series(
        &self,
        (cluster, endpoint): (Option<&Arc<Cluster>>, Option<SocketAddr>),
        outcome: Outcome,
    ) -> Option<Arc<Series>> {
        let endpoint = cluster.zip(endpoint).and_then(|(cluster, address)| cluster.endpoint(address));
        let labels = endpoint.map(|endpoint| &endpoint.labels);
        let of_labels =
            labels.filter(|labels| !labels.is_empty()).map_or(0, |labels| Arc::as_ptr(labels).addr());
        let place = (cluster.map_or(0, |cluster| Arc::as_ptr(cluster).addr()), of_labels);
        let mut targets = self.targets.borrow_mut();
        let target =
            targets.entry(place).or_insert_with(|| Target { cluster: cluster.cloned(), series: Vec::new() });
        let key = outcome.key();
        if let Some((_, known)) = target.series.iter().find(|(of, _)| *of == key) {
            return Some(known.clone());
        }
        if self.shard.is_full() {
            return None;
        }
        let destination = cluster.map_or_else(Destination::default, |cluster| {
            Destination::of(&cluster.name.host, labels.map(|labels| &**labels))
        });
        let series = self.shard.series(&destination, outcome)?;
        target.series.push((key, series.clone()));
        Some(series)
    }
}

/// A TCP connection, counted as it goes on, and as closed when dropped.
#[derive(Debug)]
pub(super) struct Metered {
    inner: Rc<Inner>,
    to: RefCell<(Option<Arc<Cluster>>, Option<SocketAddr>)>,
    /// Of a connection that goes on, once it has a backend.
    series: RefCell<Option<Arc<Series>>>,
    /// Bytes that were counted.
    told: Cell<Carried>,
    end: Cell<End>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, Default)]
enum End {
    /// With these flags.
    #[default]
    Plain,
    Flagged(Flags),
    /// Another one tells.
    ToldElsewhere,
}

impl Metered {
    /// It is to go to this cluster.
    pub(super) fn chosen(&self, cluster: &Arc<Cluster>) {
        self.to.replace((Some(cluster.clone()), None));
    }

    /// It goes to this backend.
    pub(super) fn connected(&self, cluster: &Arc<Cluster>, backend: SocketAddr) {
        let series = self.inner.series((Some(cluster), Some(backend)), Outcome::tcp(Flags::default()));
        self.inner.shard.connection(series.as_deref(), Progress { opened: 1, ..Progress::default() });
        self.series.replace(series);
        self.to.replace((Some(cluster.clone()), Some(backend)));
    }

    /// It has carried so much since it began.
    pub(super) fn carried(&self, carried: Carried) {
        let progress = self.progress(carried);
        self.inner.shard.connection(self.series.borrow().as_deref(), progress);
    }

    fn progress(&self, carried: Carried) -> Progress {
        let told = self.told.replace(carried);
        let received = carried.up.saturating_sub(told.up);
        Progress { received, sent: carried.down.saturating_sub(told.down), ..Progress::default() }
    }

    /// Something has gone wrong with it.
    pub(super) fn flagged(&self, flags: &[ResponseFlag]) {
        self.end.set(End::Flagged(Flags::default().with(flags)));
    }

    /// Somebody else counts it from now on.
    pub(super) fn leave(&self) {
        self.end.set(End::ToldElsewhere);
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let flags = match self.end.get() {
            End::ToldElsewhere => return,
            End::Plain => Flags::default(),
            End::Flagged(flags) => flags,
        };
        let (cluster, backend) = self.to.take();
        let series = self.inner.series((cluster.as_ref(), backend), Outcome::tcp(flags));
        // One without a backend was not counted before.
        let opened = u64::from(backend.is_none());
        self.inner.shard.connection(series.as_deref(), Progress { opened, closed: 1, ..Progress::default() });
    }
}
