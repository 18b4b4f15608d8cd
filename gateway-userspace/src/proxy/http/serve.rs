//! One HTTP connection: hyper's server on it, and the route table that its requests see.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::exchange::Moving;
use super::executor::StreamExecutor;
use super::frames::Rationed;
use super::idle::{Streamed, Streams};
use super::record::Notes;
use super::{headers, request};
use crate::model::{
    Below, ChainAction, Cluster, HttpSettings, ListenerKind, Refusal, RouteTable, Snapshot, Tier,
    UpstreamProtocol,
};
use crate::net::drain::DrainWatch;
use crate::net::gather::gather;
use crate::net::heads::{Heads, Watched};
use crate::net::patient::{Awaited, Patient};
use crate::net::repair::{self, TcpInfo};
use crate::net::rewind::Rewound;
use crate::net::seldom::Seldom;
use crate::proxy::connection::{Ends, HTTP_IDLE, Serving, until};
use crate::proxy::detect::HttpVersion;
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::overload::Level;
use crate::proxy::worker::Shared;
use crate::telemetry::access::{Handshake, Logging};
use crate::telemetry::metrics::InFlight;
use crate::upstream::{Asked, ClientBody, Opening};

/// Header lines of a request; one more is answered with 431 (Envoy's bound).
pub(super) const MAX_HEADERS: usize = 100;
/// Bytes of a request's head, which are read before they are counted as Envoy counts.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes that HTTP/1 reads ahead: twice as many, so that a target that is too long can be told from headers that are.
const MAX_READ: usize = 2 * MAX_HEAD;
/// A client of HTTP/1.1 that asks for nothing for so long is paused.
const PAUSE: Duration = Duration::from_secs(1);
/// Time to take an answer that ends the connection.
const LAST_WORDS: Duration = Duration::from_secs(5);
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
    /// HTTP/1.1: whether the client waits for an answer.
    pub(super) awaited: Awaited,
    /// The client's address as headers have it, once a request came.
    address: OnceCell<HeaderValue>,
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
            awaited: Awaited::default(),
            address: OnceCell::new(),
            streams: OnceCell::new(),
            chain,
            client_certificate: None,
            server_name: None,
            handshake: None,
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
        self.server_name = name.map(Box::from);
        self.handshake = Some(handshake);
        self.client_certificate = certificate;
        self
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

/// Serves requests until the client is done or idle, or the drain asks for an end. A client of HTTP/1.1 is told to go by
/// its next answer, as nothing else tells it whether a request was served: closing an idle connection would lose what is
/// just under way on it. HTTP/2 has a word for that (RFC 9113, 6.8), said twice: the second time it names the last stream.
pub(in crate::proxy) fn serve<S>(
    connection: Rc<Connection>,
    stream: Rewound<S>,
    version: HttpVersion,
) -> Serving
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match version {
        HttpVersion::OneZero if !connection.shared.spoken.http10 => {
            Box::pin(refuse_version(connection, stream))
        }
        HttpVersion::One | HttpVersion::OneZero => Box::pin(serve_http1(connection, stream)),
        HttpVersion::Two => Box::pin(async {
            until(connection.drain(), serve_http2(connection, stream)).await;
        }),
        HttpVersion::Other => Box::pin(refuse_version(connection, stream)),
    }
}

/// Most connections that are kept alive are paused: what a conversation needs, several kilobytes, is there only while one
/// goes on.
async fn serve_http1<S>(connection: Rc<Connection>, mut stream: Rewound<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    while let Some(paused) =
        Box::pin(until(connection.drain(), converse(&connection, stream))).await.flatten()
    {
        stream = paused;
        if !goes_on(&connection, &mut stream).await {
            let _ = timeout(LAST_WORDS, stream.shutdown()).await;
            return;
        }
    }
}

/// Serves requests until the connection has ended, or the client pauses.
async fn converse<S>(connection: &Rc<Connection>, stream: Rewound<S>) -> Option<Rewound<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut drain = connection.drain.clone();
    let streams = Streams::new(connection.awaited.clone());
    let heads = Heads::default();
    let stream = Watched::new(Patient::new(stream, connection.awaited.clone()), heads.clone());
    // A response is broken off with its connection.
    let broken_off = Rc::new(Notify::new());
    let mut halted = Halted::default();
    let work = Work {
        streams: streams.clone(),
        executor: StreamExecutor::default(),
        broken_off: Some(broken_off.clone()),
        heads: Some(heads),
    };
    let mut served = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_READ)
        .serve_connection(TokioIo::new(stream), service(connection, work))
        .with_upgrades();
    let result = 'served: loop {
        let aside = pin!(async {
            tokio::select! {
                () = last_call(connection, &mut drain, HttpVersion::One) => Aside::LastCall,
                () = broken_off.notified() => Aside::BrokenOff,
                () = streams.none_within(PAUSE) => Aside::Pause,
            }
        });
        let aside = tokio::select! {
            biased;
            result = &mut served => break result,
            aside = Seldom::new(aside) => aside,
        };
        match aside {
            Aside::LastCall => {
                Pin::new(&mut served).graceful_shutdown();
                // A head that has begun is waited for still, and no longer than others.
                loop {
                    tokio::select! {
                        result = &mut served => break 'served result,
                        () = broken_off.notified() => return None,
                        () = streams.none_within(HTTP_IDLE) => if !connection.awaited.is_sending() {
                            return None;
                        }
                    }
                }
            }
            Aside::BrokenOff => return None,
            Aside::Pause if connection.awaited.is_paused() => {
                let parts = served.into_parts()?;
                let mut stream = parts.io.into_inner().into_inner().into_inner();
                stream.rewind(parts.read_buf);
                return Some(stream);
            }
            Aside::Pause if halted.since(&streams, &connection.awaited) >= HTTP_IDLE => return None,
            Aside::Pause => {}
        }
    };
    told(connection, result);
    None
}

