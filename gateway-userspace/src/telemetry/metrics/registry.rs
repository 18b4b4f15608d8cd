//! Which series there are, and everybody's numbers of them. Whoever writes asks here once for a combination of labels and
//! keeps what it gets; a series that nobody keeps, of a service that is gone, is dropped after a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::in_flight::{InFlight, Underway};
use super::labels::{self, Destination, OVERFLOW, Outcome, Protocol, Source};
use super::rows::{HttpRow, HttpSample, HttpSum, Number, Progress, Row, Table, TcpRow};

/// How long the series of a service outlast it: Prometheus looks some minutes back, so that the last increase is seen.
const KEPT: Duration = Duration::from_mins(5);

/// One combination of labels.
#[derive(Debug)]
pub struct Series {
    /// Its row in each table of its kind.
    number: usize,
    /// As they stand between braces.
    pub(super) labels: Box<str>,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    limit: usize,
    spaces: Mutex<Spaces>,
    writers: Mutex<Vec<Arc<Rows>>>,
    /// By listener.
    in_flight: Mutex<BTreeMap<String, Vec<Arc<InFlight>>>>,
    /// Whether the limit is reached, for writers to look at before they ask.
    is_full: AtomicBool,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Spaces {
    http: Space,
    tcp: Space,
}

#[derive(Debug)]
struct Space {
    known: HashMap<(Arc<Destination>, u64), Known>,
    overflow: Arc<Series>,
    /// Numbers that were given out before.
    free: Vec<usize>,
    next: usize,
}

#[derive(Debug)]
struct Known {
    series: Arc<Series>,
    /// Since when it is nobody's, of a service that is gone.
    left: Option<Instant>,
}

#[derive(Debug)]
struct Rows {
    http: Table<HttpRow>,
    tcp: Table<TcpRow>,
    /// Requests and connections that were counted beyond the limit.
    overflown: Number,
}

/// The numbers of one writer: of one thread.
#[derive(Debug)]
pub struct Shard {
    rows: Arc<Rows>,
    registry: Registry,
}

impl Registry {
    /// For a gateway, with at most so many combinations of labels.
    pub fn new(source: Source, limit: usize) -> Self {
        let space = |protocol| Space::new(&source, protocol);
        let spaces = Spaces { http: space(Protocol::Http), tcp: space(Protocol::Tcp) };
        Self(Arc::new(Inner {
            source,
            limit,
            spaces: Mutex::new(spaces),
            writers: Mutex::default(),
            in_flight: Mutex::default(),
            is_full: AtomicBool::new(limit == 0),
            dropped: AtomicU64::new(0),
        }))
    }

    /// For another writer.
    pub fn shard(&self) -> Shard {
        // The series of what is beyond the limit has the number 0.
        let rooms = self.0.limit + 1;
        let rows =
            Arc::new(Rows { http: Table::new(rooms), tcp: Table::new(rooms), overflown: Number::default() });
        unpoisoned(&self.0.writers).push(rows.clone());
        Shard { rows, registry: self.clone() }
    }

    fn series(&self, destination: &Destination, outcome: Outcome) -> Option<Arc<Series>> {
        let inner = &*self.0;
        let mut spaces = unpoisoned(&inner.spaces);
        let all = spaces.count();
        let space = if outcome.protocol == Protocol::Tcp { &mut spaces.tcp } else { &mut spaces.http };
        // Once for a combination: a copy is nothing beside the text.
        let key = (Arc::new(destination.clone()), outcome.key());
        if let Some(known) = space.known.get_mut(&key) {
            known.left = None;
            return Some(known.series.clone());
        }
        if all >= inner.limit {
            inner.is_full.store(true, Ordering::Relaxed);
            return None;
        }
        let text = labels::text(&inner.source, Some((destination, outcome)), outcome.protocol);
        let number = space.free.pop().unwrap_or_else(|| {
            space.next += 1;
            space.next
        });
        let series = Arc::new(Series { number, labels: text.into() });
        space.known.insert(key, Known { series: series.clone(), left: None });
        Some(series)
    }

