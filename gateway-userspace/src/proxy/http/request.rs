//! The phases of a request.

use std::cell::RefCell;
use std::ops::ControlFlow;

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Version};
use http_body::Body as _;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::facts::Facts;
use super::grpc_web::GrpcWeb;
use super::record::{Notes, Recorded};
use super::serve::{Connection, InForce, MAX_HEADERS as MAX_LINES};
use super::{cors, fault, forward, headers, hops, host, outgoing, redirect, reply, tunnel, upgrade};
use crate::model::{Filters, Forward, HttpSettings, Refusal, RequestHead, RouteAction, RouteTable};
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::overload::Level;
use crate::upstream::ClientBody;
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
/// `is_plain`: its head says once at most how long it is.
pub(super) async fn serve(
    connection: &Connection,
    mut request: Box<Request<ClientBody>>,
    is_plain: bool,
    exchange: &Exchange,
) -> Response<Recorded> {
    let version = request.version();
    headers::join_cookies(request.headers_mut());
    let is_tunnel = tunnel::turn(&mut request);
    let is_grpc = headers::is_grpc(request.headers());
    let InForce { table, logging, settings, .. } = connection.in_force();
    let web = if table.grpc_web { GrpcWeb::of(request.headers()) } else { None };
    let (notes, method) = (Notes::begin(connection, logging), request.method().clone());
    if is_grpc {
        exchange.is_grpc();
    }
    if is_grpc || web.is_some() {
        notes.is_grpc();
    }
    let asked = (is_plain, is_grpc, web);
    let answer = tokio::select! {
        biased;
        answer = answer((connection, &table, settings), request, asked, (&notes, exchange)) => answer,
        (refusal, whole) = exchange.given_up() => Err(match refusal {
            Refusal::SlowBody => RequestError::SlowBody,
            _ => RequestError::Idle { whole },
        }),
    };
    let mut response = answer.unwrap_or_else(|error| failure(connection, error, is_grpc, &notes));
    if is_tunnel && tunnel::misleads(&response) {
        response = failure(connection, RequestError::Reset(Reset::Protocol, Tries::One), is_grpc, &notes);
    }
    reply::name_text(&mut response);
    if method == Method::HEAD {
        reply::leave_body_out(&mut response);
    }
    if let Some(server) = &connection.shared.server_header {
        response.headers_mut().insert(http::header::SERVER, server.clone());
    }
    let is_leaving = connection.drain.is_draining() || connection.shared.overload.level() >= Level::Closing;
    if version != Version::HTTP_2 && is_leaving {
        reply::last(&mut response);
    }
    let (response, encoder) = match web {
        // In a box, as few requests need its room.
        Some(web) => Box::pin(web.answer(response)).await,
        None => (response, None),
    };
    let mut response = notes.follow(response, &method, encoder);
    if is_tunnel {
        tunnel::answer(&mut response);
    }
    response
}

fn failure(
    connection: &Connection,
    error: RequestError,
    is_grpc: bool,
    notes: &Notes,
) -> Response<ResponseBody> {
    notes.failed(error);
    connection.count(error);
    let (flags, details) = (error.flags(), error.details());
    tracing::debug!(peer = %connection.ends.peer, listener = %connection.ends.listener, ?flags, details, ?error, "request not served");
    reply::failure(error, is_grpc)
}

