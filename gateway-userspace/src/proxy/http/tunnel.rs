//! WebSockets over HTTP/2 (RFC 8441): a stream that is asked for by CONNECT with a protocol is to rules, and to a backend, a
//! request of HTTP/1.1 that asks for an upgrade, and a switch of the backend's is a 200 to the client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, StatusCode};

use super::upgrade;
use crate::http2::Protocol;

/// Turns a request that asks for a WebSocket so into one that asks for an upgrade; tells whether it was one.
pub(super) fn turn<B>(request: &mut Request<B>) -> bool {
    let asks_so = |protocol: &Protocol| protocol.is("websocket");
    if request.method() != Method::CONNECT || !request.extensions().get().is_some_and(asks_so) {
        return false;
    }
    *request.method_mut() = Method::GET;
    upgrade::ask(request.headers_mut());
    // Over HTTP/2 nobody says one, and to a server of HTTP/1.1 it has to be another one each time (RFC 6455, 4.1).
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    if let Ok(key) = HeaderValue::try_from(key) {
        request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
    }
    true
}

/// Whether a response, to a client that would take it for a switch, is none.
pub(super) fn misleads<B>(response: &Response<B>) -> bool {
    response.status().is_success()
}

/// Says that the backend has switched as HTTP/2 says it; other responses stay.
pub(super) fn answer<B>(response: &mut Response<B>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
            response.headers_mut().remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_asked_for_as_over_http_1() {
        let asking = |method, protocol: &'static str| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            request.extensions_mut().insert(Protocol::new(protocol));
            (turn(&mut request), request)
        };
        let (is_one, request) = asking(Method::CONNECT, "WebSocket");
        assert!(is_one && request.method() == Method::GET);
        for (name, value) in [(CONNECTION, "upgrade"), (UPGRADE, "websocket")] {
            assert_eq!(request.headers()[name], value);
        }
        assert_eq!(request.headers()[SEC_WEBSOCKET_KEY].len(), 24);
        assert!(!asking(Method::CONNECT, "connect-udp").0);
        assert!(!asking(Method::GET, "websocket").0);
        assert!(!turn(&mut Request::connect("a:1").body(()).unwrap()));
    }
}
