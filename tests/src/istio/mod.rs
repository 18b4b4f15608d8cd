//! Envoy as it runs in Istio's ingress gateway, to hold ours against it: the program, started with what istiod would tell
//! it, written out by `configuration`.

pub mod configuration;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::Running;
use crate::wait;

/// A running Envoy. Ended when dropped.
#[derive(Debug)]
pub struct Envoy {
    running: Running,
    _directory: TempDir,
}

impl Envoy {
    /// Starts it, and waits until a connection to `port` of loopback is accepted. Panics with all that it said otherwise.
    #[track_caller]
    pub fn start(configuration: &Value, port: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("envoy.json");
        std::fs::write(&file, configuration.to_string()).expect("writing a configuration");
        let mut command = Command::new(program());
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c"]).arg(&file);
        // Its default is ten seconds.
        command.args(["--file-flush-interval-msec", "10"]);
        let mut running = Running::start(&mut command, &directory.path().join("log"));
        wait::until("Envoy to listen", || {
            assert!(running.ended().is_none(), "Envoy ended:\n{}", running.log());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        Self { running, _directory: directory }
    }

    /// All that it said.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

/// Below the target directory that this program was built into. Panics when it is not there.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("path of this program");
    let mut places = own.ancestors().map(|directory| directory.join("peers/bin/envoy"));
    places.find(|path: &PathBuf| Path::is_file(path)).unwrap_or_else(|| {
        panic!("no peers/bin/envoy in a directory above {}; `cargo xtask setup` makes it", own.display())
    })
}
