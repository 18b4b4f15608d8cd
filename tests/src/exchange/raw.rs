//! An exchange in clear behind a real ClientHello: what a gateway sees is TLS, and what it costs is no cryptography.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Ledger, Plan, ours};
use crate::tls::{in_records, padded};

/// The client's end: a hello for a name, of a size and in a shape made from the seed, then the exchange.
pub async fn call(
    mut stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    plan: &Plan,
) -> Result<()> {
    let hello = hello(config, name, plan.seed)?;
    let mut random = Rng::with_seed(plan.seed);
    // Mostly at once; else in two pieces, with or without time for the first to be read alone.
    let cut = if random.u8(..4) == 0 { random.usize(..hello.len()) } else { 0 };
    let (first, second) = hello.split_at(cut);
    stream.write_all(first).await.context("sending half a hello")?;
    if cut > 0 && random.bool() {
        tokio::time::sleep(Duration::from_millis(random.u64(..10))).await;
    }
    stream.write_all(second).await.context("sending the hello")?;
    ours::call(stream, plan).await
}

fn hello(config: &Arc<ClientConfig>, name: ServerName<'static>, seed: u64) -> Result<Vec<u8>> {
    let mut hello = Vec::new();
    ClientConnection::new(config.clone(), name)?.write_tls(&mut hello)?;
    let mut random = Rng::with_seed(!seed);
    Ok(match random.u8(..16) {
        0 => in_records(&padded(&hello, random.usize(2_000..40_000)), random.usize(1_000..16_000)),
        1 => in_records(&hello, random.usize(1..200)),
        2..6 => in_records(&padded(&hello, 1_800), 16_384),
        _ => hello,
    })
}

/// The server's end: takes the hello for what it is, and does not answer it.
pub async fn serve(mut stream: TcpStream, ledger: &Ledger) {
    match skip_hello(&mut stream).await {
        Ok(()) => ours::serve(stream, ledger).await,
        Err(fault) => ledger.note(0, Err(format!("{fault:#}"))),
    }
}

/// Reads records until the handshake message in them is whole.
async fn skip_hello(stream: &mut TcpStream) -> Result<()> {
    let mut message = Vec::new();
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.context("receiving a record's header")?;
        ensure!(header[0] == 22 && header[1] == 3, "no handshake record: {header:02x?}");
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        stream.read_exact(&mut payload).await.context("receiving a record")?;
        message.extend_from_slice(&payload);
        if let Some([1, high, middle, low]) = message.first_chunk::<4>() {
            let length = 4 + u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            ensure!(message.len() <= length, "more than a hello: {} bytes of {length}", message.len());
            if message.len() == length {
                return Ok(());
            }
        }
    }
}
