//! Asks a running agent over its unix socket.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// An agent that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// GETs a path and reads the JSON it answers with.
pub(super) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    let request = Request::get(path);
    let body = runtime()?.block_on(async {
        let exchange = async { ask(socket, request).await?.collect().await.context("the answer broke off") };
        tokio::time::timeout(PATIENCE, exchange).await.with_context(|| no_answer(socket))?
    })?;
    serde_json::from_slice(&body.to_bytes())
        .context("the agent's answer cannot be read; is it of another version?")
}

/// POSTs to a path and hands on every line that it answers with, as they come, until there are no more or
/// `each` says that it has enough.
pub(super) fn stream(
    socket: &Path,
    path: &str,
    mut each: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask(socket, Request::post(path)));
        let mut body = asked.await.with_context(|| no_answer(socket))??;
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the answer broke off")?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if each(&line)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn no_answer(socket: &Path) -> String {
    format!("{}: no answer within {PATIENCE:?}", socket.display())
}

fn unreachable(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let socket = socket.display();
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return anyhow::anyhow!("{socket}: {error}; root and whoever runs the agent may ask it");
    }
    anyhow::anyhow!(
        "no agent answers on {socket}: {error}\nstart one with `sluice run`, or name its socket with --admin-socket"
    )
}

async fn ask(socket: &Path, request: http::request::Builder) -> anyhow::Result<Incoming> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime, if not before.
    drop(tokio::spawn(connection));
    let request = request.header(http::header::HOST, "sluice").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::bail!("the agent answered {status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    Ok(response.into_body())
}
