//! The admin interface over HTTP: on a unix socket for the CLI, on loopback for `curl`, and readiness on a port of its
//! own for probes. GET only, but for tracing and for orders to the agent, which the unix socket alone takes.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::dashboard;
use super::dump::{self, Kind};
use super::exposition::expose;
use super::orders::Order;
use super::streamed::Streamed;
use super::trace::Wanted;
use super::view::View;
use crate::model::Subscription;
use crate::model::explain::UNREADABLE;
use crate::net::socket;
use crate::telemetry::metrics::Form;

/// Time to send a request, and between two.
const IDLE: Duration = Duration::from_secs(30);
/// Where clients are had told to go.
pub const DRAIN: &str = "/drain";
/// Where metrics are.
const STATS: &str = "/stats/prometheus";
/// Where another agent asks for the sockets.
pub const HAND_OVER: &str = "/hand-over";
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which paths a socket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them, tracing, and orders: only for the socket that belongs to our user.
    Owner,
    /// All of them: only for sockets that strangers cannot reach.
    Everything,
    /// `/healthz/ready` alone.
    Readiness,
    /// Metrics alone.
    Metrics,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The unix socket.
    #[error("admin socket {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent answers on the unix socket.
    #[error(
        "admin socket {0}: another sluice is running; take its place with --take-over, stop it, or give this one its own \
         --admin-socket"
    )]
    InUse(PathBuf),
    /// A TCP address.
    #[error("{address}: {source}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A unix socket whose file goes when it is dropped, unless another agent's is in its place.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    /// Of the file.
    inode: u64,
    listener: Arc<UnixListener>,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AdminSocket {
    /// Opens the socket for its owner alone. A file left by a dead agent is replaced, a live one is not.
    pub fn open(path: &Path) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Socket { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(AdminError::InUse(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed)?;
                }
                // Not allowed, or too busy to take us: no sign of death.
                Err(error) => return Err(failed(error)),
            }
        }
        let listener = Arc::new(socket::listen_private(path).map_err(failed)?);
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok(Self { path: path.to_owned(), inode, listener })
    }

    /// Opens the socket in the place of a live agent's, which nobody finds any more from then on.
    pub fn replace(path: &Path) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Socket { path: path.to_owned(), source };
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let listener = Arc::new(socket::listen_private(Path::new(&beside)).map_err(failed)?);
        let placed = fs::symlink_metadata(&beside).and_then(|file| {
            fs::rename(&beside, path)?;
            Ok(file.ino())
        });
        let inode = placed.inspect_err(|_| drop(fs::remove_file(&beside))).map_err(failed)?;
        Ok(Self { path: path.to_owned(), inode, listener })
    }

    /// Answers until the task is dropped.
    pub async fn serve(&self, view: Subscription<View>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(owners(stream, view.clone()))),
                Err(error) => pause(&error).await,
            }
        }
    }
}

/// Opens a TCP address.
pub async fn open(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|source| AdminError::Address { address, source })
}

/// A TCP address that is open; clones share it.
#[derive(Debug, Clone)]
pub struct AdminListener {
    /// What it answers.
    pub scope: Scope,
    /// The socket.
    pub socket: Arc<TcpListener>,
}

impl AdminListener {
    /// Answers until the task is dropped.
    pub async fn serve(self, view: Subscription<View>) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, view.clone(), self.scope))),
                Err(error) => pause(&error).await,
            }
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin: accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection(stream: TcpStream, view: Subscription<View>, scope: Scope) {
    // Read here, where the client has reached it, and not where it was bound to.
    let own = stream.local_addr().ok();
    let service = service_fn(move |request: Request<Incoming>| {
        let view = view.current();
        async move {
            // Probes and Prometheus come by whatever name there is, and browsers learn nothing from what they get.
            let is_open = matches!(scope, Scope::Readiness | Scope::Metrics);
            if !is_open && !dashboard::is_own_host(request.headers(), own) {
                return Ok::<_, Infallible>(protected(text(StatusCode::MISDIRECTED_REQUEST, STRANGER)));
            }
            Ok::<_, Infallible>(respond(&request, &view, scope).await)
        }
    });
    ended(http1().serve_connection(TokioIo::new(stream), service).await);
}

/// One on the unix socket, which may become something else.
async fn owners(stream: UnixStream, view: Subscription<View>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let view = view.current();
        async move {
            Ok::<_, Infallible>(match (request.method(), request.uri().path()) {
                (&Method::POST, HAND_OVER) => hand_over(request, &view),
                _ => respond(&request, &view, Scope::Owner).await,
            })
        }
    });
    ended(http1().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::trace!(%error, "admin: connection ended");
    }
}

/// Gives the connection to the agent, to give its sockets on it.
fn hand_over(mut request: Request<Incoming>, view: &View) -> Answer {
    let orders = view.orders.clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else { return };
        orders.give(Order::HandOver(parts.io.into_inner()));
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("sluice"));
    response
}

/// What answers are made of.
type Answer = Response<Either<Full<Bytes>, Streamed>>;

