//! TLS listeners: the ClientHello chooses a filter chain, which terminates or passes through.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::access::Line;
use super::connection::{Begun, Ends, HTTP_IDLE, Serving, Stay, first_bytes, refuse, reset};
use super::detect::{self, DetectError, HttpVersion};
use super::drains::Place;
use super::tcp::{Downstream, Introduction};
use super::terminated::Terminated;
use super::worker::Shared;
use super::{Runtime, http, tcp};
use crate::model::{ChainAction, FilterChain, ListenerKind};
use crate::net::drain::DrainWatch;
use crate::net::rewind::Rewound;
use crate::net::socket;
use crate::telemetry::access;
use crate::tls::{ClientHello, agreed, client_certificate};

/// Time for the whole handshake, the ClientHello included (Istio's default).
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Finds out what a connection on a TLS port is. A name that no chain serves, or bytes that are no ClientHello: reset.
pub(super) async fn begin(
    shared: Rc<Shared>,
    ends: Ends,
    mut stream: TcpStream,
    runtime: Arc<Runtime>,
    mut stay: Stay,
) -> Option<Begun> {
    let deadline = Instant::now() + HANDSHAKE;
    let (hello, read) = match first_bytes(&mut stay.drain, detect::client_hello(&mut stream, HANDSHAKE)).await
    {
        Ok(hello) => hello,
        Err(error) => {
            if matches!(error, DetectError::Hello(_)) {
                note_unserved(&shared, ends, None);
            }
            return refuse(ends, stream, &error);
        }
    };
    let Some(chain) = select(&runtime, ends, &hello) else {
        note_unserved(&shared, ends, hello.sni.as_deref());
        return reset(stream);
    };
    let config = runtime.tls.get(ends.listener, &chain.name);
    let Some(listener) = runtime.snapshot.listener(ends.listener) else { return reset(stream) };
    let introduction = Introduction::of(listener, runtime.snapshot.generation);
    let handshake = Handshake { ends, chain: &chain, config, deadline };
    stay.drain = shared.drains.watch(Place::of_chain(ends.listener, &chain));
    // A connection may last for days; the rest of its snapshot need not.
    let name = hello.sni;
    let (route, downstream) = match &chain.action {
        ChainAction::Passthrough(route) => {
            drop(runtime);
            (route.clone(), Downstream::Plain(stream, read))
        }
        ChainAction::TerminateTcp { route, .. } => {
            drop(runtime);
            let stream = handshake.complete(Rewound::new(read, stream)).await?;
            (route.clone(), Downstream::Terminated(stream))
        }
        ChainAction::TerminateHttp { routes, .. } => {
            let in_force = http::InForce::of(&runtime.snapshot, routes.clone());
            drop(runtime);
            let stream = handshake.complete(Rewound::new(read, stream)).await?;
            let chain = Some(chain.name.clone());
            let connection = http::Connection::new(shared, ends, chain, in_force, stay.drain.clone())
                .of_client(name.as_deref(), (handshake_of(&stream), certificate(&stream)));
            let serving = http_of(connection, stream, &mut stay.drain).await?;
            return Some(Begun { serving, stay: Some(stay) });
        }
    };
    Some(tcp::serving(shared, (ends, name), downstream, (route, introduction), stay))
}

/// The connection's line in the access log.
fn note_unserved(shared: &Shared, ends: Ends, name: Option<&str>) {
    if let Some(mut line) = Line::begin(shared, ends, name) {
        line.unserved();
    }
}

fn select(runtime: &Runtime, ends: Ends, hello: &ClientHello) -> Option<Arc<FilterChain>> {
    let ListenerKind::Tls(listener) = &runtime.snapshot.listener(ends.listener)?.kind else { return None };
    let chain = listener.select(hello.sni.as_deref()).cloned();
    if chain.is_none() {
        let sni = hello.sni.as_deref().unwrap_or("-");
        tracing::debug!(listener = %ends.listener, peer = %ends.peer, sni, "no filter chain for the server name");
    }
    chain
}

/// What was agreed on, as the access log tells it.
pub(super) fn handshake_of(stream: &Terminated) -> access::Handshake {
    let (version, cipher) = agreed(stream.session());
    access::Handshake { version, cipher, is_mutual: stream.session().peer_certificates().is_some() }
}

/// What backends are told of the certificate that a client has shown.
fn certificate(stream: &Terminated) -> Option<HeaderValue> {
    let shown = stream.session().peer_certificates()?.first()?;
    HeaderValue::try_from(client_certificate(shown)?).ok()
}

/// ALPN says which HTTP; a client that offered none is known by its first bytes, as at Envoy. Either way they are
/// waited for as on a cleartext port.
async fn http_of(
    connection: http::Connection,
    mut stream: Box<Terminated>,
    drain: &mut DrainWatch,
) -> Option<Serving> {
    match first_bytes(drain, detect::http_version(&mut stream, HTTP_IDLE)).await {
        Ok((seen, read)) => {
            let version = match (stream.session().alpn_protocol(), seen) {
                (Some(b"h2"), _) => HttpVersion::Two,
                (Some(_), HttpVersion::Two) => HttpVersion::One,
                (_, seen) => seen,
            };
            Some(http::serve(Rc::new(connection), Rewound::new(read, stream), version))
        }
        Err(error) => {
            let ends = connection.ends();
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, %error, "no request");
            None
        }
    }
}

/// What is left of a handshake once its ClientHello has chosen a chain.
struct Handshake<'a> {
    ends: Ends,
    chain: &'a FilterChain,
    config: Option<Arc<ServerConfig>>,
    deadline: Instant,
}

impl Handshake<'_> {
    async fn complete(self, stream: Rewound<TcpStream>) -> Option<Box<Terminated>> {
        let (ends, chain) = (self.ends, &self.chain.name);
        let Some(config) = self.config else {
            tracing::debug!(listener = %ends.listener, %chain, "no usable credential: connection reset");
            socket::reset(stream.into_parts().1);
            return None;
        };
        match timeout_at(self.deadline, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(Terminated::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(listener = %ends.listener, peer = %ends.peer, %chain, %error, "handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(listener = %ends.listener, peer = %ends.peer, %chain, "handshake took too long");
                None
            }
        }
    }
}
