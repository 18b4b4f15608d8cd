//! One worker's HTTP connections to the endpoints of each cluster. HTTP/1.1: idle ones, the youngest used first, so that
//! surplus ones age out; where a DestinationRule bounds them, requests wait for one. HTTP/2: one connection an endpoint
//! carries the streams, and another one those that have no room in it. What is idle is bounded over all of them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use foldhash::fast::RandomState;
use http::{Response, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::alone;
use super::balance::Lease;
use super::body::UpstreamBody;
use super::connect::ConnectError;
use super::departure::Departure;
use super::dial::{Dial, Opened};
use super::ending::{Ending, ExchangeError};
use super::executor::TurnExecutor;
use super::held::Room;
use super::http1::Channel;
use super::limits::{self, Overflow};
use super::loan::Loan;
use super::opening::Opening;
use super::origin::{
    CONNECTION_WINDOW, Connection, Multiplexed, Origin, Rules, STREAM_WINDOW, Seat, Spot, Waiting,
};
use super::outbound::Outbound;
use super::replay::RequestBody;
use super::watch::Watch;
use crate::http1::Ambiguous;
use crate::model::{Cluster, ClusterName, Counts, Pings};
use crate::net::gather::gather;

/// Idle connections of a worker to all endpoints together. Clusters whose connections begin with what a client says of
/// itself have some for each client, which nothing else bounds: each is a descriptor.
const MOST_IDLE: usize = 4096;
/// Beyond that, so many of those that have been idle for the longest time are closed at once: looking for them is dear.
const SURPLUS: usize = MOST_IDLE / 8;
/// A connection that was quiet for longer may have been closed by its backend, with the news still in the kernel.
const QUIET: Duration = Duration::from_millis(50);

/// Why no response came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection; nothing was sent, the request may go elsewhere.
    #[error("connection failure: {error}")]
    Connect {
        /// What failed.
        error: ConnectError,
        /// The request as it was.
        request: Outbound,
    },
    /// As much is under way as the DestinationRule allows; nothing was sent.
    #[error("overflow")]
    Overflow,
    /// A response came that says twice how long it is.
    #[error("ambiguous length of the response")]
    Ambiguous,
    /// The request went out (at least in part) and no response came.
    #[error("{error}")]
    Exchange {
        /// What went wrong.
        #[source]
        error: ExchangeError,
        /// What that means.
        ending: Ending,
    },
}

impl SendError {
    pub(super) fn exchange(error: impl Into<ExchangeError>, is_stale: bool) -> Self {
        let error = error.into();
        Self::Exchange { ending: Ending::on(&error, is_stale), error }
    }
}

impl From<Ambiguous> for SendError {
    fn from(Ambiguous: Ambiguous) -> Self {
        Self::Ambiguous
    }
}

/// Why there is no connection.
enum NoConnection {
    Failed(ConnectError),
    Overflow,
}

impl From<ConnectError> for NoConnection {
    fn from(error: ConnectError) -> Self {
        Self::Failed(error)
    }
}

impl From<Overflow> for NoConnection {
    fn from(Overflow: Overflow) -> Self {
        Self::Overflow
    }
}

impl NoConnection {
    fn with(self, request: Outbound) -> SendError {
        match self {
            Self::Failed(error) => SendError::Connect { error, request },
            Self::Overflow => SendError::Overflow,
        }
    }
}

/// The pool of a worker; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pool(Rc<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    counts: Counts,
    origins: RefCell<Origins>,
    /// Idle connections, or more: some are closed, or have found work, since they were counted.
    idle: Cell<usize>,
    room: Room,
    watch: Watch,
}

impl Inner {
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Closes the idle connections of HTTP/1.1 that their backends have closed, or on which they say what nobody has asked for.
    /// Whoever asks is woken when there are others.
    pub(super) fn close_ended(&self, cx: &mut Context<'_>) {
        let origins = self.origins.borrow();
        origins.values().flat_map(HashMap::values).for_each(|origin| origin.borrow_mut().close_ended(cx));
    }
}

