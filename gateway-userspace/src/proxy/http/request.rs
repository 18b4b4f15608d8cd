//! The phases of a request.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::SystemTime;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::facts::Facts;
use super::record::{Notes, Recorded};
use super::serve::{Connection, InForce};
use super::{cors, fault, forward, headers, outgoing, redirect, reply, upgrade};
use crate::model::{Filters, Forward, HttpSettings, RequestHead, RouteAction, RouteTable};
use crate::proxy::error::RequestError;
use crate::upstream::balance::by_weight;

/// Methods of HTTP/1.1 that are understood, as by Envoy: the registered ones and a few in use (IANA, HTTP Method Registry).
/// HTTP/2 clients may use any.
const METHODS: [&str; 34] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Bytes of headers that a request may have.
const MAX_HEADERS: usize = 60 * 1024;

/// Answers one request; every failure has become a response.
pub(super) async fn serve(connection: &Connection, mut request: Request<Incoming>) -> Response<Recorded> {
    headers::join_cookies(request.headers_mut());
    let is_grpc = headers::is_grpc(request.headers());
    let InForce { table, logging, settings, .. } = connection.in_force();
    let (notes, method) = (Notes::begin(connection, logging), request.method().clone());
    let answer = answer((connection, &table, settings), request, is_grpc, &notes).await;
    let mut response = answer.unwrap_or_else(|error| failure(connection, error, is_grpc, &notes));
    reply::name_text(&mut response);
    if let Some(server) = &connection.shared.server_header {
        response.headers_mut().insert(http::header::SERVER, server.clone());
    }
    notes.follow(response, &method)
}

fn failure(
    connection: &Connection,
    error: RequestError,
    is_grpc: bool,
    notes: &Notes,
) -> Response<ResponseBody> {
    notes.failed(error);
    let (flags, details) = (error.flags(), error.details());
    tracing::debug!(peer = %connection.ends.peer, listener = %connection.ends.listener, ?flags, details, ?error, "request not served");
    reply::failure(error, is_grpc)
}

/// The phases: what the request asks for, which route it is for, the route's filters, and its action.
async fn answer(
    (connection, table, settings): (&Connection, &RouteTable, HttpSettings),
    mut request: Request<Incoming>,
    is_grpc: bool,
    notes: &Notes,
) -> Result<Response<ResponseBody>, RequestError> {
    let started = SystemTime::now();
    notes.heard(&request);
    let target = target(connection, settings, &request)?;
    // Before any rule looks at them: a rule must not believe what clients say of themselves.
    headers::remove_of_connection(request.headers_mut());
    let peer = (connection.ends.peer, connection.scheme());
    let asker = headers::add_forwarding(request.headers_mut(), peer, settings.trusted_proxies);
    let has_shown = connection.handshake.is_some_and(|handshake| handshake.is_mutual);
    let certificate = connection.client_certificate.as_ref().filter(|_| has_shown);
    headers::tell_certificate(request.headers_mut(), settings.client_certificates, (has_shown, certificate));
    notes.asked(&request, &target, asker);
    let host = table.virtual_host(&target.authority).ok_or(RequestError::NoRoute)?;
    let head = RequestHead {
        path: &target.path,
        query: request.uri().query(),
        method: request.method().as_str(),
        scheme: asker.scheme,
        authority: &target.authority,
        headers: request.headers(),
    };
    if host.https_redirect && head.scheme == "http" {
        notes.details("direct_response");
        return Ok(redirect::to_https(&head, is_grpc));
    }
    let route = host.route(&head).ok_or(RequestError::NoRoute)?;
    notes.routed(route);
    upgrade::check(request.headers())?;
    notes.details("direct_response");
    let protocol = if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let facts = Facts { connection, asker, route, protocol, started, asked: RefCell::default() };
    let line = (target.path.as_str(), head.query, target.authority.as_str());
    facts.keep(None, (request.method(), request.headers()), line);
    let mut response = match &route.action {
        RouteAction::Redirect(redirect) => redirect::redirect(redirect, &route.matcher.path, &head, is_grpc),
        RouteAction::Direct(direct) => reply::direct(direct, is_grpc),
        RouteAction::Forward(action) => {
            return Ok(forwarded(&facts, action, (target, request), is_grpc, notes).await);
        }
    };
    facts.apply_to_response(None, &mut response);
    Ok(response)
}

