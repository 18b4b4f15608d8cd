//! The life of one connection, from accept to end, readable in one place.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::detect::{self, DetectError};
use super::drains::Place;
use super::metering::Accepted;
use super::overload::{Level, Seat};
use super::tcp::{Downstream, Introduction};
use super::worker::{Shared, unmapped};
use super::{http, tcp, tls};
use crate::model::{Admission, Limits, Listener, ListenerKey, ListenerKind, Refusal};
use crate::net::drain::DrainWatch;
use crate::net::proxy_header::Told;
use crate::net::rewind::Rewound;
use crate::net::seldom::Seldom;
use crate::net::socket;
use crate::telemetry::access;

/// Time for a client's first bytes on a cleartext HTTP port, and between its requests.
pub(super) const HTTP_IDLE: Duration = Duration::from_secs(75);

/// Time for a header of the PROXY protocol (Istio's for what its gateway reads before a filter chain is found).
const PROXY_HEADER: Duration = Duration::from_secs(15);

/// Who talks to which listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) listener: ListenerKey,
    pub(super) peer: SocketAddr,
    /// The address that the client connected to.
    pub(super) local: SocketAddr,
    /// When it was accepted.
    pub(super) since: Instant,
    /// Both ends of the client's connection, where a proxy has told them.
    pub(super) told: Option<Told>,
}

impl Ends {
    /// The client: whoever the connection is with, or whom a proxy speaks for.
    pub(super) fn client(&self) -> SocketAddr {
        self.told.map_or(self.peer, |told| told.source)
    }

    /// The address that the client connected to.
    pub(super) fn destination(&self) -> SocketAddr {
        self.told.map_or(self.local, |told| told.destination)
    }

    /// The start of its record for the access log, with the name that a TLS client has asked for.
    pub(super) fn record(&self, server_name: Option<&str>) -> access::Connection {
        access::Connection::begun(self.destination(), (self.client(), self.peer), server_name)
    }
}

/// What a connection holds for as long as it lasts.
pub(super) struct Stay {
    /// A stop waits for it.
    pub(super) drain: DrainWatch,
    /// Its place among those that the listener's limits leave.
    pub(super) admission: Option<Admission<ListenerKey>>,
    /// Its place among those that its source address may have.
    pub(super) source: Option<Admission<IpAddr>>,
    /// Its descriptors.
    pub(super) seat: Seat,
    /// It is counted among those that are open.
    pub(super) counted: Accepted,
}

/// What is left to do for a connection. It differs much in size, and most connections are idle for most of their life: each
/// kind has an allocation of its own, and nothing of what came before is kept.
pub(super) type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// A connection of which it is known what it is.
pub(super) struct Begun {
    pub(super) serving: Serving,
    /// What it holds, unless whoever serves it does.
    pub(super) stay: Option<Stay>,
}

/// Serves a connection as the snapshot in force at its accept says, at most to the end of its listener's drain.
pub(super) fn serve(
    shared: Rc<Shared>,
    key: ListenerKey,
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
) -> impl Future<Output = ()> {
    let beginning = Box::pin(begin(shared, key, stream, peer, seat));
    async move {
        if let Some(Begun { serving, stay: _stay }) = beginning.await {
            serving.await;
        }
    }
}

/// Finds out what a connection is, by its listener and by what its client says first. `None`: it has ended.
async fn begin(
    shared: Rc<Shared>,
    key: ListenerKey,
    mut stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
) -> Option<Begun> {
    let runtime = shared.runtime.current();
    // The listener may have been removed between the accept and now.
    let Some(listener) = runtime.snapshot.listener(key) else { return reset(stream) };
    let counted = shared.metering.accepted(key);
    let drain = shared.drains.watch(Place::of(listener));
    let Ok(source) = admit_source(&shared, peer) else { return reset(stream) };
    let Ok(admission) = admit(&shared, listener) else { return reset(stream) };
    // A client that is gone already has no address.
    let local = stream.local_addr().map(unmapped).ok()?;
    let mut ends = Ends { listener: key, peer, local, since: Instant::now(), told: None };
    let mut stay = Stay { drain, admission, source, seat, counted };
    if listener.behind_proxy {
        match first_bytes(&mut stay.drain, detect::proxy_header(&mut stream, PROXY_HEADER)).await {
            Ok(told) => ends.told = told,
            Err(error) => return refuse_stranger(&shared, ends, stream, &error),
        }
    }
    match &listener.kind {
        // A connection may last for days; the rest of its snapshot need not.
        ListenerKind::Http(table) => {
            let in_force = http::InForce::of(&runtime.snapshot, table.clone());
            drop(runtime);
            let connection = http::Connection::new(shared, ends, None, in_force, stay.drain.clone());
            cleartext(connection, stream, stay).await
        }
        ListenerKind::Tcp(route) => {
            let (route, introduction) =
                (route.clone(), Introduction::of(listener, runtime.snapshot.generation));
            drop(runtime);
            let downstream = Downstream::Plain(stream, Bytes::new());
            Some(tcp::serving(shared, (ends, None), downstream, (route, introduction), stay))
        }
        // Its chain has a drain of its own.
        ListenerKind::Tls(_) => tls::begin(shared, ends, stream, runtime, stay).await,
    }
}

