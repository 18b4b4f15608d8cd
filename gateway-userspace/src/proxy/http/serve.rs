//! One HTTP connection: whose it is, and the route table that its requests see. HTTP/2 is served here, by hyper; HTTP/1 by
//! [`conversation`].

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::exchange::Moving;
use super::executor::StreamExecutor;
use super::frames::Rationed;
use super::idle::{Streamed, Streams};
use super::record::Notes;
use super::{conversation, headers, request};
use crate::model::{
    Below, ChainAction, Cluster, HttpSettings, ListenerKind, Refusal, RouteTable, Snapshot, Tier,
    UpstreamProtocol,
};
use crate::net::drain::DrainWatch;
use crate::net::gather::gather;
use crate::net::repair::{self, TcpInfo};
use crate::net::rewind::Rewound;
use crate::net::seldom::Seldom;
use crate::proxy::connection::{Ends, Serving, until};
use crate::proxy::detect::HttpVersion;
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::overload::Level;
use crate::proxy::worker::Shared;
use crate::telemetry::access::{Handshake, Logging};
use crate::telemetry::metrics::InFlight;
use crate::upstream::{Asked, ClientBody, Opening};
use crate::wire::Switching;

/// Header lines of a request; one more is answered with 431 (Envoy's bound).
pub(super) const MAX_HEADERS: usize = 100;
/// Bytes of a request's head, which are read before they are counted as Envoy counts.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Time to take an answer that ends the connection.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// HTTP/2 receive windows: large enough that one stream fills a fast path, small enough to bound what a stalled
/// backend makes us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a response that wait for an HTTP/2 client to take them, for each stream, besides the piece that was read last: what
/// one connection whose client never reads can have us hold is this for each of its streams.
const SEND_BUFFER: usize = 64 * 1024;
/// A request that was on its way when an idle HTTP/2 connection was said to end comes within this, or not at all.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// How long a connection of HTTP/2 without requests may take to end while memory is short.
const UNREAD: Duration = Duration::from_secs(1);

/// A downstream HTTP connection.
pub(in crate::proxy) struct Connection {
    pub(super) shared: Rc<Shared>,
    pub(super) ends: Ends,
    /// Where its requests are counted while they are under way, if metrics are.
    pub(super) in_flight: Option<Arc<InFlight>>,
    /// What was agreed on with the client, for connections that are made like its own; or why that is of no use.
    pub(super) agreed: Result<TcpInfo, Below>,
    /// Held by upgraded connections beyond the life of this one.
    pub(super) drain: DrainWatch,
    /// HTTP/2 alone: what is asked on it. A stream that is upgraded is one of them as long as it lasts.
    pub(super) streams: OnceCell<Streams>,
    /// HTTP/1.1: the client's side of the upgrade that the request under way may ask for.
    pub(super) switching: Cell<Option<Switching>>,
    /// The client's address as headers have it, once a request came.
    address: OnceCell<HeaderValue>,
    /// The filter chain, when TLS was terminated.
    chain: Option<Arc<str>>,
    /// TLS: what its handshake has told. In a box, as most connections that are idle for long have none.
    greeting: Option<Box<Greeting>>,
    /// What was in force for the last request.
    in_force: RefCell<InForce>,
}

/// What is known of a client from its handshake.
struct Greeting {
    name: Option<Box<str>>,
    handshake: Handshake,
    certificate: Option<HeaderValue>,
}

/// What a request reads of the snapshot, once, at its head.
#[derive(Clone)]
pub(in crate::proxy) struct InForce {
    generation: u64,
    pub(super) table: Arc<RouteTable>,
    /// Absent while nothing is logged.
    pub(super) logging: Option<Arc<Logging>>,
    pub(super) settings: HttpSettings,
}

impl InForce {
    /// A snapshot's, with the table that is its listener's or chain's.
    pub(in crate::proxy) fn of(snapshot: &Snapshot, table: Arc<RouteTable>) -> Self {
        let logging = (!snapshot.logging.is_off()).then(|| snapshot.logging.clone());
        Self { generation: snapshot.generation, table, logging, settings: snapshot.http }
    }
}

