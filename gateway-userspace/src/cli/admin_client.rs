//! Asks a running agent over its unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// An agent that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// GETs a path and reads the JSON it answers with.
pub(super) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, fetch(socket, path)).await })
        .with_context(|| format!("{}: no answer within {PATIENCE:?}", socket.display()))??;
    serde_json::from_slice(&body).context("the agent's answer cannot be read; is it of another version?")
}

async fn fetch(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no agent answers on {}\nstart one with `sluice run`, or name its socket with --admin-socket",
            socket.display()
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header(http::header::HOST, "sluice").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "{path}: the agent answered {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(body)
}
