//! The phases of a request.

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::serve::Connection;
use super::{forward, headers, path, redirect, reply};
use crate::model::{RequestHead, RouteAction};
use crate::proxy::error::RequestError;

/// Answers one request; every failure has become a response.
pub(super) async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let is_grpc = headers::is_grpc(request.headers());
    let mut response = match answer(connection, request).await {
        Ok(response) => response,
        Err(error) => {
            let flag = error.flag().map_or_else(|| "-".to_owned(), |flag| flag.to_string());
            tracing::debug!(peer = %connection.ends.peer, listener = %connection.ends.listener, %flag, ?error, "request not served");
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
            return forward::forward(connection, route, action, forward::Target { path, authority }, request)
                .await;
        }
    };
    route.response_headers.apply(response.headers_mut());
    Ok(response)
}

/// The authority as sent: of the request line before the Host header. Two Host headers name nobody.
fn authority(request: &Request<Incoming>) -> Result<String, RequestError> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str().to_owned());
    }
    let host = single_host(request.headers())?;
    if host.is_empty() { Err(RequestError::MissingHost) } else { Ok(host.to_owned()) }
}

fn single_host(headers: &HeaderMap) -> Result<&str, RequestError> {
    let mut lines = headers.get_all(http::header::HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(RequestError::MissingHost),
        (Some(_), Some(_)) => Err(RequestError::NoRoute),
        (Some(host), None) => host.to_str().map_err(|_| RequestError::NoRoute),
    }
}
