//! One worker's HTTP connections to the endpoints of each cluster. HTTP/1.1: idle ones, the youngest used first, so that
//! surplus ones age out; where a DestinationRule bounds them, requests wait for one. HTTP/2: one connection an endpoint
//! carries the streams, and another one those that have no room in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::alone;
use super::balance::Lease;
use super::body::{Loan, UpstreamBody};
use super::connect::ConnectError;
use super::ending::Ending;
use super::executor::LocalExecutor;
use super::held::Room;
use super::limits::{self, Overflow};
use super::opening::Opening;
use super::origin::{
    CONNECTION_WINDOW, Connection, Multiplexed, Origin, Rules, STREAM_WINDOW, Seat, Spot, Stream, Waiting,
};
use super::replay::RequestBody;
use crate::model::{Cluster, ClusterName, Counts, UpstreamProtocol};

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
        request: Box<Request<RequestBody>>,
    },
    /// As much is under way as the DestinationRule allows; nothing was sent.
    #[error("overflow")]
    Overflow,
    /// The request went out (at least in part) and no response came.
    #[error("{error}")]
    Exchange {
        /// What hyper says.
        #[source]
        error: hyper::Error,
        /// What that means.
        ending: Ending,
    },
}

impl SendError {
    pub(super) fn exchange(error: hyper::Error) -> Self {
        Self::Exchange { ending: Ending::of(&error), error }
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
    fn with(self, request: Request<RequestBody>) -> SendError {
        match self {
            Self::Failed(error) => SendError::Connect { error, request: Box::new(request) },
            Self::Overflow => SendError::Overflow,
        }
    }
}

/// The pool of a worker; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pool(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    origins: RefCell<Origins>,
    room: Room,
}

type Origins = HashMap<ClusterName, HashMap<Spot, Origin>>;

/// A connection on loan; given back when its response has been read to the end.
#[derive(Debug)]
pub(super) struct Returnable {
    pool: Pool,
    connection: Box<Connection>,
}

impl Returnable {
    /// A response may end before its request has been sent: then the connection is still the slow client's, and
    /// whoever took it from the pool would wait for that client.
    pub(super) fn give_back(mut self) {
        if self.connection.sender.is_closed() || self.connection.is_spent() {
            return;
        }
        if self.connection.sender.is_ready() {
            return self.keep();
        }
        tokio::task::spawn_local(async move {
            if self.connection.sender.ready().await.is_ok() {
                self.keep();
            }
        });
    }

    fn keep(self) {
        let Self { pool, connection } = self;
        let mut origins = pool.0.origins.borrow_mut();
        let (cluster, spot) = connection.to();
        origin(&mut origins, cluster, spot).keep(connection);
    }
}

impl Pool {
    /// A worker's pool that heeds what all of them have under way.
    pub fn new(counts: Counts) -> Self {
        Self(Rc::new(Inner { counts, origins: RefCell::default(), room: Room::default() }))
    }

    /// Where the bodies of its requests are held.
    pub fn room(&self) -> Room {
        self.0.room.clone()
    }

