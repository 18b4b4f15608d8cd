//! One worker's HTTP connections to the endpoints. HTTP/1.1: idle ones, the youngest used first, so that surplus
//! ones age out. HTTP/2: one connection an endpoint carries all streams.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::alone;
use super::balance::Lease;
use super::body::UpstreamBody;
use super::connect::{ConnectError, connect};
use super::executor::LocalExecutor;
use crate::model::{Cluster, UpstreamProtocol};

/// Idle connections kept for one endpoint by one worker.
const MAX_IDLE: usize = 128;
/// An idle connection is closed after this; DestinationRule's default is 1 h, but most servers close theirs after
/// 60 to 75 s, and a connection closed under a request is a failed request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

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
        request: Box<Request<Incoming>>,
    },
    /// The request went out (at least in part) and no response came.
    #[error("{0}")]
    Exchange(#[source] hyper::Error),
}

/// The pool of a worker; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    origins: Rc<RefCell<HashMap<SocketAddr, Origin>>>,
}

#[derive(Debug, Default)]
struct Origin {
    idle: VecDeque<Idle>,
    multiplexed: Option<http2::SendRequest<Incoming>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Incoming>,
    since: Instant,
}

/// A connection on loan; given back when its response has been read to the end.
#[derive(Debug)]
pub(super) struct Returnable {
    pool: Pool,
    address: SocketAddr,
    sender: http1::SendRequest<Incoming>,
}

impl Returnable {
    /// A response may end before its request has been sent: then the connection is still the slow client's, and
    /// whoever took it from the pool would wait for that client.
    pub(super) fn give_back(mut self) {
        if self.sender.is_closed() {
            return;
        }
        if self.sender.is_ready() {
            return self.keep();
        }
        tokio::task::spawn_local(async move {
            if self.sender.ready().await.is_ok() {
                self.keep();
            }
        });
    }

    fn keep(self) {
        let mut origins = self.pool.origins.borrow_mut();
        let idle = &mut origins.entry(self.address).or_default().idle;
        if idle.len() >= MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { sender: self.sender, since: Instant::now() });
    }
}

impl Pool {
    /// Sends a request to the leased endpoint and waits for the head of the response.
    pub async fn send(
        &self,
        request: Request<Incoming>,
        cluster: &Cluster,
        lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        match cluster.protocol {
            UpstreamProtocol::Http2 => self.send_http2(request, cluster, lease).await,
            UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => self.send_http1(request, cluster, lease).await,
        }
    }

    async fn send_http1(
        &self,
        mut request: Request<Incoming>,
        cluster: &Cluster,
        lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let (mut sender, reused) = match self.take_idle(lease.address).await {
                Some(sender) => (sender, true),
                None => match self.dial_http1(lease.address, cluster.connect_timeout).await {
                    Ok(sender) => (sender, false),
                    Err(error) => return Err(SendError::Connect { error, request: Box::new(request) }),
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let connection = Returnable { pool: self.clone(), address: lease.address, sender };
                    let keep = response.status() != http::StatusCode::SWITCHING_PROTOCOLS;
                    return Ok(
                        response.map(|body| UpstreamBody::new(body, keep.then_some(connection), lease))
                    );
                }
                // The backend had closed an idle connection: not a byte was sent, so another one is tried.
                Err(mut unsent) => match unsent.take_message() {
                    Some(unchanged) if reused => request = unchanged,
                    _ => return Err(SendError::Exchange(unsent.into_error())),
                },
            }
        }
    }

    async fn send_http2(
        &self,
        mut request: Request<Incoming>,
        cluster: &Cluster,
        lease: Lease,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let shared =
                self.origins.borrow().get(&lease.address).and_then(|origin| origin.multiplexed.clone());
            let (mut sender, reused) = match shared.filter(|sender| !sender.is_closed()) {
                Some(sender) => (sender, true),
                None => match self.dial_http2(lease.address, cluster.connect_timeout).await {
                    Ok(sender) => (sender, false),
                    Err(error) => return Err(SendError::Connect { error, request: Box::new(request) }),
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|body| UpstreamBody::new(body, None, lease))),
                Err(mut unsent) => match unsent.take_message() {
                    Some(unchanged) if reused => {
                        request = unchanged;
                        self.forget_http2(lease.address);
                    }
                    _ => return Err(SendError::Exchange(unsent.into_error())),
                },
            }
        }
    }

    async fn take_idle(&self, address: SocketAddr) -> Option<http1::SendRequest<Incoming>> {
        loop {
            let mut idle = self.origins.borrow_mut().get_mut(&address)?.idle.pop_back()?;
            if idle.since.elapsed() > QUIET {
                // Gives the reactor a turn, and then the connection's task, which hears of a close by it. Busy
                // connections are spared that: it is a system call.
                tokio::task::yield_now().await;
            }
            if idle.since.elapsed() < IDLE_TIMEOUT && idle.sender.ready().await.is_ok() {
                return Some(idle.sender);
            }
        }
    }

    async fn dial_http1(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<http1::SendRequest<Incoming>, ConnectError> {
        alone::begin(connect(address, timeout).await?, address).await
    }

    async fn dial_http2(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<http2::SendRequest<Incoming>, ConnectError> {
        let stream = connect(address, timeout).await?;
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Failed { address, source: std::io::Error::other(error) })?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        self.origins.borrow_mut().entry(address).or_default().multiplexed = Some(sender.clone());
        Ok(sender)
    }

    fn forget_http2(&self, address: SocketAddr) {
        if let Some(origin) = self.origins.borrow_mut().get_mut(&address) {
            origin.multiplexed = None;
        }
    }

    /// Closes connections that were idle too long, or whose endpoint `in_use` no longer knows. Requests under way
    /// are not touched: their connections are on loan.
    pub fn sweep(&self, in_use: impl Fn(SocketAddr) -> bool) {
        self.origins.borrow_mut().retain(|address, origin| {
            if !in_use(*address) {
                return false;
            }
            origin.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIMEOUT);
            if origin.multiplexed.as_ref().is_some_and(http2::SendRequest::is_closed) {
                origin.multiplexed = None;
            }
            !origin.idle.is_empty() || origin.multiplexed.is_some()
        });
    }
}
