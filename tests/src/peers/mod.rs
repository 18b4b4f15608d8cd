//! Ways through the arena that are compared: none at all, ours, and other people's. Here is the process of one, which
//! `l4`, `l7` and `sni` configure for their work, all alike: one worker on the gateway's processor, source addresses
//! translated, no access log but where it is asked for, limits raised so that none of them is the limit.

pub mod l4;
pub mod l7;
mod program;
pub mod sni;

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::arena::Arena;
use crate::program::must;
use crate::{cpu, gateway, limits, wait};

pub use program::Program;

/// One of those that a comparison compares; all of them are its variants, in the order of tables.
pub trait Contender: clap::ValueEnum + Debug + Copy + PartialEq + Send + Sync + 'static {
    /// What people call it.
    fn name(self) -> &'static str;

    /// What carries its connections.
    fn program(self) -> Program;

    /// The first of ours; the others of ours are its variants.
    fn is_foremost(self) -> bool;
}

/// Name of the file that its outputs go to.
const LOG: &str = "log";

/// A configuration for a program.
#[derive(Debug)]
pub struct Setup {
    /// For what.
    pub program: Program,
    /// Text of the file.
    pub configuration: String,
    /// Further flags.
    pub flags: Vec<String>,
    /// Further files, by name; the program is run beside them and the configuration.
    pub files: Vec<(&'static str, String)>,
    /// Whether it pins objects of the kernel's, for which it is given a directory.
    pub pins: bool,
}

/// A contender at work. Ended when dropped; must not outlive its arena.
#[derive(Debug)]
pub struct Peer {
    /// The command that runs it in the gateway's namespace.
    pub command: String,
    /// Text of its configuration.
    pub configuration: String,
    arranged: Arranged,
    child: Option<Child>,
}

/// Files and pinned objects of a contender.
#[derive(Debug)]
struct Arranged {
    directory: TempDir,
    pins: Option<PathBuf>,
}

impl Peer {
    /// Starts it, without waiting.
    pub fn start(setup: Setup, arena: &Arena) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluice-peer-").tempdir()?;
        let pins = setup.pins.then(|| pins(directory.path()));
        let arranged = Arranged { directory, pins };
        std::fs::create_dir(arranged.path("documents"))?;
        std::fs::write(arranged.path(setup.program.file_name()), &setup.configuration)?;
        for (name, text) in &setup.files {
            std::fs::write(arranged.path(name), text)?;
        }
        let mut words = setup.program.words(arranged.directory.path())?;
        words.extend(setup.flags);
        if let Some(pins) = &arranged.pins {
            words.extend(["--pin-dir".to_owned(), pins.display().to_string()]);
        }
        let command = match setup.program {
            Program::Nftables | Program::None => words.join(" "),
            _ => format!("taskset -c {} {}", cpu::GATEWAY, words.join(" ")),
        };
        let mut peer = Self { command, configuration: setup.configuration, arranged, child: None };
        peer.run(setup.program, arena, &words)?;
        Ok(peer)
    }

    fn run(&mut self, program: Program, arena: &Arena, words: &[String]) -> Result<()> {
        let Some((first, arguments)) = words.split_first() else { return Ok(()) };
        let namespace = &arena.lab.gateway;
        if program == Program::Nftables {
            return must(namespace.command(first).args(arguments)).map(drop);
        }
        // Appended to, so that it may be emptied.
        let log = File::options().create(true).append(true).open(self.arranged.path(LOG))?;
        let mut command = namespace.command("taskset");
        command.args(["-c", &cpu::GATEWAY.to_string(), first]).args(arguments);
        command.current_dir(self.arranged.directory.path());
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot run {}", self.command))?);
        Ok(())
    }

    /// Its processes, the one that was started first; none where nothing runs.
    pub fn processes(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.child.iter().map(Child::id).collect();
        let mut next = 0;
        while let Some(process) = all.get(next) {
            all.extend(children(*process));
            next += 1;
        }
        all
    }

