//! WebSocket upgrades over HTTP/1.1 (RFC 6455): asked for at the backend with the same words, and relayed once both
//! sides have switched. Other upgrades are refused, h2c is ignored, as at Istio's gateway.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::ResponseBody;
use super::headers;
use super::serve::Connection;
use crate::datapath::handoff::Entry;
use crate::model::Below;
use crate::net::drain::DrainWatch;
use crate::net::relay::{Carried, Parts};
use crate::net::rewind::Rewound;
use crate::proxy::climb::{Climb, End};
use crate::proxy::connection::Ends;
use crate::proxy::error::RequestError;
use crate::proxy::opaque;
use crate::proxy::worker::Shared;
use crate::upstream::UpstreamBody;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Silence after which an upgraded connection is closed; route timeouts do not end it.
const IDLE: Duration = Duration::from_hours(1);

/// The client's side of an upgrade that is under way.
#[derive(Debug)]
pub(super) struct Wanted(OnUpgrade);

/// What a switched connection keeps of the HTTP connection that it was.
struct Switched {
    shared: Rc<Shared>,
    ends: Ends,
    terminates_tls: bool,
    /// What a drain waits for.
    drain: DrainWatch,
}

/// Whether the client asks for a WebSocket. `Upgrade` asks for nothing unless `Connection` names it (RFC 9110, 7.8).
pub(super) fn wanted(request: &mut Request<Incoming>) -> Result<Option<Wanted>, RequestError> {
    let asked = headers::lists(request.headers(), CONNECTION, b"upgrade");
    let Some(protocol) = request.headers().get(UPGRADE).filter(|_| asked) else { return Ok(None) };
    if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return Ok(Some(Wanted(hyper::upgrade::on(request))));
    }
    if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") {
        Ok(None)
    } else {
        Err(RequestError::UpgradeRefused)
    }
}

/// Puts the question to the backend.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// The backend has switched: passes its 101 on and relays what follows. A 101 that nobody asked for is a fault of the
/// backend.
pub(super) fn switch(
    connection: &Connection,
    mut response: Response<UpstreamBody>,
    wanted: Option<Wanted>,
) -> Response<ResponseBody> {
    let Some(Wanted(downstream)) = wanted else {
        let mut refused = Response::new(ResponseBody::text(RequestError::UpstreamProtocol.body()));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    };
    let upstream = hyper::upgrade::on(&mut response);
    let (head, body) = response.into_parts();
    let drain = connection.drain.clone();
    let connection = Switched {
        shared: connection.shared.clone(),
        ends: connection.ends,
        terminates_tls: connection.scheme() == "https",
        drain,
    };
    tokio::task::spawn_local(async move {
        // The body holds the endpoint's lease; the relay is what it counts.
        let _held = body;
        match tokio::try_join!(downstream, upstream) {
            Ok((downstream, upstream)) => carry(connection, downstream, upstream).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Response::from_parts(head, ResponseBody::empty())
}

/// Relays what follows. Backends are spoken to over plain sockets; a client whose TLS ends here is not.
async fn carry(connection: Switched, downstream: Upgraded, upstream: Upgraded) {
    let Switched { shared, ends, terminates_tls, drain } = connection;
    let (upstream, answer) = match upstream.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io.into_inner(), parts.read_buf),
        Err(upstream) => {
            let streams = (TokioIo::new(downstream), TokioIo::new(upstream));
            opaque::between_streams(None, streams, IDLE, || {}).await;
            return;
        }
    };
    match socket(downstream) {
        Ok((downstream, prefix)) => {
            let listed = opaque::list_sockets(&shared, (ends, None), &upstream);
            let parts = Parts { downstream, upstream, prefix, answer, carried: Carried::default() };
            let (port, entry) = (Err(Below::Pooled), Entry::default());
            let climb = Climb::new(&shared, ends, (IDLE, ends.since), port, entry, drain.clone());
            if let (_, End::HandedOver(settling)) =
                opaque::between_sockets(climb, listed, shared.highest_tier, parts, IDLE, || {}).await
            {
                settling.finish().await;
            }
        }
        Err(downstream) => {
            let below = if terminates_tls { Below::TerminatesTls } else { Below::NotPlainSockets };
            let listed = opaque::list_streams(&shared, (ends, None), &upstream, below);
            let streams = (TokioIo::new(downstream), Rewound::new(answer, upstream));
            opaque::between_streams(listed, streams, IDLE, || {}).await;
        }
    }
}

/// The client's socket, and what was read from it beyond its request; as it was, if it is none.
fn socket(downstream: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let parts = downstream.downcast::<TokioIo<Rewound<TcpStream>>>()?;
    let (unread, stream) = parts.io.into_inner().into_parts();
    // hyper has read from the front of what was put back.
    let prefix = if unread.is_empty() { parts.read_buf } else { [parts.read_buf, unread].concat().into() };
    Ok((stream, prefix))
}
