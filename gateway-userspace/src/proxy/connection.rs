//! The life of one connection, from accept to end, readable in one place.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::detect::{self, DetectError};
use super::worker::Shared;
use super::{http, tcp, tls};
use crate::model::{ListenerKey, ListenerKind};
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
}

/// Serves a connection as the snapshot in force at its accept says.
pub(super) async fn serve(
    shared: Rc<Shared>,
    key: ListenerKey,
    mut stream: TcpStream,
    peer: SocketAddr,
    drain: DrainWatch,
) {
    let runtime = shared.runtime.current();
    // The listener may have been removed between the accept and now.
    let Some(listener) = runtime.snapshot.listener(key) else { return socket::reset(stream) };
    let ends = Ends { listener: key, peer };
    match &listener.kind {
        ListenerKind::Http(table) => match detect::http_version(&mut stream, HTTP_IDLE).await {
            Ok((version, read)) => {
                let connection =
                    http::Connection::new(shared, ends, None, table.clone(), runtime.snapshot.generation);
                http::serve(connection, Rewound::new(read, stream), version, drain).await;
            }
            Err(error) => refuse(ends, stream, &error),
        },
        ListenerKind::Tcp(route) => {
            let route = route.clone();
            // A connection may last for days; the rest of its snapshot need not.
            drop(runtime);
            tcp::serve(&shared, ends, stream, &route, drain).await;
        }
        ListenerKind::Tls(listener) => tls::serve(shared, ends, stream, listener, &runtime, drain).await,
    }
}

/// Ends a connection whose first bytes nobody serves. One that just closed is not worth a word.
pub(super) fn refuse(ends: Ends, stream: TcpStream, error: &DetectError) {
    if !matches!(error, DetectError::Closed) {
        tracing::debug!(listener = %ends.listener, peer = %ends.peer, %error, "connection refused");
        socket::reset(stream);
    }
}
