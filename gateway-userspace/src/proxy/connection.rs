//! The life of one connection, from accept to end, readable in one place.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::detect::{self, DetectError};
use super::drains::Place;
use super::overload::{Level, Seat};
use super::tcp::{Downstream, Introduction};
use super::worker::{Shared, unmapped};
use super::{http, tcp, tls};
use crate::model::{Admission, Limits, Listener, ListenerKey, ListenerKind, Refusal};
use crate::net::drain::DrainWatch;
use crate::net::proxy_header::Told;
use crate::net::rewind::Rewound;
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
    /// Its descriptors.
    pub(super) seat: Seat,
}

/// Serves a connection as the snapshot in force at its accept says, at most to the end of its listener's drain. What follows
/// differs much in size: each has an allocation of its own, so that no connection takes, or is moved with, the room of the
/// largest.
pub(super) async fn serve(
    shared: Rc<Shared>,
    key: ListenerKey,
    mut stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
) {
    let runtime = shared.runtime.current();
    // The listener may have been removed between the accept and now.
    let Some(listener) = runtime.snapshot.listener(key) else { return socket::reset(stream) };
    let _counted = shared.metering.accepted(key);
    let drain = shared.drains.watch(Place::of(listener));
    let Ok(_source) = admit_source(&shared, peer) else { return socket::reset(stream) };
    let Ok(admission) = admit(&shared, listener) else { return socket::reset(stream) };
    // A client that is gone already has no address.
    let Ok(local) = stream.local_addr().map(unmapped) else { return };
    let mut ends = Ends { listener: key, peer, local, since: Instant::now(), told: None };
    let mut over = drain.clone();
    let mut stay = Stay { drain, admission, seat };
    if listener.behind_proxy {
        match Box::pin(first_bytes(&mut stay.drain, detect::proxy_header(&mut stream, PROXY_HEADER))).await {
            Ok(told) => ends.told = told,
            Err(error) => return refuse_stranger(&shared, ends, stream, &error),
        }
    }
    match &listener.kind {
        // A connection may last for days; the rest of its snapshot need not.
        ListenerKind::Http(table) => {
            let in_force = http::InForce::of(&runtime.snapshot, table.clone());
            drop(runtime);
            let _admission = stay.admission.take();
            let connection = http::Connection::new(shared, ends, None, in_force, stay.drain.clone());
            until(&mut over, Box::pin(cleartext(connection, stream))).await;
        }
        ListenerKind::Tcp(route) => {
            let (route, introduction) =
                (route.clone(), Introduction::of(listener, runtime.snapshot.generation));
            drop(runtime);
            let downstream = Downstream::Plain(stream, Bytes::new());
            let served = tcp::serve(&shared, (ends, None), downstream, (&route, introduction), stay);
            until(&mut over, Box::pin(served)).await;
        }
        // Its chain has a drain of its own.
        ListenerKind::Tls(_) => {
            drop(over);
            Box::pin(tls::serve(shared, ends, stream, runtime, stay)).await;
        }
    }
}

/// Serves, but not beyond the end of a drain.
pub(super) async fn until(drain: &mut DrainWatch, serving: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = serving => {}
        () = drain.over() => {}
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

async fn cleartext(connection: http::Connection, mut stream: TcpStream) {
    let ends = connection.ends();
    // What detecting needs is gone once it is known.
    let mut drain = connection.drain();
    let detected = Box::pin(first_bytes(&mut drain, detect::http_version(&mut stream, HTTP_IDLE))).await;
    drop(drain);
    match detected {
        Ok((version, read)) => {
            let connection = Rc::new(connection.over(&stream));
            http::serve(connection, Rewound::new(read, stream), version).await;
        }
        Err(error) => refuse(ends, stream, &error),
    }
}

/// Ends a connection that does not say who the client is, and counts it. One that just closed was none.
fn refuse_stranger(shared: &Shared, ends: Ends, stream: TcpStream, error: &DetectError) {
    if !matches!(error, DetectError::Closed) {
        shared.counts.proxy_headers.count(ends.listener);
    }
    refuse(ends, stream, error);
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
pub(super) fn refuse(ends: Ends, stream: TcpStream, error: &DetectError) {
    if !matches!(error, DetectError::Closed) {
        tracing::debug!(listener = %ends.listener, peer = %ends.peer, %error, "connection refused");
        socket::reset(stream);
    }
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
