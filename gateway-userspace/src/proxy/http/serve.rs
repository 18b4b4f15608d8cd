//! One HTTP connection: hyper's server on it, and the route table that its requests see.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::idle::Streams;
use super::record::Notes;
use super::request;
use crate::model::{
    Below, ChainAction, Cluster, HttpSettings, ListenerKind, RouteTable, Snapshot, Tier, UpstreamProtocol,
};
use crate::net::drain::DrainWatch;
use crate::net::repair::{self, TcpInfo};
use crate::proxy::connection::{Ends, HTTP_IDLE};
use crate::proxy::detect::HttpVersion;
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::worker::Shared;
use crate::telemetry::access::{Handshake, Logging};
use crate::upstream::{Asked, LocalExecutor, Opening};

/// Header lines of a request; one more is answered with 431 (Envoy's bound).
const MAX_HEADERS: usize = 100;
/// Bytes of a request's head, which are read before they are counted as Envoy counts.
const MAX_HEAD: usize = 64 * 1024;
/// Time to take an answer that ends the connection.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Streams that one HTTP/2 client may have open.
const MAX_STREAMS: u32 = 256;
/// HTTP/2 receive windows: large enough that one stream fills a fast path, small enough to bound what a stalled
/// backend makes us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A request that was on its way when an idle HTTP/2 connection was said to end comes within this, or not at all.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// A downstream HTTP connection.
pub(in crate::proxy) struct Connection {
    pub(super) shared: Rc<Shared>,
    pub(super) ends: Ends,
    /// What was agreed on with the client, for connections that are made like its own; or why that is of no use.
    pub(super) agreed: Result<TcpInfo, Below>,
    /// Held by upgraded connections beyond the life of this one.
    pub(super) drain: DrainWatch,
    /// The filter chain, when TLS was terminated.
    chain: Option<Arc<str>>,
    /// `x-forwarded-client-cert` of a client that has shown a certificate.
    pub(super) client_certificate: Option<HeaderValue>,
    /// TLS: the name that the client asked for.
    pub(super) server_name: Option<Box<str>>,
    /// TLS: what was agreed on.
    pub(super) handshake: Option<Handshake>,
    /// What was in force for the last request.
    in_force: RefCell<InForce>,
}

/// What a request reads of the snapshot, once, at its head.
#[derive(Clone)]
pub(super) struct InForce {
    generation: u64,
    pub(super) table: Arc<RouteTable>,
    /// Absent while nothing is logged.
    pub(super) logging: Option<Arc<Logging>>,
    pub(super) settings: HttpSettings,
}

impl Connection {
    /// One whose client's bytes are not those of its socket, until [`Connection::over`] says so.
    pub(in crate::proxy) fn new(
        shared: Rc<Shared>,
        ends: Ends,
        chain: Option<Arc<str>>,
        table: Arc<RouteTable>,
        generation: u64,
        drain: DrainWatch,
    ) -> Self {
        let agreed = Err(Below::TerminatesTls);
        let runtime = shared.runtime.current();
        let (logging, settings) = (logging(&runtime.snapshot), runtime.snapshot.http);
        drop(runtime);
        Self {
            shared,
            ends,
            agreed,
            drain,
            chain,
            client_certificate: None,
            server_name: None,
            handshake: None,
            in_force: RefCell::new(InForce { generation, table, logging, settings }),
        }
    }

    /// Likewise, one whose bytes are.
    pub(in crate::proxy) fn over(mut self, stream: &TcpStream) -> Self {
        self.agreed = if self.shared.highest_tier < Tier::Handoff {
            Err(Below::Limited)
        } else {
            repair::info(stream).map_err(|_| Below::HalfClosed)
        };
        self
    }

    /// Likewise, one whose client has asked for a name and shown a certificate in its handshake.
    pub(in crate::proxy) fn of_client(
        mut self,
        name: Option<&str>,
        (handshake, certificate): (Handshake, Option<HeaderValue>),
    ) -> Self {
        self.server_name = name.map(Box::from);
        self.handshake = Some(handshake);
        self.client_certificate = certificate;
        self
    }

    /// Who talks to which listener.
    pub(in crate::proxy) fn ends(&self) -> Ends {
        self.ends
    }

    /// Another watch on the drain.
    pub(in crate::proxy) fn drain(&self) -> DrainWatch {
        self.drain.clone()
    }

