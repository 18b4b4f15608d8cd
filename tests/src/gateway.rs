//! The gateway under test: the real `sluice` program, on documents of the test's own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::{Scrape, dechunked};
use crate::namespace::Namespace;
use crate::program::{Said, run};
use crate::wait;

/// Path of the `sluice` program: `SLUICE_BIN`, or the one that cargo put beside the tests.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("path of this program");
    let candidates = own.ancestors().skip(1).take(2).map(|directory| directory.join("sluice"));
    candidates.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no `sluice` beside {}; build it with: cargo build --package gateway-userspace", own.display())
    })
}

/// What `--kernel` is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// User space alone.
    Off,
    /// The test is about the kernel plane: without one the gateway does not start.
    Require,
}

/// A gateway that is being arranged.
#[derive(Debug)]
pub struct Arrangement {
    home: Home,
    namespace: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    kernel: Kernel,
    descriptors: Option<u32>,
    capabilities: Option<Vec<String>>,
}

/// Directories of a gateway; they outlive its process, so that another can take over.
#[derive(Debug)]
struct Home {
    directory: TempDir,
    pins: PathBuf,
}

impl Home {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new().prefix("sluice-test-").tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("documents")).expect("a directory");
        let pins = format!("/sys/fs/bpf/sluice-test-{}-{number}", std::process::id());
        Self { directory, pins: pins.into() }
    }

    fn documents(&self) -> PathBuf {
        self.directory.path().join("documents")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Replaces a file in one step, as ConfigMaps and editors do.
    fn write(&self, name: &str, text: &str) {
        let hidden = self.documents().join(format!(".{name}"));
        std::fs::write(&hidden, text).expect("writing a document");
        std::fs::rename(hidden, self.documents().join(format!("{name}.yaml"))).expect("renaming a document");
    }
}

impl Default for Arrangement {
    fn default() -> Self {
        Self {
            home: Home::new(),
            namespace: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            kernel: Kernel::Off,
            descriptors: None,
            capabilities: None,
        }
    }
}

impl Arrangement {
    /// Adds a file of documents; a later one of the same name replaces it.
    pub fn document(self, name: &str, text: &str) -> Self {
        self.home.write(name, text);
        self
    }

    /// Runs it in a namespace.
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.path());
        self
    }

    /// Chooses the plane. Off unless said otherwise.
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Lets it have so many open files and no more, as `ulimit -n` does.
    pub fn descriptors(mut self, count: u32) -> Self {
        self.descriptors = Some(count);
        self
    }

    /// Lets it have these of root's capabilities and no others, named as pods name them, and none that it could regain.
    pub fn capabilities(mut self, names: &[&str]) -> Self {
        self.capabilities = Some(names.iter().map(|name| name.to_ascii_lowercase()).collect());
        self
    }

    /// Adds flags of `sluice run`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let process = Process::start(&self);
        let gateway = Gateway { arrangement: self, process };
        gateway.wait_until_ready();
        gateway
    }

    /// Starts one that is expected to end by itself, and waits for that.
    pub fn start_and_fail(self) -> Said {
        let said = run(&mut command(&self));
        self.clean_up();
        said
    }

    /// Removes what it has pinned: one that may not do what it needs cannot do that either.
    fn clean_up(&self) {
        if self.kernel == Kernel::Off || !self.home.pins.exists() {
            return;
        }
        // It takes filters off the interfaces that it sees.
        let mut command = self.namespace.as_deref().map_or_else(|| Command::new(program()), within);
        let said = run(command.arg("cleanup").arg("--pin-dir").arg(&self.home.pins));
        if said.code != Some(0) {
            eprintln!("sluice cleanup failed:\n{}", said.all());
        }
    }
}

/// The program in a namespace.
fn within(namespace: &Path) -> Command {
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--net={}", namespace.display())).arg("--").arg(program());
    nsenter
}

