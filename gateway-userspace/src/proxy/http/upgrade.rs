//! WebSocket upgrades over HTTP/1.1 (RFC 6455): asked for at the backend with the same words, on a connection of their own,
//! and carried unread once both sides have switched. Other upgrades are refused, h2c is ignored, as at Istio's gateway.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::headers;
use super::serve::Connection;
use super::streams::{Stream, Streams};
use crate::datapath::handoff::Entry;
use crate::model::{Below, Cluster};
use crate::net::drain::DrainWatch;
use crate::net::relay::{Carried, Parts, RelayEnd};
use crate::net::rewind::Rewound;
use crate::proxy::access::Line;
use crate::proxy::climb::{Climb, End};
use crate::proxy::connection::Ends;
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::reserve::{self, Port};
use crate::proxy::worker::Shared;
use crate::proxy::{opaque, tcp};
use crate::telemetry::access;
use crate::upstream::{
    self, Departure, Lease, Opening, Outbound, SendError, UpstreamBody, UpstreamStream, limits,
};
use crate::wire::{self, AnyStream, Switching};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Silence after which an upgraded connection is closed; route timeouts do not end it.
const IDLE: Duration = Duration::from_hours(1);

/// Where a request that switches leaves what its line in the access log tells so far, and when it began: the line ends with the
/// connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<Option<(Instant, access::Connection)>>>);

impl Told {
    pub(super) fn leave(&self, began: Instant, record: access::Connection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, record));
    }

    fn take(&self) -> Option<(Instant, access::Connection)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a switched connection keeps of the HTTP connection and the request that it was.
struct Switched {
    shared: Rc<Shared>,
    ends: Ends,
    terminates_tls: bool,
    /// What a drain waits for.
    drain: DrainWatch,
    /// Of a connection that is not to be taken for idle meanwhile.
    _stream: Option<Stream>,
    since: Instant,
    cluster: Arc<Cluster>,
    endpoint: SocketAddr,
    told: Told,
}

/// The backend's side of one.
struct Backend {
    stream: UpstreamStream,
    port: Port,
    /// What it said right behind its answer.
    answer: Bytes,
}

/// Refuses upgrades to anything but WebSockets, whatever the route does, and the choice of several protocols. h2c is ignored.
pub(super) fn check(headers: &HeaderMap) -> Result<(), RequestError> {
    let known = |protocol: &HeaderValue| {
        let is = |known: &&[u8]| protocol.as_bytes().eq_ignore_ascii_case(known);
        [&b"websocket"[..], b"h2c"].iter().any(is) && headers.get_all(UPGRADE).iter().nth(1).is_none()
    };
    if asked(headers).is_none_or(known) { Ok(()) } else { Err(RequestError::UpgradeRefused) }
}

/// The client's side, if it asks for a WebSocket.
pub(super) fn wanted(exchange: &Exchange, headers: &HeaderMap) -> Option<Switching> {
    let is_websocket = asked(headers)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    exchange.switching().filter(|_| is_websocket)
}

/// `Upgrade` asks for nothing unless `Connection` names it (RFC 9110, 7.8).
fn asked(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(UPGRADE).filter(|_| headers::lists(headers, CONNECTION, b"upgrade"))
}

/// Whether the other side switches to what it was asked for, and to nothing else.
fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let first = protocols.next().is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"));
    first && protocols.next().is_none()
}

/// Puts the question to the backend.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Sends the question on a connection that is made for it: what follows may last for days, and may be handed over to the
/// kernel then.
pub(super) async fn send(
    connection: &Connection,
    (cluster, opening): (&Cluster, &Opening),
    request: Outbound,
    mut lease: Lease,
    departure: &Departure,
) -> Result<Response<UpstreamBody>, SendError> {
    let Connection { shared, ends, agreed, .. } = connection;
    let place = limits::connection(&shared.counts, cluster, false).map_err(|_| SendError::Overflow)?;
    lease.hold(None, place);
    let to = (lease.address, cluster.connect_timeout);
    let agreed = agreed.and_then(|agreed| tcp::stays_below(cluster).map_or(Ok(agreed), Err));
    let connecting = async {
        let (stream, port) = reserve::connect(shared, *ends, agreed, to).await?;
        Ok((opening.begin(stream, lease.address, cluster).await?, port))
    };
    match connecting.await {
        Ok((stream, port)) => {
            departure.leave(lease.address, stream.socket().local_addr().ok());
            // The port ends with the connection, unless both sides switch.
            upstream::send_alone(stream, Box::new(port), request, lease).await
        }
        Err(error) => Err(SendError::Connect { error, request }),
    }
}

