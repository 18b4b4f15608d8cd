//! The phases of a request.

use http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::serve::Connection;
use super::{forward, headers, outgoing, path, redirect, reply};
use crate::model::{RequestHead, RouteAction};
use crate::proxy::error::RequestError;

/// Answers one request; every failure has become a response.
pub(super) async fn serve(connection: &Connection, mut request: Request<Incoming>) -> Response<ResponseBody> {
    headers::join_cookies(request.headers_mut());
    let is_grpc = headers::is_grpc(request.headers());
    let mut response = match answer(connection, request).await {
        Ok(response) => response,
        Err(error) => {
            let (flags, details) = (error.flags(), error.details());
            tracing::debug!(peer = %connection.ends.peer, listener = %connection.ends.listener, ?flags, details, ?error, "request not served");
            reply::failure(error, is_grpc)
        }
    };
    if let Some(server) = &connection.shared.server_header {
        response.headers_mut().insert(http::header::SERVER, server.clone());
    }
    response
}

async fn answer(
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, RequestError> {
    check_framing(&request)?;
    if request.method() == Method::CONNECT {
        return Err(RequestError::NoRoute);
    }
    let authority = authority(&request)?;
    let path = path::normalize(request.uri().path()).ok_or(RequestError::InvalidPath)?.into_owned();
    let table = connection.table();
    let host = table.virtual_host(&authority).ok_or(RequestError::NoRoute)?;
    let head = RequestHead {
        path: &path,
        query: request.uri().query(),
        method: request.method().as_str(),
        scheme: connection.scheme(),
        authority: &authority,
        headers: request.headers(),
    };
    if host.https_redirect && head.scheme == "http" {
        return Ok(redirect::to_https(&head));
    }
    let route = host.route(&head).ok_or(RequestError::NoRoute)?;
    let mut response = match &route.action {
        RouteAction::Redirect(redirect) => redirect::redirect(redirect, &head),
        RouteAction::Direct(direct) => reply::direct(direct),
        RouteAction::Forward(action) => {
            return forward::forward(
                connection,
                route,
                action,
                outgoing::Target { path, authority },
                request,
            )
            .await;
        }
    };
    route.response_headers.apply(response.headers_mut());
    Ok(response)
}

/// Refuses what could not be said again to a backend: a transfer coding ends here (RFC 9112, 7), so that a body in one
/// that is not undone here would arrive as bytes of which nobody says what they are.
fn check_framing(request: &Request<Incoming>) -> Result<(), RequestError> {
    if request.version() < Version::HTTP_11 {
        return Err(RequestError::OldVersion);
    }
    let mut codings = headers::tokens(request.headers(), TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(RequestError::UnknownTransferCoding),
    }
}

/// The authority as sent: of the request line before the Host header. Two Host headers name nobody. One with user
/// information is an error (RFC 9110, 4.2.4): what follows the `@` would be taken for the host by others only.
fn authority(request: &Request<Incoming>) -> Result<String, RequestError> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => single_host(request.headers())?,
    };
    match Authority::try_from(host) {
        Ok(authority) if !host.contains('@') => Ok(authority.as_str().to_owned()),
        _ => Err(RequestError::MissingHost),
    }
}

fn single_host(headers: &HeaderMap) -> Result<&str, RequestError> {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(RequestError::MissingHost),
        (Some(_), Some(_)) => Err(RequestError::NoRoute),
        (Some(host), None) => host.to_str().map_err(|_| RequestError::NoRoute),
    }
}
