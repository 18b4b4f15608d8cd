//! The servers of exchanges: one for each way of speaking and each family, each behind a name of its own.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::{Ledger, openssl, ours, raw, upgraded};
use crate::authority::Authority;
use crate::documents::{self, http_route, service, sni_route};
use crate::foreign::Language;
use crate::lab::Family;
use crate::namespace::Namespace;
use crate::serve::{Place, Server};
use crate::tls::server_config;

/// Port of the gateway for requests in clear. It has its namespace for itself.
pub const HTTP_PORT: u16 = 80;

/// How a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speech {
    /// In clear, behind a hello.
    Raw,
    /// In clear, behind a request for a WebSocket.
    Upgraded,
    /// TLS by rustls, in process.
    Rustls,
    /// TLS by another language's library.
    Foreign(Language),
    /// TLS by `openssl s_server`.
    Openssl,
}

impl Speech {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Raw,
        Self::Upgraded,
        Self::Rustls,
        Self::Foreign(Language::Go),
        Self::Foreign(Language::Java),
        Self::Openssl,
    ];

    /// The name by which clients ask for its server of a family.
    pub fn name(self, family: Family) -> String {
        let word = match self {
            Self::Raw => "raw",
            Self::Upgraded => "upgraded",
            Self::Rustls => "rustls",
            Self::Foreign(Language::Go) => "go",
            Self::Foreign(Language::Java) => "java",
            Self::Openssl => "openssl",
        };
        format!("{word}-{}.test", if family == Family::V4 { "v4" } else { "v6" })
    }
}

/// See the module. All end when dropped.
#[derive(Debug)]
pub struct Backends {
    /// How connections ended here.
    pub ledger: Ledger,
    /// What clients trust is signed by it.
    pub authority: Credentials,
    running: Vec<Running>,
    addresses: Vec<(String, SocketAddr)>,
}

/// The authority, and its certificate, a server's certificate and key as files.
pub struct Credentials {
    /// The authority.
    pub authority: Authority,
    /// Holds the files.
    pub directory: TempDir,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.directory.fmt(f)
    }
}

/// A server, for as long as it lives.
#[derive(Debug)]
pub(super) enum Running {
    Ours { _server: Server },
    Program { _program: Program },
}

impl Backends {
    /// Starts them at the addresses of a namespace; those whose programs are not installed are left out.
    pub fn start(namespace: &Namespace, addresses: &[(Family, IpAddr)]) -> Self {
        Self::start_only(namespace, addresses, &Speech::ALL)
    }

    /// Those that speak in these ways.
    pub fn start_only(namespace: &Namespace, addresses: &[(Family, IpAddr)], speeches: &[Speech]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("the backends'");
        let names: Vec<_> = addresses
            .iter()
            .flat_map(|(family, _)| speeches.iter().map(|speech| speech.name(*family)))
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let identity = authority.issue(&names);
        authority.write(directory.path());
        for (name, text) in [("server.crt", &identity.certificate), ("server.key", &identity.key)] {
            std::fs::write(directory.path().join(name), text).expect("writing a credential");
        }
        let acceptor = TlsAcceptor::from(server_config(&identity));
        let ledger = Ledger::default();
        let mut backends = Self {
            ledger,
            authority: Credentials { authority, directory },
            running: Vec::new(),
            addresses: Vec::new(),
        };
        for (family, address) in addresses {
            for speech in speeches.iter().copied() {
                let place = SocketAddr::new(*address, 0);
                backends.add(speech, speech.name(*family), (namespace, place), &acceptor);
            }
        }
        backends
    }

    fn add(
        &mut self,
        speech: Speech,
        name: String,
        (namespace, place): (&Namespace, SocketAddr),
        acceptor: &TlsAcceptor,
    ) {
        let ledger = self.ledger.clone();
        let started = match speech {
            Speech::Raw => Some(start_raw(Place::within(namespace, place), ledger)),
            Speech::Upgraded => Some(start_upgraded(Place::within(namespace, place), ledger)),
            Speech::Rustls => Some(start_rustls(Place::within(namespace, place), ledger, acceptor)),
            Speech::Foreign(language) => language
                .program_within(namespace)
                .map(|command| start_program(command, place, self.authority.directory.path(), ledger)),
            Speech::Openssl => {
                Some(openssl::start_server(namespace, place, self.authority.directory.path(), ledger))
            }
        };
        if let Some((running, address)) = started {
            self.running.push(running);
            self.addresses.push((name, address));
        }
    }

