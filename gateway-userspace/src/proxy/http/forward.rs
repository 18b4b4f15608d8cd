//! A request's way to a backend and the response's way back.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::body::ResponseBody;
use super::serve::Connection;
use super::{headers, upgrade};
use crate::model::{Cluster, Forward, Outcome, Route, UpstreamProtocol};
use crate::proxy::error::RequestError;
use crate::proxy::tcp;
use crate::upstream::balance::by_weight;
use crate::upstream::{ConnectError, SendError, UpstreamBody};

/// Istio's default retry policy repeats a request whose connection could not be made twice, on other endpoints. It is
/// safe for every method: nothing was sent.
const CONNECT_RETRIES: usize = 2;

/// What the request asks for, normalised.
pub(super) struct Target {
    pub(super) path: String,
    pub(super) authority: String,
}

/// Sends a request where its route says.
pub(super) async fn forward(
    connection: &Connection,
    route: &Route,
    action: &Forward,
    target: Target,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, RequestError> {
    let deadline = action.timeout.map(|timeout| Instant::now() + timeout);
    let chosen = by_weight(&action.destinations).ok_or(RequestError::NoCluster)?;
    let cluster = action.destinations[chosen].cluster.clone().ok_or(RequestError::NoCluster)?;
    let destination_headers = action.destination_headers.get(chosen);

    let upgrade = upgrade::wanted(&mut request)?;
    headers::remove_hop_by_hop(request.headers_mut());
    headers::add_forwarding(request.headers_mut(), connection.ends.peer.ip(), connection.scheme());
    if let Some((operations, _)) = destination_headers {
        operations.apply(request.headers_mut());
    }
    route.request_headers.apply(request.headers_mut());
    let authority = new_authority(route, action, chosen).unwrap_or(&target.authority).to_owned();
    address(&mut request, route, action, &target, &authority, cluster.protocol)?;
    frame(&mut request);
    if upgrade.is_some() {
        upgrade::ask(request.headers_mut());
    }

    let sending = send(connection, &cluster, request, upgrade.is_some());
    let response = match deadline {
        Some(deadline) => timeout_at(deadline, sending).await.map_err(|_| RequestError::Timeout)?,
        None => sending.await,
    }?;
    let mut response = respond(connection, &cluster, response, upgrade, deadline);
    if let Some((_, operations)) = destination_headers {
        operations.apply(response.headers_mut());
    }
    route.response_headers.apply(response.headers_mut());
    Ok(response)
}

/// The Host that the backend sees: a rewrite beats header operations, the route's beat the destination's.
fn new_authority<'a>(route: &'a Route, action: &'a Forward, chosen: usize) -> Option<&'a str> {
    let rewritten = action.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_deref());
    let by_destination =
        || action.destination_headers.get(chosen).and_then(|(request, _)| request.authority.as_deref());
    rewritten.or(route.request_headers.authority.as_deref()).or_else(by_destination)
}

/// Writes the request line for the backend: origin form and Host for HTTP/1.1, full form for HTTP/2.
fn address(
    request: &mut Request<Incoming>,
    route: &Route,
    action: &Forward,
    target: &Target,
    authority: &str,
    protocol: UpstreamProtocol,
) -> Result<(), RequestError> {
    let rewritten =
        action.rewrite.as_ref().and_then(|rewrite| rewrite.path(&route.matcher.path, &target.path));
    let path = rewritten.as_deref().unwrap_or(&target.path);
    let path_and_query = match request.uri().query() {
        Some(query) if !path.contains('?') => PathAndQuery::try_from(format!("{path}?{query}")),
        _ => PathAndQuery::try_from(path),
    };
    let path_and_query = path_and_query.map_err(|_| RequestError::InvalidPath)?;
    // A rewrite to a word without a slash makes no path (Envoy answers 400 too).
    if !path.starts_with('/') && path != "*" {
        return Err(RequestError::InvalidPath);
    }
    let mut uri = Uri::builder().path_and_query(path_and_query);
    if protocol == UpstreamProtocol::Http2 {
        let authority = Authority::try_from(authority).map_err(|_| RequestError::MissingHost)?;
        uri = uri.scheme(Scheme::HTTP).authority(authority);
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
    } else {
        let host = HeaderValue::from_str(authority).map_err(|_| RequestError::MissingHost)?;
        request.headers_mut().insert(HOST, host);
        *request.version_mut() = Version::HTTP_11;
    }
    *request.uri_mut() = uri.build().map_err(|_| RequestError::InvalidPath)?;
    Ok(())
}

/// Says how the body is delimited. hyper takes a GET without a length for one without a body, and would drop what
/// comes. `Expect` ends here: it is hyper that asks the client for the body as soon as the backend's connection does.
fn frame(request: &mut Request<Incoming>) {
    request.headers_mut().remove(EXPECT);
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if unknown && request.version() == Version::HTTP_11 && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Sends to an endpoint of the cluster; one that cannot be connected to is replaced by another.
async fn send(
    connection: &Connection,
    cluster: &Arc<Cluster>,
    mut request: Request<Incoming>,
    is_upgrade: bool,
) -> Result<Response<UpstreamBody>, RequestError> {
    let balancer = &connection.shared.balancer;
    let mut tried: Vec<SocketAddr> = Vec::new();
    loop {
        let client = connection.ends.peer.ip();
        let lease = balancer.choose(cluster, client, &tried).ok_or(RequestError::NoHealthyUpstream)?;
        let endpoint = lease.address;
        tried.push(endpoint);
        let sent = if is_upgrade && cluster.protocol != UpstreamProtocol::Http2 {
            upgrade::send(connection, cluster, request, lease).await
        } else {
            connection.shared.pool.send(request, cluster, lease).await
        };
        match sent {
            Ok(response) => {
                balancer.report(cluster, endpoint, Outcome::Status(response.status().as_u16()));
                return Ok(response);
            }
            Err(SendError::Exchange(error)) => {
                // No answer counts as a bad one, as at Envoy.
                balancer.report(cluster, endpoint, Outcome::Status(500));
                return Err(exchange_error(cluster, &error));
            }
            Err(SendError::Connect { error, request: unsent }) => {
                balancer.report(cluster, endpoint, Outcome::LocalOriginFailure);
                tcp::report(cluster, &error);
                if tried.len() > CONNECT_RETRIES {
                    return Err(match error {
                        ConnectError::Failed { .. } => RequestError::ConnectFailure { retried: true },
                        ConnectError::Timeout { .. } => RequestError::ConnectTimeout { retried: true },
                    });
                }
                request = *unsent;
            }
        }
    }
}

fn exchange_error(cluster: &Cluster, error: &hyper::Error) -> RequestError {
    tracing::debug!(cluster = %cluster.name, %error, "no response");
    if error.is_parse() { RequestError::UpstreamProtocol } else { RequestError::UpstreamClosed }
}

fn respond(
    connection: &Connection,
    cluster: &Cluster,
    mut response: Response<UpstreamBody>,
    upgrade: Option<upgrade::Wanted>,
    deadline: Option<Instant>,
) -> Response<ResponseBody> {
    // The version is ours to say; a backend that speaks HTTP/1.0 would end the client's connection with it.
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::switch(connection, cluster, response, upgrade);
    }
    let mut response = response.map(|body| {
        ResponseBody::Upstream(match deadline {
            Some(deadline) => body.with_deadline(deadline),
            None => body,
        })
    });
    headers::remove_hop_by_hop(response.headers_mut());
    response
}
