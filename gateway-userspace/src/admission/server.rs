//! The webhook's server: HTTPS, POST of a question to `/validate`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::review;
use crate::source::kubernetes::webhook::Shown;
use crate::tls::own;

/// Bytes of a question: API servers take documents of 1.5 MiB at most, and send the one before along.
const MOST: usize = 8 << 20;
/// Connections at once: there are few API servers.
const CONNECTIONS: usize = 64;
/// For a handshake, and for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the task is dropped, with whichever certificate is to be shown at the moment; without one nobody is.
pub async fn serve(listener: TcpListener, shown: watch::Receiver<Option<Arc<Shown>>>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut known: Option<(Arc<Shown>, TlsAcceptor)> = None;
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admission webhook: accept failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(now) = shown.borrow().clone() else { continue };
        if known.as_ref().is_none_or(|(before, _)| !Arc::ptr_eq(before, &now)) {
            match own::server_config(&now.certificate, &now.key) {
                Ok(config) => known = Some((now, config.into())),
                Err(error) => tracing::error!(%error, "admission webhook: its certificate cannot be used"),
            }
        }
        let Some((_, acceptor)) = known.clone() else { continue };
        tokio::spawn(async move {
            connection(stream, acceptor).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let service = service_fn(|request| async { Ok::<_, Infallible>(respond(request).await) });
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(%error, "admission webhook: connection ended");
    }
}

async fn respond(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if (request.method(), request.uri().path()) != (&Method::POST, "/validate") {
        return plain(StatusCode::NOT_FOUND, "POST a question to /validate\n");
    }
    let body = timeout(PATIENCE, Limited::new(request.into_body(), MOST).collect()).await;
    let Ok(Ok(body)) = body else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long, or takes too long\n");
    };
    match review::answer(&body.to_bytes()) {
        Some(answer) => {
            let mut response = Response::new(Full::from(answer.to_string()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        None => plain(StatusCode::BAD_REQUEST, "wanted: an AdmissionReview of admission.k8s.io/v1\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
