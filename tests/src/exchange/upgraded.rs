//! An exchange behind a request for a WebSocket that both ends have agreed on. What follows is no frames: no gateway looks.

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Ledger, Plan, ours};

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
/// Bytes of the longest head.
const LONGEST: usize = 2_000;

/// The client's end: asks a host, waits for its consent, then the exchange.
pub async fn call(mut stream: TcpStream, host: &str, plan: &Plan) -> Result<()> {
    let request = format!(
        "GET /{} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        plan.seed
    );
    stream.write_all(request.as_bytes()).await.context("asking")?;
    let head = read_head(&mut stream).await?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "no consent: {head}");
    ours::call(stream, plan).await
}

/// The server's end.
pub async fn serve(mut stream: TcpStream, ledger: &Ledger) {
    match consent(&mut stream).await {
        Ok(()) => ours::serve(stream, ledger).await,
        Err(fault) => ledger.note(0, Err(format!("{fault:#}"))),
    }
}

async fn consent(stream: &mut TcpStream) -> Result<()> {
    let head = read_head(stream).await?;
    ensure!(
        head.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n"),
        "asked for something else: {head}"
    );
    stream.write_all(SWITCHING).await.context("consenting")
}

/// Up to the empty line, and not a byte more.
async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < LONGEST, "no end of a head: {}", String::from_utf8_lossy(&head));
        head.push(stream.read_u8().await.context("receiving a head")?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