/// The route's filters and its destination. What the documents say of the response's headers holds for failures too, as in
/// Envoy; whose scripts may read it comes last. A preflight is answered in passing.
async fn forwarded(
    facts: &Facts<'_>,
    action: &Forward,
    (target, request): (outgoing::Target, Request<Incoming>),
    is_grpc: bool,
    notes: &Notes,
) -> Response<ResponseBody> {
    let Facts { connection, route, .. } = facts;
    let Filters { fault, cors } = &route.filters;
    let chosen = by_weight(&action.destinations);
    if let Some(cluster) = chosen.and_then(|chosen| action.destinations[chosen].cluster.as_ref()) {
        notes.cluster(&cluster.name);
    }
    let finish = |answer: Result<_, RequestError>| {
        let mut response: Response<_> =
            answer.unwrap_or_else(|error| failure(connection, error, is_grpc, notes));
        let of_destination = chosen.and_then(|chosen| action.destination_headers.get(chosen));
        facts.apply_to_response(of_destination.map(|(_, operations)| operations), &mut response);
        response
    };
    if let Some(fault) = fault
        && let Err(error) = fault::inject(connection, fault, notes).await
    {
        return finish(Err(error));
    }
    let permission = match cors.as_ref().map(|policy| cors::judge(policy, &request)) {
        Some(ControlFlow::Break(answer)) => {
            notes.details("cors_response");
            return answer;
        }
        Some(ControlFlow::Continue(permission)) => permission,
        None => None,
    };
    let Some(chosen) = chosen else { return finish(Err(RequestError::NoCluster)) };
    notes.details("via_upstream");
    let sent = forward::forward(facts, (action, chosen), target, request, notes).await;
    let mut response = finish(sent);
    if let Some(permission) = permission {
        permission.grant(response.headers_mut());
    }
    response
}

/// What a request asks for, normalised; refuses what nobody may ask.
fn target(
    connection: &Connection,
    settings: HttpSettings,
    request: &Request<Incoming>,
) -> Result<outgoing::Target, RequestError> {
    check_framing(request)?;
    if request.version() == Version::HTTP_11 {
        check_size(request)?;
        check_request_line(connection, request)?;
    }
    if request.method() == Method::CONNECT {
        return Err(RequestError::NoRoute);
    }
    let authority = authority(request)?;
    let path = settings.path.of(request.uri().path()).ok_or(RequestError::InvalidPath)?.into_owned();
    // `OPTIONS *` asks the gateway itself, which has nothing to say.
    if path == "*" {
        return Err(RequestError::NoRoute);
    }
    Ok(outgoing::Target { path, authority })
}

/// Envoy counts names, values and the target. HTTP/2's are counted where they are unpacked.
fn check_size(request: &Request<Incoming>) -> Result<(), RequestError> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let size = target + request.headers().iter().map(line).sum::<usize>();
    if size > MAX_HEADERS { Err(RequestError::HeadersTooLarge) } else { Ok(()) }
}

/// HTTP/1.1 names its methods, and in absolute form the scheme, which must be the connection's. `*` is for OPTIONS, a host
/// and port for CONNECT (RFC 9112, 3.2), and a path is ASCII.
fn check_request_line(connection: &Connection, request: &Request<Incoming>) -> Result<(), RequestError> {
    let (uri, method) = (request.uri(), request.method());
    if !METHODS.contains(&method.as_str()) {
        return Err(RequestError::UnknownMethod);
    }
    let fits = match uri.path() {
        _ if *method == Method::CONNECT => uri.scheme().is_none() && uri.port().is_some(),
        "*" => *method == Method::OPTIONS,
        path => path.starts_with('/') && uri.path_and_query().is_none_or(|target| target.as_str().is_ascii()),
    };
    match uri.scheme_str() {
        _ if !fits => Err(RequestError::InvalidTarget),
        Some("https") if connection.scheme() == "http" => Err(RequestError::SchemeMismatch),
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(RequestError::InvalidTarget),
    }
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
        _ => Err(RequestError::InvalidHost),
    }
}

fn single_host(headers: &HeaderMap) -> Result<&str, RequestError> {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(RequestError::MissingHost),
        (Some(_), Some(_)) => Err(RequestError::NoRoute),
        (Some(host), None) if host.is_empty() => Err(RequestError::MissingHost),
        (Some(host), None) => host.to_str().map_err(|_| RequestError::InvalidHost),
    }
}
