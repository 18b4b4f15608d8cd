//! The admin interface over HTTP: on a unix socket for the CLI, on loopback for `curl`, and readiness on a port of its
//! own for probes. GET only, but for tracing, which the unix socket alone offers.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::dump::{self, Kind};
use super::trace::{Lines, Wanted};
use super::view::View;
use crate::model::Subscription;
use crate::model::explain::UNREADABLE;
use crate::net::socket;

/// Time to send a request, and between two.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which paths a socket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them, and tracing: only for the socket that belongs to our user.
    Owner,
    /// All of them: only for sockets that strangers cannot reach.
    Everything,
    /// `/healthz/ready` alone.
    Readiness,
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
    #[error("admin socket {0}: another sluice is running; stop it or give this one its own --admin-socket")]
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

/// A unix socket whose file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    listener: Arc<UnixListener>,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
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
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Answers until the task is dropped.
    pub async fn serve(&self, view: Subscription<View>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, view.clone(), Scope::Owner))),
                Err(error) => pause(&error).await,
            }
        }
    }
}

/// Opens a TCP address.
pub async fn open(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|source| AdminError::Address { address, source })
}

/// Answers on a TCP address until the task is dropped.
pub async fn serve(listener: TcpListener, view: Subscription<View>, scope: Scope) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, view.clone(), scope))),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin: accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection<S>(stream: S, view: Subscription<View>, scope: Scope)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let view = view.current();
        async move { Ok::<_, Infallible>(respond(&request, &view, scope).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::trace!(%error, "admin: connection ended");
    }
}

/// What answers are made of.
type Answer = Response<Either<Full<Bytes>, Lines>>;

async fn respond(request: &Request<Incoming>, view: &View, scope: Scope) -> Answer {
    if scope == Scope::Owner && request.method() == Method::POST && request.uri().path() == "/trace" {
        return trace(view, request.uri().query().unwrap_or_default()).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "read-only: use GET\n");
    }
    let path = request.uri().path();
    if path == "/healthz/ready" {
        return if view.ready {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready: listeners are being opened\n")
        };
    }
    if scope == Scope::Readiness {
        return text(StatusCode::NOT_FOUND, "only /healthz/ready is here\n");
    }
    match path {
        "/" => text(StatusCode::OK, INDEX),
        "/status" => json(&view.status(view.kernel_plane.status().await)),
        "/connections" => json(&view.connections()),
        "/handed-over" => json(&view.handed_over.view()),
        "/config_dump" => json(&dump::config(view)),
        _ if path.starts_with("/explain/") => explain(view, &path["/explain/".len()..]),
        _ => match path.strip_prefix("/proxy-config/").and_then(Kind::parse) {
            Some(kind) => json(&dump::items(view, kind)),
            None => text(StatusCode::NOT_FOUND, INDEX),
        },
    }
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
        Ok(lines) => {
            let mut response = Response::new(Either::Right(lines));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
            response
        }
        Err(reason) => text(StatusCode::CONFLICT, reason + "\n"),
    }
}

const INDEX: &str = "\
/healthz/ready                 200 when traffic is served
/status                        what `sluice status` shows
/connections                   opaque connections in user space: what `sluice flows` shows below the kernel's
/handed-over                   connections that user space has given to the kernel: server name and cluster of each
/config_dump                   the whole configuration in force
/explain/                      what `sluice explain` asks
/proxy-config/listeners        and routes, clusters, endpoints, secrets: what `sluice proxy-config` shows
/trace                         POST, on the unix socket: what `sluice trace` shows
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