/// Clients cannot say what is hashed here but where a backend is told of them, and then not how: the hashes have a seed.
type Origins = HashMap<ClusterName, HashMap<Spot, Rc<RefCell<Origin>>, RandomState>, RandomState>;

/// A connection on loan; given back when its response has been read to the end.
#[derive(Debug)]
pub(super) struct Returnable {
    pool: Pool,
    connection: Box<Connection>,
}

impl Returnable {
    pub(super) fn channel(&self) -> &Channel {
        &self.connection.channel
    }

    pub(super) fn channel_mut(&mut self) -> &mut Channel {
        &mut self.connection.channel
    }

    /// A request and its response have ended.
    pub(super) fn give_back(mut self) {
        if self.connection.channel.is_free() && !self.connection.is_spent() {
            self.keep();
        }
    }

    /// Keeps it, unless its backend has closed it, or says what nobody has asked for.
    fn keep(self) {
        let Self { pool, mut connection } = self;
        if pool.0.watch.listens(&pool.0, &mut connection.channel) {
            let home = connection.home().unwrap_or_else(|| pool.origin(connection.to()));
            let surplus = home.borrow_mut().keep(connection);
            drop(surplus);
            pool.one_more_idle();
        }
    }
}

impl Pool {
    /// A worker's pool that heeds what all of them have under way.
    pub fn new(counts: Counts) -> Self {
        Self(Rc::new(Inner { counts, ..Inner::default() }))
    }

    /// Where the bodies of its requests are held.
    pub fn room(&self) -> Room {
        self.0.room.clone()
    }

    /// Sends a request, by the version that it has, to the leased endpoint, on a connection that begins so, and waits for the
    /// head of the response. It leaves as soon as there is a connection.
    pub async fn send(
        &self,
        request: Outbound,
        (cluster, opening): (&Arc<Cluster>, &Opening),
        lease: Lease,
        departure: &Departure,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let spot = Spot { address: lease.address, opening: opening.clone() };
        if request.head.version == Version::HTTP_2 {
            // In a box, so that requests of HTTP/1.1 don't carry its room about.
            Box::pin(self.send_http2(request, (cluster, &spot), lease, departure)).await
        } else {
            self.send_http1(request, (cluster, &spot), lease, departure).await
        }
    }

