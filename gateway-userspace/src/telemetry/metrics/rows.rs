//! The numbers of series, as one writer keeps them. Only its own thread writes there, so that adding is a load and a store,
//! no locked operation; who scrapes reads them while they change, each number whole.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bounds::{ISTIO, ISTIO_BUCKETS};
use super::exemplar::{Exemplar, Place, TraceId};

/// Rows that are allocated together.
const CHUNK: usize = 64;

/// A number with one writer.
#[derive(Debug, Default)]
pub(super) struct Number(AtomicU64);

impl Number {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn sub(&self, less: u64) {
        self.add(less.wrapping_neg());
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A histogram by Istio's bounds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Of each bucket alone.
    buckets: [Number; ISTIO_BUCKETS],
    /// Of the values, in thousandths of the unit.
    sum: Number,
}

impl Histogram {
    fn observe(&self, value: f64, thousandths: u64) {
        if let Some(bucket) = self.buckets.get(ISTIO.bucket(value)) {
            bucket.add(1);
        }
        self.sum.add(thousandths);
    }
}

/// A histogram of all writers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    pub(super) buckets: [u64; ISTIO_BUCKETS],
    /// In thousandths of the unit.
    pub(super) sum: u64,
}

impl Distribution {
    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, bucket)| *sum += bucket);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn add(&mut self, of: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&of.buckets) {
            *sum += bucket.get();
        }
        self.sum = self.sum.wrapping_add(of.sum.get());
    }
}

/// A request that is over.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpSample {
    /// From its head to the end of the response.
    pub duration: Duration,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
    /// gRPC: messages of the client.
    pub request_messages: u64,
    /// gRPC: messages of the backend.
    pub response_messages: u64,
    /// The sampled trace that it belongs to.
    pub trace: Option<TraceId>,
}

/// What a TCP connection has carried, or how it has gone on, since it was told of last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Connections that began.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
}

/// What is counted of requests.
#[derive(Debug, Default)]
pub(super) struct HttpRow {
    requests: Number,
    duration: Histogram,
    received: Histogram,
    sent: Histogram,
    request_messages: Number,
    response_messages: Number,
    exemplar: Place,
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub(super) struct TcpRow {
    received: Number,
    sent: Number,
    opened: Number,
    closed: Number,
}

/// A series of requests, of all writers together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HttpSum {
    pub(super) requests: u64,
    pub(super) duration: Distribution,
    pub(super) received: Distribution,
    pub(super) sent: Distribution,
    pub(super) request_messages: u64,
    pub(super) response_messages: u64,
    /// The latest one, of a duration in milliseconds.
    pub(super) exemplar: Option<Exemplar>,
}

/// Sums that can be added up, where labels that told them apart are taken away.
pub(super) trait Merge {
    fn merge(&mut self, other: &Self);
}

impl Merge for HttpSum {
    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.duration.merge(&other.duration);
        self.received.merge(&other.received);
        self.sent.merge(&other.sent);
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
        self.exemplar = self.exemplar.or(other.exemplar);
    }
}

impl Merge for Progress {
    fn merge(&mut self, other: &Self) {
        self.received = self.received.wrapping_add(other.received);
        self.sent = self.sent.wrapping_add(other.sent);
        self.opened += other.opened;
        self.closed += other.closed;
    }
}

/// Something that rows are made of.
pub(super) trait Row: Default {
    type Sum: Default + Copy;
    fn add_to(&self, sum: &mut Self::Sum);
    /// Only while nobody writes here.
    fn clear(&self);
}

impl HttpRow {
    pub(super) fn count(&self, sample: &HttpSample) {
        let milliseconds = sample.duration.as_secs_f64() * 1e3;
        self.requests.add(1);
        self.duration.observe(milliseconds, u64::try_from(sample.duration.as_micros()).unwrap_or(u64::MAX));
        self.received.observe(sample.received as f64, sample.received.saturating_mul(1000));
        self.sent.observe(sample.sent as f64, sample.sent.saturating_mul(1000));
        self.request_messages.add(sample.request_messages);
        self.response_messages.add(sample.response_messages);
        if let Some(trace) = sample.trace {
            self.exemplar.put(trace, milliseconds);
        }
    }
}

/// What is shown of requests where nobody asks for more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brief {
    pub(super) requests: u64,
    /// Bytes.
    pub(super) received: u64,
    /// Bytes.
    pub(super) sent: u64,
    pub(super) duration: Distribution,
}

impl HttpRow {
    pub(super) fn brief(&self) -> Brief {
        let mut duration = Distribution::default();
        duration.add(&self.duration);
        let bytes = |of: &Histogram| of.sum.get() / 1000;
        let (received, sent) = (bytes(&self.received), bytes(&self.sent));
        Brief { requests: self.requests.get(), received, sent, duration }
    }
}

impl Row for HttpRow {
    type Sum = HttpSum;

    fn add_to(&self, sum: &mut HttpSum) {
        sum.requests += self.requests.get();
        sum.duration.add(&self.duration);
        sum.received.add(&self.received);
        sum.sent.add(&self.sent);
        sum.request_messages += self.request_messages.get();
        sum.response_messages += self.response_messages.get();
        let later = |found: &Exemplar| sum.exemplar.is_none_or(|known| known.at <= found.at);
        sum.exemplar = self.exemplar.get().filter(later).or(sum.exemplar);
    }

    fn clear(&self) {
        let histograms = [&self.duration, &self.received, &self.sent];
        let of_histograms = histograms.into_iter().flat_map(|it| it.buckets.iter().chain([&it.sum]));
        let numbers = [&self.requests, &self.request_messages, &self.response_messages];
        of_histograms.chain(numbers).for_each(Number::clear);
        self.exemplar.clear();
    }
}

impl TcpRow {
    pub(super) fn count(&self, progress: Progress) {
        self.received.add(progress.received);
        self.sent.add(progress.sent);
        self.opened.add(progress.opened);
        self.closed.add(progress.closed);
    }
}

impl Row for TcpRow {
    type Sum = Progress;

    fn add_to(&self, sum: &mut Progress) {
        sum.received = sum.received.wrapping_add(self.received.get());
        sum.sent = sum.sent.wrapping_add(self.sent.get());
        sum.opened += self.opened.get();
        sum.closed += self.closed.get();
    }

    fn clear(&self) {
        [&self.received, &self.sent, &self.opened, &self.closed].into_iter().for_each(Number::clear);
    }
}

/// Rows by number, which come into being when they are written.
#[derive(Debug)]
pub(super) struct Table<R>(Box<[OnceLock<Box<[R]>>]>);

impl<R: Row> Table<R> {
    /// With room for so many.
    pub(super) fn new(rows: usize) -> Self {
        Self((0..rows.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect())
    }

    /// For the writer; `None` beyond the room.
    pub(super) fn row(&self, number: usize) -> Option<&R> {
        let chunk = self.0.get(number / CHUNK)?;
        chunk.get_or_init(|| (0..CHUNK).map(|_| R::default()).collect()).get(number % CHUNK)
    }

    /// A row that has been written.
    pub(super) fn written(&self, number: usize) -> Option<&R> {
        self.0.get(number / CHUNK)?.get()?.get(number % CHUNK)
    }
}