/// The program, by way of those that give it a namespace and limits.
fn wrapped(arrangement: &Arrangement) -> Command {
    let mut words = Vec::new();
    if let Some(namespace) = &arrangement.namespace {
        words.extend(["nsenter".to_owned(), format!("--net={}", namespace.display()), "--".to_owned()]);
    }
    if let Some(count) = arrangement.descriptors {
        words.extend(["prlimit".to_owned(), format!("--nofile={count}:{count}"), "--".to_owned()]);
    }
    if let Some(names) = &arrangement.capabilities {
        let bounding: Vec<_> = std::iter::once("-all").chain(names.iter().map(String::as_str)).collect();
        words.extend(["setpriv".to_owned(), format!("--bounding-set={}", bounding.join(",+"))]);
        words.extend(["--inh-caps=-all", "--no-new-privs", "--"].map(str::to_owned));
    }
    let mut words = words.into_iter().map(OsString::from).chain([program().into_os_string()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

fn command(arrangement: &Arrangement) -> Command {
    let home = &arrangement.home;
    let mut command = wrapped(arrangement);
    command.arg("run").arg("--config").arg(home.documents());
    command.arg("--admin-socket").arg(home.socket()).arg("--pin-dir").arg(&home.pins);
    // Metrics are counted in all tests, on a port that nobody asks for.
    let addresses =
        [("--admin-address", "none"), ("--ready-address", "none"), ("--metrics-address", "0.0.0.0:0")];
    for (flag, value) in addresses.into_iter().chain([("--workers", "2")]) {
        if !arrangement.arguments.iter().any(|argument| argument == flag) {
            command.args([flag, value]);
        }
    }
    command.args(["--kernel", if arrangement.kernel == Kernel::Off { "off" } else { "require" }]);
    command.args(&arrangement.arguments);
    command.envs(arrangement.environment.iter().map(|(name, value)| (name, value)));
    command
}

#[derive(Debug)]
struct Process {
    child: Child,
}

impl Process {
    fn start(arrangement: &Arrangement) -> Self {
        let log = arrangement.home.log();
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command(arrangement)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn();
        Self { child: child.expect("starting the gateway") }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The status, once it has ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("state of a child")
    }

    fn signal(&self, signal: Signal) {
        // One that has ended in the meantime cannot be signalled, and need not be.
        let _ = kill(self.pid(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A running gateway. Ended, and its pinned objects removed, when dropped.
#[derive(Debug)]
pub struct Gateway {
    arrangement: Arrangement,
    process: Process,
}

impl Gateway {
    /// Begins to arrange one.
    pub fn arrange() -> Arrangement {
        Arrangement::default()
    }

    /// Address of a port on loopback.
    pub fn at(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Directory of its pinned objects.
    pub fn pin_directory(&self) -> &Path {
        &self.arrangement.home.pins
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.arrangement.home.socket()
    }

    /// All that it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.arrangement.home.log()).unwrap_or_default()
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let ready = wait::within(wait::PATIENCE, || {
            let ended = matches!(
                nix::sys::wait::waitid(
                    nix::sys::wait::Id::Pid(self.process.pid()),
                    nix::sys::wait::WaitPidFlag::WEXITED
                        | nix::sys::wait::WaitPidFlag::WNOHANG
                        | nix::sys::wait::WaitPidFlag::WNOWAIT,
                ),
                Ok(nix::sys::wait::WaitStatus::Exited(..) | nix::sys::wait::WaitStatus::Signaled(..))
            );
            if ended {
                return Some(false);
            }
            self.ask("/healthz/ready").filter(|answer| answer.starts_with("HTTP/1.1 200")).map(|_| true)
        });
        match ready {
            Some(true) => {}
            Some(false) => panic!("the gateway ended:\n{}", self.log()),
            None => panic!("the gateway is not ready after {:?}:\n{}", wait::PATIENCE, self.log()),
        }
    }

    /// A path of the admin socket; `None` while nobody answers.
    pub fn ask(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.arrangement.home.socket()).ok()?;
        stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: sluice\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// What `sluice status --json` is made from.
    pub fn status(&self) -> Value {
        let answer = self.ask("/status").expect("the gateway's admin socket");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        serde_json::from_str(body).expect("JSON")
    }

    /// What Prometheus reads.
    pub fn scrape(&self) -> Scrape {
        let answer = self.ask("/stats/prometheus").expect("the gateway's admin socket");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let body =
            if head.contains("transfer-encoding: chunked") { dechunked(body) } else { body.to_owned() };
        Scrape::of(&body)
    }

    /// Generation in force.
    pub fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().expect("a generation")
    }

    /// What it says of the kernel plane. On a busy machine that does not always answer in time.
    #[track_caller]
    pub fn kernel(&self) -> Value {
        let answered = |mut status: Value| Some(status["kernel"].take()).filter(Value::is_object);
        wait::until("an answer of the kernel plane", || answered(self.status()))
    }

    /// Connections that were handed over to the kernel so far.
    #[track_caller]
    pub fn handed_over(&self) -> u64 {
        self.kernel()["handoff"]["handedOver"].as_u64().expect("a number")
    }

    /// Waits until nothing of the kernel's tables is in use.
    #[track_caller]
    pub fn expect_all_given_back(&self) {
        let in_use = || self.kernel()["inUse"].clone();
        let is_zero = |value: Value| value.as_object().expect("counts").values().all(|count| *count == 0);
        wait::until("all to be given back", || is_zero(in_use()).then_some(()));
    }

    /// Writes a file of documents without waiting.
    pub fn write(&self, name: &str, text: &str) {
        self.arrangement.home.write(name, text);
    }

    /// Removes a file of documents without waiting.
    pub fn remove(&self, name: &str) {
        let path = self.arrangement.home.documents().join(format!("{name}.yaml"));
        std::fs::remove_file(path).expect("removing a document");
    }

    /// Writes a file of documents and waits until a new generation is in force.
    #[track_caller]
    pub fn apply(&self, name: &str, text: &str) {
        let before = self.generation();
        self.write(name, text);
        wait::until("a new generation", || (self.generation() > before).then_some(()));
    }

    /// A command of `sluice` that talks to this gateway.
    pub fn sluice(&self, words: &[&str]) -> Said {
        let mut command = match (words.first(), &self.arrangement.namespace) {
            // It takes filters off the interfaces that it sees.
            (Some(&"cleanup"), Some(path)) => within(path),
            _ => Command::new(program()),
        };
        command.args(words);
        match words.first() {
            Some(&("maps" | "cleanup")) => drop(command.arg("--pin-dir").arg(self.pin_directory())),
            Some(&("flows" | "top")) => {
                let socket = self.arrangement.home.socket();
                command.arg("--pin-dir").arg(self.pin_directory()).arg("--admin-socket").arg(socket);
            }
            _ => drop(command.arg("--admin-socket").arg(self.arrangement.home.socket())),
        }
        run(&mut command)
    }

    /// Asks it to stop and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        wait::until("the gateway's end", || self.process.ended())
    }

    /// Asks it to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Kills it, as the kernel does when memory is short.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        wait::until("the gateway's end", || self.process.ended());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Sets the variables of its environment from the next start on, in place of those before.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.arrangement.environment = variables.iter().map(owned).collect();
    }

    /// Has another agent take the place of this one, and waits until it has: returns the one that drains.
    #[track_caller]
    pub fn replace(&mut self) -> Relieved {
        let flag = "--take-over".to_owned();
        if !self.arrangement.arguments.contains(&flag) {
            self.arrangement.arguments.push(flag);
        }
        let before = self.process_told();
        let process = Process::start(&self.arrangement);
        let relieved = std::mem::replace(&mut self.process, process);
        wait::until("a successor", || {
            assert!(self.process.ended().is_none(), "the successor ended:\n{}", self.log());
            let told = self.ask("/healthz/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))?;
            (!told.is_empty() && self.process_told() != before).then_some(())
        });
        Relieved(relieved)
    }

    /// Which process answers on the admin socket.
    fn process_told(&self) -> Option<u64> {
        let answer = self.ask("/status")?;
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n")?.1).ok()?["process"].as_u64()
    }

    /// Starts it again after an end, with the same documents, sockets and pinned objects.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = Process::start(&self.arrangement);
        self.wait_until_ready();
    }

    /// Starts it again after an end, with these flags in place of those before.
    #[track_caller]
    pub fn restart_with(&mut self, flags: &[&str]) {
        self.arrangement.arguments = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart();
    }
}

/// A process whose place another one has taken. Killed if it is dropped before its end.
#[derive(Debug)]
pub struct Relieved(Process);

impl Relieved {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.ended()
    }

    /// Asks it to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.0.signal(Signal::SIGTERM);
    }

    /// Waits until it has drained.
    #[track_caller]
    pub fn expect_end(mut self) {
        let status = wait::until("the end of an agent that was relieved", || self.ended());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}---", self.log());
        }
        if self.process.ended().is_none() {
            self.process.signal(Signal::SIGTERM);
            // Connections that a failed test left open are not waited for.
            self.process.signal(Signal::SIGTERM);
            if wait::within(wait::PATIENCE, || self.process.ended()).is_none() {
                eprintln!("the gateway did not stop by itself");
                // Nothing is cleaned up below a running agent.
                self.kill();
            }
        }
        self.arrangement.clean_up();
    }
}
