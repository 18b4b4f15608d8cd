//! Many bytes in both directions, held against their SHA-256 at both ends.
//!
//! A client sends a [`Plan`] as three numbers, then its bytes; the server answers with their digest, then with its own
//! bytes, and closes. Both ends make the bytes from a seed, so that neither keeps them.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::serve::{Place, Server};

const BLOCK: usize = 128 * 1024;

/// How much goes each way.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Bytes from the client.
    pub up: u64,
    /// Bytes from the server.
    pub down: u64,
    /// What both make their bytes from.
    pub seed: u64,
}

/// How long each way took, from the first byte to the other end's word that all are there.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Client to server.
    pub up: Duration,
    /// Server to client.
    pub down: Duration,
}

/// A block whose first bytes are different each time, so that a lost, doubled or swapped one shows.
struct Bytes {
    block: Vec<u8>,
    left: u64,
    number: u64,
}

impl Bytes {
    fn new(seed: u64, length: u64) -> Self {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let block = (0..BLOCK / 8).flat_map(|_| next()).collect();
        Self { block, left: length, number: 0 }
    }

    fn next(&mut self) -> Option<&[u8]> {
        if self.left == 0 {
            return None;
        }
        self.number += 1;
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
        let length = self.left.min(BLOCK as u64);
        self.left -= length;
        Some(&self.block[..length as usize])
    }
}

/// Digest of what a seed makes.
fn digest_of(seed: u64, length: u64) -> [u8; 32] {
    let mut bytes = Bytes::new(seed, length);
    let mut hash = Sha256::new();
    while let Some(block) = bytes.next() {
        hash.update(block);
    }
    hash.finalize().into()
}

/// Starts a server.
pub fn start(place: Place) -> Server {
    Server::start(place, |stream| async move {
        // A client that breaks off is the client's matter.
        let _ = serve(stream).await;
    })
}

/// A server's part of a transfer.
pub async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let plan =
        Plan { up: stream.read_u64().await?, down: stream.read_u64().await?, seed: stream.read_u64().await? };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut left = plan.up;
    while left > 0 {
        let wanted = left.min(BLOCK as u64) as usize;
        let length = stream.read(&mut buffer[..wanted]).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..length]);
        left -= length as u64;
    }
    stream.write_all(&hash.finalize()).await?;
    let mut bytes = Bytes::new(!plan.seed, plan.down);
    while let Some(block) = bytes.next() {
        stream.write_all(block).await?;
    }
    stream.shutdown().await
}

/// A transfer from the client's end. `on_progress` is told the bytes sent and received so far.
pub fn transfer(mut stream: StdStream, plan: Plan, mut on_progress: impl FnMut(u64)) -> Result<Times> {
    let begun = Instant::now();
    for number in [plan.up, plan.down, plan.seed] {
        stream.write_all(&number.to_be_bytes())?;
    }
    let mut bytes = Bytes::new(plan.seed, plan.up);
    let mut moved = 0;
    while let Some(block) = bytes.next() {
        stream.write_all(block).with_context(|| format!("sending after {moved} bytes"))?;
        moved += block.len() as u64;
        on_progress(moved);
    }
    let mut digest = [0; 32];
    stream.read_exact(&mut digest).context("the server's digest")?;
    let up = begun.elapsed();
    ensure!(digest == digest_of(plan.seed, plan.up), "the server got other bytes than were sent");

    let begun = Instant::now();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut received = 0;
    loop {
        let length = stream.read(&mut buffer).with_context(|| format!("receiving after {received} bytes"))?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        received += length as u64;
        on_progress(moved + received);
    }
    let down = begun.elapsed();
    ensure!(received == plan.down, "{received} bytes of {} came", plan.down);
    let digest: [u8; 32] = hash.finalize().into();
    ensure!(digest == digest_of(!plan.seed, plan.down), "other bytes came than the server sent");
    Ok(Times { up, down })
}