/// What happens on a connection of HTTP/1.1 besides requests.
enum Aside {
    LastCall,
    BrokenOff,
    Pause,
}

/// A client that has begun to say something and does not come to the end of a head: behind which answer, and since when that is
/// known. hyper would have a timer for each request.
#[derive(Default)]
struct Halted(Option<(Instant, Instant)>);

impl Halted {
    /// How long it has been so, as far as this was asked, each time at another pause.
    fn since(&mut self, streams: &Streams, awaited: &Awaited) -> Duration {
        let last = streams.since();
        match self.0 {
            // It takes its last answer still.
            _ if awaited.is_sending() => self.0 = None,
            Some((since, _)) if since == last => {}
            _ => self.0 = Some((last, Instant::now())),
        }
        self.0.map_or(Duration::ZERO, |(_, begun)| PAUSE + begun.elapsed())
    }
}

/// Waits for the next word of a client that pauses. False: none comes. Most connections are here for most of their life: one
/// timer has to do, and what [`last_call`] waits for is waited for without it.
async fn goes_on<S: AsyncRead + Unpin>(connection: &Connection, stream: &mut Rewound<S>) -> bool {
    let Shared { bounds, overload, counts, .. } = &*connection.shared;
    let mut drain = connection.drain.clone();
    let idle = HTTP_IDLE.saturating_sub(PAUSE);
    let age = bounds.age.map_or(Duration::MAX, |age| age.saturating_sub(connection.ends.since.elapsed()));
    // What else there is to read is the conversation's business, which has room for it.
    let mut first = [0; 1];
    tokio::select! {
        biased;
        read = stream.read(&mut first) => {
            stream.rewind(Bytes::copy_from_slice(&first));
            read.is_ok_and(|count| count > 0)
        }
        () = drain.quiet() => false,
        () = overload.closing() => false,
        () = sleep(age.min(idle)) => {
            if age < idle {
                counts.refusals.count(Refusal::Age);
            }
            false
        }
    }
}

async fn serve_http2<S>(connection: Rc<Connection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut drain = connection.drain.clone();
    let streams = connection.streams.get_or_init(|| Streams::new(Awaited::default())).clone();
    let (bounds, refusals) = (connection.shared.bounds, connection.shared.counts.refusals.clone());
    let executor = StreamExecutor::default();
    let work = Work { streams: streams.clone(), executor: executor.clone(), broken_off: None, heads: None };
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
    let turns = || {
        poll_fn(|cx| {
            let result = served.borrow_mut().as_mut().poll(cx);
            // What it says meanwhile goes out together. That it cannot is heard in the next turn.
            let _ = outflow.poll(cx);
            result
        })
    };
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
        Ok(Aside::LastCall | Aside::BrokenOff) => {
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

/// A client's stream as hyper reads requests of HTTP/1 from it.
pub(super) type Client<S> = Watched<Patient<S>>;

/// What the requests of a connection have to do with each other.
struct Work {
    streams: Streams,
    /// HTTP/2: runs them.
    executor: StreamExecutor,
    /// HTTP/1: told when the response under way is given up.
    broken_off: Option<Rc<Notify>>,
    /// HTTP/1: knows what is not shown of their heads.
    heads: Option<Heads>,
}

/// A request that is being answered; in a box, as hyper and the runtime move it about until it begins.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Streamed<Moving>>, Infallible>>>>;

/// Answers each request of a connection, and counts those under way.
fn service(
    connection: &Rc<Connection>,
    work: Work,
) -> impl Service<Request<Incoming>, Response = Response<Streamed<Moving>>, Error = Infallible, Future = Answering>
+ 'static {
    let (connection, before) = (connection.clone(), Cell::new(0));
    service_fn(move |request: Request<Incoming>| {
        let (connection, stream) = (connection.clone(), work.streams.begin());
        let client = Rc::as_ptr(&connection).addr();
        let exchange = connection.shared.exchanges.begin(client, work.broken_off.clone());
        work.executor.begins(exchange.watch());
        // Not only once it is served: hyper looks for an end before.
        connection.awaited.begin(request.body().is_end_stream());
        let number = before.replace(before.get() + 1);
        let heads = work.heads.clone();
        // In a box, as futures within futures each have room for it.
        let request = Box::new(request.map(ClientBody::plain));
        Box::pin(async move {
            let is_plain = heads.as_ref().is_none_or(|heads| heads.is_plain(number));
            let response = request::serve(&connection, request, is_plain, &exchange).await;
            if let Some(heads) = heads.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
                heads.end();
            }
            let overload = &connection.shared.overload;
            Ok(response.map(|body| stream.with(exchange.with(body, overload))))
        }) as Answering
    })
}

/// Waits until a connection of this version is to take no more requests than those under way: for a drain, for its age, or because
/// something runs short.
async fn last_call(connection: &Connection, drain: &mut DrainWatch, version: HttpVersion) {
    let Shared { bounds, overload, counts, .. } = &*connection.shared;
    let aged = async {
        match bounds.age {
            Some(age) => sleep(age.saturating_sub(connection.ends.since.elapsed())).await,
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
        tell_malformed(connection, &error);
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

/// A head that hyper cannot read: it has answered, and nobody has seen a request.
fn tell_malformed(connection: &Connection, error: &hyper::Error) {
    let error = match error {
        error if error.is_parse_too_large() => RequestError::HeadersTooLarge,
        error if error.is_parse() => RequestError::Malformed,
        _ => return,
    };
    connection.count(error);
    Notes::begin(connection, connection.in_force().logging).refused(error, 0);
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
