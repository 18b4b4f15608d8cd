//! What a worker has open to one endpoint of a cluster, of connections that begin alike.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::Context;
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dial::Dial;
use super::http1::Channel;
use super::limits::Place;
use super::opening::Opening;
use super::replay::RequestBody;
use crate::model::{Cluster, ClusterName};

/// Idle connections kept for one endpoint by one worker.
const MAX_IDLE: usize = 128;
/// Streams of one HTTP/2 connection, after which another is made (RFC 9113, 6.5.2: servers should allow no fewer).
const MAX_STREAMS: u32 = 100;
/// What an HTTP/2 backend may send ahead on a stream: enough to fill a fast path, and what a client that does not read
/// makes us hold.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// Likewise on all streams of a connection together. Less, and clients that do not read could leave nothing of it to the
/// streams of others.
pub(super) const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// An idle connection is closed after this, unless a DestinationRule says otherwise; Istio's default is 1 h, but most
/// servers close theirs after 60 to 75 s, and a connection closed under a request is a failed request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// An endpoint, and how connections to it begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) address: SocketAddr,
    pub(super) opening: Opening,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// HTTP/1.1, the youngest last.
    pub(super) idle: VecDeque<Box<Connection>>,
    /// HTTP/2, the oldest first: the next one is made when those before it are full.
    pub(super) multiplexed: Vec<Multiplexed>,
    /// HTTP/2 connections that are being made, for those who wait for them.
    pub(super) dials: Vec<Rc<Dial>>,
    pub(super) crowd: Rc<Crowd>,
}

/// The HTTP/1.1 connections to an endpoint, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    pub(super) open: Cell<u32>,
    pub(super) waiting: Cell<u32>,
    /// A connection is idle, or there is room for one.
    pub(super) freed: Notify,
}

/// Somebody waits.
#[derive(Debug)]
pub(super) struct Waiting(Rc<Crowd>);

impl Waiting {
    pub(super) fn new(crowd: Rc<Crowd>) -> Self {
        crowd.waiting.set(crowd.waiting.get() + 1);
        Self(crowd)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// The place of an HTTP/1.1 connection, from before it is made until it is closed.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Rc<Crowd>,
    _place: Place,
}

impl Seat {
    pub(super) fn new(crowd: Rc<Crowd>, place: Place) -> Self {
        crowd.open.set(crowd.open.get() + 1);
        Self { crowd, _place: place }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.open.set(self.crowd.open.get() - 1);
        self.crowd.freed.notify_one();
    }
}

/// What a cluster says of each of its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    most_requests: Option<u32>,
    most_streams: u32,
    idle_timeout: Duration,
    /// From its making on; requests under way are not touched.
    most_age: Option<Duration>,
}

impl Rules {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let said = cluster.http.idle_timeout.or(cluster.idle_timeout);
        let most_requests = cluster.http.requests_per_connection;
        let most_streams = cluster.http.concurrent_streams.unwrap_or(MAX_STREAMS).min(MAX_STREAMS);
        let (idle_timeout, most_age) = (said.unwrap_or(IDLE_TIMEOUT), cluster.max_connection_duration);
        Self { most_requests, most_streams, idle_timeout, most_age }
    }

    /// Requests that a new HTTP/2 connection takes at once.
    pub(super) fn most_at_once(&self) -> usize {
        let most = self.most_requests.map_or(self.most_streams, |most| most.min(self.most_streams));
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    fn is_too_old(&self, made: Instant) -> bool {
        self.most_age.is_some_and(|most| made.elapsed() >= most)
    }
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) channel: Channel,
    /// Our end.
    pub(super) local: Option<SocketAddr>,
    cluster: ClusterName,
    spot: Spot,
    home: Weak<RefCell<Origin>>,
    rules: Rules,
    served: u32,
    made: Instant,
    /// Since when it is idle.
    since: Instant,
    _seat: Seat,
}

impl Connection {
    pub(super) fn new(
        channel: Channel,
        (cluster, spot, origin): (&Cluster, &Spot, &Rc<RefCell<Origin>>),
        seat: Seat,
    ) -> Self {
        let (rules, since) = (Rules::of(cluster), Instant::now());
        let local = channel.socket().local_addr().ok();
        Self {
            channel,
            local,
            cluster: cluster.name.clone(),
            spot: spot.clone(),
            home: Rc::downgrade(origin),
            rules,
            served: 0,
            made: since,
            since,
            _seat: seat,
        }
    }

    /// Where it leads.
    pub(super) fn to(&self) -> (&ClusterName, &Spot) {
        (&self.cluster, &self.spot)
    }

    /// What it was taken from, as long as that is there.
    pub(super) fn home(&self) -> Option<Rc<RefCell<Origin>>> {
        self.home.upgrade()
    }

    /// Counts a request.
    pub(super) fn serve(&mut self) {
        self.served += 1;
    }

    /// Whether it may get another request.
    pub(super) fn is_spent(&self) -> bool {
        self.rules.most_requests.is_some_and(|most| self.served >= most) || self.rules.is_too_old(self.made)
    }

