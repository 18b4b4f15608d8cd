//! Running other programs: to their end, or for a while; and installing those that are missing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Programs that the tests call, and Debian's package of each.
pub(crate) const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("telnet", "telnet"),
    ("jq", "jq"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("ethtool", "ethtool"),
    ("go", "golang-go"),
    ("chromium-headless-shell", "chromium-headless-shell"),
    ("bash", "bash"),
    ("fish", "fish"),
    ("zsh", "zsh"),
    ("man", "man-db"),
    ("mandoc", "mandoc"),
    ("stty", "coreutils"),
];

/// Time a program has to end itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// A command that does not hand on what cargo set for us.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTC", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}

/// Runs to the end; anything but success is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    if status.success() { Ok(()) } else { bail!("{} failed ({status})", words(command)) }
}

/// Whether a command succeeds; what it says is nobody's business.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether a program is on PATH; of an absolute path, whether there is such a file.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs the Debian packages of programs that are missing; without root, or elsewhere, says which are.
pub(crate) fn ensure_programs(programs: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    install(&missing)
}

/// Installs Debian packages; without root, or elsewhere, names them.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install {}", missing.join(" "));
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("programs are missing; install them with `{install}`");
    }
    eprintln!("installing {}", missing.join(" "));
    run(command("apt-get").args(["-qq", "update"]))?;
    run(command("apt-get")
        .args(["-qq", "install", "--yes", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A program that runs until it is dropped: asked by SIGTERM, killed when it does not listen.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot run {}", words(command)))?;
        Ok(Self { name: words(command), child })
    }

    /// Its status, when it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Waits until `ready` holds; an end of the program before that is an error.
    pub(crate) fn wait_until(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.ended()? {
                bail!("{} ended before it was ready ({status})", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(id) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // It may end between the question and the signal; it is waited for either way.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
