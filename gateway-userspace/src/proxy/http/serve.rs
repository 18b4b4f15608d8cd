//! One HTTP connection: whose it is, and the route table that its requests see. HTTP/1 is served by [`conversation`], HTTP/2 by
//! [`streams`].

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::record::Notes;
use super::streams::{self, Streams};
use super::{conversation, headers};
use crate::model::{
    Below, ChainAction, Cluster, HttpSettings, ListenerKind, Refusal, RouteTable, Snapshot, Tier,
    UpstreamProtocol,
};
use crate::net::drain::DrainWatch;
use crate::net::repair::{self, TcpInfo};
use crate::net::rewind::Rewound;
use crate::proxy::connection::{Ends, Serving, until};
use crate::proxy::detect::HttpVersion;
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::worker::Shared;
use crate::telemetry::access::{Handshake, Logging};
use crate::telemetry::metrics::InFlight;
use crate::upstream::{Asked, Opening};

/// Header lines of a request; one more is answered with 431 (Envoy's bound).
pub(super) const MAX_HEADERS: usize = 100;
/// Bytes of a request's head, which are read before they are counted as Envoy counts.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Time to take an answer that ends the connection.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
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
            until(connection.drain(), streams::serve(connection, stream)).await;
        }),
        HttpVersion::Other => Box::pin(refuse_version(connection, stream)),
    }
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

/// Tells a client of another version which one is spoken here, and closes. What it still says is read, so that the close
/// does not overtake the answer.
async fn refuse_version<S: AsyncRead + AsyncWrite + Unpin>(connection: Rc<Connection>, mut stream: S) {
    let error = RequestError::OldVersion;
    let (status, body) = (error.status(), error.body());
    connection.count(error);
    Notes::begin(&connection, connection.in_force().logging).refused(error, "HTTP/1.1", body.len());
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
