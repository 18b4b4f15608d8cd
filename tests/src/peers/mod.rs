//! Ways through the arena that are compared: none at all, ours, and other people's. All are configured alike: three
//! listeners of the gateway's address, each before the backend's addresses in turns, source addresses translated, one
//! worker on the gateway's processor, no access log.

mod configuration;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::arena::{Arena, REQUESTS, SILENT};
use crate::load::{ANSWER, REQUEST};
use crate::program::must;
use crate::{client, cpu, gateway, wait};

/// A way through the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// No gateway: the client reaches the backend by plain routing. The limit.
    Routed,
    /// Sluice's kernel plane.
    Sluice,
    /// Sluice's user-space plane.
    SluiceUser,
    /// The kernel's own DNAT and masquerade.
    Nftables,
    /// HAProxy in TCP mode.
    Haproxy,
    /// Envoy's tcp_proxy.
    Envoy,
    /// nginx's stream module.
    Nginx,
}

impl Contender {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::Routed,
        Self::Sluice,
        Self::SluiceUser,
        Self::Nftables,
        Self::Haproxy,
        Self::Envoy,
        Self::Nginx,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Sluice => "sluice",
            Self::SluiceUser => "sluice user space",
            Self::Nftables => "nftables",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether packets pass without a socket of the gateway's.
    pub fn is_in_kernel(self) -> bool {
        matches!(self, Self::Routed | Self::Sluice | Self::Nftables)
    }

    /// Says what is missing, and what brings it.
    pub fn ensure_installed(self) -> Result<()> {
        let needed = match self {
            Self::Routed => return Ok(()),
            Self::Sluice | Self::SluiceUser => vec![gateway::program()],
            Self::Nftables => vec![NFT.into()],
            Self::Haproxy => vec![HAPROXY.into()],
            Self::Envoy => vec![envoy()?],
            Self::Nginx => vec![NGINX.into(), configuration::STREAM_MODULE.into()],
        };
        for file in needed {
            ensure!(
                file.is_file(),
                "{} is not there: install the peers with `cargo xtask setup --peers`, or name those that are to be \
                 compared with --only",
                file.display()
            );
        }
        Ok(())
    }

    /// What it says about itself, for the report.
    pub fn version(self) -> Result<String> {
        let mut command = match self {
            Self::Routed => Command::new("uname"),
            Self::Sluice | Self::SluiceUser => Command::new(gateway::program()),
            Self::Nftables => Command::new(NFT),
            Self::Haproxy => Command::new(HAPROXY),
            Self::Envoy => Command::new(envoy()?),
            // nginx speaks on standard error only.
            Self::Nginx => Command::new("sh"),
        };
        match self {
            Self::Routed => command.arg("-sr"),
            Self::Haproxy => command.arg("-v"),
            Self::Nginx => command.args(["-c", &format!("{NGINX} -v 2>&1")]),
            _ => command.arg("--version"),
        };
        let said = must(&mut command)?;
        Ok(said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned())
    }
}

const NFT: &str = "/usr/sbin/nft";
const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";

/// Where `cargo xtask setup --peers` puts it: below the target directory that this program was built into.
fn envoy() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program lies in no target directory")?;
    Ok(target.join("peers/bin/envoy"))
}