    /// Whether a name has a server.
    pub fn has(&self, name: &str) -> bool {
        self.addresses.iter().any(|(own, _)| own == name)
    }

    /// Documents of a gateway that passes each name through to its server, and serves those of [`Speech::Upgraded`] at
    /// [`HTTP_PORT`].
    pub fn documents(&self, port: u16) -> String {
        let servers = [
            documents::Server::passthrough(port, &["*.test"]),
            documents::Server::http(HTTP_PORT, &["*.test"]),
        ];
        let mut text = documents::gateway("edge", &servers);
        for (name, address) in &self.addresses {
            let word = name.trim_end_matches(".test");
            if word.starts_with("upgraded") {
                text += &http_route(word, name, "edge", word);
                text += &service(word, "http", &[*address]);
            } else {
                text += &sni_route(word, port, name, "edge", word);
                text += &service(word, "https", &[*address]);
            }
        }
        text
    }
}

fn start_raw(place: Place, ledger: Ledger) -> (Running, SocketAddr) {
    ours(Server::start(place, move |stream| {
        let ledger = ledger.clone();
        async move { raw::serve(stream, &ledger).await }
    }))
}

fn start_upgraded(place: Place, ledger: Ledger) -> (Running, SocketAddr) {
    ours(Server::start(place, move |stream| {
        let ledger = ledger.clone();
        async move { upgraded::serve(stream, &ledger).await }
    }))
}

fn start_rustls(place: Place, ledger: Ledger, acceptor: &TlsAcceptor) -> (Running, SocketAddr) {
    let acceptor = acceptor.clone();
    ours(Server::start(place, move |stream| {
        let (ledger, acceptor) = (ledger.clone(), acceptor.clone());
        async move {
            match acceptor.accept(stream).await {
                Ok(stream) => ours::serve(stream, &ledger).await,
                Err(error) => ledger.note(0, Err(format!("shaking hands: {error}"))),
            }
        }
    }))
}

fn ours(server: Server) -> (Running, SocketAddr) {
    let address = server.address;
    (Running::Ours { _server: server }, address)
}

/// Starts a server that says where it listens, and then how connections ended.
fn start_program(
    mut command: Command,
    place: SocketAddr,
    credentials: &std::path::Path,
    ledger: Ledger,
) -> (Running, SocketAddr) {
    command.arg("server").arg(place.to_string());
    command.args(["server.crt", "server.key"].map(|name| credentials.join(name)));
    let (tell, told) = std::sync::mpsc::channel();
    let program = Program::start(&mut command, move |line| {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first.parse() {
            Ok(seed) => ledger.note(seed, outcome(rest)),
            // The starter waits for the first line only.
            Err(_) => drop(tell.send(rest.parse().ok())),
        }
    });
    let port = told.recv_timeout(crate::wait::PATIENCE).ok().flatten();
    let port = port.unwrap_or_else(|| panic!("{command:?} does not say where it listens"));
    (Running::Program { _program: program }, SocketAddr::new(place.ip(), port))
}

/// What a program says of a connection.
pub(super) fn outcome(words: &str) -> Result<(), String> {
    if words == "ok" { Ok(()) } else { Err(words.to_owned()) }
}

impl Running {
    pub(super) fn program(program: Program) -> Self {
        Self::Program { _program: program }
    }
}

/// A program and the thread that listens to it. Killed when dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    listening: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts one whose lines are heard.
    pub(super) fn start(command: &mut Command, mut hear: impl FnMut(&str) + Send + 'static) -> Self {
        let mut child = spawn(command);
        let lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let listening = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                hear(&line);
            }
        });
        Self { child, listening: Some(listening) }
    }

    /// One that others listen to.
    pub(super) fn heard_by(child: Child, listening: JoinHandle<()>) -> Self {
        Self { child, listening: Some(listening) }
    }

    /// Its standard input, once.
    pub(super) fn input(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("standard input is piped")
    }
}

/// With both ends of its words piped; what it complains about is seen.
pub(super) fn spawn(command: &mut Command) -> Child {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    spawned.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended in the meantime cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listening) = self.listening.take() {
            // A panic in there has been printed.
            let _ = listening.join();
        }
    }
}