/// Serves, but not beyond the end of a drain: `None`.
pub(super) async fn until<T>(mut drain: DrainWatch, serving: impl Future<Output = T>) -> Option<T> {
    let over = pin!(drain.over());
    tokio::select! {
        biased;
        result = serving => Some(result),
        () = Seldom::new(over) => None,
    }
}

/// As many connections as the listener's limits allow.
struct Refused;

/// Takes one of the places that a source address may have, if those are bounded, unless memory leaves nobody any.
fn admit_source(shared: &Shared, peer: SocketAddr) -> Result<Option<Admission<IpAddr>>, Refused> {
    if shared.overload.level() == Level::Shedding {
        shared.counts.refusals.count(Refusal::ConnectionForMemory);
        return Err(Refused);
    }
    let limits = shared.bounds.source;
    if limits == Limits::default() {
        return Ok(None);
    }
    let admission = shared.counts.sources.admit(&network(peer.ip()), limits, Instant::now());
    if admission.is_none() {
        shared.counts.refusals.count(Refusal::Source);
        tracing::debug!(%peer, "over the limit of a source address");
    }
    admission.map(Some).ok_or(Refused)
}

/// Who has one IPv6 address has all of its network of 64 bits.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Takes one of the places that the listener's limits leave, if it has limits.
fn admit(shared: &Shared, listener: &Listener) -> Result<Option<Admission<ListenerKey>>, Refused> {
    if listener.limits == Limits::default() {
        return Ok(None);
    }
    let admission = shared.counts.listeners.admit(&listener.key, listener.limits, Instant::now());
    if admission.is_none() {
        shared.counts.refusals.count(Refusal::Listener);
        tracing::debug!(listener = %listener.key, "over the listener's limit");
    }
    admission.map(Some).ok_or(Refused)
}

async fn cleartext(connection: http::Connection, mut stream: TcpStream, mut stay: Stay) -> Option<Begun> {
    match first_bytes(&mut stay.drain, detect::http_version(&mut stream, HTTP_IDLE)).await {
        Ok((version, read)) => {
            let connection = Rc::new(connection.over(&stream));
            let serving = http::serve(connection, Rewound::new(read, stream), version);
            Some(Begun { serving, stay: Some(stay) })
        }
        Err(error) => refuse(connection.ends(), stream, &error),
    }
}

/// Ends a connection that does not say who the client is, and counts it. One that just closed was none.
fn refuse_stranger(shared: &Shared, ends: Ends, stream: TcpStream, error: &DetectError) -> Option<Begun> {
    if !matches!(error, DetectError::Closed) {
        shared.counts.proxy_headers.count(ends.listener);
    }
    refuse(ends, stream, error)
}

/// Waits for a client's first bytes, which may be under way when a drain starts, but not to its end: a client that goes on
/// saying nothing loses nothing, and a stop need not wait for it.
pub(super) async fn first_bytes<T>(
    drain: &mut DrainWatch,
    detecting: impl Future<Output = Result<T, DetectError>>,
) -> Result<T, DetectError> {
    tokio::select! {
        biased;
        result = detecting => result,
        () = drain.quiet() => Err(DetectError::Closed),
    }
}

/// Ends a connection whose first bytes nobody serves. One that just closed is not worth a word.
pub(super) fn refuse(ends: Ends, stream: TcpStream, error: &DetectError) -> Option<Begun> {
    if matches!(error, DetectError::Closed) {
        return None;
    }
    tracing::debug!(listener = %ends.listener, peer = %ends.peer, %error, "connection refused");
    reset(stream)
}

/// Ends a connection that nobody serves.
pub(super) fn reset(stream: TcpStream) -> Option<Begun> {
    socket::reset(stream);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::drain::drain;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_said_nothing_does_not_hold_up_a_drain() {
        let trigger = drain();
        let mut watch = trigger.watch();
        let silent = tokio::spawn(async move { first_bytes::<()>(&mut watch, std::future::pending()).await });
        assert!(trigger.drain(Duration::from_mins(1)).await);
        assert!(matches!(silent.await.unwrap(), Err(DetectError::Closed)));
    }
}