    /// Since when it is idle, or was when it was taken.
    pub(super) fn idle_since(&self) -> Instant {
        self.since
    }

    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.idle_for(now) >= self.rules.idle_timeout || self.rules.is_too_old(self.made)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channel.take_leave();
    }
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    rules: Rules,
    use_: Rc<Use>,
}

#[derive(Debug)]
struct Use {
    /// Our end.
    local: Option<SocketAddr>,
    made: Instant,
    streams: Cell<u32>,
    served: Cell<u32>,
    /// Since when there is no stream.
    since: Cell<Instant>,
}

/// A stream of an HTTP/2 connection, until its response has ended.
#[derive(Debug)]
pub(super) struct Stream(Rc<Use>);

impl Stream {
    /// Our end of the connection.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.0.local
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Multiplexed {
    pub(super) fn new(
        (sender, local): (http2::SendRequest<RequestBody>, Option<SocketAddr>),
        rules: Rules,
    ) -> Self {
        let made = Instant::now();
        let use_ = Use { local, made, streams: Cell::new(0), served: Cell::new(0), since: Cell::new(made) };
        Self { sender, rules, use_: Rc::new(use_) }
    }

    /// Another stream on it.
    pub(super) fn open(&self) -> (http2::SendRequest<RequestBody>, Stream) {
        let Use { streams, served, .. } = &*self.use_;
        streams.set(streams.get() + 1);
        served.set(served.get().saturating_add(1));
        (self.sender.clone(), Stream(self.use_.clone()))
    }

    /// Whether one more stream has room.
    fn has_room(&self) -> bool {
        self.use_.streams.get() < self.rules.most_streams
    }

    /// Whether it may get another stream, some time.
    pub(super) fn is_usable(&self) -> bool {
        let is_spent = self.rules.most_requests.is_some_and(|most| self.use_.served.get() >= most)
            || self.rules.is_too_old(self.use_.made);
        !is_spent && !self.sender.is_closed() && !self.is_stale()
    }

    fn is_stale(&self) -> bool {
        self.idle_since().is_some_and(|since| since.elapsed() >= self.rules.idle_timeout)
    }

    /// Since when nothing is under way on it.
    fn idle_since(&self) -> Option<Instant> {
        (self.use_.streams.get() == 0).then(|| self.use_.since.get())
    }
}

impl Origin {
    /// Whether somebody waits for an HTTP/1.1 connection.
    pub(super) fn is_waited_for(&self) -> bool {
        self.crowd.waiting.get() > 0
    }

    /// Another stream on an HTTP/2 connection that has room for it. With `one_connection` room is made.
    pub(super) fn open(&self, one_connection: bool) -> Option<(http2::SendRequest<RequestBody>, Stream)> {
        let mut usable = self.multiplexed.iter().filter(|it| it.is_usable());
        let found = usable.clone().find(|it| it.has_room());
        found.or_else(|| usable.next().filter(|_| one_connection)).map(Multiplexed::open)
    }

    /// Has no more streams on the HTTP/2 connection of this one.
    pub(super) fn forget(&mut self, Stream(of): &Stream) {
        self.multiplexed.retain(|it| !Rc::ptr_eq(&it.use_, of));
    }

    /// When each of the connections became idle that are.
    pub(super) fn idle_since(&self) -> impl Iterator<Item = Instant> {
        let streams = self.multiplexed.iter().filter_map(Multiplexed::idle_since);
        self.idle.iter().map(|connection| connection.since).chain(streams)
    }

    /// Closes those that have been idle since then or longer.
    pub(super) fn close_idle_since(&mut self, then: Instant) {
        self.idle.retain(|connection| connection.since > then);
        self.multiplexed.retain(|connection| connection.idle_since().is_none_or(|since| since > then));
    }

    /// Takes a connection back that has nothing under way. One that is too many is to be closed.
    pub(super) fn keep(&mut self, mut connection: Box<Connection>) -> Option<Box<Connection>> {
        connection.since = Instant::now();
        let surplus = if self.idle.len() >= MAX_IDLE { self.idle.pop_front() } else { None };
        self.idle.push_back(connection);
        self.crowd.freed.notify_one();
        surplus
    }

    /// Closes the HTTP/1.1 connections on which something has come that nobody has asked for, or the end. Whoever asks is woken
    /// when there are others.
    pub(super) fn close_ended(&mut self, cx: &mut Context<'_>) {
        self.idle.retain_mut(|idle| idle.channel.poll_news(cx).is_pending());
    }

    /// Closes what is idle for too long; false if nothing is left.
    pub(super) fn sweep(&mut self) -> bool {
        let now = Instant::now();
        self.idle.retain(|idle| !idle.is_stale(now));
        self.multiplexed.retain(Multiplexed::is_usable);
        let is_open = !self.idle.is_empty() || !self.multiplexed.is_empty();
        is_open || !self.dials.is_empty() || Rc::strong_count(&self.crowd) > 1
    }
}