    async fn send_http1(
        &self,
        mut request: Outbound,
        (cluster, spot): (&Cluster, &Spot),
        lease: Lease,
        departure: &Departure,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let origin = self.origin((&cluster.name, spot));
            // Nobody gets ahead of those who wait.
            let is_waited_for = origin.borrow().is_waited_for();
            let idle = if is_waited_for { None } else { self.take_idle(&origin).await };
            let (mut connection, reused) = match idle {
                Some(idle) => (idle, true),
                // In a box, as few requests need one made.
                None => match Box::pin(self.connection(cluster, spot, &origin)).await {
                    Ok(found) => found,
                    Err(none) => return Err(none.with(request)),
                },
            };
            connection.serve();
            departure.leave(spot.address, connection.local);
            let Outbound { head, body } = request;
            let mut sending = connection.channel.begin(&head, body);
            let fault = match connection.channel.exchange(&head.method, &mut sending, !reused).await {
                Ok(answer) => {
                    let loan = Loan::Pooled(Returnable { pool: self.clone(), connection });
                    return alone::answer(answer, loan, sending, lease);
                }
                Err(fault) => fault,
            };
            let is_stale = reused && fault.is_end() && connection.channel.is_unheard();
            if reused && fault.is_end() {
                // Those that have been idle for longer will hardly be better.
                origin.borrow_mut().close_idle_since(connection.idle_since());
            }
            // The backend had closed an idle connection, and not a byte was sent: another one is tried.
            match sending.unsent().filter(|_| reused) {
                Some(body) => request = Outbound { head, body },
                None => return Err(SendError::exchange(fault, is_stale)),
            }
        }
    }

    /// An HTTP/1.1 connection where none is idle, and whether it had requests before.
    async fn connection(
        &self,
        cluster: &Cluster,
        spot: &Spot,
        origin: &Rc<RefCell<Origin>>,
    ) -> Result<(Box<Connection>, bool), NoConnection> {
        let crowd = origin.borrow().crowd.clone();
        let _pending = limits::pending(&self.0.counts, cluster)?;
        let mut waiting = None;
        loop {
            let is_first = crowd.open.get() == 0;
            if let Ok(place) = limits::connection(&self.0.counts, cluster, is_first) {
                let seat = Seat::new(crowd.clone(), place);
                drop(waiting);
                let stream = spot.opening.open(spot.address, cluster).await?;
                let connection = Connection::new(Channel::new(stream), (cluster, spot, origin), seat);
                return Ok((Box::new(connection), false));
            }
            waiting.get_or_insert_with(|| Waiting::new(crowd.clone()));
            crowd.freed.notified().await;
            if let Some(idle) = self.take_idle(origin).await {
                return Ok((idle, true));
            }
        }
    }

    async fn take_idle(&self, origin: &RefCell<Origin>) -> Option<Box<Connection>> {
        loop {
            let idle = origin.borrow_mut().idle.pop_back()?;
            self.0.idle.set(self.0.idle.get().saturating_sub(1));
            let now = Instant::now();
            // Busy connections are spared what asks the kernel: it is a system call.
            if idle.idle_for(now) > QUIET && idle.channel.has_news() {
                if !idle.channel.is_sealed() {
                    continue;
                }
                // It may be none of HTTP's: the reactor is given a turn to hear of it before it is read.
                tokio::task::yield_now().await;
            }
            if !idle.is_stale(now) {
                return Some(idle);
            }
        }
    }

    async fn send_http2(
        &self,
        mut request: Outbound,
        (cluster, spot): (&Arc<Cluster>, &Spot),
        lease: Lease,
        departure: &Departure,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let Opened { mut sender, stream, is_first } = match self.stream(cluster, spot).await {
                Ok(opened) => opened,
                Err(none) => return Err(none.with(request)),
            };
            departure.leave(spot.address, stream.local());
            match sender.try_send_request(request.into_request()).await {
                Ok(response) => {
                    return Ok(response.map(|body| UpstreamBody::stream(body, stream, lease)));
                }
                Err(mut unsent) => match unsent.take_message() {
                    Some(unchanged) if !is_first => {
                        request = Outbound::of(unchanged);
                        self.origin((&cluster.name, spot)).borrow_mut().forget(&stream);
                    }
                    _ => return Err(SendError::exchange(unsent.into_error(), false)),
                },
            }
        }
    }

    /// A stream on an HTTP/2 connection: on one that there is, on one that is being made, or on a new one.
    async fn stream(&self, cluster: &Arc<Cluster>, spot: &Spot) -> Result<Opened, NoConnection> {
        // Where connections are bounded, the first one has to do.
        let one_has_to_do = cluster.max_connections.is_some();
        loop {
            let origin = self.origin((&cluster.name, spot));
            if let Some((sender, stream)) = origin.borrow().open(one_has_to_do) {
                return Ok(Opened { sender, stream, is_first: false });
            }
            let _pending = limits::pending(&self.0.counts, cluster)?;
            let most = if one_has_to_do { usize::MAX } else { Rules::of(cluster).most_at_once() };
            let joined = origin.borrow().dials.iter().find_map(|dial| dial.join(most));
            let told = joined.or_else(|| self.dial(cluster, spot).join(most));
            let Some(told) = told else { continue };
            // Without a word, the connection had no room left: there may be another now.
            if let Ok(told) = told.await {
                return Ok(told?);
            }
        }
    }

    /// Begins to make an HTTP/2 connection.
    fn dial(&self, cluster: &Arc<Cluster>, spot: &Spot) -> Rc<Dial> {
        let dial = Rc::new(Dial::default());
        self.origin((&cluster.name, spot)).borrow_mut().dials.push(dial.clone());
        let (pool, cluster, spot, made) = (self.clone(), cluster.clone(), spot.clone(), dial.clone());
        tokio::task::spawn_local(async move {
            let connected = connect_http2(&cluster, &spot).await;
            let connected = connected.map(|made| Multiplexed::new(made, Rules::of(&cluster)));
            let origin = pool.origin((&cluster.name, &spot));
            origin.borrow_mut().dials.retain(|other| !Rc::ptr_eq(other, &made));
            match connected {
                Ok(connection) => {
                    made.end(Ok(&connection));
                    origin.borrow_mut().multiplexed.push(connection);
                }
                Err(error) => made.end(Err(error)),
            }
            pool.one_more_idle();
        });
        dial
    }

    /// What is open to an endpoint. A request looks for it once: hashing the name and the spot is dear.
    fn origin(&self, (cluster, spot): (&ClusterName, &Spot)) -> Rc<RefCell<Origin>> {
        let mut origins = self.0.origins.borrow_mut();
        if let Some(known) = origins.get(cluster).and_then(|spots| spots.get(spot)) {
            return known.clone();
        }
        origins.entry(cluster.clone()).or_default().entry(spot.clone()).or_default().clone()
    }

    /// Closes connections that were idle too long, or whose endpoint `in_use` no longer knows. Requests under way
    /// are not touched: their connections are on loan.
    pub fn sweep(&self, in_use: impl Fn(&ClusterName, SocketAddr) -> bool) {
        self.0.origins.borrow_mut().retain(|cluster, origins| {
            origins.retain(|spot, origin| {
                let mut origin = origin.borrow_mut();
                if !in_use(cluster, spot.address) {
                    origin.idle.clear();
                    origin.multiplexed.clear();
                }
                origin.sweep()
            });
            !origins.is_empty()
        });
        self.trim(MOST_IDLE, SURPLUS);
    }

    /// Counts a connection that may be idle, and closes others if they are too many.
    fn one_more_idle(&self) {
        self.0.idle.set(self.0.idle.get() + 1);
        if self.0.idle.get() > MOST_IDLE {
            self.trim(MOST_IDLE, SURPLUS);
        }
    }

    /// Where more than `most` connections are idle, closes the oldest of them: all beyond `most`, and `surplus` more.
    fn trim(&self, most: usize, surplus: usize) {
        let origins = self.0.origins.borrow();
        let all = || origins.values().flat_map(HashMap::values);
        let mut idle: Vec<Instant> = Vec::new();
        all().for_each(|origin| idle.extend(origin.borrow().idle_since()));
        let count = idle.len();
        self.0.idle.set(count);
        if count <= most {
            return;
        }
        let beyond = count - most.saturating_sub(surplus);
        let (_, last, _) = idle.select_nth_unstable(beyond - 1);
        let last = *last;
        all().for_each(|origin| origin.borrow_mut().close_idle_since(last));
        self.0.idle.set(count - beyond);
    }
}

/// Makes an HTTP/2 connection (RFC 9113); with our end's address.
async fn connect_http2(
    cluster: &Cluster,
    spot: &Spot,
) -> Result<(http2::SendRequest<RequestBody>, Option<SocketAddr>), ConnectError> {
    let stream = spot.opening.open(spot.address, cluster).await?;
    let local = stream.socket().local_addr().ok();
    let (stream, outflow) = gather(stream);
    let mut builder = http2::Builder::new(TurnExecutor::new(outflow));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some(Pings { interval, timeout }) = cluster.http.pings {
        builder.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
    }
    let failed = |error| ConnectError::Failed { address: spot.address, source: std::io::Error::other(error) };
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok((sender, local))
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