/// A contender at work. Ended when dropped; must not outlive its arena.
#[derive(Debug)]
pub struct Peer {
    /// Which.
    pub contender: Contender,
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
    /// Starts it and waits until a request passes through it.
    pub fn start(contender: Contender, arena: &Arena) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluice-peer-").tempdir()?;
        let pins = (contender == Contender::Sluice).then(|| pins(directory.path()));
        let arranged = Arranged { directory, pins };
        let configuration = configuration::of(contender, arena);
        let file = arranged.path(configuration::file_name(contender));
        std::fs::create_dir(arranged.path("documents"))?;
        std::fs::write(&file, &configuration)?;
        let words = arranged.words(contender, &file)?;
        let command = match contender {
            Contender::Nftables | Contender::Routed => words.join(" "),
            _ => format!("taskset -c {} {}", cpu::GATEWAY, words.join(" ")),
        };
        let mut peer = Self { contender, command, configuration, arranged, child: None };
        peer.run(arena, &words)?;
        peer.wait_until_ready(arena)?;
        Ok(peer)
    }

    /// Where clients connect to reach a port of the backend.
    pub fn targets(&self, arena: &Arena, port: u16) -> Vec<SocketAddr> {
        match self.contender {
            Contender::Routed if port == SILENT => arena.silent(),
            Contender::Routed => arena.backends(port),
            _ => vec![arena.gateway(port)],
        }
    }

    fn run(&mut self, arena: &Arena, words: &[String]) -> Result<()> {
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let namespace = &arena.lab.gateway;
        if self.contender == Contender::Nftables {
            return must(namespace.command(program).args(arguments)).map(drop);
        }
        let log = File::create(self.arranged.path("log"))?;
        let mut command = namespace.command("taskset");
        command.args(["-c", &cpu::GATEWAY.to_string(), program]).args(arguments);
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot run {}", self.command))?);
        Ok(())
    }

    /// Until a request is answered, and takes the plane that it is meant to take: a gateway may listen before it steers.
    fn wait_until_ready(&mut self, arena: &Arena) -> Result<()> {
        let (name, targets) = (self.contender.name(), self.targets(arena, REQUESTS));
        let mut plane = "none";
        let ready = wait::within(wait::PATIENCE, || {
            let target = targets[0];
            let held = arena.lab.client.enter(move || request(target)).ok()?;
            let said = must(arena.lab.gateway.command("ss").args(["-Htn", "state", "established"])).ok()?;
            plane = if said.trim().is_empty() { "the kernel's" } else { "user space's" };
            drop(held);
            (said.trim().is_empty() == self.contender.is_in_kernel()).then_some(())
        });
        ready.with_context(|| format!("{name} is not ready; plane: {plane}; log:\n{}", self.arranged.log()))
    }
}

/// A request; the connection stays open.
fn request(target: SocketAddr) -> Result<std::net::TcpStream> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&target, client::LIMIT)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&[0; REQUEST])?;
    stream.read_exact(&mut [0; ANSWER])?;
    Ok(stream)
}

/// A directory of bpffs that is as unique as the temporary one.
fn pins(directory: &Path) -> PathBuf {
    Path::new("/sys/fs/bpf").join(directory.file_name().unwrap_or_default())
}

impl Arranged {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Program and arguments.
    fn words(&self, contender: Contender, file: &Path) -> Result<Vec<String>> {
        let path = |path: &Path| path.display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let file = path(file);
        Ok(match contender {
            Contender::Routed => Vec::new(),
            Contender::Nftables => words(&[NFT, "-f", &file]),
            Contender::Haproxy => words(&[HAPROXY, "-db", "-f", &file]),
            Contender::Envoy => {
                let fixed = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", &file];
                [vec![path(&envoy()?)], words(&fixed)].concat()
            }
            Contender::Nginx => {
                words(&[NGINX, "-p", &path(self.directory.path()), "-e", "stderr", "-c", &file])
            }
            Contender::Sluice | Contender::SluiceUser => {
                let socket = path(&self.path("admin.sock"));
                let fixed = ["run", "--config", &path(&self.path("documents")), "--admin-socket", &socket];
                let ours = ["--admin-address", "none", "--ready-address", "none", "--workers", "1"];
                let plane: Vec<String> = match &self.pins {
                    Some(pins) => {
                        words(&["--kernel", "require", "--interface", "c0", "--pin-dir", &path(pins)])
                    }
                    None => words(&["--kernel", "off"]),
                };
                [vec![path(&gateway::program())], words(&fixed), words(&ours), plane].concat()
            }
        })
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