/// The backend has switched: passes its 101 on and carries what follows. A 101 that nobody asked for, or to something else
/// than what was asked for (RFC 9110, 7.8), is a fault of the backend.
pub(super) fn switch(
    connection: &Connection,
    cluster: &Arc<Cluster>,
    mut response: Response<UpstreamBody>,
    wanted: Option<Switching>,
) -> Response<ResponseBody> {
    let Some(downstream) = wanted.filter(|_| is_websocket(response.headers())) else {
        let mut refused =
            Response::new(ResponseBody::text(RequestError::Reset(Reset::Protocol, Tries::One).body()));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    };
    let backend = backend(response.body_mut());
    let (mut head, body) = response.into_parts();
    let told = Told::default();
    head.extensions.insert(told.clone());
    let switched = Switched {
        shared: connection.shared.clone(),
        ends: connection.ends,
        terminates_tls: connection.scheme() == "https",
        drain: connection.drain.clone(),
        _stream: connection.streams.get().map(Streams::begin),
        since: Instant::now(),
        cluster: cluster.clone(),
        endpoint: body.endpoint(),
        told,
    };
    let mut drain = switched.drain.clone();
    let carried = async move {
        // The body holds the endpoint's lease; what follows is what it counts.
        let _held = body;
        let Some(backend) = backend else { return };
        match downstream.await {
            Ok(downstream) => switched.carry(downstream, backend).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    };
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = carried => {}
            () = drain.over() => {}
        }
    });
    Response::from_parts(head, ResponseBody::empty())
}

impl Drop for Switched {
    /// The client went before it could switch, or the drain was over.
    fn drop(&mut self) {
        if let Some(told) = self.told.take()
            && let Some(mut line) = Line::begin(&self.shared, self.ends, None)
        {
            line.goes_on(told);
            line.unswitched();
        }
    }
}

impl Switched {
    async fn carry(self, downstream: wire::Switched, backend: Backend) {
        let mut line = Line::begin(&self.shared, self.ends, None);
        if let Some(line) = &mut line {
            if let Some(told) = self.told.take() {
                line.goes_on(told);
            }
            line.connected(&self.cluster, self.endpoint, backend.stream.socket().local_addr().ok());
        }
        let Backend { stream, port, answer } = backend;
        match (socket(downstream), stream) {
            (Ok(client), UpstreamStream::Plain(stream)) => {
                self.between_sockets(client, (stream, port, answer), line).await;
            }
            (Ok((client, prefix)), stream) => {
                let client = Rewound::new(prefix, client);
                self.between_streams((client, Below::UpstreamTls), (stream, port, answer), line).await;
            }
            (Err(client), stream) => {
                let below = if self.terminates_tls { Below::TerminatesTls } else { Below::NotPlainSockets };
                self.between_streams((client, below), (stream, port, answer), line).await;
            }
        }
    }

    /// Until the end, or until the kernel plane has the connection. `prefix` is what was read behind the request.
    async fn between_sockets(
        &self,
        (downstream, prefix): (TcpStream, Bytes),
        (upstream, port, answer): (TcpStream, Port, Bytes),
        line: Option<Line>,
    ) {
        let (shared, ends) = (&self.shared, self.ends);
        let parts = Parts { downstream, upstream, prefix, answer, carried: Carried::default() };
        let entry = Entry { cluster: Some(self.cluster.name.clone()), told: ends.told, ..Entry::default() };
        let climb = Climb::new(shared, ends, (IDLE, self.since), port, entry, self.drain.clone());
        let named = (ends, None, Line::metered(line.as_ref()));
        match opaque::between_sockets(shared, named, climb, (parts, IDLE.into()), || {}).await {
            (carried, End::HandedOver(settling)) => {
                // The kernel plane tells of it at its end.
                if let Some(line) = line {
                    line.leave(carried);
                }
                settling.finish().await;
            }
            (carried, End::Relayed(end)) => {
                shared.counts.lengths.record(&self.cluster.name, carried.up + carried.down);
                tell(line, carried, &end);
            }
        }
    }

    /// Until the end: a side whose TLS ends here is no plain socket.
    async fn between_streams(
        &self,
        (downstream, below): (impl AsyncRead + AsyncWrite, Below),
        (stream, _port, answer): (UpstreamStream, Port, Bytes),
        line: Option<Line>,
    ) {
        let named = (self.ends, None, Line::metered(line.as_ref()));
        let listed = opaque::list_streams(&self.shared, named, stream.socket(), below);
        let streams = (downstream, Rewound::new(answer, stream));
        let (carried, end) = opaque::between_streams(listed, streams, IDLE.into(), || {}).await;
        tell(line, carried, &end);
    }
}

fn tell(line: Option<Line>, carried: Carried, end: &RelayEnd) {
    if let Some(mut line) = line {
        line.ended(carried, end);
    }
}

/// The backend's connection, out of what [`send`] made of it.
fn backend(body: &mut UpstreamBody) -> Option<Backend> {
    let upstream::Switched { stream, unread, kept } = body.switched()?;
    let Ok(port) = kept.downcast::<Port>() else {
        tracing::error!("a backend's connection has switched that no upgrade was asked for on");
        return None;
    };
    Some(Backend { stream, port: *port, answer: unread })
}

/// The client's socket, and what was read from it beyond its request; a stream if it is none.
fn socket(downstream: wire::Switched) -> Result<(TcpStream, Bytes), Box<dyn AnyStream>> {
    downstream.downcast().map_err(|switched| {
        let (stream, unread) = switched.into_parts();
        Box::new(Rewound::new(unread, stream)) as Box<dyn AnyStream>
    })
}
