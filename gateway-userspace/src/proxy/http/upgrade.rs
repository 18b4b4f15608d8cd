//! WebSocket upgrades over HTTP/1.1 (RFC 6455): asked for at the backend with the same words, and relayed once both
//! sides have switched. Other upgrades are refused, h2c is ignored, as at Istio's gateway.

use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::ResponseBody;
use super::headers;
use crate::net::drain::DrainWatch;
use crate::net::relay::relay;
use crate::proxy::error::RequestError;
use crate::upstream::UpstreamBody;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Silence after which an upgraded connection is closed; route timeouts do not end it.
const IDLE: Duration = Duration::from_hours(1);

/// The client's side of an upgrade that is under way.
#[derive(Debug)]
pub(super) struct Wanted(OnUpgrade);

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
    mut response: Response<UpstreamBody>,
    wanted: Option<Wanted>,
    drain: DrainWatch,
) -> Response<ResponseBody> {
    let Some(Wanted(downstream)) = wanted else {
        let mut refused = Response::new(ResponseBody::text(RequestError::UpstreamProtocol.body()));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    };
    let upstream = hyper::upgrade::on(&mut response);
    let (head, body) = response.into_parts();
    tokio::task::spawn_local(async move {
        // The body holds the endpoint's lease; the relay is what it counts, and what a drain waits for.
        let _held = (body, drain);
        match tokio::try_join!(downstream, upstream) {
            Ok((downstream, upstream)) => {
                relay(TokioIo::new(downstream), TokioIo::new(upstream), IDLE, || {}).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    Response::from_parts(head, ResponseBody::empty())
}
