//! TLS listeners: the ClientHello chooses a filter chain, which terminates or passes through.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Ends, refuse};
use super::detect::{self, HttpVersion};
use super::worker::Shared;
use super::{Runtime, http, tcp};
use crate::model::listener::TlsListener;
use crate::model::{ChainAction, FilterChain};
use crate::net::drain::DrainWatch;
use crate::net::rewind::Rewound;
use crate::net::socket;

/// Time for the whole handshake, the ClientHello included (Istio's default).
const HANDSHAKE: Duration = Duration::from_secs(15);

type Terminated = TlsStream<Rewound<TcpStream>>;

/// Serves a connection on a TLS port. A name that no chain serves, or bytes that are no ClientHello: reset.
pub(super) async fn serve(
    shared: Rc<Shared>,
    ends: Ends,
    mut stream: TcpStream,
    listener: &TlsListener,
    runtime: &Runtime,
    drain: DrainWatch,
) {
    let (hello, read) = match detect::client_hello(&mut stream, HANDSHAKE).await {
        Ok(hello) => hello,
        Err(error) => return refuse(ends, stream, &error),
    };
    let Some(chain) = listener.select(hello.sni.as_deref()) else {
        let sni = hello.sni.as_deref().unwrap_or("-");
        tracing::debug!(listener = %ends.listener, peer = %ends.peer, sni, "no filter chain for the server name");
        return socket::reset(stream);
    };
    let stream = Rewound::new(read, stream);
    let generation = runtime.snapshot.generation;
    match &chain.action {
        ChainAction::Passthrough(route) => tcp::serve(&shared, ends, stream, route, drain).await,
        ChainAction::TerminateTcp { route, .. } => {
            if let Some(stream) = terminate(ends, stream, chain, runtime).await {
                tcp::serve(&shared, ends, stream, route, drain).await;
            }
        }
        ChainAction::TerminateHttp { routes, .. } => {
            if let Some(stream) = terminate(ends, stream, chain, runtime).await {
                let version = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => HttpVersion::Two,
                    _ => HttpVersion::One,
                };
                let connection =
                    http::Connection::new(shared, ends, Some(chain.name.clone()), routes.clone(), generation);
                http::serve(connection, stream, version, drain).await;
            }
        }
    }
}

async fn terminate(
    ends: Ends,
    stream: Rewound<TcpStream>,
    chain: &Arc<FilterChain>,
    runtime: &Runtime,
) -> Option<Terminated> {
    let Some(config) = runtime.tls.get(ends.listener, &chain.name) else {
        tracing::debug!(listener = %ends.listener, chain = %chain.name, "no usable credential: connection reset");
        socket::reset(stream.into_parts().1);
        return None;
    };
    match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, chain = %chain.name, %error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, chain = %chain.name, "handshake took too long");
            None
        }
    }
}
