//! An HTTP backend that says who it is and what it was asked, and that misbehaves on demand.
//!
//! | path          | answer                                                                 |
//! |---------------|------------------------------------------------------------------------|
//! | `/status/N`   | status N                                                               |
//! | `/bytes/N`    | N bytes, made as they are sent                                         |
//! | `/digest`     | SHA-256 of the request's body                                          |
//! | `/stall`      | none, ever                                                             |
//! | `/hang-up`    | the connection is closed in place of an answer                         |
//! | `/turns/A,B…` | A to the first request for the path, B to the second…, the last to all |
//! |               | others, each once its body has come: a status (the body of the answer  |
//! |               | is the digest of the request's), `grpc-N` for a gRPC status without    |
//! |               | a body, `stall`, `hang-up`, or `refuse` (HTTP/2 `REFUSED_STREAM`); what |
//! |               | follows behind a slash tells paths apart                               |
//! | `/echo`       | 200, the request's type and its headers as `x-seen-…`; the body as it  |
//! |               | comes, then its trailers as `x-seen-…` and `grpc-status: 0`            |
//! | `/healthz`    | what [`Backend::feel`] says, at first 200; likewise, in HTTP/2, a call |
//! |               | of `grpc.health.v1.Health/Check`: SERVING if that is 200              |
//! | `/held`       | as anything else, once [`Backend::release`] was called                 |
//! | anything else | 200 and JSON: backend, method, path, version, host, scheme, headers, tls |
//!
//! Where the path is the gateway's to rewrite, a request may say in a header `x-answer` what it wants: turns as above, then
//! headers of the answer, such as `503,200 x-a=1 location=/b`; spaces in values are `+`. The body of a status is the JSON.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::serve::{Place, Server};

/// HTTP version that a backend speaks, without negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// See the module.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub server: Server,
    requests: Arc<AtomicUsize>,
    memory: Arc<Memory>,
}

/// What a backend's requests share.
#[derive(Debug)]
struct Memory {
    name: String,
    /// Requests for each path of turns.
    turns: Mutex<HashMap<String, usize>>,
    released: watch::Sender<bool>,
    /// `None`: says nothing.
    health: Mutex<Option<StatusCode>>,
    /// Who asked for it.
    asked_by: Mutex<Vec<String>>,
}

impl Memory {
    /// How often the same turns were asked for before.
    fn count(&self, turns: String) -> usize {
        let mut asked = self.turns.lock().expect("no panic elsewhere");
        let asked = asked.entry(turns).or_default();
        *asked += 1;
        *asked - 1
    }
}

impl Backend {
    /// Over cleartext.
    pub fn start(name: &str, version: Version, place: Place) -> Self {
        Self::start_with(name, version, None, place)
    }

    /// HTTP/1.1 on a free port of 127.0.0.1.
    pub fn http(name: &str) -> Self {
        Self::start(name, Version::Http1, Place::loopback())
    }

    /// HTTP/1.1 within TLS that it terminates itself.
    pub fn tls(name: &str, config: Arc<ServerConfig>, place: Place) -> Self {
        Self::sealed(name, Version::Http1, config, place)
    }

    /// Either within TLS that it terminates itself.
    pub fn sealed(name: &str, version: Version, config: Arc<ServerConfig>, place: Place) -> Self {
        Self::start_with(name, version, Some(config.into()), place)
    }

    fn start_with(name: &str, version: Version, tls: Option<TlsAcceptor>, place: Place) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let memory = Memory {
            name: name.to_owned(),
            turns: Mutex::default(),
            released: watch::Sender::default(),
            health: Mutex::new(Some(StatusCode::OK)),
            asked_by: Mutex::default(),
        };
        let memory = Arc::new(memory);
        let (count, who) = (requests.clone(), memory.clone());
        let server = Server::start(place, move |stream| {
            let (who, count, tls) = (who.clone(), count.clone(), tls.clone());
            async move {
                match tls {
                    None => serve(stream, version, (who, None), count).await,
                    // A client that fails to shake hands is part of some tests.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            let heard = heard(stream.get_ref().1);
                            serve(stream, version, (who, Some(heard)), count).await;
                        }
                    }
                }
            }
        });
        Self { server, requests, memory }
    }

    /// Requests that came.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answers questions about its health by a status from now on, or not at all.
    pub fn feel(&self, status: Option<u16>) {
        let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        *self.memory.health.lock().expect("no panic elsewhere") = status;
    }

    /// The `user-agent` of each question about its health.
    pub fn asked_by(&self) -> Vec<String> {
        self.memory.asked_by.lock().expect("no panic elsewhere").clone()
    }

    /// Lets held requests be answered, and those to come.
    pub fn release(&self) {
        self.memory.released.send_replace(true);
    }
}