    /// All that it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.arranged.path(LOG)).unwrap_or_default()
    }

    /// Lines of a log of its own, which is empty then.
    pub fn take_lines(&self, name: &str) -> Result<u64> {
        let path = self.arranged.path(name);
        let mut file =
            File::options().read(true).write(true).open(&path).context(path.display().to_string())?;
        let (mut buffer, mut lines) = (vec![0; 1 << 16], 0);
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            lines += buffer[..length].split(|byte| *byte == b'\n').count() as u64 - 1;
        }
        file.set_len(0)?;
        Ok(lines)
    }

    /// What `sluice status --json` says of ours, once it is ready: before, it fails.
    pub fn status(&self) -> Result<Value> {
        let socket = program::admin_socket(self.arranged.directory.path());
        let ask = || {
            must(Command::new(gateway::program()).args(["status", "--json", "--admin-socket"]).arg(&socket))
                .ok()
        };
        let said = wait::within(wait::PATIENCE, ask).ok_or_else(|| self.not_ready("its status"))?;
        Ok(serde_json::from_str(&said)?)
    }

    /// An error with what it said.
    fn not_ready(&self, why: &str) -> anyhow::Error {
        let mut text = format!("not ready: {why}");
        let _ = write!(text, "; log:\n{}", self.log());
        anyhow::Error::msg(text)
    }
}

/// Of all threads of a process.
fn children(process: u32) -> Vec<u32> {
    // A process that has ended has none.
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .flat_map(|task| of(task).split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A directory of bpffs that is as unique as the temporary one.
fn pins(directory: &Path) -> PathBuf {
    Path::new("/sys/fs/bpf").join(directory.file_name().unwrap_or_default())
}

impl Arranged {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let id = Pid::from_raw(child.id().cast_signed());
            let has_ended =
                |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)).then_some(());
            if has_ended(child).is_none() {
                // Twice: Sluice does not wait then for connections to finish.
                let _ = (kill(id, Signal::SIGTERM), kill(id, Signal::SIGTERM));
            }
            if wait::within(wait::PATIENCE, || has_ended(child)).is_none() {
                eprintln!("{} does not end by itself", self.command);
                let _ = (child.kill(), child.wait());
            }
        }
        if let Some(pins) = self.arranged.pins.as_ref().filter(|pins| pins.exists()) {
            let mut cleanup = Command::new(gateway::program());
            if let Err(error) = must(cleanup.args(["cleanup", "--pin-dir"]).arg(pins)) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// What Envoy calls a cluster: backends in turns.
fn envoy_cluster(name: &str, backends: &[SocketAddr]) -> String {
    let mut text = format!(
        "  - name: {name}\n    type: STATIC\n    circuit_breakers:\n      thresholds:\n      \
         - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}\n    load_assignment:\n      \
         cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n"
    );
    for backend in backends {
        let _ = writeln!(text, "        - endpoint: {{{}}}", envoy_address(*backend));
    }
    text
}

fn envoy_address(at: SocketAddr) -> String {
    format!("address: {{socket_address: {{address: {}, port_value: {}}}}}", at.ip(), at.port())
}

/// nginx's main context and the beginning of its `stream`.
fn nginx_stream_head() -> String {
    let (module, main) = (program::STREAM_MODULE, nginx_main());
    format!("load_module {module};\n{main}stream {{\n  access_log off;\n  proxy_timeout 1h;\n")
}

/// nginx's main context.
fn nginx_main() -> String {
    format!(
        "user root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile {};\npid nginx.pid;\n\
         events {{ worker_connections 32768; }}\n",
        limits::descriptors()
    )
}

/// HAProxy's global section and its defaults for TCP, with further lines for these.
fn haproxy_tcp_head(defaults: &str) -> String {
    haproxy_head("", &format!("    mode tcp\n{defaults}"))
}

/// HAProxy's global section and its defaults, with further lines for each. It starts only if it may open two files for
/// each connection and for each pipe, and a few more; it wants a pipe for every fourth connection unless told otherwise.
fn haproxy_head(global: &str, defaults: &str) -> String {
    format!(
        "global\n    nbthread 1\n    maxconn {}\n    maxpipes 256\n{global}defaults\n    balance roundrobin\n    \
         timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n{defaults}",
        limits::descriptors() / 2 - 400
    )
}