    /// `http` or `https`, by what was terminated here.
    pub(super) fn scheme(&self) -> &'static str {
        if self.chain.is_some() { "https" } else { "http" }
    }

    /// What is in force for a request that starts now. A connection whose listener or chain is gone keeps the table it
    /// had: its last requests are answered by the rules under which they were sent.
    pub(super) fn in_force(&self) -> InForce {
        let runtime = self.shared.runtime.current();
        let mut known = self.in_force.borrow_mut();
        let snapshot = &runtime.snapshot;
        if known.generation != snapshot.generation {
            known.generation = snapshot.generation;
            known.logging = logging(snapshot);
            known.settings = snapshot.http;
            if let Some(table) = self.find_table(snapshot) {
                known.table = table;
            }
        }
        known.clone()
    }

    /// How connections to a cluster begin for a request that asks for `host`, and is sent in some version.
    pub(super) fn opening(
        &self,
        cluster: &Cluster,
        host: &str,
        protocol: UpstreamProtocol,
    ) -> Result<Opening, RequestError> {
        let asked =
            if protocol == UpstreamProtocol::Http2 { Asked::Http2Host(host) } else { Asked::Host(host) };
        let runtime = self.shared.runtime.current();
        let ends = (cluster.proxy_protocol, self.ends.peer, self.ends.local);
        Opening::of(cluster, &runtime.upstream_tls, asked, ends).map_err(|error| {
            tracing::debug!(cluster = %cluster.name, %error, "no connection can begin");
            RequestError::Reset(Reset::of(&error), Tries::One)
        })
    }

    fn find_table(&self, snapshot: &Snapshot) -> Option<Arc<RouteTable>> {
        match (&snapshot.listener(self.ends.listener)?.kind, &self.chain) {
            (ListenerKind::Http(table), None) => Some(table.clone()),
            (ListenerKind::Tls(listener), Some(name)) => {
                let chain = listener.chains.iter().find(|chain| chain.name == *name)?;
                match &chain.action {
                    ChainAction::TerminateHttp { routes, .. } => Some(routes.clone()),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The rules in force, if there are any.
fn logging(snapshot: &Snapshot) -> Option<Arc<Logging>> {
    (!snapshot.logging.is_off()).then(|| snapshot.logging.clone())
}

/// Serves requests until the client is done or idle, or the drain asks for an end after the request under way.
pub(in crate::proxy) async fn serve<S>(connection: Connection, stream: S, version: HttpVersion)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = connection.ends.peer;
    let mut drain = connection.drain.clone();
    let connection = Rc::new(connection);
    let (serving, streams) = (connection.clone(), Streams::new());
    let counted = streams.clone();
    let service = service_fn(move |request| {
        let (connection, stream) = (serving.clone(), counted.begin());
        async move {
            let response = request::serve(&connection, request).await;
            Ok::<_, Infallible>(response.map(|body| stream.with(body)))
        }
    });
    // Both arms differ in type alone.
    macro_rules! drive {
        ($served:expr) => {{
            let mut served = std::pin::pin!($served);
            let result = tokio::select! {
                result = served.as_mut() => result,
                () = drain.signaled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
                () = streams.idle(), if version == HttpVersion::Two => {
                    served.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = served => result,
                        () = streams.none_within(LAST_REQUESTS) => Ok(()),
                    }
                }
            };
            if let Err(error) = result {
                tracing::trace!(%peer, %error, "connection ended");
                tell_malformed(&connection, &error);
            }
        }};
    }
    match version {
        HttpVersion::One => drive!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HTTP_IDLE)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        ),
        HttpVersion::Other => refuse_version(&connection, stream).await,
        HttpVersion::Two => drive!(
            http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD as u32)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .serve_connection(TokioIo::new(stream), service)
        ),
    }
}

/// A head that hyper cannot read: it has answered, and nobody has seen a request.
fn tell_malformed(connection: &Connection, error: &hyper::Error) {
    if error.is_parse_too_large() {
        Notes::begin(connection, connection.in_force().logging).refused(RequestError::HeadersTooLarge, 0);
    } else if error.is_parse() {
        Notes::begin(connection, connection.in_force().logging).refused(RequestError::Malformed, 0);
    }
}

/// Tells a client of another version which one is spoken here, and closes. What it still says is read, so that the close
/// does not overtake the answer.
async fn refuse_version<S: AsyncRead + AsyncWrite + Unpin>(connection: &Connection, mut stream: S) {
    let error = RequestError::OldVersion;
    let (status, body) = (error.status(), error.body());
    Notes::begin(connection, connection.in_force().logging).refused(error, body.len());
    let server = connection.shared.server_header.as_ref().and_then(|server| server.to_str().ok());
    let server = server.map(|server| format!("server: {server}\r\n")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {status}\r\n{server}content-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_HEAD as u64), &mut tokio::io::sink()).await
    };
    let _ = timeout(LAST_WORDS, told).await;
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
