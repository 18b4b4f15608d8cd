//! Network namespaces as guards.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::program::must;

/// A network namespace with a name below /run/netns. Removed, with the interfaces in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with loopback up. `role` tells people what it is for.
    pub fn new(role: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("sluice-{}-{number}-{role}", std::process::id()))
    }

    /// Makes one under a name of the caller's.
    pub fn named(name: String) -> Result<Self> {
        must(Command::new("ip").args(["netns", "add", &name])).context(
            "network namespaces need root; `cargo xtask test --no-kernel` runs the tests without them",
        )?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// `ip` in the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        must(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Writes a setting below /proc/sys.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        let value = value.to_owned();
        self.enter(move || std::fs::write(&path, value).with_context(|| path.clone()))
    }

    /// A program in the namespace. Not by `ip netns exec`, which mounts a new /sys and so hides pinned maps.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        nsenter
    }

    /// Runs a function on a thread of its own in the namespace. Sockets made there stay in it.
    pub fn enter<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.open();
        let thread = std::thread::spawn(move || {
            join(&namespace);
            run()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A handle for threads that must join the namespace themselves.
    pub fn open(&self) -> File {
        File::open(self.path()).unwrap_or_else(|error| panic!("{}: {error}", self.path().display()))
    }
}

/// Moves the calling thread into a namespace, for the rest of its life.
pub fn join(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("joining a network namespace needs root");
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = must(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}
