//! The life of one connection, from accept to end, readable in one place.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::detect::{self, DetectError};
use super::tcp::{Downstream, Introduction};
use super::worker::{Shared, unmapped};
use super::{http, tcp, tls};
use crate::model::{Admission, Limits, Listener, ListenerKey, ListenerKind};
use crate::net::drain::DrainWatch;
use crate::net::rewind::Rewound;
use crate::net::socket;

/// Time for a client's first bytes on a cleartext HTTP port, and between its requests.
pub(super) const HTTP_IDLE: Duration = Duration::from_secs(75);

/// Who talks to which listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) listener: ListenerKey,
    pub(super) peer: SocketAddr,
    /// The address that the client connected to.
    pub(super) local: SocketAddr,
    /// When it was accepted.
    pub(super) since: Instant,
}

/// What a connection holds for as long as it lasts.
pub(super) struct Stay {
    /// A stop waits for it.
    pub(super) drain: DrainWatch,
    /// Its place among those that the listener's limits leave.
    pub(super) admission: Option<Admission<ListenerKey>>,
}

/// Serves a connection as the snapshot in force at its accept says. What follows differs much in size: each has an
/// allocation of its own, so that no connection takes, or is moved with, the room of the largest.
pub(super) async fn serve(
    shared: Rc<Shared>,
    key: ListenerKey,
    stream: TcpStream,
    peer: SocketAddr,
    drain: DrainWatch,
) {
    let runtime = shared.runtime.current();
    // The listener may have been removed between the accept and now.
    let Some(listener) = runtime.snapshot.listener(key) else { return socket::reset(stream) };
    let Ok(admission) = admit(&shared, listener) else { return socket::reset(stream) };
    // A client that is gone already has no address.
    let Ok(local) = stream.local_addr().map(unmapped) else { return };
    let ends = Ends { listener: key, peer, local, since: Instant::now() };
    let mut stay = Stay { drain, admission };
    match &listener.kind {
        // A connection may last for days; the rest of its snapshot need not.
        ListenerKind::Http(table) => {
            let (table, generation) = (table.clone(), runtime.snapshot.generation);
            drop(runtime);
            let _admission = stay.admission.take();
            let connection = http::Connection::new(shared, ends, None, table, generation, stay.drain);
            Box::pin(cleartext(connection, stream)).await;
        }
        ListenerKind::Tcp(route) => {
            let (route, introduction) =
                (route.clone(), Introduction::of(listener, runtime.snapshot.generation));
            drop(runtime);
            let downstream = Downstream::Plain(stream, Bytes::new());
            Box::pin(tcp::serve(&shared, (ends, None), downstream, (&route, introduction), stay)).await;
        }
        ListenerKind::Tls(_) => Box::pin(tls::serve(shared, ends, stream, runtime, stay)).await,
    }
}

/// As many connections as the listener's limits allow.
struct Refused;

/// Takes one of the places that the listener's limits leave, if it has limits.
fn admit(shared: &Shared, listener: &Listener) -> Result<Option<Admission<ListenerKey>>, Refused> {
    if listener.limits == Limits::default() {
        return Ok(None);
    }
    let admission = shared.counts.listeners.admit(&listener.key, listener.limits, Instant::now());
    if admission.is_none() {
        tracing::debug!(listener = %listener.key, "over the listener's limit");
    }
    admission.map(Some).ok_or(Refused)
}

async fn cleartext(connection: http::Connection, mut stream: TcpStream) {
    let ends = connection.ends();
    match first_bytes(&mut connection.drain(), detect::http_version(&mut stream, HTTP_IDLE)).await {
        Ok((version, read)) => {
            http::serve(connection.over(&stream), Rewound::new(read, stream), version).await;
        }
        Err(error) => refuse(ends, stream, &error),
    }
}

/// Waits for a client's first bytes, but not beyond the start of a drain: a client that has said nothing yet loses
/// nothing, and a stop need not wait for it.
pub(super) async fn first_bytes<T>(
    drain: &mut DrainWatch,
    detecting: impl Future<Output = Result<T, DetectError>>,
) -> Result<T, DetectError> {
    tokio::select! {
        biased;
        result = detecting => result,
        () = drain.signaled() => Err(DetectError::Closed),
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

    #[tokio::test]
    async fn a_client_that_said_nothing_does_not_hold_up_a_drain() {
        let trigger = drain();
        let mut watch = trigger.watch();
        let silent = tokio::spawn(async move { first_bytes::<()>(&mut watch, std::future::pending()).await });
        assert!(trigger.drain(Duration::from_mins(1)).await);
        assert!(matches!(silent.await.unwrap(), Err(DetectError::Closed)));
    }
}
