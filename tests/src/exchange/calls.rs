//! The clients of exchanges: many at once, of all kinds, each told of when it ends.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsConnector;

use super::backends::{Backends, HTTP_PORT, Program, Speech, outcome};
use super::openssl::{self, Slot};
use super::{Closing, Plan, ours, raw, upgraded};
use crate::foreign::Language;
use crate::lab::Family;
use crate::namespace::{self, Namespace};
use crate::tls::TlsClient;

/// Connections of this process at once.
const AT_ONCE: usize = 40;

const OLDER: &[&SupportedProtocolVersion] = &[&TLS12];
const NEWER: &[&SupportedProtocolVersion] = &[&TLS13];

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pair {
    /// Bytes in clear behind a hello.
    Raw,
    /// Bytes in clear behind a request for a WebSocket.
    Upgraded,
    /// rustls at both ends, with TLS 1.2.
    Rustls12,
    /// rustls at both ends, with TLS 1.3.
    Rustls13,
    /// Another language's client, rustls' server.
    From(Language),
    /// The other way round.
    To(Language),
    /// `openssl s_client`, rustls' server.
    FromOpenssl,
    /// rustls' client, `openssl s_server`.
    ToOpenssl,
}

impl Pair {
    /// What the server speaks.
    pub fn server(self) -> Speech {
        match self {
            Self::Raw => Speech::Raw,
            Self::Upgraded => Speech::Upgraded,
            Self::Rustls12 | Self::Rustls13 | Self::From(_) | Self::FromOpenssl => Speech::Rustls,
            Self::To(language) => Speech::Foreign(language),
            Self::ToOpenssl => Speech::Openssl,
        }
    }

    /// The ways of closing that both ends are capable of.
    pub fn closings(self) -> &'static [Closing] {
        match self {
            Self::FromOpenssl => &[Closing::ServerAfterAll],
            Self::ToOpenssl => &[Closing::ClientAfterAll],
            _ => &Closing::HALVES,
        }
    }
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Who talks to whom.
    pub pair: Pair,
    /// Over which IP.
    pub family: Family,
    /// What they say.
    pub plan: Plan,
}

impl Job {
    fn name(&self) -> String {
        self.pair.server().name(self.family)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} over {:?}, {}", self.pair, self.family, self.plan)
    }
}

/// Where calls come from and go to.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The clients' namespace.
    pub from: &'a Namespace,
    /// The gateway's addresses, by family.
    pub to: [(Family, SocketAddr); 2],
    /// Who answers.
    pub backends: &'a Backends,
}

impl Way<'_> {
    fn address(&self, family: Family) -> SocketAddr {
        self.to[usize::from(self.to[0].0 != family)].1
    }

    /// Where the gateway takes what a pair begins with.
    fn entrance(&self, job: &Job) -> SocketAddr {
        let address = self.address(job.family);
        let is_http = job.pair == Pair::Upgraded;
        SocketAddr::new(address.ip(), if is_http { HTTP_PORT } else { address.port() })
    }
}

/// How a connection ended at its client.
type End = (u64, Result<(), String>);

/// Calls under way. Those that have not ended are broken off when it is dropped.
#[derive(Debug)]
pub struct Calls {
    ends: Receiver<End>,
    _programs: Vec<Program>,
    _ours: Threads,
}

#[derive(Debug)]
struct Threads {
    stop: Option<oneshot::Sender<()>>,
    openssl: Arc<Slot>,
    running: Vec<JoinHandle<()>>,
}

impl Calls {
    /// Begins.
    pub fn start(way: &Way<'_>, jobs: &[Job]) -> Self {
        let (tell, ends) = std::sync::mpsc::channel();
        let (stop, stopped_ours) = oneshot::channel();
        let mut threads = Threads { stop: Some(stop), openssl: Arc::default(), running: Vec::new() };
        let ours: Vec<_> = jobs.iter().filter(|job| is_ours(job.pair)).copied().collect();
        threads.running.push(start_ours(way, ours, tell.clone(), stopped_ours));
        let by_openssl: Vec<_> = jobs.iter().filter(|job| job.pair == Pair::FromOpenssl).copied().collect();
        let openssl = start_openssl(way, by_openssl, tell.clone(), &threads);
        threads.running.push(openssl);
        let mut by_program: HashMap<(Language, Family), Vec<Plan>> = HashMap::new();
        for job in jobs {
            if let Pair::From(language) = job.pair {
                by_program.entry((language, job.family)).or_default().push(job.plan);
            }
        }
        let programs = by_program
            .into_iter()
            .filter_map(|(who, plans)| start_program(way, who, &plans, tell.clone()))
            .collect();
        Self { ends, _programs: programs, _ours: threads }
    }

