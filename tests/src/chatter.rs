//! Connections that stay open and talk all the time with an echo service, each answer held against what was sent.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::LIMIT;
use crate::namespace::{self, Namespace};
use crate::wait;

/// Bytes of one exchange.
const LENGTH: usize = 512;
/// A connection's rest between two exchanges, so that hundreds of them leave the processors to others.
const REST: Duration = Duration::from_millis(20);

/// See the module. Its connections are closed when it is dropped.
#[derive(Debug)]
pub struct Chatter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    done: AtomicBool,
    /// Exchanges of each connection.
    rounds: Vec<AtomicUsize>,
    /// What ended connections before their time.
    failures: Vec<OnceLock<String>>,
}

impl Chatter {
    /// Opens `count` connections from a namespace, and returns when each of them has had an answer or has failed.
    #[track_caller]
    pub fn start(from: &Namespace, address: SocketAddr, count: usize) -> Self {
        Self::start_behind(from, address, count, Vec::new())
    }

    /// Likewise, with connections that say something else first, and hear it again.
    #[track_caller]
    pub fn start_behind(from: &Namespace, address: SocketAddr, count: usize, opening: Vec<u8>) -> Self {
        let shared = Arc::new(Shared {
            done: AtomicBool::new(false),
            rounds: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            failures: (0..count).map(|_| OnceLock::new()).collect(),
        });
        let (namespace, own) = (from.open(), shared.clone());
        let chatter = Self {
            shared,
            thread: Some(std::thread::spawn(move || run(&namespace, address, &opening.into(), &own))),
        };
        chatter.next_round();
        chatter
    }

    /// Waits until every connection that has not failed has begun and ended another exchange.
    #[track_caller]
    pub fn next_round(&self) {
        let count = |round: &AtomicUsize| round.load(Ordering::SeqCst);
        let before: Vec<usize> = self.shared.rounds.iter().map(count).collect();
        wait::until("another exchange of every connection", || {
            let rounds = self.shared.rounds.iter().zip(&before).zip(&self.shared.failures);
            let mut waiting = rounds
                .filter(|((now, before), failure)| count(now) < **before + 2 && failure.get().is_none());
            waiting.next().is_none().then_some(())
        });
    }

    /// What the connections that failed died of.
    pub fn failures(&self) -> Vec<String> {
        self.shared.failures.iter().filter_map(|failure| failure.get().cloned()).collect()
    }

    /// Exchanges so far.
    pub fn exchanges(&self) -> usize {
        self.shared.rounds.iter().map(|round| round.load(Ordering::SeqCst)).sum()
    }

    /// Has every connection talk once more, and panics if any has failed. Returns the number of exchanges.
    #[track_caller]
    pub fn expect_unharmed(&self) -> usize {
        self.next_round();
        let failures = self.failures();
        let count = self.shared.rounds.len();
        assert!(failures.is_empty(), "{} of {count} failed, first: {}", failures.len(), failures[0]);
        self.exchanges()
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

fn run(namespace: &File, address: SocketAddr, opening: &Arc<[u8]>, shared: &Arc<Shared>) {
    namespace::join(namespace);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..shared.rounds.len())
            .map(|number| {
                let (shared, opening) = (shared.clone(), opening.clone());
                tokio::spawn(async move {
                    if let Err(failure) = talk(address, number, &opening, &shared).await {
                        shared.failures[number].get_or_init(|| failure);
                    }
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    });
}

async fn talk(address: SocketAddr, number: usize, opening: &[u8], shared: &Shared) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("connection {number}: {what}: {error}");
    let connecting = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
    let mut stream = connecting
        .map_err(|error| failed("connecting", &error))?
        .map_err(|error| failed("connecting", &error))?;
    let _ = stream.set_nodelay(true);
    open(&mut stream, opening).await.map_err(|error| failed("opening", &error))?;
    while !shared.done.load(Ordering::SeqCst) {
        let round = shared.rounds[number].load(Ordering::SeqCst);
        let words = words(number, round);
        let mut answer = [0; LENGTH];
        let exchange = async {
            stream.write_all(&words).await?;
            stream.read_exact(&mut answer).await
        };
        tokio::time::timeout(LIMIT, exchange)
            .await
            .map_err(|error| failed("talking", &error))?
            .map_err(|error| failed("talking", &error))?;
        if answer != words {
            return Err(format!("connection {number}: another answer in round {round}"));
        }
        shared.rounds[number].fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

/// Says what comes first, and hears it.
async fn open(stream: &mut TcpStream, opening: &[u8]) -> std::io::Result<()> {
    let mut heard = vec![0; opening.len()];
    let (mut reader, mut writer) = stream.split();
    let exchange =
        async { tokio::try_join!(writer.write_all(opening), reader.read_exact(&mut heard)).map(drop) };
    tokio::time::timeout(LIMIT, exchange).await.map_err(std::io::Error::from)??;
    if heard == opening { Ok(()) } else { Err(std::io::Error::other("another answer")) }
}

/// What a connection says in a round: nobody else says the same.
fn words(number: usize, round: usize) -> [u8; LENGTH] {
    let mut words = [0; LENGTH];
    let mut state = (number as u64) << 32 | (round as u64) << 1 | 1;
    for chunk in words.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    words
}
