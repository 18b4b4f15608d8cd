//! `cargo xtask demo`: from nothing to a gateway that answers, in one command.

mod lab;
mod ports;
mod tour;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::lab::Lab;
use self::ports::Ports;
use crate::cargo::{self, Profile, workspace};
use crate::ebpf::target;
use crate::process::{self, Running, command};
use crate::{ebpf, toolchain};

/// Programs of the printed lines, and Debian's package of each.
const PROGRAMS: &[(&str, &str)] = &[("curl", "curl"), ("openssl", "openssl"), ("telnet", "telnet")];
const START: Duration = Duration::from_secs(20);
const PIN_DIR: &str = "/sys/fs/bpf/sluice-demo";

/// Flags of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Run the printed lines, compare the answers, and end.
    #[arg(long)]
    check: bool,
    /// What to build. `release` is what one would measure; `dev` builds faster.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// Where everything of this demo lies.
pub(crate) struct Site {
    sluice: PathBuf,
    backends: PathBuf,
    directory: PathBuf,
    admin_socket: PathBuf,
}

/// Sets up, serves, prints, and waits for Ctrl-C.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    // From here on a signal ends the demo in order: what was started is stopped, namespaces and pins are removed.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    if let Err(missing) = process::ensure_programs(PROGRAMS) {
        println!("note: {missing:#}; the lines that call them will not work until then");
    }
    let kernel = kernel_programs();
    if let Err(reason) = &kernel {
        println!("note: without the kernel plane, user space carries all: {reason:#}");
    }
    cargo::build(args.profile)?;

    let site = Site::prepare(args.profile)?;
    let ports = Ports::choose()?;
    ports.write_service(&site.documents())?;
    let lab = kernel.is_ok().then(Lab::build).transpose()?;
    let backends = site.start_backends(lab.as_ref())?;
    let gateway = site.start_gateway(lab.as_ref())?;
    let result = tour::give(&site, &ports, lab.as_ref(), args.check);
    if result.is_ok() && !args.check {
        println!("\nCtrl-C ends the demo and removes what it made.");
        wait(&mut signals, gateway, backends)?;
    } else {
        drop((gateway, backends));
    }
    if lab.is_some() {
        // Flows of the tour may be ageing; nobody waits for them.
        process::run(command(&site.sluice).args(["cleanup", "--pin-dir", PIN_DIR]).stdout(Stdio::null()))?;
    }
    result
}

/// The kernel programs, installing what builds them; or why there are none.
fn kernel_programs() -> Result<()> {
    let build = || {
        if !process::is_root() {
            bail!("it needs root");
        }
        toolchain::ensure()?;
        ebpf::build().map(drop)
    };
    build().or_else(|reason| {
        // An object of other sources must not be embedded, and there is no way to make a fresh one.
        if !ebpf::is_fresh()? {
            ebpf::remove()?;
        }
        Err(reason)
    })
}

/// Until a signal, or until a program ends by itself.
fn wait(signals: &mut Signals, mut gateway: Running, mut backends: Running) -> Result<()> {
    loop {
        if signals.pending().next().is_some() {
            return Ok(());
        }
        for program in [&mut gateway, &mut backends] {
            if let Some(status) = program.ended()? {
                bail!("a program of the demo has ended ({status}); its last lines are above");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Site {
    fn prepare(profile: Profile) -> Result<Self> {
        let directory = target()?.join("demo");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let site = Self {
            sluice: profile.binary("sluice")?,
            backends: profile.binary("sluice-backends")?,
            // A socket's path is short by law of the kernel; a target directory may not be.
            admin_socket: std::env::temp_dir().join(format!("sluice-demo-{}.sock", std::process::id())),
            directory,
        };
        fs::create_dir_all(site.documents())?;
        Ok(site)
    }

    /// Documents that the demo makes: endpoints, secrets, the gateway's own Service.
    fn documents(&self) -> PathBuf {
        self.directory.join("documents")
    }

    /// The CA that signed every certificate of the demo.
    fn authority(&self) -> PathBuf {
        self.documents().join("ca-chain.cert.pem")
    }

    fn start_backends(&self, lab: Option<&Lab>) -> Result<Running> {
        let mut program = match lab {
            Some(_) => Lab::in_backend(&self.backends),
            None => command(&self.backends),
        };
        // The backends end when this pipe does: also when the demo is killed.
        program.stdin(Stdio::piped()).stdout(Stdio::null());
        program.arg("--address").arg(lab.map_or("127.0.0.1", |_| lab::BACKEND));
        let mut backends = Running::start(program.arg("--out").arg(self.documents()))?;
        backends.wait_until(START, || self.authority().exists()).context("the demo's backends")?;
        Ok(backends)
    }

    fn start_gateway(&self, lab: Option<&Lab>) -> Result<Running> {
        let mut program = command(&self.sluice);
        program.arg("run").arg("--config").arg(workspace()?.join("config/quickstart")).arg(self.documents());
        program.arg("--admin-socket").arg(&self.admin_socket);
        program.args([
            "--admin-address",
            "none",
            "--ready-address",
            "none",
            "--metrics-address",
            "none",
            "--log",
            "warn",
            "--drain-time",
            "1",
        ]);
        match lab {
            // The lab's interface alone: the machine's own traffic is none of the demo's business.
            Some(_) => program.args(["--pin-dir", PIN_DIR, "--interface", lab::CLIENT_LINK]),
            None => program.args(["--kernel", "off"]),
        };
        let mut gateway = Running::start(&mut program)?;
        let ready = || self.status().is_ok_and(|output| output.status.success());
        gateway.wait_until(START, ready).context("the gateway")?;
        Ok(gateway)
    }

    fn status(&self) -> std::io::Result<std::process::Output> {
        command(&self.sluice).arg("status").arg("--admin-socket").arg(&self.admin_socket).output()
    }
}

/// A path as one would type it from the workspace.
pub(crate) fn typed(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