    /// Drops the series of services that `is_known` does not know, some minutes after the last writer let go of them.
    pub fn tidy(&self, now: Instant, is_known: impl Fn(&str) -> bool) {
        let writers = unpoisoned(&self.0.writers).clone();
        let mut spaces = unpoisoned(&self.0.spaces);
        let Spaces { http, tcp } = &mut *spaces;
        let dropped = http.tidy(now, &is_known, |number| clear(&writers, number, |rows| &rows.http))
            + tcp.tidy(now, &is_known, |number| clear(&writers, number, |rows| &rows.tcp));
        self.0.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.0.is_full.store(spaces.count() >= self.0.limit, Ordering::Relaxed);
    }

    /// Forgets listeners that `is_known` does not know and that nothing is under way at.
    pub fn tidy_listeners(&self, is_known: impl Fn(&str) -> bool) {
        unpoisoned(&self.0.in_flight)
            .retain(|listener, all| is_known(listener) || !all.iter().all(|one| one.is_idle()));
    }

    /// What is under way at each listener.
    pub(super) fn underway(&self) -> Vec<(String, Underway)> {
        let sum = |all: &Vec<Arc<InFlight>>| {
            let mut sum = Underway::default();
            for one in all {
                sum.add(one);
            }
            sum
        };
        unpoisoned(&self.0.in_flight).iter().map(|(name, all)| (name.clone(), sum(all))).collect()
    }

    /// Combinations of labels that there are.
    pub fn len(&self) -> usize {
        unpoisoned(&self.0.spaces).count()
    }

    /// Whether nothing was counted yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Requests and connections that were counted beyond the limit.
    pub fn overflown(&self) -> u64 {
        unpoisoned(&self.0.writers).iter().map(|rows| rows.overflown.get()).sum()
    }

    /// Combinations that were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Series of requests with their numbers, by their labels.
    pub(super) fn http(&self) -> Vec<(Arc<Series>, HttpSum)> {
        let series = unpoisoned(&self.0.spaces).http.all();
        self.sums(series, |rows| &rows.http, |sum| sum.requests > 0)
    }

    /// Likewise of connections.
    pub(super) fn tcp(&self) -> Vec<(Arc<Series>, Progress)> {
        let series = unpoisoned(&self.0.spaces).tcp.all();
        self.sums(series, |rows| &rows.tcp, |sum| *sum != Progress::default())
    }

    /// All writers' rows of requests to services whose hosts are wanted. What is beyond the limit is of one that is called
    /// `overflow`.
    pub(super) fn rows_of_http(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(&str, Outcome, &HttpRow),
    ) {
        let series = unpoisoned(&self.0.spaces).http.numbers(is_wanted);
        let writers = unpoisoned(&self.0.writers).clone();
        for (service, outcome, number) in &series {
            let rows = writers.iter().filter_map(|rows| rows.http.written(*number));
            rows.for_each(|row| each(service, *outcome, row));
        }
    }

    /// Likewise of connections.
    pub(super) fn rows_of_tcp(&self, is_wanted: impl Fn(&str) -> bool, mut each: impl FnMut(&str, &TcpRow)) {
        let series = unpoisoned(&self.0.spaces).tcp.numbers(is_wanted);
        let writers = unpoisoned(&self.0.writers).clone();
        for (service, _, number) in &series {
            let rows = writers.iter().filter_map(|rows| rows.tcp.written(*number));
            rows.for_each(|row| each(service, row));
        }
    }

    fn sums<R: Row>(
        &self,
        series: Vec<Arc<Series>>,
        table: impl Fn(&Rows) -> &Table<R>,
        is_any: impl Fn(&R::Sum) -> bool,
    ) -> Vec<(Arc<Series>, R::Sum)> {
        let writers = unpoisoned(&self.0.writers).clone();
        let sum = |series: Arc<Series>| {
            let sum = added(&writers, series.number, &table);
            is_any(&sum).then_some((series, sum))
        };
        series.into_iter().filter_map(sum).collect()
    }
}

impl Spaces {
    fn count(&self) -> usize {
        self.http.known.len() + self.tcp.known.len()
    }
}

impl Space {
    fn new(source: &Source, protocol: Protocol) -> Self {
        let overflow = Series { number: 0, labels: labels::text(source, None, protocol).into() };
        Self { known: HashMap::new(), overflow: Arc::new(overflow), free: Vec::new(), next: 0 }
    }

    fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.known.values().map(|known| known.series.clone()).collect();
        all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        all.push(self.overflow.clone());
        all
    }

    /// Service, outcome and number of each series of services that are wanted, the one of what is beyond the limit last.
    fn numbers(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, Outcome, usize)> {
        let known = self.known.iter().map(|((destination, key), known)| {
            (destination.service(), Outcome::of_key(*key), known.series.number)
        });
        let beyond = (OVERFLOW, Outcome::of_key(0), self.overflow.number);
        let wanted = known.chain([beyond]).filter(|(service, ..)| is_wanted(service));
        wanted.map(|(service, outcome, number)| (service.to_owned(), outcome, number)).collect()
    }

    fn tidy(&mut self, now: Instant, is_known: impl Fn(&str) -> bool, clear: impl Fn(usize)) -> u64 {
        let free = &mut self.free;
        let before = self.known.len();
        self.known.retain(|(destination, _), known| {
            let is_left = Arc::strong_count(&known.series) == 1 && !is_known(destination.service());
            known.left = is_left.then(|| known.left.unwrap_or(now));
            let stays = known.left.is_none_or(|since| now.saturating_duration_since(since) < KEPT);
            if !stays {
                clear(known.series.number);
                free.push(known.series.number);
            }
            stays
        });
        (before - self.known.len()) as u64
    }
}

/// What all writers have counted in a row.
fn added<R: Row>(writers: &[Arc<Rows>], number: usize, table: impl Fn(&Rows) -> &Table<R>) -> R::Sum {
    let mut sum = R::Sum::default();
    let rows = writers.iter().filter_map(|rows| table(rows).written(number));
    rows.for_each(|row| row.add_to(&mut sum));
    sum
}

fn clear<R: Row>(writers: &[Arc<Rows>], number: usize, table: impl Fn(&Rows) -> &Table<R>) {
    writers.iter().filter_map(|rows| table(rows).written(number)).for_each(Row::clear);
}

impl Shard {
    /// The series of a combination, to be kept and asked for no more; `None` beyond the limit.
    pub fn series(&self, destination: &Destination, outcome: Outcome) -> Option<Arc<Series>> {
        self.registry.series(destination, outcome)
    }

    /// A listener's connections and requests, to be kept by one writer.
    pub fn in_flight(&self, listener: &str) -> Arc<InFlight> {
        let one = Arc::new(InFlight::default());
        unpoisoned(&self.registry.0.in_flight).entry(listener.to_owned()).or_default().push(one.clone());
        one
    }

    /// Whether asking for further series is in vain, at the moment.
    pub fn is_full(&self) -> bool {
        self.registry.0.is_full.load(Ordering::Relaxed)
    }

    /// Counts a request; without a series among those beyond the limit.
    pub fn request(&self, series: Option<&Series>, sample: &HttpSample) {
        if series.is_none() {
            self.rows.overflown.add(1);
        }
        if let Some(row) = self.rows.http.row(series.map_or(0, |series| series.number)) {
            row.count(sample);
        }
    }

    /// Counts a connection's progress; without a series among those beyond the limit.
    pub fn connection(&self, series: Option<&Series>, progress: Progress) {
        if series.is_none() {
            self.rows.overflown.add(progress.opened);
        }
        if let Some(row) = self.rows.tcp.row(series.map_or(0, |series| series.number)) {
            row.count(progress);
        }
    }
}