    /// Sends a request to the leased endpoint, on a connection that begins so, and waits for the head of the response.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        (cluster, opening): (&Cluster, &Opening),
        lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let spot = Spot { address: lease.address, opening: opening.clone() };
        match cluster.protocol {
            UpstreamProtocol::Http2 => self.send_http2(request, (cluster, &spot), lease).await,
            UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => {
                self.send_http1(request, (cluster, &spot), lease).await
            }
        }
    }

    async fn send_http1(
        &self,
        mut request: Request<RequestBody>,
        (cluster, spot): (&Cluster, &Spot),
        mut lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let (mut connection, reused) = match self.connection(cluster, spot).await {
                Ok(found) => found,
                Err(none) => return Err(none.with(request)),
            };
            connection.serve();
            lease.local = connection.local;
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let returnable = Returnable { pool: self.clone(), connection };
                    let keep = response.status() != http::StatusCode::SWITCHING_PROTOCOLS;
                    let loan = keep.then_some(Loan::Connection(returnable));
                    return Ok(response.map(|body| UpstreamBody::new(body, loan, lease)));
                }
                // The backend had closed an idle connection: not a byte was sent, so another one is tried.
                Err(mut unsent) => match unsent.take_message() {
                    Some(unchanged) if reused => request = unchanged,
                    _ => return Err(SendError::exchange(unsent.into_error())),
                },
            }
        }
    }

    /// An HTTP/1.1 connection, and whether it had requests before.
    async fn connection(
        &self,
        cluster: &Cluster,
        spot: &Spot,
    ) -> Result<(Box<Connection>, bool), NoConnection> {
        let crowd = self.origin(&cluster.name, spot, |origin| origin.crowd.clone());
        // Nobody gets ahead of those who wait.
        if crowd.waiting.get() == 0
            && let Some(idle) = self.take_idle(cluster, spot).await
        {
            return Ok((idle, true));
        }
        let _pending = limits::pending(&self.0.counts, cluster)?;
        let mut waiting = None;
        loop {
            let is_first = crowd.open.get() == 0;
            if let Ok(place) = limits::connection(&self.0.counts, cluster, is_first) {
                let seat = Seat::new(crowd.clone(), place);
                drop(waiting);
                let stream = spot.opening.open(spot.address, cluster).await?;
                let local = stream.socket().local_addr().ok();
                let sender = alone::begin(stream, spot.address).await?;
                let connection = Connection::new((sender, local), (cluster, spot), seat);
                return Ok((Box::new(connection), false));
            }
            waiting.get_or_insert_with(|| Waiting::new(crowd.clone()));
            crowd.freed.notified().await;
            if let Some(idle) = self.take_idle(cluster, spot).await {
                return Ok((idle, true));
            }
        }
    }

    async fn take_idle(&self, cluster: &Cluster, spot: &Spot) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.origin(&cluster.name, spot, |origin| origin.idle.pop_back())?;
            if idle.idle_for() > QUIET {
                // Gives the reactor a turn, and then the connection's task, which hears of a close by it. Busy
                // connections are spared that: it is a system call.
                tokio::task::yield_now().await;
            }
            if !idle.is_stale() && idle.sender.ready().await.is_ok() {
                return Some(idle);
            }
        }
    }

    async fn send_http2(
        &self,
        mut request: Request<RequestBody>,
        (cluster, spot): (&Cluster, &Spot),
        mut lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            // Where connections are bounded, the first one has to do.
            let open = |origin: &mut Origin| origin.open(cluster.max_connections.is_some());
            let (opened, reused) = match self.origin(&cluster.name, spot, open) {
                Some(opened) => (opened, true),
                None => match self.dial_http2(cluster, spot).await {
                    Ok(opened) => (opened, false),
                    Err(none) => return Err(none.with(request)),
                },
            };
            let (mut sender, stream) = opened;
            lease.local = stream.local();
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let loan = Some(Loan::Stream(stream));
                    return Ok(response.map(|body| UpstreamBody::new(body, loan, lease)));
                }
                Err(mut unsent) => match unsent.take_message() {
                    Some(unchanged) if reused => {
                        request = unchanged;
                        self.origin(&cluster.name, spot, |origin| origin.forget(&stream));
                    }
                    _ => return Err(SendError::exchange(unsent.into_error())),
                },
            }
        }
    }

    async fn dial_http2(
        &self,
        cluster: &Cluster,
        spot: &Spot,
    ) -> Result<(http2::SendRequest<RequestBody>, Stream), NoConnection> {
        let _pending = limits::pending(&self.0.counts, cluster)?;
        let stream = spot.opening.open(spot.address, cluster).await?;
        let local = stream.socket().local_addr().ok();
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Failed {
                address: spot.address,
                source: std::io::Error::other(error),
            })?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let multiplexed = Multiplexed::new((sender, local), Rules::of(cluster));
        let opened = multiplexed.open();
        self.origin(&cluster.name, spot, |origin| origin.multiplexed.push(multiplexed));
        Ok(opened)
    }

    fn origin<T>(&self, cluster: &ClusterName, spot: &Spot, act: impl FnOnce(&mut Origin) -> T) -> T {
        act(origin(&mut self.0.origins.borrow_mut(), cluster, spot))
    }

    /// Closes connections that were idle too long, or whose endpoint `in_use` no longer knows. Requests under way
    /// are not touched: their connections are on loan.
    pub fn sweep(&self, in_use: impl Fn(&ClusterName, SocketAddr) -> bool) {
        self.0.origins.borrow_mut().retain(|cluster, origins| {
            origins.retain(|spot, origin| {
                if !in_use(cluster, spot.address) {
                    origin.idle.clear();
                    origin.multiplexed.clear();
                }
                origin.sweep()
            });
            !origins.is_empty()
        });
    }
}

/// What is open to an endpoint.
fn origin<'a>(origins: &'a mut Origins, cluster: &ClusterName, spot: &Spot) -> &'a mut Origin {
    // The name is two counted references, and most connections begin with nothing: cloning them is less than a second look.
    origins.entry(cluster.clone()).or_default().entry(spot.clone()).or_default()
}