/// What a client said in its handshake.
fn heard(connection: &rustls::ServerConnection) -> serde_json::Value {
    let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    json!({
        "sni": connection.server_name(),
        "alpn": alpn,
        "shows_certificate": connection.peer_certificates().is_some(),
    })
}

/// `who` comes with what was heard in the handshake, if there was one.
async fn serve<S>(
    stream: S,
    version: Version,
    who: (Arc<Memory>, Option<serde_json::Value>),
    count: Arc<AtomicUsize>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let who = who.clone();
        async move { answer(&who.0, who.1.as_ref(), request).await }
    });
    let stream = TokioIo::new(stream);
    // Clients that go away are part of some tests.
    let _ = match version {
        Version::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Version::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
    };
}

type ResponseBody = BoxBody<Bytes, Infallible>;

/// The connection is closed, or the stream refused, without an answer.
#[derive(Debug)]
struct NoAnswer(Option<h2::Error>);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asked to give no answer")
    }
}

impl std::error::Error for NoAnswer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

async fn answer(
    memory: &Memory,
    tls: Option<&serde_json::Value>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, NoAnswer> {
    if let Some(wish) = request.headers().get("x-answer") {
        let wish = String::from_utf8_lossy(wish.as_bytes()).into_owned();
        let response = grant(memory, tls, &wish, &request)?;
        take_short_body(request).await;
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let response = match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        ("status", code) => {
            let mut response = text("");
            *response.status_mut() = code.parse().unwrap_or(StatusCode::BAD_REQUEST);
            response
        }
        ("bytes", length) => Response::new(Zeros { left: length.parse().unwrap_or(0) }.boxed()),
        ("digest", _) => text(&digest(request).await),
        ("echo", _) => echo(request),
        ("healthz", _) => {
            let mut response = text("");
            *response.status_mut() = health(memory, &request).await;
            response
        }
        ("grpc.health.v1.Health", "Check") => serving(health(memory, &request).await),
        ("stall", _) => std::future::pending().await,
        ("hang-up", _) => return Err(NoAnswer(None)),
        ("turns", turns) => return take_turn(memory, turns, request).await,
        ("held", _) => {
            let mut released = memory.released.subscribe();
            released.wait_for(|released| *released).await.expect("the backend has the sender");
            describe(&memory.name, tls, &request)
        }
        _ => {
            let response = describe(&memory.name, tls, &request);
            take_short_body(request).await;
            response
        }
    };
    Ok(response)
}

/// How it feels, if it says so at all.
async fn health(memory: &Memory, request: &Request<Incoming>) -> StatusCode {
    let agent = request.headers().get("user-agent").map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let agent = agent.unwrap_or_default().into_owned();
    memory.asked_by.lock().expect("no panic elsewhere").push(agent);
    let status = *memory.health.lock().expect("no panic elsewhere");
    match status {
        Some(status) => status,
        None => std::future::pending().await,
    }
}

/// A `HealthCheckResponse`: SERVING is 1, NOT_SERVING 2 (grpc/grpc-proto, health.proto).
fn serving(health: StatusCode) -> Response<ResponseBody> {
    let status = if health == StatusCode::OK { 1 } else { 2 };
    let message = Full::from(vec![0, 0, 0, 0, 2, 0x08, status]);
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(message.with_trailers(async { Some(Ok(trailers)) }).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A body that nobody reads ends its connection, and whatever request has just come on it.
async fn take_short_body(request: Request<Incoming>) {
    if request.body().size_hint().exact().is_some_and(|length| length < 1024) {
        let _ = request.into_body().collect().await;
    }
}

/// Turns are those of the requests that say the same and call themselves the same (`user-agent`).
fn grant(
    memory: &Memory,
    tls: Option<&serde_json::Value>,
    wish: &str,
    request: &Request<Incoming>,
) -> Result<Response<ResponseBody>, NoAnswer> {
    let (turns, headers) = wish.split_once(' ').unwrap_or((wish, ""));
    let who = request.headers().get("user-agent").map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let at = memory.count(format!("{wish} {}", who.unwrap_or_default()));
    let turns: Vec<&str> = turns.split(',').collect();
    let mut response = describe(&memory.name, tls, request);
    match *turns.get(at).or(turns.last()).expect("splitting gives at least one") {
        "hang-up" => return Err(NoAnswer(None)),
        "refuse" => return Err(NoAnswer(Some(h2::Reason::REFUSED_STREAM.into()))),
        turn => match turn.strip_prefix("grpc-") {
            Some(status) => {
                response = text("");
                response.headers_mut().insert("grpc-status", status.parse().expect("a gRPC status"));
            }
            None => *response.status_mut() = turn.parse().expect("a status"),
        },
    }
    for (name, value) in headers.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        let name: HeaderName = name.parse().expect("a header");
        response.headers_mut().append(name, value.replace('+', " ").parse().expect("a value"));
    }
    Ok(response)
}

async fn take_turn(
    memory: &Memory,
    turns: &str,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, NoAnswer> {
    let at = memory.count(turns.to_owned());
    let digest = digest(request).await;
    let turns: Vec<&str> = turns.split('/').next().unwrap_or_default().split(',').collect();
    let mut response = text(&digest);
    match *turns.get(at).or(turns.last()).expect("splitting gives at least one") {
        "stall" => std::future::pending().await,
        "hang-up" => Err(NoAnswer(None)),
        "refuse" => Err(NoAnswer(Some(h2::Reason::REFUSED_STREAM.into()))),
        turn => {
            match turn.strip_prefix("grpc-") {
                Some(status) => {
                    response = text("");
                    let status = status.parse().expect("a gRPC status");
                    response.headers_mut().insert("grpc-status", status);
                }
                None => *response.status_mut() = turn.parse().expect("a status"),
            }
            Ok(response)
        }
    }
}

fn text(text: &str) -> Response<ResponseBody> {
    Response::new(Full::from(text.to_owned()).boxed())
}

fn describe(
    who: &str,
    tls: Option<&serde_json::Value>,
    request: &Request<Incoming>,
) -> Response<ResponseBody> {
    let mut headers = serde_json::Map::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        match headers.entry(name.as_str()) {
            serde_json::map::Entry::Vacant(slot) => drop(slot.insert(json!(value))),
            serde_json::map::Entry::Occupied(mut slot) => {
                *slot.get_mut() = json!(format!("{},{value}", slot.get().as_str().unwrap_or_default()));
            }
        }
    }
    let authority = request.uri().authority().map(ToString::to_string);
    let host = headers.get("host").cloned().unwrap_or_else(|| json!(authority));
    let described = json!({
        "backend": who,
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(ToString::to_string),
        "version": format!("{:?}", request.version()),
        "host": host,
        "scheme": request.uri().scheme_str(),
        "headers": headers,
        "tls": tls,
    });
    let mut response = text(&described.to_string());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// Gives a body back as it comes.
struct Echo {
    body: Incoming,
    /// What was behind it, until it was told.
    trailers: Option<HeaderMap>,
}

fn echo(request: Request<Incoming>) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Echo { body, trailers: Some(trailers) }.boxed());
    *response.headers_mut() = seen(&head.headers);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

fn seen(headers: &HeaderMap) -> HeaderMap {
    let named = |name: &HeaderName| format!("x-seen-{name}").parse().expect("a name");
    headers.iter().map(|(name, value): (&HeaderName, _)| (named(name), value.clone())).collect()
}

impl Body for Echo {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { body, trailers } = &mut *self;
        match std::task::ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(said) => {
                    let mut all = seen(&said);
                    all.extend(trailers.take().into_iter().flatten());
                    Poll::Ready(Some(Ok(Frame::trailers(all))))
                }
                Err(data) => Poll::Ready(Some(Ok(data))),
            },
            // A client that breaks off has an answer that ends.
            Some(Err(_)) | None => Poll::Ready(trailers.take().map(|own| Ok(Frame::trailers(own)))),
        }
    }
}

async fn digest(request: Request<Incoming>) -> String {
    let mut body = request.into_body();
    let mut hash = Sha256::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            hash.update(data);
        }
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A body of zeros whose length is not told beforehand.
struct Zeros {
    left: usize,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const BLOCK: [u8; 16 * 1024] = [0; 16 * 1024];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(BLOCK.len());
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLOCK[..length])))))
    }
}