fn unpoisoned<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one can leave it half changed.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::flags::Flags;
    use super::super::labels::Peer;
    use super::*;

    fn registry(limit: usize) -> Registry {
        let [workload, namespace, cluster] = ["gateway", "edge", "Kubernetes"].map(str::to_owned);
        Registry::new(Source { workload, namespace, peer: Peer::of(&BTreeMap::new()), cluster }, limit)
    }

    fn answered(status: u16) -> Outcome {
        Outcome { protocol: Protocol::Http, status, grpc: None, flags: Flags::default() }
    }

    fn sample(milliseconds: u64) -> HttpSample {
        HttpSample { duration: Duration::from_millis(milliseconds), ..HttpSample::default() }
    }

    #[test]
    fn all_writers_are_added_up() {
        let all = registry(10);
        let destination = Destination::of("web.shop.svc.cluster.local", None);
        let threads: Vec<_> = (1..=4u64)
            .map(|writer| {
                let (shard, destination) = (all.shard(), destination.clone());
                std::thread::spawn(move || {
                    let series = shard.series(&destination, answered(200));
                    (0..1000 * writer).for_each(|_| shard.request(series.as_deref(), &sample(7)));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let [(_, sum)] = all.http()[..] else { panic!("{:?}", all.http()) };
        assert_eq!((sum.requests, sum.duration.sum), (10_000, 70_000_000));
        assert_eq!(sum.duration.buckets[3], 10_000, "7 ms are in the bucket up to 10");
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn a_service_is_one_whatever_became_of_its_requests() {
        let all = registry(10);
        let shard = all.shard();
        let web = Destination::of("web.shop.svc", None);
        for (status, grpc) in
            [(200, None), (404, None), (503, None), (200, Some(14)), (200, Some(5)), (0, None)]
        {
            let series = shard.series(&web, Outcome { grpc, ..answered(status) });
            shard.request(series.as_deref(), &HttpSample { received: 10, sent: 90, ..sample(7) });
        }
        let tcp = shard.series(&web, Outcome::tcp(Flags::default()));
        shard.connection(tcp.as_deref(), Progress { received: 1, sent: 2, opened: 3, closed: 0 });
        let found = all.by_service(|_| true);
        let web = &found["web.shop.svc"];
        assert_eq!((web.requests, web.client_errors, web.errors), (6, 1, 2));
        assert_eq!((web.received, web.sent, web.opened, web.tcp_received, web.tcp_sent), (60, 540, 3, 1, 2));
        assert_eq!((web.durations[3], web.durations.iter().sum::<u64>()), (6, 6));
        assert_eq!(found.len(), 1, "nothing was beyond the limit");
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted_together() {
        let all = registry(2);
        let shard = all.shard();
        for status in 200..210 {
            let series = shard.series(&Destination::default(), answered(status));
            shard.request(series.as_deref(), &sample(1));
        }
        assert!(shard.is_full());
        let found: Vec<_> = all.http().iter().map(|(_, sum)| sum.requests).collect();
        assert_eq!((found, all.overflown(), all.len()), (vec![1, 1, 8], 8, 2));
        assert!(all.http()[2].0.labels.contains("destination_service=\"overflow\""));
        let tcp = shard.series(&Destination::default(), Outcome::tcp(Flags::default()));
        shard.connection(tcp.as_deref(), Progress { opened: 1, ..Progress::default() });
        assert_eq!((all.tcp().len(), all.overflown()), (1, 9));
    }

    #[test]
    fn a_series_outlasts_its_service_and_its_writers_by_minutes() {
        let (all, start) = (registry(2), Instant::now());
        let shard = all.shard();
        let [gone, stays] = ["gone.shop.svc", "stays.shop.svc"].map(|host| Destination::of(host, None));
        let held = shard.series(&gone, answered(200));
        shard.request(held.as_deref(), &sample(1));
        shard.request(shard.series(&stays, answered(200)).as_deref(), &sample(1));
        assert!(shard.series(&stays, answered(500)).is_none());
        let is_known = |service: &str| service.starts_with("stays");
        all.tidy(start, is_known);
        all.tidy(start + KEPT * 2, is_known);
        assert_eq!(all.len(), 2, "somebody may still count there");
        drop(held);
        all.tidy(start + KEPT * 2, is_known);
        all.tidy(start + KEPT * 5 / 2, is_known);
        assert_eq!(all.len(), 2);
        all.tidy(start + KEPT * 3, is_known);
        assert_eq!((all.len(), all.dropped(), shard.is_full()), (1, 1, false));
        let next = shard.series(&stays, answered(500));
        shard.request(next.as_deref(), &sample(1));
        assert_eq!(next.unwrap().number, 1, "the number of the one that went");
        assert!(all.http().iter().all(|(_, sum)| sum.requests == 1), "and nothing of what it had counted");
    }
}
