//! Ways in which connections begin, of which a gateway that moves connections between its planes may like some more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::client::Way;
use super::{ANSWER, Kind, REQUEST};
use crate::namespace::Namespace;
use crate::{cpu, namespace};

/// Connections at once.
pub const AT_ONCE: usize = 64;
/// Between the backend's first byte and the client's first request, when it is idle first.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes of a download.
const DOWNLOAD: usize = 4 << 20;
/// How long a chat goes on, and its requests under way.
const CHAT: Duration = Duration::from_millis(500);
const UNDER_WAY: usize = 4;
/// Requests after having been idle.
const REQUESTS: usize = 10;

/// A byte that takes longer does not come.
const STUCK: Duration = Duration::from_secs(5);

/// Connections that have behaved in one way.
#[derive(Debug, Default)]
pub struct Wave {
    /// They are still open.
    pub open: Vec<TcpStream>,
    /// Why the others are not.
    pub failures: Vec<anyhow::Error>,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Nothing for [`IDLE`] after the ClientHello was answered, then requests.
    IdleFirst,
    /// [`DOWNLOAD`] bytes as soon as the ClientHello was read.
    Download,
    /// Requests and answers under way all the time.
    Chatty,
}

impl Behaviour {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 3] = [Self::IdleFirst, Self::Download, Self::Chatty];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleFirst => "idle first",
            Self::Download => "download at once",
            Self::Chatty => "chatty both ways",
        }
    }

    /// What the backend does.
    pub fn kind(self) -> Kind {
        match self {
            Self::Download => Kind::Bulk,
            Self::IdleFirst | Self::Chatty => Kind::Answers,
        }
    }

    /// [`AT_ONCE`] connections from a namespace that behave so.
    pub fn run(self, way: &Way, within: &Namespace) -> Result<Wave> {
        let start = |number: u64| {
            let (way, place) = (way.clone(), within.open());
            std::thread::spawn(move || {
                namespace::join(&place);
                cpu::pin(cpu::LOAD)?;
                let mut stream = way.open(number, None)?;
                stream.set_read_timeout(Some(STUCK))?;
                self.behave(&mut stream)?;
                Ok(stream)
            })
        };
        let threads: Vec<_> = (0..AT_ONCE as u64).map(start).collect();
        let mut wave = Wave::default();
        for thread in threads {
            match thread.join().ok().context("a client panicked")? {
                Ok(stream) => wave.open.push(stream),
                Err(error) => wave.failures.push(error),
            }
        }
        Ok(wave)
    }

    fn behave(self, stream: &mut TcpStream) -> Result<()> {
        match self {
            Self::IdleFirst => {
                std::thread::sleep(IDLE);
                (0..REQUESTS).try_for_each(|_| ask(stream).and_then(|()| listen(stream)))?;
            }
            Self::Download => {
                let mut block = vec![0; 256 * 1024];
                for _ in 0..DOWNLOAD / block.len() {
                    stream.read_exact(&mut block)?;
                }
            }
            Self::Chatty => chat(stream)?,
        }
        Ok(())
    }
}

/// With answers to all.
fn chat(stream: &mut TcpStream) -> std::io::Result<()> {
    (0..UNDER_WAY).try_for_each(|_| ask(stream))?;
    let begun = Instant::now();
    while begun.elapsed() < CHAT {
        listen(stream)?;
        ask(stream)?;
    }
    (0..UNDER_WAY).try_for_each(|_| listen(stream))
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[0x5a; REQUEST])
}

fn listen(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; ANSWER])
}