impl Connection {
    /// One whose client's bytes are not those of its socket, until [`Connection::over`] says so.
    pub(in crate::proxy) fn new(
        shared: Rc<Shared>,
        ends: Ends,
        chain: Option<Arc<str>>,
        in_force: InForce,
        drain: DrainWatch,
    ) -> Self {
        let agreed = Err(Below::TerminatesTls);
        let in_flight = shared.metering.listener(ends.listener);
        Self {
            shared,
            ends,
            in_flight,
            agreed,
            drain,
            switching: Cell::default(),
            address: OnceCell::new(),
            streams: OnceCell::new(),
            chain,
            greeting: None,
            in_force: RefCell::new(in_force),
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
        self.greeting = Some(Box::new(Greeting { name: name.map(Box::from), handshake, certificate }));
        self
    }

    /// TLS: the name that the client asked for.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.greeting.as_ref()?.name.as_deref()
    }

    /// TLS: what was agreed on.
    pub(super) fn handshake(&self) -> Option<Handshake> {
        self.greeting.as_ref().map(|greeting| greeting.handshake)
    }

    /// `x-forwarded-client-cert` of a client that has shown a certificate.
    pub(super) fn client_certificate(&self) -> Option<&HeaderValue> {
        self.greeting.as_ref()?.certificate.as_ref()
    }

    /// Who talks to which listener.
    pub(in crate::proxy) fn ends(&self) -> Ends {
        self.ends
    }

    /// The client's address as headers have it.
    pub(super) fn client_address(&self) -> &HeaderValue {
        self.address.get_or_init(|| headers::of_address(self.ends.client().ip()))
    }

    /// Another watch on the drain.
    pub(in crate::proxy) fn drain(&self) -> DrainWatch {
        self.drain.clone()
    }

    /// How long it takes new requests still, if connections may have an age.
    pub(super) fn age_left(&self) -> Option<Duration> {
        self.shared.bounds.age.map(|age| age.saturating_sub(self.ends.since.elapsed()))
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
            let table = self.find_table(snapshot).unwrap_or_else(|| known.table.clone());
            *known = InForce::of(snapshot, table);
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
        let ends = (cluster.proxy_protocol, self.ends.client(), self.ends.destination());
        Opening::of(cluster, &runtime.upstream_tls, asked, ends).map_err(|error| {
            tracing::debug!(cluster = %cluster.name, %error, "no connection can begin");
            RequestError::Reset(Reset::of(&error), Tries::One)
        })
    }

    /// Counts a request that is refused for what it is, whatever rules there are.
    pub(super) fn count(&self, error: RequestError) {
        if let Some(refusal) = error.refusal() {
            self.shared.counts.refusals.count(refusal);
        }
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

/// Serves requests until the client is done or idle, or the drain asks for an end.
pub(in crate::proxy) fn serve<S>(
    connection: Rc<Connection>,
    stream: Rewound<S>,
    version: HttpVersion,
) -> Serving
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match version {
        HttpVersion::OneZero if !connection.shared.spoken.http10 => {
            Box::pin(refuse_version(connection, stream))
        }
        HttpVersion::One | HttpVersion::OneZero => Box::pin(conversation::serve(connection, stream)),
        HttpVersion::Two => Box::pin(async {
            until(connection.drain(), serve_http2(connection, stream)).await;
        }),
        HttpVersion::Other => Box::pin(refuse_version(connection, stream)),
    }
}

/// A drain is told to the client by a word of its own (RFC 9113, 6.8), said twice: the second time it names the last stream.
async fn serve_http2<S>(connection: Rc<Connection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut drain = connection.drain.clone();
    let streams = connection.streams.get_or_init(Streams::new).clone();
    let (bounds, refusals) = (connection.shared.bounds, connection.shared.counts.refusals.clone());
    let executor = StreamExecutor::default();
    let work = Work { streams: streams.clone(), executor: executor.clone() };
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    if connection.shared.spoken.http2_websockets {
        builder.enable_connect_protocol();
    }
    let (stream, outflow) = gather(Rationed::new(stream, refusals));
    let served = pin!(builder.serve_connection(TokioIo::new(stream), service(&connection, work)));
    let served = RefCell::new(served);
    let turns = || poll_fn(|cx| outflow.poll_turn(cx, |cx| served.borrow_mut().as_mut().poll(cx)));
    let aside = pin!(async {
        tokio::select! {
            () = last_call(&connection, &mut drain, HttpVersion::Two) => Aside::LastCall,
            () = streams.idle() => Aside::Pause,
        }
    });
    let result = tokio::select! {
        biased;
        result = turns() => Err(result),
        aside = Seldom::new(aside) => Ok(aside),
    };
    let result = match result {
        Err(result) => result,
        Ok(Aside::LastCall) => {
            served.borrow_mut().as_mut().graceful_shutdown();
            tokio::select! {
                result = turns() => result,
                () = holds_memory(&connection, &streams) => Ok(()),
            }
        }
        Ok(Aside::Pause) => {
            served.borrow_mut().as_mut().graceful_shutdown();
            tokio::select! {
                result = turns() => result,
                () = streams.none_within(LAST_REQUESTS) => Ok(()),
            }
        }
    };
    told(&connection, result);
}

/// What happens on a connection of HTTP/2 besides requests.
enum Aside {
    LastCall,
    Pause,
}

/// What the requests of a connection have to do with each other.
struct Work {
    streams: Streams,
    /// Runs them.
    executor: StreamExecutor,
}

/// A request that is being answered; in a box, as hyper and the runtime move it about until it begins.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Streamed<Moving>>, Infallible>>>>;

/// Answers each request of a connection, and counts those under way.
fn service(
    connection: &Rc<Connection>,
    work: Work,
) -> impl Service<Request<Incoming>, Response = Response<Streamed<Moving>>, Error = Infallible, Future = Answering>
+ 'static {
    let connection = connection.clone();
    service_fn(move |request: Request<Incoming>| {
        let (connection, stream) = (connection.clone(), work.streams.begin());
        let exchange = connection.shared.exchanges.begin(Rc::as_ptr(&connection).addr());
        work.executor.begins(exchange.watch());
        // In a box, as futures within futures each have room for it.
        let request = Box::new(request.map(ClientBody::http2));
        Box::pin(async move {
            // Its frames say how long it is.
            let response = request::serve(&connection, request, true, &exchange).await;
            let overload = &connection.shared.overload;
            Ok(response.map(|body| stream.with(exchange.with(body, overload))))
        }) as Answering
    })
}