async fn respond(request: &Request<Incoming>, view: &Arc<View>, scope: Scope) -> Answer {
    if scope == Scope::Owner && request.method() == Method::POST && request.uri().path() == "/trace" {
        return trace(view, request.uri().query().unwrap_or_default()).await;
    }
    if scope == Scope::Owner && request.method() == Method::POST && request.uri().path() == DRAIN {
        return if view.orders.give(Order::Leave) {
            text(StatusCode::OK, "clients are told to go\n")
        } else {
            text(StatusCode::CONFLICT, "the agent is stopping\n")
        };
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "read-only: use GET\n");
    }
    let path = request.uri().path();
    if path == "/healthz/ready" && scope != Scope::Metrics {
        return if view.ready {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready: listeners are being opened, or drained\n")
        };
    }
    if scope == Scope::Readiness {
        return text(StatusCode::NOT_FOUND, "only /healthz/ready is here\n");
    }
    if matches!(path, STATS | "/metrics") {
        return metrics(request, view).await;
    }
    if scope == Scope::Metrics {
        return text(StatusCode::NOT_FOUND, "only /stats/prometheus is here, or /metrics\n");
    }
    if path != "/" || dashboard::wants_page(request.headers()) {
        let (query, headers) = (request.uri().query(), request.headers());
        if let Some(answer) = dashboard::answer(view, path, query, headers).await {
            return protected(answer.map(Either::Left));
        }
    }
    protected(match path {
        "/" => text(StatusCode::OK, INDEX),
        "/status" => json(&view.status(view.kernel_plane.status().await)),
        "/counters" => json(&view.counters(view.kernel_plane.status().await)),
        "/connections" => json(&view.connections()),
        "/handed-over" => json(&view.handed_over.view()),
        "/config_dump" => json(&dump::config(view)),
        _ if path.starts_with("/logs/") => logs(view, &path["/logs/".len()..]),
        _ if path.starts_with("/explain/") => explain(view, &path["/explain/".len()..]),
        _ => match path.strip_prefix("/proxy-config/").and_then(Kind::parse) {
            Some(kind) => json(&dump::items(view, kind)),
            None => text(StatusCode::NOT_FOUND, INDEX),
        },
    })
}

fn protected(mut answer: Answer) -> Answer {
    dashboard::protect(answer.headers_mut());
    answer
}

/// The question as JSON in base64 for URLs (RFC 4648, 5): headers may hold what a path may not.
fn explain(view: &View, encoded: &str) -> Answer {
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok();
    match decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        Some(question) => match view.explain(question) {
            Some(explanation) => json(&explanation),
            None => text(StatusCode::BAD_REQUEST, UNREADABLE),
        },
        None => {
            text(StatusCode::BAD_REQUEST, "wanted: what `sluice explain` sends; is it of another version?\n")
        }
    }
}

/// The wish as JSON in base64, as above.
fn logs(view: &View, encoded: &str) -> Answer {
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok();
    let Some(wish) = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
        return text(
            StatusCode::BAD_REQUEST,
            "wanted: what `sluice logs` sends; is it of another version?\n",
        );
    };
    let Some(log) = &view.access_log else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the agent is about to start\n");
    };
    match log.follow(wish, &view.snapshot.logging) {
        Ok(mut following) => {
            streamed(Streamed::lines(move |context| following.lines.poll_recv(context)), LINES)
        }
        Err(reason) => text(StatusCode::BAD_REQUEST, reason + "\n"),
    }
}

/// `client=ADDRESS&seconds=30&count=100`, the last of them optional.
async fn trace(view: &View, query: &str) -> Answer {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let client = value("client").and_then(|client| client.parse().ok());
    let seconds = value("seconds").and_then(|seconds| seconds.parse().ok());
    let (Some(client), Some(seconds)) = (client, seconds) else {
        return text(
            StatusCode::BAD_REQUEST,
            "wanted: client=ADDRESS&seconds=NUMBER, and perhaps count=NUMBER\n",
        );
    };
    let count = value("count").and_then(|count| count.parse().ok());
    match view.kernel_plane.trace(Wanted { client, seconds, count }).await {
        Ok(mut packets) => streamed(Streamed::lines(move |context| packets.poll_recv(context)), LINES),
        Err(reason) => text(StatusCode::CONFLICT, reason + "\n"),
    }
}

/// What Prometheus reads.
async fn metrics(request: &Request<Incoming>, view: &Arc<View>) -> Answer {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = Form::accepted(accept);
    match expose(view.clone(), form).await {
        Some(exposition) => streamed(exposition, form.content_type()),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "as many others read metrics as may at once\n"),
    }
}

/// JSON objects, one a line.
const LINES: &str = "application/x-ndjson";

fn streamed(body: Streamed, content_type: &'static str) -> Answer {
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// To a browser that was led here by a name of somebody else's.
const STRANGER: &str = "\
the admin interface answers to localhost, to addresses of loopback, and to the address that it is reached at;
the Host of this request is none of them: use the address in place of the name
";

const INDEX: &str = "\
/                              the dashboard, for browsers; /dashboard for all
/healthz/ready                 200 when traffic is served
/stats/prometheus              metrics, for Prometheus; /metrics too
/status                        what `sluice status` shows
/counters                      what moves: what `sluice top` asks for, again and again
/connections                   opaque connections in user space: what `sluice flows` shows below the kernel's
/handed-over                   connections that user space has given to the kernel: server name and cluster of each
/config_dump                   the whole configuration in force
/logs/                         what `sluice logs` shows
/explain/                      what `sluice explain` asks
/proxy-config/listeners        and routes, clusters, endpoints, secrets: what `sluice proxy-config` shows
/trace                         POST, on the unix socket: what `sluice trace` shows
/drain                         POST, on the unix socket: what `sluice drain` asks for
/hand-over                     POST, on the unix socket: what `sluice run --take-over` asks for
";

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Either::Left(Full::from(body)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "admin: cannot serialise");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot serialise; see the agent's log\n")
        }
    }
}