/// The phases: what the request asks for, which route it is for, the route's filters, and its action.
async fn answer(
    (connection, table, settings): (&Connection, &RouteTable, HttpSettings),
    mut request: Box<Request<ClientBody>>,
    (is_plain, is_grpc, web): (bool, bool, Option<GrpcWeb>),
    (notes, exchange): (&Notes, &Exchange),
) -> Result<Response<ResponseBody>, RequestError> {
    let started = notes.started();
    connection.shared.overload.takes_request();
    if connection.shared.overload.level() >= Level::Refusing {
        notes.heard(&request);
        return Err(RequestError::Overloaded);
    }
    let target =
        if is_plain { target(connection, settings, &request) } else { Err(RequestError::AmbiguousLength) };
    let target = target.inspect_err(|_| notes.heard(&request))?;
    if let Some(answer) = hops::count(&mut request).inspect_err(|_| notes.heard(&request))? {
        notes.heard(&request);
        notes.details("direct_response");
        return Ok(answer);
    }
    // Before any rule looks at them: a rule must not believe what clients say of themselves.
    headers::remove_of_connection(request.headers_mut());
    if request.version() == Version::HTTP_10 {
        // Nothing was there to switch to (RFC 9110, 7.8).
        headers::remove_upgrade(request.headers_mut());
    }
    let peer = (connection.ends.client(), connection.client_address(), connection.scheme());
    let asker = headers::add_forwarding(request.headers_mut(), peer, settings.trusted_proxies);
    let has_shown = connection.handshake().is_some_and(|handshake| handshake.is_mutual);
    let certificate = connection.client_certificate().filter(|_| has_shown);
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
    let protocol = protocol(request.version());
    let facts = Facts { connection, exchange, asker, route, protocol, started, asked: RefCell::default() };
    let line = (target.path.as_str(), head.query, target.authority.as_str());
    facts.keep(None, (request.method(), request.headers()), line);
    let mut response = match &route.action {
        RouteAction::Redirect(redirect) => redirect::redirect(redirect, &route.matcher.path, &head, is_grpc),
        RouteAction::Direct(direct) => reply::direct(direct, is_grpc),
        RouteAction::Forward(action) => {
            if let Some(web) = web {
                web.translate(&mut request);
            }
            request.body_mut().stay_within(connection.shared.bounds.body);
            request.body_mut().count(notes.messages());
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
    (target, request): (outgoing::Target, Box<Request<ClientBody>>),
    is_grpc: bool,
    notes: &Notes,
) -> Response<ResponseBody> {
    let Facts { connection, route, .. } = facts;
    let Filters { fault, cors } = &route.filters;
    let chosen = by_weight(&action.destinations);
    if let Some(cluster) = chosen.and_then(|chosen| action.destinations[chosen].cluster.as_ref()) {
        notes.cluster(cluster);
    }
    let finish = |answer: Result<_, RequestError>| {
        let mut response: Response<_> =
            answer.unwrap_or_else(|error| failure(connection, error, is_grpc, notes));
        let of_destination = chosen.and_then(|chosen| action.destination_headers.get(chosen));
        facts.apply_to_response(of_destination.map(|(_, operations)| operations), &mut response);
        response
    };
    if let Some(fault) = fault
        && let Err(error) = Box::pin(fault::inject(connection, fault, notes)).await
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

/// A version as logs and headers tell it.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// What a request asks for, normalised; refuses what nobody may ask.
fn target(
    connection: &Connection,
    settings: HttpSettings,
    request: &Request<ClientBody>,
) -> Result<outgoing::Target, RequestError> {
    check_version(connection, request.version())?;
    check_framing(request)?;
    check_size(request)?;
    check_length(request, connection.shared.bounds.body)?;
    if request.version() == Version::HTTP_2 {
        check_fields(request)?;
    } else {
        check_request_line(connection, request)?;
    }
    let authority = host::authority(request)?;
    if request.method() == Method::CONNECT {
        return Err(RequestError::NoTunnel);
    }
    let path = settings.path.of(request.uri().path()).ok_or(RequestError::InvalidPath)?.into_owned();
    // `OPTIONS *` asks the gateway itself, which has nothing to say.
    if path == "*" {
        return Err(RequestError::NoRoute);
    }
    Ok(outgoing::Target { path, authority })
}

/// HTTP/1.0 is spoken where the process was told so.
fn check_version(connection: &Connection, version: Version) -> Result<(), RequestError> {
    let is_spoken = version == Version::HTTP_10 && connection.shared.spoken.http10;
    if version < Version::HTTP_11 && !is_spoken { Err(RequestError::OldVersion) } else { Ok(()) }
}

/// Envoy counts names, values and the target. HTTP/2 counts 32 bytes more for each field, up to a bound of its own. A target that is too long by
/// itself is told so (RFC 9112, 3).
fn check_size(request: &Request<ClientBody>) -> Result<(), RequestError> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_HEADERS {
        return Err(RequestError::TargetTooLong);
    }
    let size = target + request.headers().iter().map(line).sum::<usize>();
    if size > MAX_HEADERS { Err(RequestError::HeadersTooLarge) } else { Ok(()) }
}

/// A body that says how long it is, and is longer than bodies may be, is not waited for.
fn check_length(request: &Request<ClientBody>, most: Option<u64>) -> Result<(), RequestError> {
    let is_longer = most.is_some_and(|most| request.body().size_hint().lower() > most);
    if is_longer { Err(RequestError::BodyTooLong) } else { Ok(()) }
}

/// What is well-formed as fields of HTTP/2 go, and no request. A value that begins or ends with a blank makes a request malformed (RFC 9113, 8.2.1): a rule would
/// be held against another value than the one that an HTTP/1.1 backend reads. So does a length that is said twice, as an
/// HTTP/2 backend would get both. Lines are as many as HTTP/1.1 has, with a cookie's crumbs for one.
fn check_fields(request: &Request<ClientBody>) -> Result<(), RequestError> {
    let (uri, headers) = (request.uri(), request.headers());
    if headers.len() > MAX_LINES {
        return Err(RequestError::HeadersTooLarge);
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_framed = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        !is_blank(bytes.first()) && !is_blank(bytes.last())
    };
    let has_one_length = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none();
    if !has_one_length || !headers.values().all(is_framed) {
        return Err(RequestError::Malformed);
    }
    match uri.path_and_query().map(PathAndQuery::as_str) {
        Some(path) if path != "*" && !path.starts_with('/') => Err(RequestError::InvalidTarget),
        _ => Ok(()),
    }
}

/// HTTP/1.1 names its methods, and in absolute form the scheme, which must be the connection's. `*` is for OPTIONS, a host
/// and port for CONNECT (RFC 9112, 3.2), and a path is ASCII.
fn check_request_line(connection: &Connection, request: &Request<ClientBody>) -> Result<(), RequestError> {
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
fn check_framing(request: &Request<ClientBody>) -> Result<(), RequestError> {
    let codings = || headers::tokens(request.headers(), TRANSFER_ENCODING);
    let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    match codings().count() {
        0 => Ok(()),
        1 if chunked == 1 => Ok(()),
        // Twice, or beside nothing: who knows how others count.
        _ if chunked > 1 || codings().any(<[u8]>::is_empty) => Err(RequestError::AmbiguousLength),
        _ => Err(RequestError::UnknownTransferCoding),
    }
}
