//! A backend that notes what it is asked, in one line a request.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::backend::Version;
use crate::serve::{Place, Server};

/// Headers of which the gateway says something of its own, or that every request has.
const OURS: [&str; 6] =
    ["connection", "host", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];

/// See the module. `METHOD path host [name: value]… body [name: value]…`, or `cut` for a body that breaks off.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub server: Server,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// On a free port of 127.0.0.1. Every answer is 200 and two octets.
    pub fn start(version: Version) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let server = Server::start(Place::loopback(), move |stream| {
            let noted = noted.clone();
            let service = service_fn(move |request| {
                let noted = noted.clone();
                async move {
                    let line = line(request).await;
                    noted.lock().expect("no panic elsewhere").push(line);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            let stream = TokioIo::new(stream);
            async move {
                // Clients that go away are part of some tests.
                let _ = match version {
                    Version::Http1 => http1::Builder::new().serve_connection(stream, service).await,
                    Version::Http2 => {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                    }
                };
            }
        });
        Self { server, seen }
    }

    /// What came since this was asked last.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no panic elsewhere"))
    }
}

async fn line(request: Request<Incoming>) -> String {
    let (head, body) = request.into_parts();
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = head.uri.authority().map(ToString::to_string).or(host).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let mut line = format!("{} {path} {host}", head.method);
    fields(&mut line, &head.headers);
    match body.collect().await {
        Ok(body) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            let body = body.to_bytes();
            if !body.is_empty() {
                let _ = write!(line, " {}", body.escape_ascii());
            }
            fields(&mut line, &trailers);
        }
        Err(_) => line.push_str(" cut"),
    }
    line
}

/// Those that are nobody's but the client's, in the order of their names.
fn fields(line: &mut String, headers: &HeaderMap) {
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()) && !name.as_str().starts_with("x-envoy-"))
        .map(|(name, value)| format!(" [{name}: {}]", value.as_bytes().escape_ascii()))
        .collect();
    fields.sort();
    line.extend(fields);
}