/// Waits until a connection of this version is to take no more requests than those under way: for a drain, for its age, or because
/// something runs short.
pub(super) async fn last_call(connection: &Connection, drain: &mut DrainWatch, version: HttpVersion) {
    let Shared { overload, counts, .. } = &*connection.shared;
    let aged = async {
        match connection.age_left() {
            Some(left) => sleep(left).await,
            None => std::future::pending().await,
        }
        counts.refusals.count(Refusal::Age);
    };
    let drained =
        async { if version == HttpVersion::Two { drain.signaled().await } else { drain.quiet().await } };
    tokio::select! {
        () = drained => {}
        () = aged => {}
        () = overload.closing() => {}
    }
}

/// Waits until a connection of HTTP/2 that is to end has no requests for some time, while memory is short: its client does not read
/// what ends it, and h2 holds what was sent on streams until then, also of those that were given up.
async fn holds_memory(connection: &Connection, streams: &Streams) {
    let mut steps = connection.shared.overload.steps();
    loop {
        if steps.wait_for(|level| *level >= Level::Refusing).await.is_err() {
            std::future::pending::<()>().await;
        }
        streams.none_within(UNREAD).await;
        if *steps.borrow() >= Level::Refusing {
            return;
        }
    }
}

/// How a connection ended.
fn told(connection: &Connection, result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::trace!(peer = %connection.ends.peer, %error, "connection ended");
        note_broken(connection, &error);
    }
}

/// HTTP/2 that h2 has taken for broken, or for a flood.
fn note_broken(connection: &Connection, error: &hyper::Error) {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return };
    if error.is_library() {
        connection.shared.counts.refusals.count(match error.reason() {
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Refusal::Flood,
            _ => Refusal::BrokenFrames,
        });
    }
}

/// Tells a client of another version which one is spoken here, and closes. What it still says is read, so that the close
/// does not overtake the answer.
async fn refuse_version<S: AsyncRead + AsyncWrite + Unpin>(connection: Rc<Connection>, mut stream: S) {
    let error = RequestError::OldVersion;
    let (status, body) = (error.status(), error.body());
    connection.count(error);
    Notes::begin(&connection, connection.in_force().logging).refused(error, body.len());
    let server = connection.shared.server_header.as_ref().and_then(|server| server.to_str().ok());
    let server = server.map(|server| format!("server: {server}\r\n")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {status}\r\n{server}content-type: text/plain\r\ncontent-length: {}\r\nupgrade: HTTP/1.1\r\nconnection: upgrade, close\r\n\r\n{body}",
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