    /// The next end of a connection. `None`: nothing ended for that long.
    pub fn next(&self, patience: Duration) -> Option<End> {
        self.ends.recv_timeout(patience).ok()
    }
}

fn is_ours(pair: Pair) -> bool {
    !matches!(pair, Pair::From(_) | Pair::FromOpenssl)
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.openssl.stop();
        for thread in self.running.drain(..) {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

/// What the clients of this process are configured with, made once: a store of roots is costly to make.
struct Configurations {
    older: Arc<ClientConfig>,
    newer: Arc<ClientConfig>,
}

fn start_ours(
    way: &Way<'_>,
    jobs: Vec<Job>,
    tell: Sender<End>,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    let client = TlsClient::new(way.backends.authority.authority.roots(), "unnamed.test");
    let configurations = Arc::new(Configurations {
        older: client.clone().versions(OLDER).config(),
        newer: client.versions(NEWER).config(),
    });
    let addressed: Vec<_> = jobs.into_iter().map(|job| (job, way.entrance(&job))).collect();
    let namespace = way.from.open();
    std::thread::spawn(move || {
        namespace::join(&namespace);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let places = Arc::new(Semaphore::new(AT_ONCE));
            for (job, address) in addressed {
                let (tell, places, configurations) = (tell.clone(), places.clone(), configurations.clone());
                tokio::spawn(async move {
                    let place = places.acquire().await;
                    // As a task of its own, so that a panic in it is an end too.
                    let calling = tokio::spawn(async move { call(address, &job, &configurations).await });
                    let end = calling.await.unwrap_or_else(|panic| Err(panic.into()));
                    // Nobody hears it who has given up.
                    let _ = tell.send((job.plan.seed, end.map_err(|fault| format!("{fault:#}"))));
                    drop(place);
                });
            }
            let _ = stopped.await;
        });
    })
}

async fn call(address: SocketAddr, job: &Job, configurations: &Configurations) -> Result<()> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    // Else pieces that are smaller than a segment would wait for each other's acknowledgement.
    stream.set_nodelay(true)?;
    if job.pair == Pair::Upgraded {
        return upgraded::call(stream, &job.name(), &job.plan).await;
    }
    let name = job.name().try_into().context("a name")?;
    let config = match job.pair {
        Pair::Raw => return raw::call(stream, &configurations.newer, name, &job.plan).await,
        Pair::Rustls12 => &configurations.older,
        _ => &configurations.newer,
    };
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await.context("shaking hands")?;
    ours::call(stream, &job.plan).await
}

/// One after the other: each is a process.
fn start_openssl(way: &Way<'_>, jobs: Vec<Job>, tell: Sender<End>, threads: &Threads) -> JoinHandle<()> {
    let authority = authority_file(way);
    let calls: Vec<_> =
        jobs.into_iter().map(|job| (job, way.address(job.family), way.from.command("openssl"))).collect();
    let slot = threads.openssl.clone();
    std::thread::spawn(move || {
        for (job, address, mut command) in calls {
            if slot.is_stopped() {
                return;
            }
            let place = openssl::Place { address, name: &job.name(), authority: &authority };
            let end = openssl::call(&mut command, &place, &job.plan, &slot);
            let _ = tell.send((job.plan.seed, end.map_err(|fault| format!("{fault:#}"))));
        }
    })
}

/// Plans go in as lines, ends come out.
fn start_program(
    way: &Way<'_>,
    (language, family): (Language, Family),
    plans: &[Plan],
    tell: Sender<End>,
) -> Option<Program> {
    let mut command: Command = language.program_within(way.from)?;
    command.args(["client", &way.address(family).to_string(), &Speech::Rustls.name(family)]);
    command.arg(authority_file(way));
    let mut program = Program::start(&mut command, move |line| {
        let (seed, words) = line.split_once(' ').unwrap_or((line, ""));
        if let Ok(seed) = seed.parse() {
            let _ = tell.send((seed, outcome(words)));
        }
    });
    let mut lines = String::new();
    for Plan { seed, up, down, closing } in plans {
        let _ = writeln!(lines, "{seed} {up} {down} {}", *closing as u64);
    }
    // One that ended at once has no ends to tell, and is found out by that.
    let _ = program.input().write_all(lines.as_bytes());
    Some(program)
}

fn authority_file(way: &Way<'_>) -> PathBuf {
    let directory: &Path = way.backends.authority.directory.path();
    directory.join("ca-chain.cert.pem")
}
